from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import signal
import struct
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from napari_unet.config import (
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.errors import ConfigError, ModelError, SaveError
from napari_unet.events import Region
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.checkpoint import load_model, save_model
from napari_unet.learning.model import Look, Model, Origin, Round, weights_sha256


@pytest.fixture
def model(random_model):
    """A model none of whose fields has its default, but for what makes images."""
    return replace(
        random_model(base_width=2, depth=1, in_channels=2, out_channels=3),
        training=TrainConfig(max_steps=7, max_minutes=2.5, seed=2**63 - 1),
        weights=WeightConfig(w0=3, sigma=2.5, balance_classes=True),
        instances=InstanceConfig(threshold=0.61, seed_threshold=0.7, min_size_px=33),
        normalization=NormalizationConfig(policy="dataset", low_percentile=2),
        dataset_range=IntensityRange((1.5, -2.0), (1e9, 0.1)),
        typical_span=(12.25, 0.1),
        image_dtype="uint16",
        channel_names=("DAPI", "µ-tubulin"),
        pixel_size_um=(0.5, 0.1),
        cell_diameter_px=17.3,
        scores={"iou": 0.1 + 0.2, "f1": 0.5},
        n_train_images=3,
        step=1200,
        class_colors=("#000000", "#ff0000", "#00ff7f"),
        axes="CYX",
        fingerprint="ab" * 32,
        license="CC-BY-4.0",
        authors=("Jane Doe", "日本 太郎"),
        about="Nuclei of zebrafish.",
        derived_from=(Origin("cd" * 32, ("Ann Other",), "MIT"), Origin("ef" * 32)),
        history=(Look(0, None, 0.7, 0.0), Look(50, 0.31, 0.1 + 0.2, 0.55)),
        scale=0.1 + 0.2,
        scales_by_cells=True,
        rounds=(Round(3, 0.5, 7), Round(12, 0.1 + 0.2, 7, "ab" * 32, "ap")),
        held_back=(Region(2, (0, 5), (16, 0), (32, 64), "b.tif"),),
        validated_on="a block of each of 3 images",
    )


@pytest.fixture
def path(model, tmp_path):
    return save_model(tmp_path / "cells.unet", model)


def _parts(path: Path) -> tuple[dict, bytes]:
    """The header of a safetensors file as JSON, and the bytes of its tensors."""
    content = path.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + n]), content[8 + n :]


def _write(path: Path, header: object, tensors: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)
    return path


