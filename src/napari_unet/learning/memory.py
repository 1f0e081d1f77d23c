"""What a training step of a network takes: memory, and how much there is to compute."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import torch

from napari_unet.learning.device import DTYPES
from napari_unet.learning.model import expected_tensors

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig
    from napari_unet.learning.device import DeviceChoice

# Features that are kept for the way back on a level, in units of its width: both ways
# two convolutions, each with what it reads, gives and normalises; the joined skip.
# 10.3 to 11.9 were measured on a CPU, gradients included.
_KEPT_PER_LEVEL = 12
# Gates and shortcuts keep more: 1.2 were measured.
_OTHER_NETWORKS = 1.25
# A weight, its gradient, and both of Adam's means, all in float32.
_BYTES_PER_WEIGHT = 16
# Where a system doesn't say what is free.
_ASSUMED_FREE = 4 * 2**30


def training_bytes(
    network: NetworkConfig, *, patch_size: int, batch_size: int, precision: str
) -> int:
    """Return about how much memory a training step takes, within 30 %.

    Parameters
    ----------
    network : NetworkConfig
        Its width and depth matter most.
    patch_size, batch_size : int
        Side of a patch, in pixels that the network sees, and patches a step.
    precision : {"fp32", "bf16", "fp16"}
        Of the features.
    """
    levels = sum(0.5**level for level in range(network.depth + 1))
    kept = _KEPT_PER_LEVEL * levels * network.base_width
    if network.architecture != "unet":
        kept *= _OTHER_NETWORKS
    # The logits, their softmax and both gradients, in float32.
    outputs = 4 * 4 * network.out_channels * network.upscale**network.n_dims
    n_px = batch_size * patch_size**network.n_dims
    shapes = (shape for shape, _ in expected_tensors(network).values())
    n_weights = sum(math.prod(shape) for shape in shapes)
    features = n_px * (kept * DTYPES[precision].itemsize + outputs)
    return int(features) + _BYTES_PER_WEIGHT * n_weights


def training_flop(network: NetworkConfig, *, patch_size: int, batch_size: int) -> float:
    """Return about how many multiplications and additions a training step takes.

    Each level of a U-Net costs the same: half the sides, twice the width. Backward
    takes twice what forward does.

    Parameters are those of `training_bytes`.
    """
    kernel = 3**network.n_dims
    # Down: half to full width, full to full; up: twice to full, full to full; joined
    # by an up-sampling.
    each_level = 2 * kernel * (1.5 + 3) + 4
    bottom = 2 * kernel * 1.5
    forward = network.base_width**2 * (each_level * network.depth + bottom)
    return 3 * forward * batch_size * float(patch_size) ** network.n_dims


def free_bytes(device: DeviceChoice) -> int:
    """Return how much memory a device has free; 4 GiB where nobody says."""
    if device.name == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _ASSUMED_FREE
