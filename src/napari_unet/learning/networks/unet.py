"""The U-Net of Ronneberger et al. 2015, and its same-padding descendant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_unet.learning.networks.layers import (
    MAX_POOL,
    Crop,
    head,
    start,
    two_convolutions,
    up_sampling,
    with_image,
)
from napari_unet.learning.networks.network import Network

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig


class UNet(Network):
    """A contracting path, an expanding path, and skips between them.

    Parameters
    ----------
    config : NetworkConfig
        `NetworkConfig.ronneberger2015()` is the network of the paper: unpadded,
        cropped skips, no normalisation, 31,030,658 parameters.

    References
    ----------
    Ronneberger, Fischer, Brox: U-Net. MICCAI 2015. https://arxiv.org/abs/1505.04597
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.base_width * 2**level for level in range(config.depth + 1)]
        ins = [config.in_channels, *widths]
        upwards = list(reversed(range(config.depth)))
        self.down = nn.ModuleList(
            self.block(ins[i], widths[i]) for i in range(config.depth + 1)
        )
        self.pool = MAX_POOL[config.n_dims](2)
        self.dropout = nn.Dropout(config.dropout)
        self.up = nn.ModuleList(
            self.up_block(widths[i + 1], widths[i]) for i in upwards
        )
        self.crop = nn.ModuleList(Crop(px, config.n_dims) for px in self.crops_px())
        self.merge = nn.ModuleList(
            self.block(self.joined_width(widths[i], widths[i + 1]), widths[i])
            for i in upwards
        )
        self.head = head(widths[0], config)
        start(self, config)

    def block(self, n_in: int, n_out: int) -> nn.Module:
        """Return what stands on each level: here two 3x3 convolutions."""
        return two_convolutions(n_in, n_out, self.config)

    def up_block(self, n_in: int, n_out: int) -> nn.Module:
        """Return what leads up a level."""
        return up_sampling(n_in, n_out, self.config)

    def joined_width(self, across: int, below: int) -> int:
        """Return the width of what comes across together with what comes up."""
        return 2 * across if self.config.skips == "concatenate" else across

    def lost_by_up_px(self) -> int:
        """Return what `up_block` loses on each side without padding."""
        return 2 if self.config.up == "linear" else 0

    def crops_px(self) -> list[int]:
        """Return what is cut off each side of the skips, from the coarsest to level 0.

        Constants, so that a traced network takes every size.
        """
        if self.config.padding == "same":
            return [0] * self.config.depth
        crops, lost_below = [], 0
        for _ in range(self.config.depth):
            # Two convolutions one level down, and what was lost below them.
            crops.append(2 * (2 + lost_below) + self.lost_by_up_px())
            lost_below = crops[-1] + 2
        return crops

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, the finest first."""
        levels: list[Tensor] = []
        for block in self.down:
            level = block(self.pool(levels[-1]) if levels else image)
            # The end of the contracting path: the last two levels in the network that
            # the authors published (layers dropout_d3c and dropout_d4c), skip included.
            is_last = len(levels) >= self.config.depth - 1
            levels.append(self.dropout(level) if is_last else level)
        return levels

    def join(self, skip: Tensor, features: Tensor) -> Tensor:
        """Return what comes across together with what comes up."""
        if self.config.skips == "sum":
            return skip + features
        return torch.cat([skip, features], dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, C, [Z,] Y, X) to logits (N, K, [s Z,] s Y, s X)."""
        *skips, features = self.encode(image)
        for up, crop, merge in zip(self.up, self.crop, self.merge, strict=True):
            features = merge(self.join(crop(skips.pop()), up(features)))
        return with_image(self.head(features), image, self.config)
