from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import torch

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.errors import ModelError
from napari_unet.learning.checkpoint import load_model, read_stored, save_model
from napari_unet.learning.model import Model, weights_sha256
from napari_unet.learning.model_file.half_precision import halved
from napari_unet.learning.networks import build_network
from napari_unet.learning.sharing.cards import name_on_card
from napari_unet.learning.sharing.verification import verify_model
from napari_unet.learning.training import train


@pytest.fixture
def model(random_model):
    return random_model()


@pytest.fixture
def path(model, tmp_path):
    return save_model(tmp_path / "half.unet", model, half=True)


def _rounded(model: Model) -> dict[str, np.ndarray]:
    """Weights rounded by numpy, as float32."""
    arrays = {name: tensor.numpy() for name, tensor in model.state.items()}
    return {
        name: a.astype(np.float16).astype(np.float32) if a.ndim > 1 else a
        for name, a in arrays.items()
    }


def test_weights_come_back_as_float32_rounded_to_half_precision(model, path):
    loaded = load_model(path)
    for name, expected in _rounded(model).items():
        assert loaded.state[name].dtype == model.state[name].dtype
        np.testing.assert_array_equal(loaded.state[name].numpy(), expected)
    assert not torch.equal(loaded.state["head.weight"], model.state["head.weight"])


def test_the_file_holds_half_precision_and_says_so(path):
    with safetensors.safe_open(path, "pt") as file:
        dtypes = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
        description = json.loads(file.metadata()["napari_unet"])
    own = {name for name in dtypes if name.startswith("selftest.")}
    assert {dtypes[name] for name in own} == {torch.float32}
    weights = {dtypes[name] for name in set(dtypes) - own}
    # Biases and statistics stay as they are, and batches are counted.
    assert weights == {torch.float16, torch.float32, torch.int64}
    assert description["stored"] == "float16"


def test_the_checksum_is_that_of_the_model_that_comes_back(path, tmp_path):
    loaded = load_model(path)
    assert read_stored(path).sha256 == weights_sha256(loaded.state)
    # A file in full precision of the same weights is the same model.
    whole = save_model(tmp_path / "whole.unet", loaded)
    assert read_stored(whole).sha256 == read_stored(path).sha256
    assert (read_stored(whole).is_half, read_stored(path).is_half) == (False, True)


def test_rounding_changes_nothing_that_the_self_test_looks_at(path):
    found = verify_model(path, device="cpu")
    assert found.is_ok
    assert found.difference == 0


def test_saving_does_not_change_the_model(model, tmp_path):
    before = weights_sha256(model.state)
    save_model(tmp_path / "half.unet", model, half=True)
    assert weights_sha256(model.state) == before


def test_a_model_saved_again_gives_the_same_bytes(path, tmp_path):
    again = save_model(tmp_path / "again.unet", load_model(path), half=True)
    assert again.read_bytes() == path.read_bytes()


def test_weights_that_half_precision_has_no_room_for_are_refused(model, tmp_path):
    weights = model.state["head.weight"].clone()
    weights[0, 0] = 65520.0
    state = dict(model.state) | {"head.weight": weights}
    with pytest.raises(ModelError, match=r"head\.weight holds 6\.55e\+04") as caught:
        save_model(tmp_path / "a.unet", replace(model, state=state), half=True)
    assert caught.value.code == "NU-M12"
    assert not (tmp_path / "a.unet").exists()
    assert halved({"a": torch.tensor([[65504.0]])})["a"].item() == 65504


def test_a_large_variance_is_kept_as_it_is(model, tmp_path):
    name = next(name for name in model.state if name.endswith("running_var"))
    state = dict(model.state) | {name: torch.full_like(model.state[name], 1.2e5)}
    path = save_model(tmp_path / "a.unet", replace(model, state=state), half=True)
    assert torch.equal(load_model(path).state[name], state[name])


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_a_file_that_says_another_precision_is_refused(path, stored):
    content = path.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n])
    description = json.loads(header["__metadata__"]["napari_unet"])
    header["__metadata__"]["napari_unet"] = json.dumps(description | {"stored": stored})
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + n :])
    with pytest.raises(ModelError):
        load_model(path)


def test_naming_the_authors_keeps_the_precision(path):
    n_bytes = path.stat().st_size
    name_on_card(path, authors=["Jane Doe"])
    assert load_model(path).authors == ("Jane Doe",)
    assert read_stored(path).is_half
    assert abs(path.stat().st_size - n_bytes) < 100


def test_training_goes_on_from_it(cells, path):
    image, labels = cells
    config = TrainConfig(max_steps=2, patch_size=16, batch_size=1, device="cpu")
    *_, last = train([image], [labels], config, start_from=path)
    owed = {origin.sha256 for origin in last.model.derived_from}
    kept = weights_sha256(last.model.state) == read_stored(path).sha256
    assert kept or owed == {read_stored(path).sha256}


def test_two_million_weights_take_five_megabytes_at_most(tmp_path):
    network = NetworkConfig(base_width=16, depth=4)
    state = build_network(network).state_dict()
    n = sum(tensor.numel() for tensor in state.values())
    assert n > 1.9e6
    path = save_model(tmp_path / "a.unet", Model(network, state), half=True)
    assert path.stat().st_size <= 5e6
