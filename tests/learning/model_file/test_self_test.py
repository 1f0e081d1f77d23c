from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from napari_unet.config import NetworkConfig, NormalizationConfig
from napari_unet.errors import ModelError
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning import checkpoint
from napari_unet.learning.checkpoint import load_model, save_model
from napari_unet.learning.device import choose_device
from napari_unet.learning.model import Model
from napari_unet.learning.model_file import self_test
from napari_unet.learning.model_file.self_test import (
    SelfTest,
    draw_input,
    is_within,
    logits_of,
    make_self_test,
    reduced_precision_difference,
    self_test_difference,
    self_test_tensors,
)
from napari_unet.learning.networks import build_network
from napari_unet.learning.prediction import predict

CPU = choose_device("cpu")


@pytest.fixture
def path(random_model, tmp_path):
    return save_model(tmp_path / "cells.unet", random_model())


@pytest.fixture(autouse=True)
def _nothing_seen_yet(monkeypatch):
    """Forget what the process has loaded before."""
    monkeypatch.setattr(checkpoint, "_passed", set())


@pytest.fixture
def counted(monkeypatch):
    """Count the self-tests that loading runs."""
    calls = []

    def count(*args):
        calls.append(args)
        return self_test_difference(*args)

    monkeypatch.setattr(checkpoint, "self_test_difference", count)
    return calls


NETWORKS = [
    {},
    {"in_channels": 3, "out_channels": 4},
    {"depth": 6, "base_width": 2},
    {"depth": 5, "base_width": 1, "norm": "instance"},
    {"depth": 2, "padding": "valid", "norm": "none"},
    {"depth": 2, "padding": "valid", "up": "linear"},
    {"depth": 1, "n_dims": 3, "in_channels": 2},
    {"depth": 1, "n_dims": 3, "padding": "valid"},
    {"depth": 1, "upscale": 2},
    {"depth": 2, "padding": "valid", "upscale": 4},
    {"architecture": "residual_unet", "norm": "group"},
    {"architecture": "attention_unet"},
]


@pytest.mark.parametrize("settings", NETWORKS, ids=str)
def test_every_network_has_a_self_test_of_at_most_64_pixels(settings, tmp_path):
    config = NetworkConfig(**({"base_width": 2} | settings))
    roles = tuple(f"value:{i}" for i in range(config.out_channels))
    torch.manual_seed(0)  # so narrow a network may be born dead
    model = Model(config, build_network(config).state_dict(), roles=roles)
    test = make_self_test(model)
    kinds = {name: (tuple(t.shape), t.dtype) for name, t in test.tensors().items()}
    assert kinds == self_test_tensors(config)
    assert max(test.input.shape[1:]) <= 64
    sides = test.input.shape[1:]
    assert test.output.shape[1:] == tuple(n * config.upscale for n in sides)
    assert test.output.std() > 0
    assert self_test_difference(model, test) == 0
    load_model(save_model(tmp_path / "a.unet", model))


