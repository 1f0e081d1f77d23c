from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import napari_unet as nu
from napari_unet.errors import ModelError, ResourceError
from napari_unet.learning.checkpoint import save_model, versions_now
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.sharing import verification


@pytest.fixture
def path(random_model, tmp_path):
    return save_model(tmp_path / "cells.unet", random_model())


def test_a_sound_model_is_ok(path, random_model):
    found = nu.verify_model(str(path))
    assert found.is_ok
    assert found.problem is None
    assert found.path == path
    assert found.sha256 == weights_sha256(random_model().state)
    assert found.difference < 1e-6
    assert found.limit == 1e-4
    assert found.versions_then == found.versions_now == versions_now()
    assert "CPU" in nu.verify_model(path, device="cpu").device


@pytest.mark.parametrize(("share", "is_ok"), [(0.9e-4, True), (1.1e-4, False)])
def test_the_limit_is_a_tenth_of_that_of_loading(
    path, monkeypatch, random_model, share, is_ok
):
    read = verification.read_stored

    def drifted(path):
        stored = read(path)
        output = stored.self_test.output.clone()
        output[0, 3, 4] += share * float(output.abs().max())
        return replace(stored, self_test=replace(stored.self_test, output=output))

    monkeypatch.setattr(verification, "read_stored", drifted)
    found = nu.verify_model(path)
    assert found.is_ok is is_ok
    if not is_ok:
        assert found.problem.code == "NU-M07"
        assert "differs by 0.00011 where 0.0001 is allowed" in found.problem.message


def test_a_damaged_model_is_an_error(path):
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="damaged"):
        nu.verify_model(path)


def test_a_device_that_is_missing_is_an_error_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="device 'cuda' was asked for"):
        nu.verify_model(tmp_path / "none.unet", device="cuda")


def test_what_was_loaded_before_is_computed_again(path, random_model):
    nu.load_model(path)
    with safetensors.safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["napari_unet"])
    state = safetensors.torch.load_file(path)
    state["head.bias"] = state["head.bias"] + 1
    weights = {k: v for k, v in state.items() if not k.startswith("selftest.")}
    del description["description_sha256"]
    description["sha256"] = weights_sha256(weights)
    text = json.dumps(
        description, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    description["description_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    metadata = {"napari_unet": json.dumps(description)}
    safetensors.torch.save_file(state, path, metadata)
    found = nu.verify_model(path)
    assert not found.is_ok
    # All logits moved by 1.
    assert found.difference == pytest.approx(
        1 / max(1, float(state["selftest.output"].abs().max())), rel=1e-4
    )


def test_it_goes_into_json_whatever_the_numbers(path):
    found = nu.verify_model(path)
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["path"] == str(path)
    assert content["is_ok"] is True
    assert content["problem"] is None
    ill = replace(found, difference=math.nan)
    assert not ill.is_ok
    content = json.loads(json.dumps(ill.as_dict(), allow_nan=False))
    assert content["difference"] is None
    assert content["problem"]["code"] == "NU-M07"
