from __future__ import annotations

import ast
import contextlib
import io
import os
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import napari_unet
from napari_unet.config import NetworkConfig, NormalizationConfig
from napari_unet.errors import ConfigError, FolderError, ModelError
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.checkpoint import load_model, save_model
from napari_unet.learning.networks import build_network
from napari_unet.learning.prediction import predict
from napari_unet.learning.sharing.state_dicts import import_state_dict


class _Block(nn.Module):
    """Two convolutions with BatchNorm, as a child of any name."""

    def __init__(self, child, n_in, n_out, bias):
        super().__init__()
        layers = []
        for a, b in ((n_in, n_out), (n_out, n_out)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=bias), nn.BatchNorm2d(b)]
            layers.append(nn.ReLU())
        self.child = child
        self.add_module(child, nn.Sequential(*layers))

    def forward(self, x):
        return getattr(self, self.child)(x)


class _Milesial(nn.Module):
    """The network of milesial/Pytorch-UNet, by the names in its state dict."""

    def __init__(self, n_in, n_out, width, depth, *, old=False, bias=False):
        super().__init__()
        block, down = ("conv", "mpconv") if old else ("double_conv", "maxpool_conv")
        w = [width * 2**i for i in range(depth + 1)]
        self.depth, self.down_name = depth, down
        self.inc = _Block(block, n_in, w[0], bias)
        if old:  # the block was once more wrapped
            self.inc = self._wrapped(self.inc)
        for i in range(1, depth + 1):
            module = nn.Module()
            inner = nn.Sequential(nn.MaxPool2d(2), _Block(block, w[i - 1], w[i], bias))
            module.add_module(down, inner)
            self.add_module(f"down{i}", module)
            up = nn.Module()
            k = depth - i
            up.up = nn.ConvTranspose2d(w[k + 1], w[k], 2, stride=2)
            up.conv = _Block(block, w[k + 1], w[k], bias)
            self.add_module(f"up{i}", up)
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(w[0], n_out, 1)

    @staticmethod
    def _wrapped(block):
        outer = nn.Module()
        outer.conv = block
        outer.forward = block.forward
        return outer

    def forward(self, x):
        levels = [self.inc(x)]
        for i in range(1, self.depth + 1):
            levels.append(
                getattr(getattr(self, f"down{i}"), self.down_name)(levels[-1])
            )
        x = levels.pop()
        for i in range(1, self.depth + 1):
            up = getattr(self, f"up{i}")
            x = up.conv(torch.cat([levels.pop(), up.up(x)], 1))
        return self.outc.conv(x)


class _Brain(nn.Module):
    """The network of mateuszbuda/brain-segmentation-pytorch, by its names."""

    def __init__(self, n_in, n_out, width, depth=4):
        super().__init__()
        self.depth = depth
        w = [width * 2**i for i in range(depth + 1)]

        def block(name, a, b):
            block = nn.Sequential()
            for i, n in ((1, a), (2, b)):
                block.add_module(
                    f"{name}conv{i}", nn.Conv2d(n, b, 3, padding=1, bias=False)
                )
                block.add_module(f"{name}norm{i}", nn.BatchNorm2d(b))
                block.add_module(f"{name}relu{i}", nn.ReLU())
            return block

        for i in range(depth):
            self.add_module(
                f"encoder{i + 1}",
                block(f"enc{i + 1}", n_in if i == 0 else w[i - 1], w[i]),
            )
            self.add_module(f"decoder{i + 1}", block(f"dec{i + 1}", 2 * w[i], w[i]))
            self.add_module(
                f"upconv{i + 1}", nn.ConvTranspose2d(w[i + 1], w[i], 2, stride=2)
            )
        self.bottleneck = block("bottleneck", w[depth - 1], w[depth])
        self.conv = nn.Conv2d(w[0], n_out, 1)

    def forward(self, x):
        skips = []
        for i in range(self.depth):
            x = getattr(self, f"encoder{i + 1}")(x)
            skips.append(x)
            x = torch.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for i in reversed(range(self.depth)):
            x = torch.cat([getattr(self, f"upconv{i + 1}")(x), skips.pop()], 1)
            x = getattr(self, f"decoder{i + 1}")(x)
        return self.conv(x)


