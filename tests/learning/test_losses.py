from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.learning.losses import weighted_cross_entropy


def _case(shape: tuple[int, ...], n_classes: int = 3):
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2, n_classes, *shape)).astype(np.float32)
    classes = rng.integers(0, n_classes, (2, *shape))
    weights = rng.uniform(0, 10, (2, *shape)).astype(np.float32)
    weights[:, : shape[0] // 2] = 0
    return logits, classes, weights


def _oracle(logits, classes, weights) -> float:
    """Equation 1 of the paper, pixel by pixel, divided by the sum of the weights."""
    total = 0.0
    for n, *at in np.ndindex(classes.shape):
        scores = logits[(n, slice(None), *at)].astype(float)
        p = np.exp(scores) / np.exp(scores).sum()
        total -= float(weights[(n, *at)]) * np.log(p[classes[(n, *at)]])
    return total / weights.sum(dtype=float)


@pytest.mark.parametrize("shape", [(4, 6), (2, 4, 3)])
def test_the_loss_is_the_weighted_mean_of_the_cross_entropy(shape):
    case = _case(shape)
    loss = weighted_cross_entropy(*map(torch.from_numpy, case))
    assert loss.item() == pytest.approx(_oracle(*case), rel=1e-5)


def test_ignored_pixels_have_no_gradient_at_all():
    logits, classes, weights = map(torch.from_numpy, _case((4, 6)))
    logits.requires_grad_()
    weighted_cross_entropy(logits, classes, weights).backward()
    ignored = (weights == 0)[:, None].expand_as(logits)
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).all()


def test_the_scale_of_the_weights_does_not_change_the_loss():
    logits, classes, weights = map(torch.from_numpy, _case((4, 6)))
    torch.testing.assert_close(
        weighted_cross_entropy(logits, classes, weights),
        weighted_cross_entropy(logits, classes, 50 * weights),
    )


def test_nothing_known_gives_a_loss_of_zero():
    logits, classes, weights = map(torch.from_numpy, _case((4, 6)))
    logits.requires_grad_()
    loss = weighted_cross_entropy(logits, classes, torch.zeros_like(weights))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("is_autocast", [True, False])
def test_reduced_precision_is_summed_in_full_precision(is_autocast):
    logits, classes, weights = map(torch.from_numpy, _case((8, 8)))
    logits = logits.bfloat16()
    expected = _oracle(logits.float().numpy(), classes.numpy(), weights.numpy())
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        loss = weighted_cross_entropy(logits, classes, weights)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)
