from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.config import (
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    PredictConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.imaging.arrays import Annotation, Target
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.imaging.scores import score
from napari_unet.imaging.targets import make_target
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.losses import LOSSES
from napari_unet.learning.model import Model
from napari_unet.learning.patches import Plane
from napari_unet.learning.prediction import predict
from napari_unet.learning.validation import (
    Validation,
    forward_plane,
    subset,
    tune,
    validate,
)

CPU = DeviceChoice("cpu", "CPU")


def _as(instances: InstanceConfig | None = None, loss: str = "cross_entropy") -> Model:
    """Describe how a network's outputs are used; its weights are elsewhere."""
    return Model(
        NetworkConfig(),
        {},
        training=TrainConfig(loss=loss),
        instances=instances or InstanceConfig(),
    )


def _plane(image, labels, known=None) -> Plane:
    known = np.ones(labels.shape, bool) if known is None else known
    annotation = Annotation(labels, known=known)
    target = make_target(annotation, WeightConfig())
    return Plane(
        np.asarray(image, np.float32)[None], labels, annotation.is_known, target
    )


class _Oracle(torch.nn.Module):
    """A network whose foreground logit is the image itself."""

    margin = 0

    def forward(self, image):
        return torch.cat([-image / 2, image / 2], 1)

    def input_size_for(self, n):
        return n


def test_the_score_is_the_mean_of_map_and_iou():
    truth, found = np.zeros((2, 20, 20), int)
    truth[2:8, 2:8], found[2:8, 2:6] = 1, 1
    result = Validation(0.5, score(truth, found))
    # IoU 2/3: matched at 0.5, 0.55, 0.6, 0.65 of the ten thresholds.
    assert result.score == pytest.approx((0.4 + 2 / 3) / 2)
    assert result.as_dict() == pytest.approx(
        {"loss": 0.5, "iou": 2 / 3, "dice": 0.8, "ap": 1, "f1": 1, "map": 0.4,
         "n_cells": 1}
    )  # fmt: skip


def test_a_subset_is_spread_evenly_and_small_enough():
    planes = [Plane(None, np.zeros((10, 10)), None, None) for _ in range(20)]
    chosen = subset(planes, 500)
    assert chosen == planes[::4]
    assert subset(planes, 2000) == planes
    assert subset(planes, 1) == planes[:1]


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_loss_of_a_plane_is_that_of_its_pixels(random_model, padding, cells):
    norm = "batch" if padding == "same" else "none"
    model = random_model(padding=padding, norm=norm)
    image, labels = cells[0][:45, :50], cells[1][:45, :50]
    known = np.ones(labels.shape, bool)
    known[:20] = False
    plane = _plane(image, labels, known)
    network = model.build()
    outputs, loss, weight = forward_plane(network, plane, model, CPU, "fp32")
    assert outputs.shape == (2, 45, 50)
    # The same pixels, as the user's prediction gives them.
    as_is = replace(
        model,
        normalization=NormalizationConfig(policy="dataset"),
        dataset_range=IntensityRange((0.0,), (1.0,)),
    )
    expected = predict(as_is, image, PredictConfig(device="cpu", precision="fp32"))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    classes, weights = plane.target.classes, plane.target.weights
    p = np.take_along_axis(outputs, classes[None].astype(int), 0)[0]
    assert weight == pytest.approx(weights.sum(), rel=1e-5)
    assert loss == pytest.approx(-(weights * np.log(p)).sum(), rel=1e-4)


def test_a_perfect_network_gets_perfect_scores_and_stays_in_training(cells):
    labels = cells[1]
    network = _Oracle().train()
    plane = _plane(np.where(labels > 0, 12.0, -12.0), labels)
    # It gives background between touching cells, and these have none.
    settings = InstanceConfig(smoothing_px=0, give_back_gap=False)
    result = validate(network, [plane], _as(settings), CPU, "fp32")
    assert result.scores.ap["0.5"] == result.scores.iou == 1
    assert result.scores.n_truth == len(np.unique(labels)) - 1
    assert network.training


def test_the_loss_is_pooled_over_planes_by_weight(cells):
    image, labels = cells
    planes = [_plane(image, labels), _plane(image[:, :20] - 3, labels[:, :20])]
    network = _Oracle()
    single = [forward_plane(network, plane, _as(), CPU, "fp32")[1:] for plane in planes]
    expected = sum(s[0] for s in single) / sum(s[1] for s in single)
    result = validate(network, planes, _as(), CPU, "fp32")
    assert result.loss == pytest.approx(expected)


def test_validating_changes_no_weight_and_no_running_mean(random_model, cells):
    model = random_model()
    network = model.build().train()
    validate(network, [_plane(*cells)], _as(), CPU, "fp32")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, model.state[name]), name


def test_tuning_finds_the_threshold_that_separates(cells):
    labels = cells[1]
    # Ground at probability 0.62, cells at 0.99: the default threshold joins all.
    plane = _plane(np.where(labels > 0, 4.6, 0.49), labels)
    network = _Oracle().train()
    before = validate(network, [plane], _as(), CPU, "fp32")
    start = InstanceConfig(min_size_px=7, give_back_gap=False)
    config, after = tune(network, [plane], _as(start), CPU)
    assert before.scores.ap["0.5"] < 0.2
    assert after.scores.ap["0.5"] > 0.9
    assert config.threshold > 0.62
    assert (config.min_size_px, config.give_back_gap) == (7, False)
    assert after.loss == pytest.approx(before.loss)
    assert network.training


def test_a_target_without_weights_gives_a_finite_loss():
    labels = np.ones((8, 8), np.int32)
    target = Target(labels.astype(np.int16), np.zeros((8, 8), np.float32))
    plane = Plane(np.zeros((1, 8, 8), np.float32), labels, labels > 0, target)
    result = validate(_Oracle(), [plane], _as(), CPU, "fp32")
    assert result.loss == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_the_one_that_is_trained_with(random_model, cells, loss):
    model = replace(random_model(), training=TrainConfig(loss=loss))
    plane, network = _plane(*cells), model.build()
    outputs, found, weight = forward_plane(network, plane, model, CPU, "fp32")
    # The logarithm of probabilities is as good as the logits.
    logits = torch.from_numpy(np.log(outputs))[None]
    classes = torch.from_numpy(plane.target.classes.astype(np.int64))[None]
    weights = torch.from_numpy(plane.target.weights)[None]
    expected = LOSSES[loss](logits, classes, weights).item()
    assert found / weight == pytest.approx(expected, rel=1e-4)
    result = validate(network, [plane], model, CPU, "fp32")
    assert result.loss == pytest.approx(expected, rel=1e-4)
    _, tuned = tune(network, [plane], model, CPU)
    assert tuned.loss == pytest.approx(expected, rel=1e-4)