def _randomised(net):
    """Weights and running statistics that all matter."""
    generator = torch.Generator().manual_seed(1)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            if value.ndim > 1:
                value.copy_(drawn * (3 / value[0].numel()) ** 0.5)
            else:
                is_scale = name.endswith(("weight", "var"))
                value.copy_(1 + 0.2 * drawn.clamp(-2, 2) if is_scale else 0.2 * drawn)
    return net.eval()


def _saved(content, path):
    torch.save(content, path)
    return path


NETWORKS = {
    "milesial": lambda: _Milesial(3, 2, 4, 2),
    "milesial-deep": lambda: _Milesial(1, 5, 2, 4),
    "milesial-old": lambda: _Milesial(1, 1, 4, 2, old=True, bias=True),
    "milesial-with-bias": lambda: _Milesial(1, 2, 4, 3, bias=True),
    "brain": lambda: _Brain(3, 1, 2),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_weights_of_other_programs_give_the_same_outputs(kind, tmp_path):
    theirs = _randomised(NETWORKS[kind]())
    model = import_state_dict(_saved(theirs.state_dict(), tmp_path / "w.pth"))
    # In double precision the order of sums doesn't matter.
    image = torch.randn(2, model.n_channels, 32, 48).double()
    with torch.no_grad():
        expected, found = theirs.double()(image), model.build().double()(image)
    scale = expected.std()
    assert scale > 0.05
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-5)


def test_what_the_weights_dont_say_is_told(tmp_path):
    path = _saved(_Milesial(3, 2, 2, 2).state_dict(), tmp_path / "carvana.pth")
    model = import_state_dict(path)
    assert model.normalization.policy == "dataset"
    assert model.dataset_range == IntensityRange((0.0,) * 3, (255.0,) * 3)
    assert "Assumed: intensities are scaled from 0 to 255" in model.about
    assert model.roles == ("softmax:background", "softmax:cell")
    own = import_state_dict(path, normalization=NormalizationConfig())
    assert own.normalization.policy == "image"
    assert "Assumed" not in own.about


def test_classes_can_be_named(tmp_path):
    path = _saved(_Milesial(1, 3, 2, 1).state_dict(), tmp_path / "w.pth")
    names = ("background", "nucleus", "membrane")
    model = import_state_dict(path, class_names=names)
    assert model.class_names == names
    assert model.roles[1:] == ("softmax:nucleus", "softmax:membrane")
    with pytest.raises(ConfigError, match=r"2 classes are named .* has 3"):
        import_state_dict(path, class_names=("background", "nucleus"))


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "net.model."])
def test_wrapped_and_prefixed_weights_are_found(key, prefix, tmp_path):
    state = _randomised(_Milesial(1, 2, 2, 1)).state_dict()
    wrapped = {key: {prefix + k: v for k, v in state.items()}, "epoch": 3}
    model = import_state_dict(_saved(wrapped, tmp_path / "w.pt"))
    plain = import_state_dict(_saved(state, tmp_path / "plain.pt"))
    assert all(torch.equal(model.state[k], plain.state[k]) for k in plain.state)


def test_mask_values_beside_the_weights_are_ignored(tmp_path):
    state = dict(_Milesial(1, 2, 2, 1).state_dict(), mask_values=[0, 255])
    assert import_state_dict(_saved(state, tmp_path / "w.pth")).network.depth == 1


def test_half_precision_weights_become_float32(tmp_path):
    state = _randomised(_Milesial(1, 2, 2, 1)).half().state_dict()
    model = import_state_dict(_saved(state, tmp_path / "w.pth"))
    assert model.state["down.0.0.weight"].dtype == torch.float32


