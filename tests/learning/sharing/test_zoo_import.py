from __future__ import annotations

import hashlib
import json
import stat
import warnings
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from napari_unet.batch import segment
from napari_unet.config import ForeignConfig, PredictConfig
from napari_unet.errors import ConfigError, FolderError, ModelError
from napari_unet.files import trusted
from napari_unet.learning.checkpoint import load_model, save_model
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.model_file.description import describe
from napari_unet.learning.prediction import predict
from napari_unet.learning.sharing.importing import import_model


class OtherUNet(nn.Module):
    """One level, widths 4 and 8; a pixel depends on 5 px around it at most."""

    def __init__(self, n_in=1, n_out=2, *, last="sigmoid", channels_last=False):
        super().__init__()
        self.first = nn.Conv2d(n_in, 4, 3, padding=1)
        self.below = nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.last = nn.Conv2d(8, n_out, 3, padding=1)
        self.activation, self.channels_last = last, channels_last
        generator = torch.Generator().manual_seed(4)
        for value in self.parameters():
            nn.init.normal_(value, std=0.4, generator=generator)

    def forward(self, x):
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        skip = torch.relu(self.first(x))
        x = torch.relu(self.below(torch.max_pool2d(skip, 2)))
        x = self.last(torch.cat([self.up(x), skip], 1))
        if self.activation == "sigmoid":
            x = torch.sigmoid(x)
        elif self.activation == "softmax":
            x = torch.softmax(x, 1)
        return x.permute(0, 2, 3, 1) if self.channels_last else x


class Valid(nn.Module):
    """Three convolutions without padding: each side loses 3 px."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(3)))

    def forward(self, x):
        return self.layers(x)


def as_onnx(net, size=None):
    """Return the ONNX graph of an `OtherUNet`, node by node."""
    make = onnx.helper.make_node
    names = ("first", "below", "up", "last")
    weights = [
        onnx.numpy_helper.from_array(
            getattr(getattr(net, n), k).detach().numpy(), n + k
        )
        for n in names
        for k in ("weight", "bias")
    ]
    given = {n: [n + "weight", n + "bias"] for n in names}
    same = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    last = {"sigmoid": "Sigmoid", "softmax": "Softmax"}.get(net.activation, "Identity")
    half = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        make("Conv", ["image", *given["first"]], ["a"], **same),
        make("Relu", ["a"], ["skip"]),
        make("MaxPool", ["skip"], ["b"], **half),
        make("Conv", ["b", *given["below"]], ["c"], **same),
        make("Relu", ["c"], ["d"]),
        make("ConvTranspose", ["d", *given["up"]], ["e"], **half),
        make("Concat", ["e", "skip"], ["f"], axis=1),
        make("Conv", ["f", *given["last"]], ["g"], **same),
        make(last, ["g"], ["result"], **({"axis": 1} if last == "Softmax" else {})),
    ]
    sides = [size, size] if size else ["y", "x"]
    ends = [
        onnx.helper.make_tensor_value_info(name, 1, ["n", channels, *sides])
        for name, channels in (
            ("image", net.first.in_channels),
            ("result", net.last.out_channels),
        )
    ]
    graph = onnx.helper.make_graph(nodes, "other", ends[:1], ends[1:], weights)
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    return model.SerializeToString()


def as_torchscript(net, path, n_in=1):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net.eval(), torch.zeros(1, n_in, 16, 16)).save(str(path))
    return path.read_bytes()


def _axes(n_channels, size, names, **more):
    names = names or [f"channel{i}" for i in range(n_channels)]
    space = [{"type": "space", "id": i, "size": size(i), **more} for i in "yx"]
    return [{"type": "batch"}, {"type": "channel", "channel_names": names}, *space]


def description(weights, **changes):
    """Return an rdf of format 0.5 as plain data."""
    given = {
        "preprocessing": [],
        "postprocessing": [],
        "n_in": 1,
        "n_out": 2,
        "names": None,
        "size": {"min": 20, "step": 2},
        "out_size": lambda i: {"tensor_id": "raw", "axis_id": i},
        "halo": {"halo": 6},
        "tags": ["nuclei-segmentation"],
        "axes": {},
    } | changes
    return {
        "type": "model",
        "format_version": "0.5.4",
        "name": "Other U-Net",
        "description": "finds nuclei",
        "authors": [{"name": "Ada Lovelace"}],
        "cite": [{"text": "Lovelace 1843", "doi": "10.1000/182"}],
        "license": "CC-BY-4.0",
        "documentation": {"source": "README.md"},
        "tags": given["tags"],
        "inputs": [
            {
                "id": "raw",
                "axes": _axes(
                    given["n_in"], lambda _: given["size"], None, **given["axes"]
                ),
                "preprocessing": given["preprocessing"],
                "test_tensor": {"source": "in.npy"},
                "data": {"type": "float32"},
            }
        ],
        "outputs": [
            {
                "id": "result",
                "axes": _axes(
                    given["n_out"], given["out_size"], given["names"], **given["halo"]
                ),
                "postprocessing": given["postprocessing"],
                "test_tensor": {"source": "out.npy"},
                "data": {"type": "float32"},
            }
        ],
        "weights": weights,
    }


_ABOUT = {
    "onnx": {"opset_version": 18},
    "torchscript": {"pytorch_version": "2.10"},
    "pytorch_state_dict": {
        "pytorch_version": "2.10",
        "architecture": {"source": "net.py", "callable": "Net"},
    },
}


@pytest.fixture
def packed(tmp_path):
    """Write a package: weights, and a description with what is given."""

    def pack(weights, **changes):
        entries = {
            kind: {
                "source": f"{kind}.bin",
                "sha256": hashlib.sha256(content).hexdigest(),
                **_ABOUT[kind],
            }
            for kind, content in weights.items()
        }
        path = tmp_path / "other.zip"
        with zipfile.ZipFile(path, "w") as archive:
            # JSON is YAML.
            archive.writestr("rdf.yaml", json.dumps(description(entries, **changes)))
            archive.writestr("README.md", "# A network")
            archive.writestr("net.py", "raise SystemExit('executed')")
            for kind, content in weights.items():
                archive.writestr(f"{kind}.bin", content)
        return path

    return pack


@pytest.fixture(scope="session")
def picture():
    rng = np.random.default_rng(2)
    return rng.integers(100, 4000, (70, 94)).astype(np.uint16)


_SMALL_TILES = PredictConfig(tile_size=16, device="cpu", precision="fp32")


def _whole(net, image):
    """The other program's own way: the whole image through its own module."""
    padded = np.pad(image, [(0, 0), *((0, -n % 2) for n in image.shape[1:])], "reflect")
    with torch.no_grad():
        out = net(torch.from_numpy(padded[None].astype(np.float32)))[0].numpy()
    return out[:, : image.shape[1], : image.shape[2]]


