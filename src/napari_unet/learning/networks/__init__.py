"""The networks, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.config import NetworkConfig
from napari_unet.learning.networks.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Callable

ARCHITECTURES: dict[str, Callable[[NetworkConfig], UNet]] = {"unet": UNet}


def build_network(config: NetworkConfig | None = None) -> UNet:
    """Build a network with fresh weights from torch's global random state.

    Parameters
    ----------
    config : NetworkConfig, optional
        Shape of the network; the default network if omitted.

    Returns
    -------
    UNet
        A `torch.nn.Module` that maps float32 (N, C, [Z,] Y, X) to logits
        (N, K, [Z,] Y, X) and knows its geometry: ``.halo``, ``.multiple``,
        ``.input_size_for(n)``, ``.output_size(n)``.
    """
    config = config or NetworkConfig()
    return ARCHITECTURES[config.architecture](config)


__all__ = ["ARCHITECTURES", "UNet", "build_network"]
