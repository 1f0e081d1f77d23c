"""Networks made ready to predict: the same outputs, sooner."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_unet.config import NetworkConfig
from napari_unet.learning.device import (
    DTYPES,
    autocast,
    channels_last,
    choose_device,
    fastest_precision,
    own_memory_errors,
    with_channels_last,
)
from napari_unet.learning.networks import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.config import PredictConfig
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.model import Model

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def for_inference(net: Network, device: DeviceChoice, precision: str) -> Network:
    """Return a copy of a network that predicts faster.

    BatchNorm is folded into the convolution before it, channels come last in memory,
    weights and features are of the precision asked for, and ReLU and max-pooling take
    the shortest way. What can't be folded (GroupNorm, InstanceNorm, LayerNorm) stays.
    In fp32 the outputs agree to rounding.

    Parameters
    ----------
    net : Network
        Of any architecture; not changed. The graph of another program is moved to
        the device and otherwise left as it is.
    device : DeviceChoice
        Where it will run.
    precision : {"fp32", "fast", "bf16", "fp16"}
        "fast" is what `fastest_precision` finds.

    Returns
    -------
    Network
        On `device`, in evaluation mode, of the same geometry. It takes float32 images
        and returns float32 logits; no gradients flow through it.
    """
    if not isinstance(net.config, NetworkConfig):
        return net.to(device.torch).eval()
    if precision == "fast":
        precision = fastest_precision(device.name)
    ready = copy.deepcopy(net).eval()
    _fold(ready)
    ready.to(device.torch, DTYPES[precision])
    channels_last(ready)
    _replace(ready, nn.Dropout, lambda _: nn.Identity())
    _replace(ready, (nn.MaxPool2d, nn.MaxPool3d), _faster_pool)
    if device.name == "cpu" and precision != "fp32":
        _replace(ready, nn.ReLU, lambda _: _SignBitReLU())
    return _Ready(ready, device, precision).eval()


class _Ready(Network):
    """A network with what its inputs and outputs have to be brought to."""

    config: NetworkConfig

    def __init__(self, net: Network, device: DeviceChoice, precision: str) -> None:
        super().__init__()
        self.config = net.config
        self.net = net
        self.device = device
        self.precision = precision

    def forward(self, image: Tensor) -> Tensor:
        """Map float32 (N, C, [Z,] Y, X) to float32 logits (N, K, [s Z,] s Y, s X)."""
        image = image.to(self.device.torch, DTYPES[self.precision])
        # fp32 is fp32: on CUDA without TF32.
        with torch.inference_mode(), autocast(self.device, "fp32"):
            logits: Tensor = self.net(with_channels_last(image))
            return logits.float()


def _fold(net: nn.Module) -> None:
    """Put each BatchNorm into the convolution right before it; in place."""
    for module in net.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(len(module) - 1):
            conv: Any = module[i]
            norm: Any = module[i + 1]
            if isinstance(norm, _BATCH_NORMS) and _can_fold(conv, norm):
                is_transposed = isinstance(conv, _TRANSPOSED)
                module[i] = fuse_conv_bn_eval(conv, norm, is_transposed)
                module[i + 1] = nn.Identity()


def _can_fold(conv: Any, norm: Any) -> bool:
    if type(conv) not in (*_CONVOLUTIONS, *_TRANSPOSED):
        return False
    return norm.running_mean is not None


def _replace(
    net: nn.Module,
    kind: type[nn.Module] | tuple[type[nn.Module], ...],
    replacement: Callable[[Any], nn.Module],
) -> None:
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, replacement(child))


class _SignBitReLU(nn.Module):
    """ReLU of half-precision numbers as the maximum of whole numbers and 0; in place.

    The sign of a bfloat16 or float16 is the sign of the int16 of the same bits, and
    int16 is compared eight times as fast on a CPU: torch widens the others to float32.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map numbers below 0 to 0."""
        features.view(torch.int16).clamp_(min=0)
        return features


class _HalvingMaxPool(nn.Module):
    """Max-pooling by 2 along each axis, in turn.

    torch's own also writes where each maximum was: as int64, four times the features'
    own bytes.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, [Z,] Y, X) to (N, C, [Z // 2,] Y // 2, X // 2)."""
        for axis in range(2, features.ndim):
            even = features.narrow(axis, 0, features.shape[axis] // 2 * 2)
            pairs = torch.unflatten(even, axis, (-1, 2))
            features = torch.maximum(
                pairs.select(axis + 1, 0), pairs.select(axis + 1, 1)
            )
        return features


def _faster_pool(pool: Any) -> nn.Module:
    halves = (pool.kernel_size, pool.stride, pool.padding, pool.dilation) == (
        2,
        2,
        0,
        1,
    )
    return _HalvingMaxPool() if halves and not pool.ceil_mode else pool


def network_for(model: Model, config: PredictConfig) -> Network:
    """Return a model's network, ready to predict where and as precisely as is asked."""
    device = choose_device(config.device)
    with own_memory_errors(device):
        return for_inference(model.build(), device, precision_of(model, config, device))


def resolved_precision(config: PredictConfig, device: DeviceChoice) -> str:
    """Return "fp32", "bf16" or "fp16"; auto is fast on CUDA only."""
    is_fast = config.precision == "fast" or (
        config.precision == "auto" and device.name == "cuda"
    )
    return fastest_precision(device.name) if is_fast else "fp32"


def precision_of(model: Model, config: PredictConfig, device: DeviceChoice) -> str:
    """Return "fp32", "bf16" or "fp16", as a model will be computed in."""
    # The graph of another program runs as it was saved.
    if model.network.architecture == "foreign":
        return "fp32"
    return resolved_precision(config, device)