PREPROCESSING = {
    "percentiles": (
        [
            {
                "id": "scale_range",
                "kwargs": {
                    "axes": ["y", "x"],
                    "min_percentile": 2,
                    "max_percentile": 99,
                },
            }
        ],
        lambda x: (x - np.percentile(x, 2)) / np.ptp(np.percentile(x, [2, 99])),
    ),
    "standardised": (
        [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}],
        lambda x: (x - x.mean()) / x.std(),
    ),
    "fixed": (
        [
            {
                "id": "fixed_zero_mean_unit_variance",
                "kwargs": {"mean": 2000, "std": 900},
            }
        ],
        lambda x: (x - 2000) / 900,
    ),
    "linear-then-clipped": (
        [
            {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
            {"id": "clip", "kwargs": {"min": 500, "max": 3500}},
            {"id": "scale_linear", "kwargs": {"gain": 0.001, "offset": -1}},
        ],
        lambda x: np.clip(x, 500, 3500) * 0.001 - 1,
    ),
    "percentiles-then-clipped": (
        [
            {
                "id": "scale_range",
                "kwargs": {
                    "axes": ["y", "x"],
                    "min_percentile": 10,
                    "max_percentile": 90,
                },
            },
            {"id": "clip", "kwargs": {"min": 0, "max": 1}},
        ],
        lambda x: np.clip(
            (x - np.percentile(x, 10)) / np.ptp(np.percentile(x, [10, 90])), 0, 1
        ),
    ),
}


