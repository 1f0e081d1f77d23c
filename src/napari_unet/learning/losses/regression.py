"""Losses of values, for image to image: MSE, MAE, and SSIM + MAE.

All take ``outputs`` and ``target``, float (N, C, [Z,] Y, X) of one shape, and
``weights``, float (N, [Z,] Y, X), >= 0. They return a scalar, computed in float32
under autocast too (float64 stays float64). Where a weight is 0 the pixel is ignored:
its gradient is exactly 0, and what stands there (NaN will do) doesn't change the
loss. A loss doesn't change with the scale of the weights; where all are 0 it is 0.

Weights are not checked, since on a GPU each step would wait for that: a negative one
gives a number without a meaning.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_unet.learning.losses.weighting import (
    full_precision,
    weighted_mean,
    where_known,
)

if TYPE_CHECKING:
    from torch import Tensor

_SIGMA_PX, _RADIUS_PX = 1.5, 5
_SSIM_SHARE = 0.84


def mse_loss(outputs: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the squared differences.

    Parameters
    ----------
    outputs, target, weights : Tensor
        As in the module's docstring.
    """
    x, y = _known(outputs, target, weights)
    return weighted_mean(((x - y) ** 2).mean(1), weights)


def mae_loss(outputs: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the absolute differences.

    Parameters
    ----------
    outputs, target, weights : Tensor
        As in the module's docstring.
    """
    x, y = _known(outputs, target, weights)
    return weighted_mean((x - y).abs().mean(1), weights)


def ssim_mae_loss(
    outputs: Tensor, target: Tensor, weights: Tensor, *, data_range: float = 1.0
) -> Tensor:
    """Return 0.84 (1 - the mean of SSIM) + 0.16 MAE.

    Parameters
    ----------
    outputs, target, weights : Tensor
        As in the module's docstring.
    data_range : float
        Distance from the smallest to the largest value that images have; 1 for
        normalised intensities.

    References
    ----------
    Zhao, Gallo, Frosio, Kautz: Loss functions for image restoration with neural
    networks. IEEE Trans. Comput. Imaging 3, 47 (2017), eq. 14 and its share of 0.84;
    theirs takes SSIM at several scales.
    """
    likeness = ssim(outputs, target, weights, data_range=data_range)
    unlike = weighted_mean((1 - likeness).mean(1), weights)
    return _SSIM_SHARE * unlike + (1 - _SSIM_SHARE) * mae_loss(outputs, target, weights)


def ssim(
    outputs: Tensor, target: Tensor, weights: Tensor, *, data_range: float = 1.0
) -> Tensor:
    """Return the structural similarity around each pixel, of the known pixels alone.

    The window is a Gaussian of sigma 1.5 px, 11 px wide, along each axis. Local means,
    variances and covariance are divided by the window's sum over the known pixels, so
    that neither ignored pixels nor what lies beyond the border count.

    Parameters
    ----------
    outputs, target, weights : Tensor
        As in the module's docstring.
    data_range : float
        As for `ssim_mae_loss`.

    Returns
    -------
    Tensor, shape (N, C, [Z,] Y, X)
        1 where both are alike, down to -1; meaningless where the weight is 0.

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli: Image quality assessment. IEEE Trans. Image
    Process. 13, 600 (2004), eq. 13. Knutsson, Westin: Normalized and differential
    convolution. CVPR 1993.
    """
    x, y = _known(outputs, target, weights)
    known = (weights > 0)[:, None].to(x)
    seen = _blur(known)
    seen = torch.where(known > 0, seen, 1)
    # Variances don't change with an offset; without it they lose fewer digits.
    offset = y.detach().sum() / (known.sum().clamp_min(1) * y.shape[1])
    x, y = (x - offset) * known, (y - offset) * known
    mean_x, mean_y = _blur(x) / seen, _blur(y) / seen
    variance_x = _blur(x * x) / seen - mean_x**2
    variance_y = _blur(y * y) / seen - mean_y**2
    covariance = _blur(x * y) / seen - mean_x * mean_y
    mean_x, mean_y = mean_x + offset, mean_y + offset
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return luminance * structure


def _known(outputs: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs and target, both 0 where ignored."""
    # A view, so that a missing channel axis isn't broadcast to every pair of images.
    x, y = full_precision(outputs), full_precision(target).view_as(outputs)
    return where_known(x, weights), where_known(y, weights)


def _blur(values: Tensor) -> Tensor:
    """Return values (N, C, ...) smoothed along their axes in space, 0 beyond them."""
    # Shifted sums, no convolution: that would be bf16 under autocast and TF32 on GPUs.
    reach = range(-_RADIUS_PX, _RADIUS_PX + 1)
    taps = [math.exp(-0.5 * (i / _SIGMA_PX) ** 2) for i in reach]
    for axis in range(2, values.ndim):
        pad = [0, 0] * (values.ndim - 1 - axis) + [_RADIUS_PX, _RADIUS_PX]
        padded, n = functional.pad(values, pad), values.shape[axis]
        shifted = (tap * padded.narrow(axis, i, n) for i, tap in enumerate(taps))
        values = functools.reduce(torch.add, shifted) / sum(taps)
    return values
