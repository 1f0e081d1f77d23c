from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.learning.losses import (
    combined_loss,
    dice_loss,
    focal_loss,
    weighted_cross_entropy,
)


def _case(shape: tuple[int, ...], n_classes: int = 3):
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2, n_classes, *shape)).astype(np.float32)
    classes = rng.integers(0, n_classes, (2, *shape))
    weights = rng.uniform(0, 10, (2, *shape)).astype(np.float32)
    weights[:, : shape[0] // 2] = 0
    return logits, classes, weights


def _probabilities(logits, at) -> np.ndarray:
    n, *where = at
    scores = np.exp(logits[(n, slice(None), *where)].astype(float))
    return scores / scores.sum()


def _cross_entropy(logits, classes, weights) -> float:
    """Equation 1 of the paper, pixel by pixel, divided by the sum of the weights."""
    total = 0.0
    for at in np.ndindex(classes.shape):
        p = _probabilities(logits, at)[classes[at]]
        total -= float(weights[at]) * np.log(p)
    return total / weights.sum(dtype=float)


def _focal(logits, classes, weights, gamma=2.0) -> float:
    """Equation 5 of Lin 2017, pixel by pixel."""
    total = 0.0
    for at in np.ndindex(classes.shape):
        p = _probabilities(logits, at)[classes[at]]
        total -= float(weights[at]) * (1 - p) ** gamma * np.log(p)
    return total / weights.sum(dtype=float)


def _dice(logits, classes, weights, class_weights=None) -> float:
    """One class after the other, pixel by pixel."""
    n_classes = logits.shape[1]
    parts, shares = [], []
    for k in range(n_classes):
        common = predicted = true = 0.0
        for at in np.ndindex(classes.shape):
            w, p = float(weights[at]), _probabilities(logits, at)[k]
            common += w * p * (classes[at] == k)
            predicted += w * p
            true += w * (classes[at] == k)
        if true > 0:
            parts.append(1 - 2 * common / (predicted + true))
            shares.append(1.0 if class_weights is None else class_weights[k])
    return float(np.average(parts, weights=shares))


def _combined(*case) -> float:
    return _cross_entropy(*case) + _dice(*case)


LOSSES = {
    weighted_cross_entropy: _cross_entropy,
    dice_loss: _dice,
    combined_loss: _combined,
    focal_loss: _focal,
}
each_loss = pytest.mark.parametrize(("loss", "oracle"), LOSSES.items())


@each_loss
@pytest.mark.parametrize("shape", [(4, 6), (2, 4, 3)])
def test_the_loss_is_the_sum_over_pixels_that_the_paper_writes(loss, oracle, shape):
    case = _case(shape)
    found = loss(*map(torch.from_numpy, case))
    assert found.item() == pytest.approx(oracle(*case), rel=1e-5)


@each_loss
@pytest.mark.parametrize("is_autocast", [True, False])
def test_reduced_precision_is_summed_in_full_precision(loss, oracle, is_autocast):
    logits, classes, weights = map(torch.from_numpy, _case((8, 8)))
    logits = logits.bfloat16()
    expected = oracle(logits.float().numpy(), classes.numpy(), weights.numpy())
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        value = loss(logits, classes, weights)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-5)


@each_loss
@pytest.mark.parametrize("class_id", [-1, 255, 3])
def test_an_ignored_pixel_may_have_any_class(loss, oracle, class_id):
    logits, classes, weights = _case((4, 6))
    other = np.where(weights == 0, class_id, classes)
    found = loss(*map(torch.from_numpy, (logits, other, weights)))
    assert found.item() == pytest.approx(oracle(logits, classes, weights), rel=1e-5)