@pytest.mark.parametrize("steps", [1000, 10**6])
def test_a_counter_in_half_precision_counts_again(steps, tmp_path):
    state = _randomised(_Milesial(1, 2, 2, 1)).state_dict()
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    halved = {k: v.half() for k, v in state.items()}
    halved |= {key: torch.tensor(steps).half() for key in counters}
    model = import_state_dict(_saved(halved, tmp_path / "w.pth"))
    counted = [v for k, v in model.state.items() if k.endswith("num_batches_tracked")]
    assert counted[0] == (1000 if steps == 1000 else 0)  # half ends at 65504
    assert load_model(save_model(tmp_path / "w.unet", model)).network == model.network


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda w: w.to("meta"), "NU-M20", "is no plain tensor"),
        (lambda w: w.to_sparse(), "NU-M20", "is no plain tensor"),
        (lambda w: w[:1, :1, :1, :1].clone().expand(w.shape), "NU-M20", "no plain"),
        (lambda w: w * torch.nan, "NU-M20", r"not numbers .*ask its authors"),
        (lambda w: w.double() + 1e300, "NU-M20", "not numbers"),
        (lambda w: w.to(torch.complex64), "NU-M21", "they are complex64, not real"),
        (lambda w: w.to(torch.int32), "NU-M21", "they are int32, not real"),
        (lambda w: w > 0, "NU-M21", "they are bool, not real"),
    ],
)
@pytest.mark.parametrize("kind", ["milesial", "ours"])
def test_weights_that_are_no_real_numbers_are_named(
    kind, change, code, message, tmp_path
):
    net = _Milesial(1, 2, 2, 1, bias=True)
    key = "inc.double_conv.0.weight"
    if kind == "ours":
        net, key = build_network(NetworkConfig(base_width=2)), "down.0.0.weight"
    state = _randomised(net).state_dict()
    state[key] = change(state[key])
    with pytest.raises(ModelError, match=message) as caught:
        import_state_dict(_saved(state, tmp_path / "w.pth"))
    assert caught.value.code == code
    assert repr(key) in caught.value.message


def test_a_bias_of_another_kind_is_named(tmp_path):
    state = _Milesial(1, 2, 2, 1, bias=True).state_dict()
    state["inc.double_conv.0.bias"] = torch.zeros(2, dtype=torch.bool)
    with pytest.raises(ModelError, match=r"'inc\.double_conv\.0\.bias'"):
        import_state_dict(_saved(state, tmp_path / "w.pth"))


def test_sizes_that_no_network_has_are_told_in_words(tmp_path):
    state = _Milesial(1, 2, 2, 1).state_dict()
    state["inc.double_conv.0.weight"] = torch.zeros(300, 1, 3, 3)
    with pytest.raises(ModelError, match="its base width is 300 and should be less th"):
        import_state_dict(_saved(state, tmp_path / "w.pth"))


OURS = [
    {},
    {"norm": "none", "depth": 1},
    {"n_dims": 3, "depth": 1, "up": "linear"},
    {"architecture": "residual_unet", "norm": "group", "skips": "sum"},
    {"upscale": 2, "in_channels": 2},
]


@pytest.mark.parametrize("settings", OURS, ids=str)
def test_our_own_names_are_recognised_by_their_shapes(settings, tmp_path):
    config = NetworkConfig(
        **({"base_width": 4, "depth": 2, "out_channels": 3} | settings)
    )
    state = _randomised(build_network(config)).state_dict()
    model = import_state_dict(_saved(state, tmp_path / "w.pt"))
    assert model.network == config
    assert all(torch.equal(model.state[k], v) for k, v in state.items())


def test_a_network_can_be_named_where_shapes_dont_tell(tmp_path):
    config = NetworkConfig(base_width=4, depth=1, padding="valid")
    path = _saved(build_network(config).state_dict(), tmp_path / "w.pt")
    assert import_state_dict(path).network.padding == "same"
    assert import_state_dict(path, network=config).network == config


def test_imported_weights_segment(tmp_path):
    state = _randomised(_Milesial(1, 2, 2, 2)).state_dict()
    model = import_state_dict(_saved(state, tmp_path / "w.pth"))
    image = np.random.default_rng(0).integers(0, 255, (40, 52)).astype(np.uint8)
    assert predict(model, image).shape == (2, 40, 52)


def test_the_bilinear_variant_is_refused(tmp_path):
    state = {
        key: value
        for key, value in _Milesial(1, 2, 4, 2).state_dict().items()
        if ".up." not in key
    }
    with pytest.raises(ModelError, match=r"bilinear .* another network.*ONNX"):
        import_state_dict(_saved(state, tmp_path / "w.pth"))


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match=r"'layer1.0.conv1.weight'"):
        import_state_dict(
            _saved({"layer1.0.conv1.weight": torch.zeros(2)}, tmp_path / "resnet.pth")
        )
    state = _Milesial(1, 2, 2, 1).state_dict() | {"attention.weight": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"'attention.weight' beside milesial"):
        import_state_dict(_saved(state, tmp_path / "more.pth"))
    state = _Milesial(1, 2, 2, 1).state_dict()
    state["up1.conv.double_conv.0.weight"] = torch.zeros(2, 3, 3, 3)
    with pytest.raises(ModelError, match=r"1 weight doesn't fit: 'merge.0.0.weight'"):
        import_state_dict(_saved(state, tmp_path / "odd.pth"))
    del state["down1.maxpool_conv.1.double_conv.4.bias"]
    with pytest.raises(ModelError, match=r"1 weight doesn't fit: 'down.1.4.bias'"):
        import_state_dict(_saved(state, tmp_path / "less.pth"))
    state = build_network(NetworkConfig(base_width=2, depth=1)).state_dict()
    state["merge.0.0.weight"] = torch.zeros(1, 1, 3, 3)
    with pytest.raises(ModelError, match="shapes are not"):
        import_state_dict(_saved(state, tmp_path / "own.pth"))


