"""The loss of several kinds of outputs, against loops over the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.config import TrainConfig
from napari_unet.errors import ConfigError
from napari_unet.learning.augmentation import Batch
from napari_unet.learning.losses.by_role import loss_for

MIXED = ("softmax:background", "distance", "softmax-area:membrane", "softmax:cell")
IMAGES = ("value:red", "value:green")


def _case(n_outputs: int, n_values: int, n_classes: int = 3):
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(2, n_outputs, 5, 6)).astype(np.float32)
    classes = rng.integers(0, n_classes, (2, 5, 6))
    weights = rng.uniform(0, 8, (2, 5, 6)).astype(np.float32)
    weights[:, :2] = 0
    values = rng.normal(size=(2, n_values, 5, 6)).astype(np.float32)
    return logits, classes, weights, values


def _batch(classes, weights, values) -> Batch:
    tensors = (None if x is None else torch.from_numpy(x) for x in (classes, values))
    classes, values = tensors
    weights = torch.from_numpy(weights)
    return Batch(torch.zeros(2, 1, 5, 6), classes, weights, values)


def _entropy(logits, classes, weights) -> float:
    total = 0.0
    for n, y, x in np.ndindex(classes.shape):
        scores = np.exp(logits[n, :, y, x].astype(float))
        p = scores[classes[n, y, x]] / scores.sum()
        total -= float(weights[n, y, x]) * np.log(p)
    return total / weights.sum(dtype=float)


def _error(outputs, values, weights, power: int = 1) -> float:
    total = 0.0
    for n, y, x in np.ndindex(weights.shape):
        differences = [
            abs(float(outputs[n, m, y, x]) - float(values[n, m, y, x])) ** power
            for m in range(values.shape[1])
        ]
        total += float(weights[n, y, x]) * np.mean(differences)
    return total / weights.sum(dtype=float)


def test_classes_share_a_softmax_and_distances_have_their_absolute_error():
    logits, classes, weights, values = _case(4, 1)
    # The regression loss is that of the other task.
    loss = loss_for(TrainConfig(regression_loss="mse"), MIXED)
    found = loss(torch.from_numpy(logits), _batch(classes, weights, values))
    expected = _entropy(logits[:, [0, 2, 3]], classes, weights)
    expected += _error(logits[:, [1]], values, weights)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_classes_alone_need_no_values():
    logits, classes, weights, _ = _case(3, 1)
    roles = ("softmax:background", "softmax:a", "softmax:b")
    found = loss_for(TrainConfig(), roles)(
        torch.from_numpy(logits), _batch(classes, weights, None)
    )
    assert found.item() == pytest.approx(_entropy(logits, classes, weights), rel=1e-5)


@pytest.mark.parametrize(("name", "power"), [("mae", 1), ("mse", 2)])
def test_images_are_learned_by_the_regression_loss(name, power):
    logits, _, weights, values = _case(2, 2)
    config = TrainConfig(task="regress", regression_loss=name, loss="focal")
    found = loss_for(config, IMAGES)(
        torch.from_numpy(logits), _batch(None, weights, values)
    )
    expected = _error(logits, values, weights, power)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("roles", [MIXED, IMAGES])
def test_ignored_pixels_have_no_gradient_whatever_stands_there(roles):
    logits, classes, weights, values = _case(len(roles), 2 if roles == IMAGES else 1)
    task = "regress" if roles == IMAGES else "segment"
    logits[:, :, 0] = np.nan
    values[:, :, 1] = np.nan
    outputs = torch.from_numpy(logits).requires_grad_()
    batch = _batch(None if roles == IMAGES else classes, weights, values)
    loss_for(TrainConfig(task=task), roles)(outputs, batch).backward()
    assert (outputs.grad[:, :, :2] == 0).all()
    assert (outputs.grad[:, :, 2:] != 0).any((0, 2, 3)).all()


@pytest.mark.parametrize(
    ("name", "is_mean"),
    [("cross_entropy", True), ("focal", True), ("dice", False), ("combined", False)],
)
def test_a_loss_knows_whether_it_is_the_mean_of_its_parts(name, is_mean):
    logits, classes, weights, values = _case(4, 1)
    loss = loss_for(TrainConfig(loss=name), MIXED)
    whole = loss(torch.from_numpy(logits), _batch(classes, weights, values))
    parts = 0.0
    for i, part in enumerate(_batch(classes, weights, values).parts(2)):
        share = part.weights.sum() / weights.sum()
        parts += share * loss(torch.from_numpy(logits[i : i + 1]), part)
    assert bool(torch.isclose(whole, parts, rtol=1e-5)) is is_mean
    assert loss.is_mean_over_pixels is is_mean


def test_similarity_is_a_mean_of_its_parts_too():
    logits, _, weights, values = _case(2, 2)
    config = TrainConfig(task="regress", regression_loss="ssim_mae", loss="dice")
    loss = loss_for(config, IMAGES)
    assert loss.is_mean_over_pixels
    whole = loss(torch.from_numpy(logits), _batch(None, weights, values))
    parts = sum(
        part.weights.sum() / weights.sum() * loss(torch.from_numpy(logits[[i]]), part)
        for i, part in enumerate(_batch(None, weights, values).parts(2))
    )
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("role", ["sigmoid:cell", "probability:cell"])
def test_other_outputs_are_refused(role):
    with pytest.raises(ConfigError, match=f"'{role}' can't be trained") as caught:
        loss_for(TrainConfig(), ("distance", role))
    assert caught.value.code == "NU-C05"


def test_a_batch_that_lacks_what_is_learned_is_the_callers_mistake():
    logits, classes, weights, values = _case(4, 1)
    loss = loss_for(TrainConfig(), MIXED)
    for batch in (_batch(None, weights, values), _batch(classes, weights, None)):
        with pytest.raises(ValueError, match="but the batch has none"):
            loss(torch.from_numpy(logits), batch)