def _redescribe(path: Path, *, is_signed: bool = True, **changes: object) -> None:
    """Change the description of a model file, as another program might have."""
    header, tensors = _parts(path)
    description = json.loads(header["__metadata__"]["napari_unet"]) | changes
    if is_signed:
        del description["description_sha256"]
        text = json.dumps(
            description, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        digest = hashlib.sha256(text.encode()).hexdigest()
        description["description_sha256"] = digest
    header["__metadata__"]["napari_unet"] = json.dumps(description)
    _write(path, header, tensors)


def test_every_field_comes_back(model, path):
    loaded = load_model(str(path))
    for field in fields(model):
        if field.name not in {"state", "versions"}:
            assert getattr(loaded, field.name) == getattr(model, field.name), field.name
            # Of other models, see below.
            if field.name in {"value_range", "values_follow_image"}:
                continue
            # The fixture would prove nothing with a default.
            assert getattr(model, field.name) != field.default, field.name
    assert set(loaded.state) == set(model.state)
    for name, tensor in model.state.items():
        assert torch.equal(loaded.state[name], tensor)
        assert loaded.state[name].dtype == tensor.dtype
    assert loaded.n_channels == 2


def test_what_is_unknown_stays_unknown(random_model, tmp_path):
    plain = random_model()
    loaded = load_model(save_model(tmp_path / "a.unet", plain))
    assert loaded.dataset_range is loaded.pixel_size_um is None
    assert loaded.cell_diameter_px is None
    assert loaded.scores == {}


def test_a_loaded_model_predicts_the_same(model, path):
    image = torch.rand(1, 2, 8, 8)
    with torch.no_grad():
        expected = model.build()(image)
        assert torch.equal(load_model(path).build()(image), expected)
    assert expected.std() > 0.01


def test_building_gives_a_copy_ready_to_predict_and_draws_no_random_number(model):
    before = torch.get_rng_state()
    network = model.build()
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert all(torch.equal(a, b) for a, b in zip(
        model.state.values(), model.build().state_dict().values(), strict=True
    ))  # fmt: skip
    assert model.state["head.weight"].any()


def test_two_saves_give_the_same_bytes(model, tmp_path):
    a, b = (save_model(tmp_path / name, model).read_bytes() for name in "ab")
    assert a == b


def test_the_file_opens_with_safetensors_and_holds_one_description(model, path):
    with safetensors.safe_open(path, "pt") as file:
        assert list(file.metadata()) == ["napari_unet"]
        description = json.loads(file.metadata()["napari_unet"])
        own = {"selftest.input", "selftest.output"}
        assert set(file.keys()) == set(model.state) | own
    assert description["format_version"] == 2
    assert set(description["versions"]) == {"napari_unet", "torch", "numpy", "python"}


def test_weights_in_any_memory_layout_can_be_saved(model, tmp_path):
    state = {
        k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v
        for k, v in model.state.items()
    }
    loaded = load_model(save_model(tmp_path / "a", replace(model, state=state)))
    assert all(torch.equal(loaded.state[name], state[name]) for name in state)


def _assert_refused(path: Path, code: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        load_model(path)
    assert caught.value.code == code
    assert str(path) in caught.value.message


def test_a_missing_file_is_refused(tmp_path):
    _assert_refused(tmp_path / "none.unet", "NU-M00", r"none\.unet is missing: give a")


def test_a_folder_is_refused(tmp_path):
    _assert_refused(tmp_path, "NU-M00", "is a folder: give a .unet file")


def test_a_file_that_cannot_be_read_is_refused(path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    _assert_refused(path, "NU-M00", "can't be read: Permission denied")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"a text file, nothing else, but a long one",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 100) + b"{}",
        struct.pack("<Q", 3) + b"{1}",
        struct.pack("<Q", 20) + b'{"__metadata__": []}',
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe",
    ],
)
def test_what_is_no_model_file_is_refused(tmp_path, content):
    path = tmp_path / "cells.unet"
    path.write_bytes(content)
    _assert_refused(path, "NU-M01", "is not a napari-unet model")


def test_somebody_elses_safetensors_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(3)}, path)
    _assert_refused(path, "NU-M01", "its header has no description")
    safetensors.torch.save_file({"a": torch.zeros(3)}, path, {"format": "pt"})
    _assert_refused(path, "NU-M01", "its header has no description")


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("kind", ["pickle", "torch", "torch legacy", "numpy"])
def test_a_pickle_is_refused_and_never_executed(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, bomb = tmp_path / "evil.unet", _Bomb(tmp_path / "executed")
    with path.open("wb") as file:
        if kind == "pickle":
            pickle.dump(bomb, file)
        elif kind == "numpy":
            np.save(file, np.array([bomb], object))
        else:
            torch.save(bomb, file, _use_new_zipfile_serialization=kind == "torch")
    _assert_refused(path, "NU-M01", "is not a napari-unet model")
    assert not bomb.marker.exists()


def test_a_newer_format_is_refused(path):
    _redescribe(path, format_version=3, something_new=1)
    _assert_refused(path, "NU-M03", "written by a newer version .* update napari-unet")


def test_an_early_format_is_refused(path):
    _redescribe(path, format_version=1)
    _assert_refused(path, "NU-M08", "an early version .* train the model again")


@pytest.mark.parametrize(
    "changes",
    [{"format_version": "x"}, {"scores": {}}, {"sha256": "0" * 64}, {"unknown": 1}],
)
def test_a_description_that_was_changed_is_damage(path, changes):
    _redescribe(path, is_signed=False, **changes)
    _assert_refused(path, "NU-M02", "damaged model file: copy it again")


@pytest.mark.parametrize("name", ["sha256", "self_test_sha256"])
def test_checksums_of_other_tensors_are_damage(path, name):
    _redescribe(path, **{name: "0" * 64})
    _assert_refused(path, "NU-M02", "damaged model file: copy it again")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format_version": "x"}, "format_version"),
        ({"unknown": 1}, "unknown: extra inputs"),
        ({"roles": None}, "roles"),
        ({"network": {"architecture": "unet", "depth": 99}}, r"network\..*depth"),
        ({"training": {"seed": -1}}, r"training\.seed"),
    ],
)
def test_settings_that_this_version_does_not_know_are_named(path, changes, named):
    _redescribe(path, **changes)
    _assert_refused(path, "NU-M05", f"can't use, {named}.*: update napari-unet")


