"""What all losses share: full precision, and pixels that are exactly ignored.

A pixel is ignored where its weight is 0. What stands there is replaced before it is
computed with, not multiplied by 0 afterwards: 0 times NaN would be NaN, in the loss
and in the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """Return values (N, C, ...) as float32 or float64, one channel after another."""
    # Also under autocast: bf16 has three digits. Networks give their channels last, and
    # few channels are slow to go through so.
    dtype = torch.promote_types(values.dtype, torch.float32)
    return values.to(dtype, memory_format=torch.contiguous_format)


def where_known(values: Tensor, weights: Tensor) -> Tensor:
    """Return values (N, C, ...) with 0 where the weights (N, ...) are 0."""
    return torch.where((weights > 0)[:, None], values, 0)


def weighted_mean(per_pixel: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of the pixels, both (N, ...); 0 where all are ignored.

    Divided by the sum of the weights, so that large weights change what is learned
    but not the size of a step.
    """
    total = weights.sum()
    return (weights * per_pixel).sum() / torch.where(total > 0, total, 1)