@pytest.mark.parametrize("kind", PREPROCESSING)
def test_an_onnx_package_predicts_in_small_tiles_as_its_module_does(
    kind, packed, picture
):
    operations, scale = PREPROCESSING[kind]
    net = OtherUNet()
    model = import_model(packed({"onnx": as_onnx(net)}, preprocessing=operations))
    found = predict(model, picture, _SMALL_TILES)
    expected = _whole(net, scale(picture.astype(np.float64))[None])
    assert expected.std() > 0.02
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("operation", ["sigmoid", "softmax"])
def test_declared_activations_are_applied_once(operation, packed, picture):
    net = OtherUNet(last="none")
    path = packed(
        {"onnx": as_onnx(net)},
        postprocessing=[{"id": operation}],
        preprocessing=PREPROCESSING["standardised"][0],
    )
    model = import_model(path)
    assert {role.partition(":")[0] for role in model.roles} == {operation}
    x = PREPROCESSING["standardised"][1](picture.astype(np.float64))
    logits = torch.from_numpy(_whole(net, x[None]))
    expected = logits.sigmoid() if operation == "sigmoid" else logits.softmax(0)
    found = predict(model, picture, _SMALL_TILES)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_an_imported_network_is_one_model_file(packed, picture, tmp_path):
    model = import_model(packed({"onnx": as_onnx(OtherUNet())}))
    loaded = load_model(save_model(tmp_path / "other.unet", model))
    assert loaded.network == model.network
    assert isinstance(loaded.network, ForeignConfig)
    np.testing.assert_array_equal(predict(loaded, picture), predict(model, picture))


def test_a_package_tells_whom_it_is_owed_to(packed):
    model = import_model(packed({"onnx": as_onnx(OtherUNet())}))
    assert model.authors == ("Ada Lovelace",)
    assert model.license == "CC-BY-4.0"
    assert "Other U-Net: finds nuclei Cite: Lovelace 1843" in model.about


def test_foreground_and_boundary_segment(packed, picture):
    model = import_model(packed({"onnx": as_onnx(OtherUNet())}))
    assert model.roles == ("probability:foreground", "probability:boundary")
    assert segment(model, picture).shape == picture.shape


def test_outputs_that_sum_to_one_begin_with_background(packed):
    net = OtherUNet(n_out=3, last="softmax")
    model = import_model(packed({"onnx": as_onnx(net)}, n_out=3))
    assert model.class_names == ("background", "class 1", "class 2")


def test_the_user_can_name_the_outputs(packed):
    path = packed({"onnx": as_onnx(OtherUNet())}, tags=["2d"])
    model = import_model(path, class_names=("background", "nucleus", "edge"))
    assert model.roles == ("probability:nucleus", "probability:edge")
    with pytest.raises(ConfigError, match=r"4 classes are named .* has 2 outputs"):
        import_model(path, class_names="abcd")


def test_a_network_of_values_finds_no_cells(packed, picture):
    path = packed({"onnx": as_onnx(OtherUNet())}, tags=["denoising"])
    model = import_model(path)
    assert model.roles[0].startswith("value:")
    with pytest.raises(ModelError, match="no classes, so it finds no cells"):
        segment(model, picture)


def test_a_fixed_size_is_kept(packed, picture):
    net = OtherUNet()
    path = packed(
        {"onnx": as_onnx(net, size=32)}, size=32, out_size=lambda _: 32, halo={}
    )
    model = import_model(path)
    assert model.build().fixed_size == 32
    assert model.build().input_size_for(99) == 32
    with pytest.raises(ConfigError, match="takes no input of 34 pixels"):
        model.build().output_size(34)


def test_a_pixel_size_is_taken_along(packed):
    unit = {"unit": "nanometer", "scale": 250.0}
    path = packed({"onnx": as_onnx(OtherUNet())}, axes=unit, halo={"halo": 6, **unit})
    assert import_model(path).pixel_size_um == (0.25, 0.25)


def test_torchscript_runs_only_where_it_is_trusted(packed, picture, tmp_path):
    net = OtherUNet()
    operations, scale = PREPROCESSING["fixed"]
    script = as_torchscript(net, tmp_path / "t.pt")
    path = packed({"torchscript": script}, preprocessing=operations)
    with pytest.raises(ModelError, match=r"a program that can .*--trust") as caught:
        import_model(path)
    assert caught.value.code == "NU-M24"
    model = import_model(path, trust=True)
    found = predict(model, picture, _SMALL_TILES)
    expected = _whole(net, scale(picture.astype(np.float64))[None])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    saved = save_model(tmp_path / "t.unet", model)
    assert load_model(saved).network == model.network
    # Another computer asks again.
    trusted.trust_file().unlink()
    with pytest.raises(ModelError, match="TorchScript program"):
        model.build()(torch.zeros(1, 1, 16, 16))
    assert import_model(saved, trust=True).roles == model.roles


