from __future__ import annotations

import json
import os
import pickle
import struct
from dataclasses import fields, replace
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
from napari_unet.errors import ModelError, SaveError
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.checkpoint import Look, Origin, load_model, save_model


@pytest.fixture
def model(random_model):
    """A model none of whose fields has its default."""
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
        axes="CZYX",
        fingerprint="ab" * 32,
        license="CC-BY-4.0",
        authors=("Jane Doe", "日本 太郎"),
        about="Nuclei of zebrafish.",
        derived_from=(Origin("cd" * 32, ("Ann Other",), "MIT"), Origin("ef" * 32)),
        history=(Look(0, None, 0.7, 0.0), Look(50, 0.31, 0.1 + 0.2, 0.55)),
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


def _redescribe(path: Path, **changes: object) -> None:
    """Change the description of a model file, and nothing else."""
    header, tensors = _parts(path)
    description = json.loads(header["__metadata__"]["napari_unet"]) | changes
    header["__metadata__"]["napari_unet"] = json.dumps(description)
    _write(path, header, tensors)


def test_every_field_comes_back(model, path):
    loaded = load_model(str(path))
    for field in fields(model):
        if field.name not in {"state", "versions"}:
            assert getattr(loaded, field.name) == getattr(model, field.name), field.name
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
        assert set(file.keys()) == set(model.state)
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
    [
        {"format_version": "x"},
        {"unknown": 1},
        {"roles": None},
        {"network": {"depth": 99}},
        {"training": {"seed": -1}},
        {"sha256": "0" * 64},
    ],
)
def test_a_description_that_does_not_hold_is_damage(path, changes):
    _redescribe(path, **changes)
    _assert_refused(path, "NU-M02", "damaged model file: copy it again")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", 5, None, "[" * 100_000])
def test_a_description_that_is_none_is_damage_or_foreign(path, text):
    header, tensors = _parts(path)
    header["__metadata__"]["napari_unet"] = text
    _write(path, header, tensors)
    code = "NU-M01" if text is None else "NU-M02"
    _assert_refused(path, code, "damaged|not a napari-unet model")


def test_any_flipped_bit_in_the_weights_is_found(path):
    content = path.read_bytes()
    n_tensors = len(_parts(path)[1])
    rng = np.random.default_rng(0)
    for at in rng.choice(n_tensors, 60, replace=False):
        damaged = bytearray(content)
        damaged[len(content) - n_tensors + at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        _assert_refused(path, "NU-M02", "is a damaged model file")


def test_a_flipped_bit_in_the_header_never_raises_anything_else(path):
    content = path.read_bytes()
    n_header = len(content) - len(_parts(path)[1])
    rng = np.random.default_rng(0)
    n_refused = 0
    for at in rng.choice(n_header, 150, replace=False):
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            load_model(path)
        except ModelError:
            n_refused += 1
    assert n_refused > 75


def test_a_file_cut_anywhere_is_refused(path):
    content = path.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ModelError):
            load_model(path)
    path.write_bytes(content + b"x")
    with pytest.raises(ModelError):
        load_model(path)


@pytest.mark.parametrize(
    "settings", [{"base_width": 3}, {"depth": 2}, {"up": "linear"}, {"norm": "none"}]
)
def test_weights_of_another_network_are_refused(model, path, settings):
    other = NetworkConfig(**(model.network.model_dump() | settings))
    _redescribe(path, network=other.model_dump())
    _assert_refused(path, "NU-M04", "does not hold the network that it describes: ")


def test_the_first_tensor_that_differs_is_named(model, tmp_path):
    state = dict(model.state) | {"head.bias": torch.zeros(9)}
    path = save_model(tmp_path / "a.unet", replace(model, state=state))
    _assert_refused(path, "NU-M04", r"head\.bias \(1 tensors differ\)")
    del state["head.bias"]
    path = save_model(tmp_path / "a.unet", replace(model, state=state))
    _assert_refused(path, "NU-M04", r"head\.bias \(1 tensors differ\)")


def test_a_huge_network_is_refused_without_building_it(path):
    huge = NetworkConfig(base_width=256, depth=6)
    _redescribe(path, network=huge.model_dump())
    _assert_refused(path, "NU-M04", "does not hold the network")


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


def test_a_folder_that_is_not_there_is_refused(model, tmp_path):
    with pytest.raises(SaveError, match="there is no folder"):
        save_model(tmp_path / "none" / "a.unet", model)