def test_files_without_weights_are_refused(tmp_path):
    for content in (
        {},
        [torch.zeros(1)],
        {"a": 1},
        torch.zeros(3),
        {1: torch.zeros(1)},
    ):
        with pytest.raises(ModelError, match="holds no named weights"):
            import_state_dict(_saved(content, tmp_path / "w.pt"))
    with pytest.raises(FolderError, match="there is no file"):
        import_state_dict(tmp_path / "missing.pt")
    with pytest.raises(FolderError):
        import_state_dict(tmp_path)


class _Evil:
    def __init__(self, marker, how):
        self.marker, self.how = str(marker), how

    def __reduce__(self):
        if self.how == "system":
            return os.system, (f"touch {self.marker}",)
        if self.how == "mkdir":
            return os.mkdir, (self.marker,)
        return eval, (f"__import__('os').mkdir({self.marker!r})",)


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("how", ["system", "mkdir", "eval"])
@pytest.mark.parametrize("container", ["zip", "legacy", "raw", "nested"])
def test_nothing_in_a_pickle_is_executed(how, container, forced, tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker, path = tmp_path / "marker", tmp_path / "evil.pt"
    evil = _Evil(marker, how)
    if container == "raw":
        path.write_bytes(pickle.dumps(evil))
    elif container == "nested":
        torch.save({"state_dict": {"inc.weight": evil}}, path)
    else:
        torch.save({"a": evil}, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(ModelError, match=r"more than weights.*save it again") as caught:
        import_state_dict(path)
    assert not marker.exists()
    assert caught.value.code == "NU-M20"
    if container != "raw":  # and it would have done so
        with contextlib.suppress(Exception):
            torch.load(path, weights_only=False)
        assert marker.exists()


def test_damaged_files_are_one_clear_error(tmp_path):
    path = _saved(_Milesial(1, 2, 2, 1).state_dict(), tmp_path / "w.pth")
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    contents = [b"", b"PK", whole[: len(whole) // 2], whole[:-30], rng.bytes(5000)]
    legacy = io.BytesIO()
    torch.save({"a": torch.ones(9)}, legacy, _use_new_zipfile_serialization=False)
    contents += [
        legacy.getvalue()[:n] for n in (1, 40, 200, len(legacy.getvalue()) - 5)
    ]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ModelError, match="is damaged, or holds more"):
            import_state_dict(path)


def test_flipped_bytes_never_raise_anything_else(tmp_path):
    whole = _saved(_Milesial(1, 2, 1, 1).state_dict(), tmp_path / "w.pth").read_bytes()
    rng = np.random.default_rng(6)
    path = tmp_path / "flipped.pth"
    for _ in range(150):
        flipped = bytearray(whole)
        for at in rng.integers(0, len(whole), 20):
            flipped[at] = rng.integers(256)
        path.write_bytes(flipped)
        try:
            import_state_dict(path)
        except ModelError:
            continue


SOURCES = sorted(Path(napari_unet.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_no_code_could_execute_what_a_file_says(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names}
            assert "dill" not in names
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in {"eval", "exec", "pickle.load", "pickle.loads"}, called
        assert not called.endswith((".extractall", ".Unpickler", ".full_load"))
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert keywords.get("allow_pickle", "False") == "False"
        if called == "torch.load":
            assert keywords.get("weights_only") == "True"


def test_the_model_has_nothing_that_was_never_known(tmp_path):
    model = import_state_dict(
        _saved(_Milesial(1, 2, 2, 1).state_dict(), tmp_path / "w.pth")
    )
    told = {"network", "state", "roles", "class_names", "normalization", "axes"}
    told |= {"dataset_range", "about"}
    for field in fields(model):
        if field.name not in told and field.default_factory.__class__ is not type:
            assert not getattr(model, field.name) or field.name in {
                "training", "weights", "instances", "scale",
            }  # fmt: skip
