from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_unet.config import (
    InstanceConfig,
    NetworkConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.imaging.arrays import Annotation, Target
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.instances import find_instances
from napari_unet.imaging.scores import pool, score, tally
from napari_unet.imaging.targets import make_target
from napari_unet.learning.data.planes import Plane
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.losses import LOSSES
from napari_unet.learning.model import Model
from napari_unet.learning.quality import validation
from napari_unet.learning.quality.held_back import HeldBack
from napari_unet.learning.quality.validation import Validation, tune, validate

CPU = DeviceChoice("cpu", "CPU")
EXACT = InstanceConfig(smoothing_px=0, give_back_gap=False)


def _as(instances: InstanceConfig | None = None, **training: object) -> Model:
    """Describe how a network's outputs are used; its weights are elsewhere."""
    return Model(
        NetworkConfig(),
        {},
        training=TrainConfig(**training),
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

    margin, halo, multiple = 0, 0, 1
    config = NetworkConfig()

    def forward(self, image):
        return torch.cat([-image / 2, image / 2], 1)

    def input_size_for(self, n):
        return n


class _AsItIs(_Oracle):
    """A network that gives back its channels."""

    def forward(self, image):
        return image


def _seen(**scores: object) -> Validation:
    truth, found = np.zeros((2, 20, 20), int)
    truth[2:8, 2:8], found[2:8, 2:6] = 1, 1
    truth[12:18, 12:18], found[12:18, 12:18] = 2, 2
    return Validation(0.5, score(truth, found), **scores)


def test_the_score_is_the_mean_of_map_and_iou_or_what_was_chosen():
    # IoU 2/3: matched at 0.5, 0.55, 0.6, 0.65 of the ten thresholds; else 1/3.
    map_, iou = (4 + 6 / 3) / 10, 60 / 72
    assert _seen().score == pytest.approx((map_ + iou) / 2)
    expected = {"mean_ap": map_, "ap": 1, "f1": 1, "iou": iou, "loss": 0.5}
    for name, value in expected.items():
        assert _seen(choose_by=name).score == pytest.approx(value), name


def test_more_is_better_but_of_a_loss_less_and_a_nan_is_below_everything():
    assert _seen(choose_by="iou").rank == _seen(choose_by="iou").score
    low, high = (Validation(x, None, choose_by="loss") for x in (0.1, 0.2))
    assert low.rank > high.rank
    for by, value in (("loss", math.nan), ("psnr", math.nan), ("ssim", math.nan)):
        assert Validation(value, None, choose_by=by).rank == -math.inf
    assert Validation(0.5, None, psnr=-300.0).rank > -math.inf


def test_the_more_cells_the_less_noise():
    assert _seen().noise == pytest.approx(0.15 / 2**0.5)  # of two cells
    assert _seen(choose_by="loss").noise == 0
    assert Validation(0.5, None, psnr=30.0).noise == 0


def test_scores_come_by_name_with_the_numbers_that_they_rest_on():
    truth, found = np.zeros((2, 8, 12), np.int32)
    truth[1:7, 1:6], truth[1:7, 6:11] = 1, 2
    found[1:7, 1:11] = 1
    apart = truth.copy()
    for labels, separated in ((found, 0.0), (apart, 1.0)):
        image = np.where(labels > 0, 12.0, -12.0)
        if separated:
            image[:, 5:7] = -12
        result = validate(_Oracle(), [_plane(image, truth)], _as(EXACT), CPU, "fp32")
        shown = result.as_dict()
        assert shown["separated"] == separated
        assert (shown["n_touching_pairs"], shown["n_cells"]) == (1, 2)
    assert list(shown) == [
        "loss", "iou", "iou_cell", "dice", "ap", "f1", "map", "separated",
        "n_touching_pairs", "n_cells",
    ]  # fmt: skip


def test_of_no_touching_pairs_there_is_no_share(cells):
    labels = np.where(cells[1] == 1, 1, 0).astype(np.int32)
    plane = _plane(np.where(labels > 0, 12.0, -12.0), labels)
    shown = validate(_Oracle(), [plane], _as(), CPU, "fp32").as_dict()
    assert "separated" not in shown
    assert shown["n_touching_pairs"] == 0


def test_a_perfect_network_gets_perfect_scores_and_stays_in_training(cells):
    labels = cells[1]
    network = _Oracle().train()
    plane = _plane(np.where(labels > 0, 12.0, -12.0), labels)
    # It gives background between touching cells, and these have none.
    result = validate(network, [plane], _as(EXACT), CPU, "fp32")
    assert result.scores.ap["0.5"] == result.scores.iou == 1
    assert result.class_iou == {"cell": 1}
    assert result.scores.n_truth == len(np.unique(labels)) - 1
    assert network.training


def test_scores_are_those_of_the_cells_found_in_all_planes():
    rng = np.random.default_rng(0)
    planes = []
    for k in range(3):
        labels = draw_cells((60, 50 + 10 * k), n_cells=6, rng=rng)[1]
        noisy = np.where(labels > 0, 1.0, -1.0) + rng.normal(0, 0.8, labels.shape)
        known = labels > 0
        known[:30] = True
        planes.append(_plane(noisy, labels, known))
    settings = InstanceConfig(smoothing_px=1, min_size_px=4)
    result = validate(_Oracle(), planes, _as(settings), CPU, "fp32")
    expected = []
    confusion = np.zeros((2, 2))
    for plane in planes:
        p = 1 / (1 + np.exp(-plane.image[0]))
        outputs = np.stack([1 - p, p])
        roles = ("softmax:background", "softmax:cell")
        found = find_instances(outputs, roles, settings)
        expected.append(tally(plane.labels, found, known=plane.known))
        for truth, own in ((0, 0), (0, 1), (1, 0), (1, 1)):
            is_it = (plane.target.classes == truth) & ((p > 0.5) == own)
            confusion[truth, own] += (is_it & (plane.target.weights > 0)).sum()
    for name, value in pool(expected).as_dict().items():
        assert result.scores.as_dict()[name] == pytest.approx(value), name
    iou = confusion[1, 1] / (confusion.sum() - confusion[0, 0])
    assert result.class_iou == {"cell": pytest.approx(iou)}


def _loss(name: str, plane: Plane) -> torch.Tensor:
    image = torch.from_numpy(plane.image)[None]
    return LOSSES[name](
        torch.cat([-image / 2, image / 2], 1),
        torch.from_numpy(plane.target.classes.astype(np.int64))[None],
        torch.from_numpy(plane.target.weights)[None],
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_the_one_that_is_trained_with_pooled_by_weight(cells, loss):
    image, labels = cells
    planes = [_plane(image, labels), _plane(image[:, :20] - 3, labels[:, :20])]
    weights = [plane.target.weights.sum() for plane in planes]
    single = [_loss(loss, plane).item() for plane in planes]
    expected = np.average(single, weights=weights)
    result = validate(_Oracle(), planes, _as(loss=loss), CPU, "fp32")
    assert result.loss == pytest.approx(expected, rel=1e-5)
    assert tune(_Oracle(), planes, _as(loss=loss), CPU)[1].loss == pytest.approx(
        expected, rel=1e-5
    )


def test_validating_changes_no_weight_and_no_running_mean(random_model, cells):
    model = random_model()
    network = model.build().train()
    validate(network, [_plane(*cells)], _as(), CPU, "fp32")
    assert network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, model.state[name]), name


def test_precision_changes_the_scores_little_and_tiles_not_at_all(random_model, cells):
    model, plane = random_model(), _plane(*cells)
    network = model.build().train()
    exact = validate(network, [plane], model, CPU, "fp32")
    for precision in ("bf16", "fast"):
        fast = validate(network, [plane], model, CPU, precision)
        assert fast.loss == pytest.approx(exact.loss, rel=0.02)
    held = HeldBack([plane], model, tile_px=16)
    tiled = validate(network, held, model, CPU, "fp32")
    assert tiled.loss == pytest.approx(exact.loss, rel=1e-5)


def test_tuning_finds_the_threshold_that_separates():
    labels = draw_cells((96, 96), n_cells=16, rng=np.random.default_rng(1))[1]
    assert labels.max() >= 10
    # Ground at probability 0.62, cells at 0.99: the default threshold joins all.
    plane = _plane(np.where(labels > 0, 4.6, 0.49), labels)
    network = _Oracle().train()
    start = InstanceConfig(min_size_px=7, give_back_gap=False)
    before = validate(network, [plane], _as(start), CPU, "fp32")
    config, after = tune(network, [plane], _as(start), CPU)
    assert before.scores.ap["0.5"] < 0.2
    assert after.scores.ap["0.5"] > 0.9
    assert config.threshold > 0.62
    assert (config.min_size_px, config.give_back_gap) == (7, False)
    assert after.loss == pytest.approx(before.loss)
    assert network.training


def test_few_cells_tune_nothing():
    labels = draw_cells((64, 64), n_cells=5, rng=np.random.default_rng(1))[1]
    assert labels.max() < 10
    # One of five is found at a lower threshold only: that may be chance.
    is_faint = (labels == 1) & (np.arange(64) % 4 == 0)
    image = np.where(labels > 0, 4.6, -4.6)
    image[is_faint] = -0.4
    plane = _plane(image, labels)
    start = InstanceConfig(give_back_gap=False)
    assert tune(_Oracle(), [plane], _as(start), CPU)[0] == start


def test_what_is_not_sure_yet_gets_a_threshold_from_pixels():
    labels = draw_cells((64, 64), n_cells=5, rng=np.random.default_rng(1))[1]
    # Cells at probability 0.38, ground at 0.27: right, but nowhere above a half.
    plane = _plane(np.where(labels > 0, -0.5, -1.0), labels)
    start = InstanceConfig(min_size_px=7, give_back_gap=False)
    config, after = tune(_Oracle(), [plane], _as(start), CPU)
    assert 0.27 < config.threshold < 0.38 < config.seed_threshold < 0.7
    assert after.scores.f1["0.5"] > 0.9
    assert config.min_size_px == 7


def _choosing(monkeypatch, *tried: InstanceConfig) -> None:
    """Let tuning try these settings and take the last one for the best."""

    def choose_last(count, start):
        count(start)
        return tried[-1], [count(config) for config in tried][-1]

    monkeypatch.setattr(validation, "tune_instances", choose_last)


def test_a_gain_within_the_noise_tunes_nothing(monkeypatch):
    labels = draw_cells((96, 96), n_cells=16, rng=np.random.default_rng(1))[1]
    start = EXACT.model_copy(update={"seed_threshold": 0.5})
    lower = start.model_copy(update={"threshold": 0.42, "seed_threshold": 0.42})
    _choosing(monkeypatch, lower)
    for n_faint, chosen in ((1, start), (8, lower)):
        image = np.where(labels > 0, 4.0, -4.0)
        # Cells that only a lower threshold finds.
        image[(labels > 0) & (labels <= n_faint)] = -0.3
        plane = _plane(image, labels)
        assert tune(_Oracle(), [plane], _as(start), CPU)[0] == chosen


def test_of_settings_as_good_the_nearest_to_the_derived_ones_is_taken(monkeypatch):
    labels = draw_cells((96, 96), n_cells=16, rng=np.random.default_rng(1))[1]
    image = np.where(labels > 0, 4.0, -4.0)
    image[(labels > 0) & (labels <= 8)] = -0.3
    start = EXACT.model_copy(update={"seed_threshold": 0.5})
    near, far = (
        start.model_copy(update={"threshold": t, "seed_threshold": 0.42})
        for t in (0.42, 0.35)
    )
    for order in ((near, far), (far, near)):
        _choosing(monkeypatch, *order)
        assert tune(_Oracle(), [_plane(image, labels)], _as(start), CPU)[0] == near


def test_tuning_ends_when_its_time_is_up(monkeypatch):
    labels = draw_cells((96, 96), n_cells=16, rng=np.random.default_rng(1))[1]
    plane = _plane(np.where(labels > 0, 4.6, 0.49), labels)
    start = InstanceConfig(give_back_gap=False)
    monkeypatch.setattr(validation, "_MAX_TUNING_S", -1.0)
    n_looks = []
    whole = validation.count_cells
    monkeypatch.setattr(
        validation, "count_cells", lambda *a, **k: n_looks.append(1) or whole(*a, **k)
    )
    assert tune(_Oracle(), [plane], _as(start), CPU)[0] == start
    assert len(n_looks) == 1


def test_a_target_without_weights_gives_a_finite_loss():
    labels = np.ones((8, 8), np.int32)
    target = Target(labels.astype(np.int16), np.zeros((8, 8), np.float32))
    plane = Plane(np.zeros((1, 8, 8), np.float32), labels, labels > 0, target)
    result = validate(_Oracle(), [plane], _as(), CPU, "fp32")
    assert result.loss == 0


def test_classes_are_scored_each_for_itself_and_boundaries_as_their_cell():
    labels = np.zeros((6, 12), np.int32)
    labels[:, :4], labels[:, 6:10] = 1, 2
    truth = np.select([labels == 1, labels == 2], [1, 2], 0).astype(np.int16)
    classes = truth.copy()
    classes[:, 3] = classes[:, 6] = 3
    # All is found, but the second cell's boundary, taken for class a.
    logits = np.zeros((4, 6, 12), np.float32)
    np.put_along_axis(logits, classes[None].astype(int), 9.0, 0)
    logits[0, :, [3, 6]] = 7  # background comes second, which a boundary never is
    logits[1, :, 3] = 5  # boundary of a: class a comes third
    logits[1, :, 6] = 5  # boundary of b: class a comes third
    target = Target(classes, np.ones(labels.shape, np.float32))
    plane = Plane(logits, labels, labels >= 0, target)
    roles = ("softmax:background", "softmax:a", "softmax:b", "softmax-boundary")
    model = replace(
        _as(EXACT), roles=roles, class_names=("background", "a", "b")
    )  # fmt: skip
    result = validate(_AsItIs(), [plane], model, CPU, "fp32")
    assert result.class_iou == {"a": 24 / 30, "b": 18 / 24}


def test_a_distance_counts_in_the_loss_and_finds_cells(cells):
    labels = cells[1]
    target = make_target(Annotation(labels), WeightConfig(), target="distance")
    foreground = np.where(labels > 0, 6.0, -6.0).astype(np.float32)
    image = np.stack([-foreground, foreground, target.values[0] + 0.25])
    plane = Plane(image, labels, np.ones(labels.shape, bool), target)
    roles = ("softmax:background", "softmax:cell", "distance")
    model = replace(_as(EXACT), roles=roles)
    result = validate(_AsItIs(), [plane], model, CPU, "fp32")
    logits = torch.from_numpy(image[None, :2])
    of_classes = LOSSES["cross_entropy"](
        logits,
        torch.from_numpy(target.classes.astype(np.int64))[None],
        torch.from_numpy(target.weights)[None],
    ).item()
    assert result.loss == pytest.approx(of_classes + 0.25, rel=1e-4)
    assert result.scores.ap["0.5"] > 0.9


def test_images_that_are_made_are_scored_by_psnr_and_ssim():
    rng = np.random.default_rng(0)
    planes, values = [], []
    for shape in ((40, 30), (32, 32)):
        truth = rng.random((2, *shape)).astype(np.float32)
        own = truth + rng.normal(0, 0.1, truth.shape).astype(np.float32)
        weights = np.ones(shape, np.float32)
        nothing = np.zeros(shape, np.int32)
        target = Target(None, weights, truth)
        planes.append(Plane(own, nothing, weights > 0, target))
        for a, b in zip(truth, own, strict=True):
            span = float(np.ptp(a))
            values.append(
                (
                    peak_signal_noise_ratio(a, b, data_range=span),
                    structural_similarity(
                        a.astype(float), b.astype(float), data_range=span,
                        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                    ),
                )
            )  # fmt: skip
    roles = ("value:a", "value:b")
    model = replace(_as(task="regress"), roles=roles)
    result = validate(_AsItIs(), planes, model, CPU, "fp32")
    expected = np.mean(values, axis=0)
    shown = result.as_dict()
    assert list(shown) == ["loss", "psnr", "ssim", "n_images"]
    assert (shown["psnr"], shown["ssim"]) == pytest.approx(tuple(expected), rel=1e-5)
    assert shown["n_images"] == 2
    assert result.score == result.rank == shown["psnr"]
    assert replace(result, choose_by="ssim").score == shown["ssim"]
    errors = [np.abs(p.image - p.target.values).mean() for p in planes]
    assert shown["loss"] == pytest.approx(
        np.average(errors, weights=[40 * 30, 32 * 32]), rel=1e-5
    )
    settings, tuned = tune(_AsItIs(), planes, model, CPU)
    assert settings == model.instances
    assert tuned.as_dict() == pytest.approx(shown)


def test_outputs_finer_than_the_image_are_compared_on_their_own_grid(random_model):
    model = random_model(upscale=2, out_channels=1)
    model = replace(model, roles=("value:fine",), training=TrainConfig(task="regress"))
    image = np.random.default_rng(0).random((1, 20, 16)).astype(np.float32)
    shape = (40, 32)
    weights = np.ones(shape, np.float32)
    with torch.no_grad():
        made = model.build()(torch.from_numpy(image)[None])[0].numpy()
    target = Target(None, weights, made)
    plane = Plane(image, np.zeros(shape, np.int32), weights > 0, target)
    result = validate(model.build(), [plane], model, CPU, "fp32")
    assert result.loss < 1e-5
    assert result.psnr > 90
