from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from napari_unet.learning.losses import mae_loss, mse_loss, ssim, ssim_mae_loss


def _case(shape: tuple[int, ...], n_channels: int = 2):
    rng = np.random.default_rng(6)
    target = rng.uniform(0, 1, (2, n_channels, *shape)).astype(np.float32)
    outputs = target + rng.normal(0, 0.2, target.shape).astype(np.float32)
    weights = rng.uniform(0, 10, (2, *shape)).astype(np.float32)
    weights[:, : shape[0] // 2] = 0
    weights[rng.uniform(size=weights.shape) < 0.2] = 0
    return outputs, target, weights


def _mean(per_value, weights) -> float:
    """The weighted mean over pixels of the mean over channels, one by one."""
    total = 0.0
    for n, c, *at in np.ndindex(per_value.shape):
        total += float(weights[(n, *at)]) * per_value[(n, c, *at)]
    return total / (per_value.shape[1] * weights.sum(dtype=float))


def _mse(outputs, target, weights) -> float:
    return _mean((outputs.astype(float) - target) ** 2, weights)


def _mae(outputs, target, weights) -> float:
    return _mean(abs(outputs.astype(float) - target), weights)


def _local(x, y, known, at) -> float:
    """Equation 13 of Wang 2004 at one pixel, with a Gaussian over the known pixels."""
    total, moments = 0.0, np.zeros(5)
    for other in np.argwhere(known):
        offset = other - at
        if (abs(offset) <= 5).all():
            weight = np.exp(-0.5 * (offset**2).sum() / 1.5**2)
            a, b = x[tuple(other)], y[tuple(other)]
            moments += weight * np.array([a, b, a * a, b * b, a * b])
            total += weight
    mx, my, xx, yy, xy = moments / total
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
    return above / ((mx**2 + my**2 + c1) * (xx - mx**2 + yy - my**2 + c2))


def _ssim(outputs, target, weights) -> np.ndarray:
    out = np.zeros(outputs.shape)
    for n, c, *at in np.ndindex(outputs.shape):
        if weights[(n, *at)] > 0:
            x, y = outputs[n, c].astype(float), target[n, c].astype(float)
            out[(n, c, *at)] = _local(x, y, weights[n] > 0, np.array(at))
    return out


def _ssim_mae(outputs, target, weights) -> float:
    unlike = _mean(1 - _ssim(outputs, target, weights), weights)
    return 0.84 * unlike + 0.16 * _mae(outputs, target, weights)


LOSSES = {mse_loss: _mse, mae_loss: _mae, ssim_mae_loss: _ssim_mae}
each_loss = pytest.mark.parametrize(("loss", "oracle"), LOSSES.items())


@each_loss
@pytest.mark.parametrize("shape", [(8, 13), (3, 4, 5)])
def test_the_loss_is_the_sum_over_pixels_that_the_paper_writes(loss, oracle, shape):
    case = _case(shape)
    found = loss(*map(torch.from_numpy, case))
    assert found.item() == pytest.approx(oracle(*case), rel=1e-4)


@each_loss
@pytest.mark.parametrize("is_autocast", [True, False])
def test_reduced_precision_is_summed_in_full_precision(loss, oracle, is_autocast):
    outputs, target, weights = map(torch.from_numpy, _case((8, 8)))
    outputs = outputs.bfloat16()
    expected = oracle(outputs.float().numpy(), target.numpy(), weights.numpy())
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        value = loss(outputs, target, weights)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shape", [(24, 30), (14, 16, 18)])
def test_inside_an_image_the_likeness_is_that_of_scikit_image(shape):
    rng = np.random.default_rng(7)
    x = rng.uniform(0, 1, shape)
    y = x + rng.normal(0, 0.3, shape)
    _, expected = structural_similarity(
        x, y, data_range=1, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    given = torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None]
    found = ssim(*given, torch.ones(1, *shape))[0, 0].numpy()
    # scikit-image mirrors at the border, and leaves out as much of it.
    inner = (slice(5, -5),) * len(shape)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-9)
    assert not np.allclose(found, expected, atol=1e-3)


def test_at_a_border_the_known_pixels_are_all_there_is():
    outputs, target, weights = _case((9, 12))
    weights[:] = 1
    # As if the image went on, but nobody knew what is there.
    wide = [np.pad(a, [(0, 0)] * 2 + [(7, 7)] * 2, constant_values=np.nan)
            for a in (outputs, target)]  # fmt: skip
    known = np.pad(weights, [(0, 0), (7, 7), (7, 7)])
    found = ssim(*map(torch.from_numpy, (outputs, target, weights)))
    framed = ssim(*map(torch.from_numpy, (*wide, known)))[..., 7:-7, 7:-7]
    torch.testing.assert_close(framed, found)


def test_a_constant_output_beside_ignored_pixels_is_wholly_alike():
    # Without the division, zeros of ignored pixels would make an edge here.
    outputs = torch.full((1, 1, 12, 12), 0.7)
    weights = torch.ones(1, 12, 12)
    weights[:, :, 5:] = 0
    loss = ssim_mae_loss(outputs, outputs.clone(), weights)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    likeness = ssim(outputs, outputs.clone(), weights)[0, 0, :, :5]
    torch.testing.assert_close(likeness, torch.ones(12, 5))


def test_one_known_pixel_is_enough():
    outputs, target, weights = map(torch.from_numpy, _case((9, 9)))
    weights[:] = 0
    weights[0, 4, 4] = 3
    outputs.requires_grad_()
    loss = ssim_mae_loss(outputs, target, weights)
    loss.backward()
    assert loss.isfinite()
    assert outputs.grad.isfinite().all()
    assert outputs.grad.count_nonzero() == outputs.shape[1]


def test_values_far_from_zero_keep_their_likeness():
    outputs, target, weights = _case((16, 16), 1)
    double = [torch.from_numpy(a).double() + 1000 for a in (outputs, target)]
    single = [a.float() for a in double]
    expected = ssim(*[a.double() for a in single], torch.from_numpy(weights))
    found = ssim(*single, torch.from_numpy(weights))
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)


def test_the_range_of_the_data_sets_what_is_alike():
    outputs, target, weights = map(torch.from_numpy, _case((16, 16)))
    torch.testing.assert_close(
        ssim(255 * outputs, 255 * target, weights, data_range=255.0),
        ssim(outputs, target, weights),
    )


@each_loss
def test_a_target_without_a_channel_axis_is_one_channel(loss, oracle):
    outputs, target, weights = _case((7, 8), 1)
    found = loss(*map(torch.from_numpy, (outputs, target[:, 0], weights)))
    assert found.item() == pytest.approx(oracle(outputs, target, weights), rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_target_of_another_shape_is_refused(loss):
    weights = torch.ones(2, 8, 8)
    with pytest.raises(RuntimeError, match="shape"):
        loss(torch.zeros(2, 2, 8, 8), torch.zeros(2, 8, 8), weights)