# What the fixture's model (2 channels, 3 classes, policy "dataset") can't be.
_IMPOSSIBLE = {
    "dataset_range": [
        (None, "dataset_range: none, where the normalisation 'dataset' needs one"),
        (((0,), (0, 1, 2)), "dataset_range: of 1 and 3 channels, its network of 2"),
        (((5, 0), (4, 1)), "dataset_range: low ends above high ones"),
        (((5, 0), (5, 0)), "dataset_range: low and high ends are the same"),
        (((0, 0), (1, math.inf)), r"dataset_range\.1\.1: .* finite"),
    ],
    "axes": [
        ("QQQ", "axes: 'QQQ', where its network takes 'CYX'"),
        ("CZYX", "axes: 'CZYX', where its network takes 'CYX'"),
    ],
    "pixel_size_um": [
        ((0, 1), r"pixel_size_um\.0: .* greater than 0"),
        ((1, math.nan), r"pixel_size_um\.1: "),
        ((1, 1, 1, 1), "pixel_size_um: .* at most 3 items"),
        ((1,), "pixel_size_um: .* at least 2 items"),
    ],
    "cell_diameter_px": [
        (-1, "cell_diameter_px: .* greater than 0"),
        (math.inf, "cell_diameter_px: .* finite"),
    ],
    "typical_span": [
        ((1, 2, 3), "typical_span: of 3 channels, its network of 2"),
        ((1, -2), r"typical_span\.1: .* greater than or equal to 0"),
    ],
    "n_train_images": [(-5, "n_train_images: .* greater than or equal to 0")],
    "step": [(-1, "step: .* greater than"), (10**400, "step: .* less than")],
    "history": [((Look(10**400, None, 0.7, 0.0),), "history: a step that no training")],
    "class_names": [
        ((), "class_names: .* at least 1 item"),
        (("background",), "class_names: 1 different, where its network has 3"),
        (("a", "b", "b"), "class_names: 2 different, where its network has 3"),
    ],
    "class_colors": [
        (("#000000", "#000000", "red"), r"class_colors\.2: .* match pattern"),
        (("#000000",), "class_colors: 1, where it has 3 classes"),
    ],
    "fingerprint": [("abc", "fingerprint: .* match pattern")],
    "scales_by_cells": [("perhaps", "scales_by_cells: .* boolean")],
    "scale": [(0, "scale: .* greater than 0"), (math.inf, "scale: .* finite")],
    "value_range": [(((0,), (1,)), "value_range: of 1 and 1 values, where it has 0")],
    "rounds": [((Round(-1, 0.5, 3),), "rounds: a number of cells that none")],
    "held_back": [((Region(0, (), (0, 0), (-5, 9)),), "held_back: a region that no")],
    "roles": [
        (("softmax:a", "x", "softmax:c"), "roles: 'x' is of an unknown kind, not one"),
        (("softmax:a", "", "softmax:c"), "roles: '' is of an unknown kind"),
    ],
}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [(field, *case) for field, cases in _IMPOSSIBLE.items() for case in cases],
)
def test_what_no_model_can_be_is_neither_read_nor_saved(
    model, path, field, value, said
):
    is_of_parts = field in {"history", "rounds", "held_back"}
    raw = [asdict(part) for part in value] if is_of_parts else value
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"can't be saved, {said}.*: set it anew"):
        save_model(path, replace(model, **{field: _as_range(field, value)}))
    assert path.read_bytes() == before
    _redescribe(path, **{field: raw})
    _assert_refused(path, "NU-M05", f"can't use, {said}.*: update napari-unet")


def _as_range(field: str, value: object) -> object:
    is_range = field.endswith("_range") and value is not None
    return IntensityRange(*value) if is_range else value


@pytest.mark.parametrize("version", [0, -1])
def test_a_format_that_never_was_is_refused(path, version):
    _redescribe(path, format_version=version)
    _assert_refused(path, "NU-M05", "format_version: ")


