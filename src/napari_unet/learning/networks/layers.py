"""The layers that the networks are made of, in two dimensions and three."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig

# All that differs between planes and volumes.
CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL: dict[int, Any] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_BATCH_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORM: dict[int, Any] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}

# With torch's 0.1 the running statistics lag for the first hundred steps of a short
# run, and the network predicts foreground everywhere.
_NORM_MOMENTUM = 0.2
# Wu & He 2018, table 3: as many groups as this, but never one channel alone, which
# would be InstanceNorm.
_N_GROUPS = 32


def n_groups(width: int) -> int:
    """Return GroupNorm's number of groups for a number of channels."""
    at_most = max(min(_N_GROUPS, width // 2), 1)
    return max(n for n in range(1, at_most + 1) if width % n == 0)


def norm_layers(width: int, config: NetworkConfig) -> list[nn.Module]:
    """Return the normalisation layer of `width` channels, or nothing for "none"."""
    if config.norm == "batch":
        return [_BATCH_NORM[config.n_dims](width, momentum=_NORM_MOMENTUM)]
    if config.norm == "instance":
        return [_INSTANCE_NORM[config.n_dims](width, affine=True)]
    if config.norm == "group":
        return [nn.GroupNorm(n_groups(width), width)]
    return []


def convolution(
    n_in: int, n_out: int, config: NetworkConfig, *, size: int = 3, relu: bool = True
) -> list[nn.Module]:
    """Return a convolution of kernel `size` 3 or 1, its normalisation and its ReLU.

    The convolution has a bias only where no normalisation follows, which has its own.
    """
    padding = size // 2 if config.padding == "same" else 0
    norm = norm_layers(n_out, config)
    conv = CONV[config.n_dims](n_in, n_out, size, padding=padding, bias=not norm)
    return [conv, *norm, *([relu_layer(config)] if relu else [])]


def two_convolutions(n_in: int, n_out: int, config: NetworkConfig) -> nn.Sequential:
    """Return the U-Net's block: two 3x3 convolutions."""
    return nn.Sequential(
        *convolution(n_in, n_out, config), *convolution(n_out, n_out, config)
    )


def linear_up_sampling(config: NetworkConfig) -> list[nn.Module]:
    """Return linear up-sampling by 2, as half-pixel centres have it.

    At the end of its input linear up-sampling repeats a pixel. Unpadded, what rests on
    that is cut off, so that the output doesn't depend on where a tile ends: one pixel
    a side.
    """
    mode = _LINEAR[config.n_dims]
    linear = nn.Upsample(scale_factor=2, mode=mode, align_corners=False)
    return [linear, Crop(1, config.n_dims)] if config.padding == "valid" else [linear]


def up_sampling(n_in: int, n_out: int, config: NetworkConfig) -> nn.Module:
    """Return up-sampling by 2: transposed convolution, or linear + 3x3 convolution."""
    if config.up == "transposed":
        layer: nn.Module = CONV_TRANSPOSED[config.n_dims](n_in, n_out, 2, stride=2)
        return layer
    return nn.Sequential(*linear_up_sampling(config), *convolution(n_in, n_out, config))


def relu_layer(config: NetworkConfig) -> nn.Module:
    """Return a ReLU after a normalisation layer, or after none."""
    return nn.ReLU(inplace=True) if config.norm == "none" else ReLU(inplace=True)


class ReLU(nn.ReLU):
    """ReLU, faster in half precision on a CPU, with the same results.

    The sign of a bfloat16 or float16 is the sign of the int16 of the same bits, and
    whole numbers are compared eight times as fast: torch widens the others to float32.
    One thing differs: a NaN whose sign bit is set becomes 0. So it may only follow a
    normalisation, whose gradient a NaN makes NaN whatever comes after it.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map numbers below 0 to 0."""
        is_half = features.dtype in (torch.bfloat16, torch.float16)
        if is_half and features.device.type == "cpu":
            found: Tensor = _SignBitReLU.apply(features)  # type: ignore[no-untyped-call]
            return found
        return super().forward(features)


class _SignBitReLU(torch.autograd.Function):
    """In place; passes the gradient where the output is above 0."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        features.view(torch.int16).clamp_(min=0)
        ctx.mark_dirty(features)
        ctx.save_for_backward(features)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (outputs,) = ctx.saved_tensors
        # -n is below 0 for n > 0, and a shift by 15 spreads its sign to all bits.
        passes = outputs.view(torch.int16).neg().bitwise_right_shift_(15)
        kept = passes.bitwise_and_(gradient.view(torch.int16))
        passed: Tensor = kept.view(outputs.dtype)
        return passed


class Crop(nn.Module):
    """Cut a constant number of pixels off each end of each axis."""

    def __init__(self, px: int, n_dims: int) -> None:
        super().__init__()
        self.px = px
        self.region = (..., *[slice(px, -px or None)] * n_dims)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, [Z,] Y, X) to its middle."""
        return features[self.region] if self.px else features

    def extra_repr(self) -> str:
        """Return the pixels, as the network is printed."""
        return str(self.px)


class PixelShuffle(nn.Module):
    """Rearrange channels into an `upscale` times finer grid, in 2D and 3D.

    References
    ----------
    Shi et al.: Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network. CVPR 2016, eq. 4.
    """

    def __init__(self, upscale: int, n_dims: int) -> None:
        super().__init__()
        self.factors = [upscale] * n_dims

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, K * s**d, [Z,] Y, X) to (N, K, [s Z,] s Y, s X)."""
        n = len(self.factors)
        features = torch.unflatten(features, 1, (-1, *self.factors))
        # (N, K, s, s, Y, X) -> (N, K, Y, s, X, s)
        pairs = [axis for i in range(n) for axis in (2 + n + i, 2 + i)]
        features = features.permute(0, 1, *pairs)
        for axis in range(2, 2 + n):
            features = features.flatten(axis, axis + 1)
        return features


def head(n_in: int, config: NetworkConfig, *, size: int = 1) -> nn.Module:
    """Return the convolution to the logits, and the pixel shuffle to upscale."""
    n_out = config.out_channels * config.upscale**config.n_dims
    conv: nn.Module = CONV[config.n_dims](n_in, n_out, size, padding=size // 2)
    if config.upscale == 1:
        return conv
    return nn.Sequential(conv, PixelShuffle(config.upscale, config.n_dims))


def with_image(outputs: Tensor, image: Tensor, config: NetworkConfig) -> Tensor:
    """Return the outputs with the image added, where the settings say so.

    Parameters
    ----------
    outputs : Tensor, shape (N, C, [s Z,] s Y, s X)
        What the network changes.
    image : Tensor, shape (N, C, [Z,] Y, X)
        Its input; up-sampled linearly where the outputs are finer, and cropped where
        an unpadded network makes them smaller.
    config : NetworkConfig
        `adds_image`.

    References
    ----------
    Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian denoiser. IEEE Trans. Image
    Process. 26, 3142 (2017), section III (residual learning). Kim, Lee, Lee: Accurate
    image super-resolution using very deep convolutional networks. CVPR 2016, section
    3.1.
    """
    if not config.adds_image:
        return outputs
    if config.upscale > 1:
        mode = _LINEAR[config.n_dims]
        image = functional.interpolate(image, scale_factor=config.upscale, mode=mode)
    if config.padding == "valid":
        lost = (image.shape[-1] - outputs.shape[-1]) // 2
        image = functional.pad(image, [-lost] * (2 * config.n_dims))
    return outputs + image


def start(network: nn.Module, config: NetworkConfig) -> None:
    """Draw the weights of a network whose last layer is its `head`."""
    start_as_he(network, config)
    if config.norm == "none":
        return  # as in 2015, the last layer too: SGD learns little from tiny slopes
    last: Any = network.head
    if config.upscale > 1:
        last = last[0]
    # Start undecided: the first steps then learn instead of unlearning.
    nn.init.normal_(last.weight, std=0.01)


def start_as_he(part: nn.Module, config: NetworkConfig) -> None:
    """Draw the weights of all convolutions.

    References
    ----------
    He et al.: Delving deep into rectifiers. ICCV 2015: standard deviation sqrt(2 / N)
    with N inputs to a neuron, as the U-Net paper has it.
    """
    for module in part.modules():
        if isinstance(module, CONV[config.n_dims]):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif config.norm == "none" and isinstance(
            module, CONV_TRANSPOSED[config.n_dims]
        ):
            # Without normalisation the scale of each layer counts. With stride 2 and a
            # 2x2 kernel each output pixel has one input pixel.
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.in_channels))
            nn.init.zeros_(module.bias)
