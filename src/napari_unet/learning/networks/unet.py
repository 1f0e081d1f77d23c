"""The U-Net of Ronneberger et al. 2015, and its same-padding descendant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_unet.errors import ConfigError
from napari_unet.learning.networks import geometry

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig

# All that differs between planes and volumes.
_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_CONV_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}
_PAD: dict[int, Any] = {2: nn.ZeroPad2d, 3: nn.ZeroPad3d}

# With torch's 0.1 the running statistics lag for the first hundred steps of a short
# run, and the network predicts foreground everywhere.
_NORM_MOMENTUM = 0.2


def _convolution(n_in: int, n_out: int, config: NetworkConfig) -> list[nn.Module]:
    padding = 1 if config.padding == "same" else 0
    has_norm = config.norm == "batch"
    conv = _CONV[config.n_dims](n_in, n_out, 3, padding=padding, bias=not has_norm)
    norm = [_NORM[config.n_dims](n_out, momentum=_NORM_MOMENTUM)] if has_norm else []
    return [conv, *norm, nn.ReLU(inplace=True)]


def _two_convolutions(n_in: int, n_out: int, config: NetworkConfig) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(n_in, n_out, config), *_convolution(n_out, n_out, config)
    )


def _up_sampling(n_in: int, n_out: int, config: NetworkConfig) -> nn.Module:
    if config.up == "transposed":
        layer: nn.Module = _CONV_TRANSPOSED[config.n_dims](n_in, n_out, 2, stride=2)
        return layer
    linear = nn.Upsample(
        scale_factor=2, mode=_LINEAR[config.n_dims], align_corners=False
    )
    # At the end of its input linear up-sampling repeats a pixel. Unpadded, what rests
    # on that is trimmed, so that the output doesn't depend on where a tile ends.
    trim = [_PAD[config.n_dims](-1)] if config.padding == "valid" else []
    return nn.Sequential(linear, *trim, *_convolution(n_in, n_out, config))


def _crop_to(skip: Tensor, like: Tensor) -> Tensor:
    """Return the middle of `skip`, as large as `like` (a no-op with same padding)."""
    for axis in range(2, skip.ndim):
        extra = skip.shape[axis] - like.shape[axis]
        skip = skip.narrow(axis, extra // 2, like.shape[axis])
    return skip


class UNet(nn.Module):
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
        self.down = nn.ModuleList(
            _two_convolutions(ins[i], widths[i], config)
            for i in range(config.depth + 1)
        )
        self.pool = _POOL[config.n_dims](2)
        self.dropout = nn.Dropout(config.dropout)
        self.up = nn.ModuleList(
            _up_sampling(widths[i + 1], widths[i], config)
            for i in reversed(range(config.depth))
        )
        self.merge = nn.ModuleList(
            _two_convolutions(2 * widths[i], widths[i], config)
            for i in reversed(range(config.depth))
        )
        self.head = _CONV[config.n_dims](widths[0], config.out_channels, 1)
        for module in self.modules():
            # He et al. 2015: standard deviation sqrt(2 / N), as the paper says.
            if isinstance(module, (_CONV[config.n_dims],)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Start undecided: the first steps then learn instead of unlearning.
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, C, [Z,] Y, X) to logits (N, K, [Z,] Y, X)."""
        skips = []
        features = image
        for block in self.down[:-1]:
            features = block(features)
            skips.append(features)
            features = self.pool(features)
        features = self.dropout(self.down[-1](features))
        for up, merge in zip(self.up, self.merge, strict=True):
            features = up(features)
            skip = _crop_to(skips.pop(), features)
            features = merge(torch.cat([skip, features], dim=1))
        logits: Tensor = self.head(features)
        return logits

    @property
    def multiple(self) -> int:
        """Sizes of same-padding inputs are multiples of this: 2**depth."""
        return int(2**self.config.depth)

    @property
    def halo(self) -> int:
        """Context in pixels that an aligned region needs to be predicted exactly."""
        return geometry.halo_px(self.config)

    @property
    def margin(self) -> int:
        """Pixels lost on each side: 0 with same padding, 92 in the 2015 network."""
        size = self.input_size_for(1)
        return (size - self.output_size(size)) // 2

    def output_size(self, n: int) -> int:
        """Return the output size along an axis for the input size `n`.

        Raises
        ------
        ConfigError
            The network takes no input of size `n`.
        """
        size = self._output_size_or_0(n)
        if size == 0:
            following = max(n, 1)
            while self._output_size_or_0(following) == 0:
                following += 1
            raise ConfigError(
                "NU-C06",
                f"the network takes no input of {n} pixels: the next size is "
                f"{following}",
            )
        return size

    def _output_size_or_0(self, n: int) -> int:
        if self.config.padding == "same":
            return n if n > 0 and n % self.multiple == 0 else 0
        return geometry.valid_output_size(n, self.config)

    def input_size_for(self, n: int) -> int:
        """Return the smallest allowed input size whose output has >= `n` pixels."""
        if self.config.padding == "same":
            return -(-n // self.multiple) * self.multiple
        size = n
        while geometry.valid_output_size(size, self.config) < n:
            size += 1
        return size