def test_a_network_without_padding_loses_its_margin(packed, picture, tmp_path):
    net = Valid()
    path = packed(
        {"torchscript": as_torchscript(net, tmp_path / "t.pt")},
        n_out=1,
        size={"min": 8, "step": 1},
        out_size=lambda i: {"tensor_id": "raw", "axis_id": i, "offset": -6},
        halo={},
    )
    model = import_model(path, trust=True)
    network = model.build()
    assert (network.margin, network.output_size(20), network.input_size_for(14)) == (
        3,
        14,
        20,
    )
    mirrored = np.pad(picture.astype(np.float32), 3, "reflect")
    with torch.no_grad():
        expected = net(torch.from_numpy(mirrored)[None, None])[0].numpy()
    found = predict(model, picture, _SMALL_TILES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_model_of_ours_comes_back_whole(tmp_path, random_model):
    model = replace(random_model(base_width=2, depth=1), about="ours", step=7)
    weights = tmp_path / "w.pt"
    torch.save(dict(model.state), weights)
    described = describe(
        model, versions={}, sha256=weights_sha256(model.state), self_test_sha256=""
    )
    own = {"napari_unet": {"description": described.to_json()}}
    entry = {"pytorch_state_dict": {"source": "w.pt"}}
    rdf = json.dumps({"weights": entry, "config": own})
    members = [("rdf.yaml", rdf), ("w.pt", weights.read_bytes())]
    found = import_model(_zip(tmp_path / "own.zip", members))
    assert (found.network, found.about, found.step) == (model.network, "ours", 7)
    assert all(torch.equal(found.state[k], v) for k, v in model.state.items())
    other = dict(model.state, **{"head.bias": model.state["head.bias"] + 1})
    torch.save(other, weights)
    members[1] = ("w.pt", weights.read_bytes())
    with pytest.raises(ModelError, match="not those that it describes"):
        import_model(_zip(tmp_path / "changed.zip", members))
    own["napari_unet"]["description"] = "x"
    members[0] = ("rdf.yaml", json.dumps({"weights": entry, "config": own}))
    with pytest.raises(ModelError, match="no description of one") as caught:
        import_model(_zip(tmp_path / "x.zip", members))
    assert caught.value.code == "NU-M22"


def test_an_architecture_file_is_never_executed(packed, tmp_path):
    weights = tmp_path / "w.pt"
    torch.save(OtherUNet().state_dict(), weights)
    path = packed({"pytorch_state_dict": weights.read_bytes()})
    with pytest.raises(ModelError, match="is a program and is not executed"):
        import_model(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"preprocessing": [{"id": "binarize", "kwargs": {"threshold": 3}}]},
            "asks for 'binarize'",
        ),
        (
            {"preprocessing": [{"id": "scale_linear", "kwargs": {"gain": -1.0}}]},
            "inverts intensities",
        ),
        (
            {"postprocessing": [{"id": "zero_mean_unit_variance"}]},
            "asks for 'zero_mean",
        ),
        ({"axes": {"scale": 0.25}, "halo": {}}, "coarser than the image"),
        (
            {"size": 16, "out_size": lambda _: 16, "halo": {}},
            "only images of 16 pixels a side and gives 16, but 32 are the least",
        ),
        (
            {"size": 32, "out_size": lambda _: 28, "halo": {}},
            "only images of 32 pixels a side and gives 28",
        ),
    ],
)
def test_what_is_not_done_here_is_named(changes, message, packed):
    with pytest.raises(ModelError, match=message) as caught:
        import_model(packed({"onnx": as_onnx(OtherUNet())}, **changes))
    assert caught.value.code == "NU-M23"


def test_weights_other_than_described_are_refused(packed, tmp_path):
    path = packed({"onnx": as_onnx(OtherUNet())})
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content + b" " if name == "onnx.bin" else content)
    with pytest.raises(ModelError, match="not what its description was written for"):
        import_model(changed)


def test_a_folder_is_read_as_its_zip(packed, tmp_path):
    path = packed({"onnx": as_onnx(OtherUNet())})
    folder = tmp_path / "unpacked"
    folder.mkdir()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            (folder / name).write_bytes(archive.read(name))
    assert import_model(folder).network == import_model(path).network
    (folder / "onnx.bin").unlink()
    (folder / "onnx.bin").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match=r"'onnx.bin' is missing"):
        import_model(folder)


