"""The networks, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.config import ForeignConfig, NetworkConfig
from napari_unet.learning.networks.attention_unet import AttentionUNet
from napari_unet.learning.networks.foreign import ForeignNetwork
from napari_unet.learning.networks.network import Network
from napari_unet.learning.networks.residual_unet import ResidualUNet
from napari_unet.learning.networks.trans_unet import TransUNet
from napari_unet.learning.networks.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Callable


ARCHITECTURES: dict[str, Callable[[NetworkConfig], Network]] = {
    "unet": UNet,
    "residual_unet": ResidualUNet,
    "attention_unet": AttentionUNet,
    "trans_unet": TransUNet,
}


def build_network(config: NetworkConfig | ForeignConfig | None = None) -> Network:
    """Build a network with fresh weights from torch's global random state.

    Parameters
    ----------
    config : NetworkConfig or ForeignConfig, optional
        Shape of the network; the default network if omitted. The network of another
        program comes without its graph.

    Returns
    -------
    Network
        A `torch.nn.Module` that maps float32 (N, C, [Z,] Y, X) to logits
        (N, K, [s Z,] s Y, s X), s = ``config.upscale``, and knows its geometry:
        ``.halo``, ``.multiple``, ``.input_size_for(n)``, ``.output_size(n)``.
    """
    config = config or NetworkConfig()
    if isinstance(config, ForeignConfig):
        return ForeignNetwork(config)
    return ARCHITECTURES[config.architecture](config)


__all__ = [
    "ARCHITECTURES",
    "AttentionUNet",
    "ForeignNetwork",
    "Network",
    "ResidualUNet",
    "TransUNet",
    "UNet",
    "build_network",
]