def test_settings_that_were_copied_out_of_bounds_are_not_saved(model, tmp_path):
    instances = model.instances.model_copy(update={"min_size_px": -3})
    with pytest.raises(ConfigError, match=r"instances\.min_size_px: .*: set it anew"):
        save_model(tmp_path / "a.unet", replace(model, instances=instances))


_VALUES = IntensityRange((0.0, -5.0), (1.0, 0.1 + 0.2))


@pytest.mark.parametrize(
    "changes",
    [
        {"class_colors": ()},
        {"typical_span": ()},
        {"typical_span": (math.inf, 0.0)},
        {"pixel_size_um": (2.0, 0.5, 0.5)},  # of stacks, learned plane by plane
        {
            "pixel_size_um": None,
            "cell_diameter_px": None,
            "scales_by_cells": False,
        },
        {"dataset_range": IntensityRange((0.0, 7.0), (1.0, 7.0))},
        {"roles": ("softmax:a", "softmax-area:b", "softmax:c")},
        {"roles": ("value:a", "distance", "sigmoid:c"), "class_names": ("background",)},
        {
            "roles": tuple(f"probability:{i}" for i in range(3)),
            "class_names": tuple("bcde"),
        },
        {"fingerprint": ""},
        {"roles": ("value:a", "distance", "value:c"), "value_range": _VALUES},
        {
            "roles": ("softmax:a", "softmax:b", "softmax-boundary"),
            "class_names": ("a", "b"),
        },
    ],
)
def test_what_models_of_elsewhere_are_is_kept(model, tmp_path, changes):
    unlike = replace(model, **{"class_colors": ()} | changes)
    loaded = load_model(save_model(tmp_path / "a.unet", unlike))
    assert _as_compared(loaded) == _as_compared(unlike)


def test_values_without_a_span_are_not_saved(model, tmp_path):
    flat = replace(
        model,
        roles=("value:a", "value:b", "value:c"),
        value_range=IntensityRange((0.0, 1.0, 2.0), (1.0, 1.0, 3.0)),
    )
    with pytest.raises(ConfigError, match="value_range: low ends that are not below"):
        save_model(tmp_path / "a.unet", flat)


def test_a_file_from_before_there_were_scales_is_read(model, path):
    header, tensors = _parts(path)
    text = json.loads(header["__metadata__"]["napari_unet"])
    for name in (
        "scale",
        "value_range",
        "values_follow_image",
        "rounds",
        "held_back",
        "validated_on",
    ):
        del text[name]
    header["__metadata__"]["napari_unet"] = json.dumps(text)
    _write(path, header, tensors)
    _redescribe(path)
    loaded = load_model(path)
    assert (loaded.scale, loaded.rounds, loaded.held_back) == (1.0, (), ())
    assert loaded.history == model.history


def test_a_network_of_the_future_is_named(model, path):
    network = model.network.model_dump() | {"architecture": "swin", "windows": 7}
    _redescribe(path, network=network)
    _assert_refused(path, "NU-M05", "holds a network 'swin', .* knows unet, .*update")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", 5, None, "[" * 100_000])
def test_a_description_that_is_none_is_damage(path, text):
    header, tensors = _parts(path)
    header["__metadata__"]["napari_unet"] = text
    _write(path, header, tensors)
    _assert_refused(path, "NU-M02", "is a damaged model file")


def test_a_flipped_bit_is_found_wherever_it_matters(model, path):
    content = path.read_bytes()
    first_weight = len(content) - len(_parts(path)[1])
    rng = np.random.default_rng(0)
    places = [*range(0, first_weight, 53), *range(first_weight, len(content), 211)]
    n_loaded = 0
    for at in places:
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            loaded = load_model(path)
        except ModelError:
            continue
        n_loaded += 1
        assert at < first_weight
        assert _as_compared(loaded) == _as_compared(model)
    # The header's own padding may change.
    assert n_loaded < 5


def _as_compared(model: Model) -> dict:
    content = {f.name: getattr(model, f.name) for f in fields(model)}
    del content["versions"]
    return content | {"state": weights_sha256(model.state)}


def test_a_file_cut_anywhere_is_refused(path):
    content = path.read_bytes()
    lengths = {*range(20), *range(20, len(content), 397), len(content) - 1}
    n_foreign = 0
    for length in sorted(lengths):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError) as caught:
            load_model(path)
        assert caught.value.code in {"NU-M01", "NU-M02"}
        n_foreign += caught.value.code == "NU-M01"
    # Where its first bytes tell whose it is, the file is called damaged.
    assert n_foreign < 25
    path.write_bytes(content + b"x")
    _assert_refused(path, "NU-M02", "is a damaged model file")


