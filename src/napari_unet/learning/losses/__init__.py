"""The losses, by the name that they have in the settings.

All have one signature, ``loss(outputs, target, weights)``: a weight for each pixel,
and weight 0 ignores a pixel exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.learning.losses.regression import (
    mae_loss,
    mse_loss,
    ssim,
    ssim_mae_loss,
)
from napari_unet.learning.losses.segmentation import (
    combined_loss,
    dice_loss,
    focal_loss,
    weighted_cross_entropy,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "cross_entropy": weighted_cross_entropy,
    "dice": dice_loss,
    "combined": combined_loss,
    "focal": focal_loss,
}

REGRESSION_LOSSES: dict[str, Loss] = {
    "mse": mse_loss,
    "mae": mae_loss,
    "ssim_mae": ssim_mae_loss,
}

__all__ = [
    "LOSSES",
    "REGRESSION_LOSSES",
    "combined_loss",
    "dice_loss",
    "focal_loss",
    "mae_loss",
    "mse_loss",
    "ssim",
    "ssim_mae_loss",
    "weighted_cross_entropy",
]
