"""What holds for every loss; the formulas are tested in losses/."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.config import TrainConfig
from napari_unet.learning.losses import LOSSES, REGRESSION_LOSSES

ALL = {**LOSSES, **REGRESSION_LOSSES}
# All but those that look at a neighbourhood: for these a pixel's place is nothing.
POINTWISE = [name for name in ALL if name != "ssim_mae"]
each_loss = pytest.mark.parametrize("name", ALL)


def _case(name: str, shape=(6, 9), *, seed=0, dtype=torch.float32):
    """Outputs, target and weights; a third of the pixels is ignored."""
    rng = np.random.default_rng(seed)
    outputs = torch.from_numpy(rng.normal(size=(2, 3, *shape))).to(dtype)
    weights = torch.from_numpy(rng.uniform(0.1, 10, (2, *shape))).to(dtype)
    weights[torch.from_numpy(rng.uniform(size=weights.shape)) < 1 / 3] = 0
    if name in LOSSES:
        target = torch.from_numpy(rng.integers(0, 3, (2, *shape)))
    else:
        target = torch.from_numpy(rng.normal(size=(2, 3, *shape))).to(dtype)
    return outputs, target, weights


def _spoiled(name, outputs, target, weights, value: float, class_id: int):
    """The same case with something else wherever the weight is 0."""
    ignored = weights == 0
    outputs = torch.where(ignored[:, None], value, outputs)
    if name in LOSSES:
        return outputs, torch.where(ignored, class_id, target)
    return outputs, torch.where(ignored[:, None], value, target)


def _value_and_gradient(name, outputs, target, weights):
    outputs = outputs.clone().requires_grad_()
    loss = ALL[name](outputs, target, weights)
    loss.backward()
    return loss.detach(), outputs.grad


def test_each_loss_of_the_settings_is_there():
    assert tuple(LOSSES) == get_args(TrainConfig.model_fields["loss"].annotation)


@each_loss
@pytest.mark.parametrize("shape", [(6, 9), (3, 4, 5)])
@pytest.mark.parametrize(
    ("value", "class_id"), [(np.nan, -1), (np.inf, 255), (-np.inf, 3), (1e30, -100)]
)
def test_what_stands_at_ignored_pixels_changes_not_a_bit(name, shape, value, class_id):
    outputs, target, weights = _case(name, shape)
    spoiled = _spoiled(name, outputs, target, weights, value, class_id)
    loss, gradient = _value_and_gradient(name, outputs, target, weights)
    loss2, gradient2 = _value_and_gradient(name, *spoiled, weights)
    assert torch.equal(loss, loss2)
    assert torch.equal(gradient, gradient2)
    ignored = (weights == 0)[:, None].expand_as(gradient)
    assert (gradient[ignored] == 0).all()
    assert (gradient[~ignored] != 0).all()


@each_loss
@pytest.mark.parametrize("value", [0.5, np.nan])
def test_nothing_known_gives_a_loss_of_zero(name, value):
    outputs, target, weights = _case(name)
    loss, gradient = _value_and_gradient(
        name, torch.full_like(outputs, value), target, torch.zeros_like(weights)
    )
    assert loss == 0
    assert (gradient == 0).all()


@each_loss
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
def test_the_gradient_is_that_of_finite_differences(name, shape):
    outputs, target, weights = _case(name, shape, dtype=torch.float64)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: ALL[name](x, target, weights), outputs, atol=1e-6
    )


@each_loss
def test_double_precision_stays_double(name):
    case = _case(name, dtype=torch.float64)
    assert ALL[name](*case).dtype == torch.float64


@each_loss
@settings(max_examples=25, deadline=None)
@given(factor=st.floats(1e-6, 1e6, allow_subnormal=False), seed=st.integers(0, 2**31))
def test_the_scale_of_the_weights_does_not_change_the_loss(name, factor, seed):
    outputs, target, weights = _case(name, seed=seed, dtype=torch.float64)
    torch.testing.assert_close(
        ALL[name](outputs, target, factor * weights),
        ALL[name](outputs, target, weights),
    )


@pytest.mark.parametrize("name", POINTWISE)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_order_of_the_pixels_does_not_change_the_loss(name, seed):
    outputs, target, weights = _case(name, seed=seed, dtype=torch.float64)
    order = torch.randperm(2 * 54, generator=torch.Generator().manual_seed(seed))

    def shuffled(values, n_channels):
        flat = values.reshape(2, n_channels, -1).movedim(1, 0).reshape(n_channels, -1)
        flat = flat[:, order].reshape(n_channels, 2, 6, 9).movedim(0, 1)
        return flat if n_channels > 1 else flat[:, 0]

    case = (
        shuffled(outputs, 3),
        shuffled(target, 1 if name in LOSSES else 3),
        shuffled(weights, 1),
    )
    torch.testing.assert_close(ALL[name](*case), ALL[name](outputs, target, weights))


@each_loss
def test_a_weight_of_two_is_the_pixel_twice(name):
    outputs, target, weights = _case(name, dtype=torch.float64)
    twice = [torch.cat([a, a[:1]]) for a in (outputs, target, weights)]
    doubled = weights.clone()
    doubled[0] *= 2
    torch.testing.assert_close(ALL[name](outputs, target, doubled), ALL[name](*twice))


@each_loss
def test_the_loss_takes_a_gradient_step_down(name):
    outputs, target, weights = _case(name)
    loss, gradient = _value_and_gradient(name, outputs, target, weights)
    assert ALL[name](outputs - 0.1 * gradient, target, weights) < loss
    assert loss > 0