@pytest.mark.parametrize(
    "settings", [{"base_width": 3}, {"depth": 2}, {"up": "linear"}, {"norm": "none"}]
)
def test_weights_of_another_network_are_refused(model, path, settings):
    other = NetworkConfig(**(model.network.model_dump() | settings))
    _redescribe(path, network=other.model_dump())
    _assert_refused(path, "NU-M04", "does not hold the network that it describes: ")


def _replace_tensors(path: Path, **tensors: torch.Tensor | None) -> None:
    """Add, change or (None) drop tensors of a model file, checksums included."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = safetensors.torch.load_file(path) | tensors
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    safetensors.torch.save_file(state, path, metadata)
    own = {name: t for name, t in state.items() if name.startswith("selftest.")}
    weights = {name: t for name, t in state.items() if name not in own}
    checksums = weights_sha256(weights), weights_sha256(own)
    _redescribe(path, sha256=checksums[0], self_test_sha256=checksums[1])


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        (
            "head.bias",
            torch.zeros(9),
            r"is float32 \(9,\) and should be float32 \(3,\)",
        ),
        ("head.bias", None, r"is absent and should be float32 \(3,\)"),
        ("extra", torch.zeros(1), r"is float32 \(1,\) and should be absent"),
        (
            "head.bias",
            torch.zeros(3).half(),
            r"is float16 \(3,\) and should be float32",
        ),
        ("head.bias", torch.zeros(3).double(), r"is F64 \(3,\) and should be float32"),
        ("down.0.1.num_batches_tracked", torch.zeros(()), r"float32 \(\).*int64 \(\)"),
        ("selftest.output", torch.zeros(3, 9, 9), r"float32 \(3, 32, 32\)"),
        ("selftest.input", None, r"is absent and should be float32 \(2, 32, 32\)"),
    ],
)
def test_the_first_tensor_that_differs_is_named(path, name, tensor, said):
    _replace_tensors(path, **{name: tensor})
    _assert_refused(path, "NU-M04", rf"{name} .*{said}.* \(1 of \d+ tensors differ\)")


def test_weights_of_another_network_are_not_saved(model, tmp_path):
    state = dict(model.state) | {"head.bias": torch.zeros(9)}
    with pytest.raises(ModelError, match=r"the model does not hold .* head\.bias"):
        save_model(tmp_path / "a.unet", replace(model, state=state))
    with pytest.raises(ModelError, match="names 1 outputs but its network has 3"):
        save_model(tmp_path / "a.unet", replace(model, roles=("value:x",)))
    assert not list(tmp_path.iterdir())


def test_outputs_that_do_not_fit_the_network_are_refused(path):
    _redescribe(path, roles=["softmax:a", "softmax:b"])
    _assert_refused(path, "NU-M04", "names 2 outputs but its network has 3")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_neither_read_nor_saved(model, path, value):
    bias = torch.tensor([0, value, 0])
    _replace_tensors(path, **{"head.bias": bias})
    _assert_refused(path, "NU-M06", r"head\.bias holds values that are not numbers")
    before = path.read_bytes()
    ill = replace(model, state=dict(model.state) | {"head.bias": bias})
    with pytest.raises(ModelError, match=r"head\.bias holds values that are not num"):
        save_model(path, ill)
    assert path.read_bytes() == before


def test_outputs_that_are_no_numbers_are_not_saved(model, tmp_path):
    huge = {k: v * 1e38 if "weight" in k else v for k, v in model.state.items()}
    with pytest.raises(ModelError, match=r"selftest\.output holds values that are not"):
        save_model(tmp_path / "a.unet", replace(model, state=huge))


def test_a_field_of_another_type_is_not_saved(model, tmp_path):
    with pytest.raises(ConfigError, match=r"can't be saved, authors: .* set it anew"):
        save_model(tmp_path / "a.unet", replace(model, authors="Jane"))


def test_a_text_that_is_no_unicode_is_neither_saved_nor_read(model, path):
    with pytest.raises(ConfigError, match=r"a name or text in it is not Unicode"):
        save_model(path, replace(model, about="\ud800"))
    header, tensors = _parts(path)
    text = header["__metadata__"]["napari_unet"].replace("Nuclei", r"\ud800")
    header["__metadata__"]["napari_unet"] = text
    _write(path, header, tensors)
    _assert_refused(path, "NU-M02", "damaged")


def test_a_validation_without_a_number_is_kept(model, tmp_path):
    diverged = replace(
        model,
        history=(Look(5, float("nan"), float("inf"), 0.0),),
        scores={"iou": float("nan")},
    )
    loaded = load_model(save_model(tmp_path / "a.unet", diverged))
    (look,) = loaded.history
    assert math.isnan(look.loss)
    assert look.validation_loss == math.inf
    assert math.isnan(loaded.scores["iou"])


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 6},
        {"depth": 6, "n_dims": 3},
        {"architecture": "trans_unet", "transformer_layers": 48},
        {"architecture": "attention_unet", "depth": 6, "padding": "valid"},
    ],
)
def test_a_huge_network_is_refused_without_building_it(path, settings):
    channels = {"in_channels": 2, "out_channels": 3}
    huge = NetworkConfig(base_width=256, **channels, **settings)
    axes = "CZYX" if huge.n_dims == 3 else "CYX"
    _redescribe(path, network=huge.model_dump(), axes=axes)
    _assert_refused(path, "NU-M04", "does not hold the network")


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        # Of two keys alike, one program would take the first and another the last.
        (b'"head.bias":', b'"down.0.0.weight":', "NU-M02"),
        (b'"shape":[3]', b'"shape":3  ', "NU-M02"),
        (b'"shape":[3]', b'"shape":{} ', "NU-M04"),
        (b'"dtype":"F32"', b'"dtipe":"F32"', "NU-M02"),
        (b'"data_offsets":[0,', b'"data_offsets":[1,', "NU-M02"),
    ],
)
def test_a_header_that_lies_is_refused(path, old, new, code):
    header, tensors = _parts(path)
    text = json.dumps(header, separators=(",", ":")).encode()
    assert old in text
    _write(path, text.replace(old, new, 1), tensors)
    _assert_refused(path, code, "damaged|does not hold")


def test_a_header_of_countless_tensors_is_refused(path):
    header, tensors = _parts(path)
    none = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header |= {str(i): none for i in range(10**4)}
    _write(path, header, tensors)
    _assert_refused(path, "NU-M04", "10000 of")
    header["a long name" + 16 * 2**20 * "x"] = none
    _write(path, header, tensors)
    _assert_refused(path, "NU-M01", "is not a napari-unet model")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_model_and_nothing_else(
    model, path, monkeypatch, call
):
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(SaveError, match="the disk is full") as caught:
        save_model(path, replace(model, step=9))
    assert caught.value.code == "NU-S01"
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


_KILLED = """
import os, signal, sys
from napari_unet.files.atomic import write_atomically

point, target, source = sys.argv[1:]
content = open(source, "rb").read()

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def write(file):
    file.write(content[: len(content) // 2])
    file.flush()
    if point == "half":
        die()
    file.write(content[len(content) // 2 :])

replace = os.replace
if point == "fsync":
    os.fsync = die
elif point == "replace":
    os.replace = die
elif point == "after":
    os.replace = lambda *names: (replace(*names), die())
write_atomically(target, write)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGKILL")
@pytest.mark.parametrize(
    ("point", "step"),
    [("half", 1200), ("fsync", 1200), ("replace", 1200), ("after", 9)],
)
def test_a_kill_while_saving_leaves_the_old_or_the_new_model(
    model, path, tmp_path, point, step
):
    newer = save_model(tmp_path / "newer.unet", replace(model, step=9))
    command = [sys.executable, "-c", _KILLED, point, str(path), str(newer)]
    done = subprocess.run(command, check=False)
    assert done.returncode == -signal.SIGKILL
    assert load_model(path).step == step


def test_a_folder_that_is_not_there_is_refused(model, tmp_path):
    with pytest.raises(SaveError, match="there is no folder"):
        save_model(tmp_path / "none" / "a.unet", model)