def test_a_bare_onnx_file_is_tried_out(tmp_path, picture):
    net = OtherUNet()
    path = tmp_path / "net.onnx"
    path.write_bytes(as_onnx(net))
    model = import_model(path)
    assert model.network.multiple == 32
    assert model.network.halo is None
    assert "Assumed" in model.about
    x = torch.rand(1, 1, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.build()(x), net(x), atol=1e-5, rtol=0)
    path.write_bytes(b"\x08nonsense")
    with pytest.raises(ModelError, match="can't be run"):
        import_model(path)
    with pytest.raises(FolderError, match="there is no file"):
        import_model(tmp_path / "missing.onnx")


@pytest.mark.parametrize(
    "shape", [["n", "h", "w", 1], ["n", "h", "w", 3], [1, 64, 64, 1], [1, 1, 16, 16]]
)
def test_a_bare_onnx_file_of_other_axes_is_refused(shape, tmp_path):
    ends = [
        onnx.helper.make_tensor_value_info(name, 1, shape) for name in ("image", "out")
    ]
    node = onnx.helper.make_node("Identity", ["image"], ["out"])
    graph = onnx.helper.make_graph([node], "other", ends[:1], ends[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    path = tmp_path / "net.onnx"
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"its input is .* and not an image") as caught:
        import_model(path)
    assert caught.value.code == "NU-M23"


def test_a_graph_that_gives_no_numbers_is_refused(packed, tmp_path):
    net = OtherUNet(last="none")
    nn.init.constant_(net.last.bias, torch.nan)
    path = tmp_path / "net.onnx"
    path.write_bytes(as_onnx(net))
    for source in (path, packed({"onnx": as_onnx(net)})):
        with pytest.raises(
            ModelError, match=r"not numbers .*ask its authors"
        ) as caught:
            import_model(source)
        assert caught.value.code == "NU-M23"


def _zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


_LINK = zipfile.ZipInfo("link")
_LINK.external_attr = (stat.S_IFLNK | 0o777) << 16
_BOMB = b"a: 1\n" + b"#" * (2**21)
_ALIASES = "a: &a [1]\nb: [*a, *a]\n"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../rdf.yaml", "a: 1")], "leads elsewhere"),
        ([("/rdf.yaml", "a: 1")], "leads elsewhere"),
        ([("C:/rdf.yaml", "a: 1")], "leads elsewhere"),
        ([("a\\..\\..\\rdf.yaml", "a: 1")], "leads elsewhere"),
        ([("aux.txt", "1")], "leads elsewhere"),
        ([("rdf.yaml", "a: 1"), (_LINK, "/etc/passwd")], "is a link"),
        ([("rdf.yaml", "a: 1"), ("rdf.yaml", "a: 2")], "twice"),
        ([("rdf.yaml", "a: 1"), ("RDF.yaml", "a: 2")], "twice"),
        ([(f"{i}", "") for i in range(2001)], "2,001 members"),
        ([("rdf.yaml", _BOMB)], "far too large"),
        ([("rdf.yaml", _ALIASES)], "uses aliases"),
        ([("rdf.yaml", "a: " + "[" * 100 + "]" * 100)], "nested too deeply"),
        ([("rdf.yaml", "a: !!python/object/apply:os.system [id]")], "plain data"),
        ([("rdf.yaml", "{")], "plain data"),
        ([("rdf.yaml", "[1]")], "holds no description"),
        ([("rdf.yaml", "a: 1")], "names no weights"),
        ([("other.txt", "a: 1")], "has no rdf.yaml"),
        ([("rdf.yaml", json.dumps({"weights": {"onnx": {}}}))], "NU-M22"),
    ],
)
def test_unsafe_packages_are_refused(members, message, tmp_path):
    path = _zip(tmp_path / "package.zip", members)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=message) as caught:
        import_model(path)
    assert caught.value.code == "NU-M22"
    assert sorted(tmp_path.rglob("*")) == before


def test_an_encrypted_or_damaged_zip_is_refused(packed, tmp_path):
    whole = packed({"onnx": as_onnx(OtherUNet())}).read_bytes()
    path = tmp_path / "bad.zip"
    encrypted = bytearray(whole)
    at = whole.index(b"PK\x01\x02")
    encrypted[at + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(ModelError, match="is encrypted"):
        import_model(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="damaged or no zip"):
        import_model(path)