def test_the_input_is_drawn_alike_each_time_and_no_two_channels_are_alike():
    config = NetworkConfig(in_channels=40, n_dims=3)
    image = draw_input(config)
    assert image.shape == (40, 8, 32, 32)
    assert image.dtype == torch.float32
    assert torch.equal(image, draw_input(config))
    assert torch.equal(image[:1], draw_input(NetworkConfig(n_dims=3)))
    planes = {plane.numpy().tobytes() for plane in image.flatten(0, 1)}
    assert len(planes) == 40 * 8
    # As a normalised image: ground near 0, cells near 1.
    assert -0.3 < image.min() < 0.1
    assert 0.7 < image.max() < 1.3


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_network_is_applied_as_prediction_does_it(random_model, padding):
    model = random_model(padding=padding, in_channels=2, depth=2)
    test = make_self_test(model)
    # A range of 0 to 1 leaves the drawn input as it is.
    dataset = NormalizationConfig(policy="dataset")
    unit = IntensityRange((0.0, 0.0), (1.0, 1.0))
    model = replace(model, normalization=dataset, dataset_range=unit)
    expected = predict(model, Image(test.input.numpy(), axes="CYX"))
    found = torch.softmax(test.output, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def _rewrite(path, *, weights=None, output=None):
    """Change what a model computes, or computed; all checksums are right."""
    with safetensors.safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["napari_unet"])
    state = safetensors.torch.load_file(path)
    state |= weights or {}
    if output is not None:
        state["selftest.output"] = output
    test = SelfTest.taken_from(state)
    del description["description_sha256"]
    description["sha256"] = checkpoint.weights_sha256(state)
    description["self_test_sha256"] = checkpoint.weights_sha256(test.tensors())
    text = json.dumps(
        description, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    text = json.dumps(description | {"description_sha256": digest})
    safetensors.torch.save_file(state | test.tensors(), path, {"napari_unet": text})


def test_a_model_that_computes_something_else_is_refused(path):
    _rewrite(path, weights={"head.bias": torch.tensor([0.0, 0.5])})
    for _ in range(2):  # that it was seen once makes nothing right
        with pytest.raises(
            ModelError, match="no longer computes what it did"
        ) as caught:
            load_model(path)
        assert caught.value.code == "NU-M07"
        # The libraries are the same, so they are no cause.
        assert "the same versions, so the file was changed" in caught.value.message
        assert "install the versions" not in caught.value.message


def test_libraries_that_differ_are_named_as_a_cause(path, monkeypatch):
    _rewrite(path, weights={"head.bias": torch.tensor([0.0, 0.5])})
    newer = checkpoint.versions_now() | {"torch": "9.9"}
    monkeypatch.setattr(checkpoint, "versions_now", lambda: newer)
    with pytest.raises(ModelError, match=r"torch .* then, 9\.9 now\): install the"):
        load_model(path)


def test_what_saturated_probabilities_would_hide_is_found(random_model, tmp_path):
    sure = random_model()
    # All pixels are background with probability 1, in float32.
    bias = torch.tensor([60.0, -60.0])
    sure = replace(sure, state=dict(sure.state) | {"head.bias": bias})
    path = save_model(tmp_path / "a.unet", sure)
    assert torch.softmax(make_self_test(sure).output, 0)[0].min() == 1
    _rewrite(path, weights={"head.bias": bias * 1.01})
    with pytest.raises(ModelError, match="no longer computes"):
        load_model(path)


@pytest.mark.parametrize(("share", "is_fine"), [(0.9e-3, True), (1.1e-3, False)])
def test_the_limit_is_a_thousandth_of_the_largest_output(path, share, is_fine):
    output = safetensors.torch.load_file(path)["selftest.output"].clone()
    largest = float(output.abs().max())
    assert largest > 1
    output[0, 3, 4] += share * largest
    _rewrite(path, output=output)
    if is_fine:
        load_model(path)
    else:
        with pytest.raises(ModelError, match=r"where 0\.001 is allowed"):
            load_model(path)


def test_the_versions_then_and_now_are_named(path, monkeypatch):
    _rewrite(path, weights={"head.bias": torch.tensor([0.0, 0.5])})
    now = checkpoint.versions_now()
    monkeypatch.setattr(checkpoint, "versions_now", lambda: now | {"torch": "9.9"})
    with pytest.raises(ModelError, match=r"torch \S+ then, 9\.9 now"):
        load_model(path)


def test_a_network_that_gives_no_numbers_is_refused(path, monkeypatch):
    def ill(*_):
        return torch.full((2, 32, 32), float("nan"))

    monkeypatch.setattr(self_test, "logits_of", ill)
    with pytest.raises(ModelError, match="its self-test differs by nan"):
        load_model(path)
    assert not is_within(float("nan"), 1)
    assert not is_within(float("inf"), float("inf"))


def test_a_model_is_computed_once_per_process_and_content(
    random_model, path, tmp_path, counted
):
    for _ in range(3):
        load_model(path)
    copy = tmp_path / "copy.unet"
    copy.write_bytes(path.read_bytes())
    load_model(copy)
    assert len(counted) == 1
    # What a model is called changes nothing that it computes,
    save_model(copy, replace(random_model(), about="Another."))
    load_model(copy)
    assert len(counted) == 1
    # but the same weights may be used otherwise.
    network = random_model().network.model_copy(update={"dropout": 0.5})
    save_model(copy, replace(random_model(), network=network))
    load_model(copy)
    assert len(counted) == 2


def test_loading_leaves_torchs_own_state_alone(path):
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the state of old code
    before = _state()
    load_model(path)
    assert _state() == before
    with torch.autocast("cpu", torch.bfloat16):
        checkpoint._passed.clear()
        load_model(path)  # which would differ by more than is allowed
        assert torch.is_autocast_enabled("cpu")


def _state():
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.backends.mkldnn.conv.fp32_precision,
        torch.get_float32_matmul_precision(),
        torch.get_default_dtype(),
    )


@pytest.mark.parametrize("fails", [False, True])
def test_rounded_products_that_the_process_allows_are_left_out_and_kept(path, fails):
    mkldnn = torch.backends.mkldnn
    assert mkldnn.matmul.fp32_precision in {"none", "ieee"}
    seen = []

    class Network(torch.nn.Module):
        config, multiple, halo, margin = NetworkConfig(), 8, 32, 0

        def input_size_for(self, n):
            return n

        def forward(self, image):
            seen.append((mkldnn.matmul.fp32_precision, mkldnn.conv.fp32_precision))
            if fails:
                raise ValueError("no")
            return image

    torch.set_float32_matmul_precision("medium")
    try:
        image = torch.zeros(1, 32, 32)
        if fails:
            with pytest.raises(ValueError, match="no"):
                logits_of(Network(), image)
        else:
            logits_of(Network(), image)
        assert seen[0][0] == "ieee"
        assert mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_default_dtype_of_float64_does_not_matter(path):
    expected = load_model(path).state
    torch.set_default_dtype(torch.float64)
    try:
        checkpoint._passed.clear()
        model = load_model(path)
        assert next(model.build().parameters()).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(model.state[k], expected[k]) for k in expected)


def test_reduced_precision_differs_a_little_from_fp32(random_model, monkeypatch):
    model = random_model(base_width=8)
    monkeypatch.setattr(self_test, "fastest_precision", lambda _: "bf16")
    found = reduced_precision_difference(model, CPU)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        fast = model.build()(draw_input(model.network)[None])[0].float()
    test = make_self_test(model)
    expected = (torch.softmax(fast, 0) - torch.softmax(test.output, 0)).abs().max()
    # Rounded elsewhere, but as coarsely.
    assert 0.1 * float(expected) < found < 10 * float(expected)
    assert 1e-4 < found < 0.2
    assert reduced_precision_difference(model, CPU, test) == found
    monkeypatch.setattr(self_test, "fastest_precision", lambda _: "fp32")
    assert reduced_precision_difference(model, CPU) is None
