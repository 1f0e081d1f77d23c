"""Losses with a weight for each pixel; weight 0 ignores a pixel exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def weighted_cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the pixels' cross entropy (2015, eq. 1).

    Parameters
    ----------
    logits : Tensor of float, shape (N, K, [Z,] Y, X)
        Scores of the classes before the softmax.
    classes : Tensor of int64, shape (N, [Z,] Y, X)
        True class of each pixel.
    weights : Tensor of float32, shape (N, [Z,] Y, X)
        Weight of each pixel, >= 0. The sum is divided by the sum of the weights, so
        that border weights don't change the step size; all 0 gives 0.

    References
    ----------
    Ronneberger et al. 2015, eq. 1: E = sum over x of w(x) log p_l(x)(x).
    """
    # float32 also under autocast: bf16 has three digits.
    per_pixel = functional.cross_entropy(logits.float(), classes, reduction="none")
    total = weights.sum().clamp_min(1e-12)
    return (weights * per_pixel).sum() / total