def test_small_classes_count_as_much_as_large_ones_for_dice():
    # Two of 100 pixels are cell; all is predicted as background, surely.
    classes = torch.zeros(1, 10, 10, dtype=torch.int64)
    classes[0, 4, 4:6] = 1
    logits = torch.stack([torch.full((1, 10, 10), 20.0), torch.zeros(1, 10, 10)], 1)
    background, cell = 2 * 98 / (100 + 98), 0
    expected = 1 - (background + cell) / 2
    weights = torch.ones(1, 10, 10)
    assert dice_loss(logits, classes, weights).item() == pytest.approx(expected)


def test_a_right_and_sure_prediction_has_no_dice_loss():
    _, classes, weights = map(torch.from_numpy, _case((4, 6)))
    logits = 50.0 * torch.nn.functional.one_hot(classes, 3).movedim(-1, 1)
    assert dice_loss(logits, classes, weights).item() == pytest.approx(0, abs=1e-6)


def test_classes_that_are_not_there_are_left_out_of_dice():
    logits, classes, weights = _case((4, 6))
    classes = np.minimum(classes, 1)
    ours = dice_loss(*map(torch.from_numpy, (logits, classes, weights)))
    assert ours.item() == pytest.approx(_dice(logits, classes, weights), rel=1e-5)
    # Also where the class is there, but only where nothing is known.
    classes[weights == 0] = 2
    again = dice_loss(*map(torch.from_numpy, (logits, classes, weights)))
    assert again == ours


def test_class_weights_weigh_the_classes_of_dice():
    case, shares = _case((4, 6)), [0.5, 3.0, 1.0]
    found = dice_loss(*map(torch.from_numpy, case), class_weights=torch.tensor(shares))
    assert found.item() == pytest.approx(_dice(*case, shares), rel=1e-5)


def test_dice_is_pooled_over_the_batch():
    logits, classes, weights = map(torch.from_numpy, _case((4, 6)))
    side_by_side = (
        torch.cat(list(logits), 1)[None],
        torch.cat(list(classes))[None],
        torch.cat(list(weights))[None],
    )
    pooled = dice_loss(logits, classes, weights)
    torch.testing.assert_close(dice_loss(*side_by_side), pooled)
    single = [
        dice_loss(logits[i : i + 1], classes[i : i + 1], weights[i : i + 1])
        for i in range(2)
    ]
    assert abs(sum(single) / 2 - pooled) > 1e-4


@pytest.mark.parametrize("loss", [weighted_cross_entropy, focal_loss])
def test_a_split_batch_has_the_mean_loss_of_its_parts_by_weight(loss):
    logits, classes, weights = map(torch.from_numpy, _case((4, 6)))
    parts = [
        loss(logits[i : i + 1], classes[i : i + 1], weights[i : i + 1])
        for i in range(2)
    ]
    share = weights.sum((1, 2)) / weights.sum()
    torch.testing.assert_close(
        loss(logits, classes, weights), (torch.stack(parts) * share).sum()
    )


def test_focal_without_focus_is_the_cross_entropy():
    case = tuple(map(torch.from_numpy, _case((4, 6))))
    torch.testing.assert_close(
        focal_loss(*case, gamma=0.0), weighted_cross_entropy(*case)
    )


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_focal_takes_other_gammas(gamma):
    case = _case((4, 6))
    found = focal_loss(*map(torch.from_numpy, case), gamma=gamma)
    assert found.item() == pytest.approx(_focal(*case, gamma), rel=1e-5)


def test_focal_looks_away_from_what_is_right_already():
    # p = 0.9 counts 100 times less than by the cross entropy (Lin 2017, section 3.2).
    logit = torch.tensor([np.log(0.9), np.log(0.1)], dtype=torch.float64)
    case = logit.view(1, 2, 1, 1), torch.zeros(1, 1, 1).long(), torch.ones(1, 1, 1)
    ratio = weighted_cross_entropy(*case) / focal_loss(*case)
    assert ratio.item() == pytest.approx(100)


def test_focal_has_a_slope_where_a_pixel_is_wholly_right():
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    loss = focal_loss(logits, torch.zeros(1, 1, 1).long(), torch.ones(1, 1, 1))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.isfinite().all()
