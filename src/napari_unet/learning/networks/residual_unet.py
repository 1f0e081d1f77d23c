"""The U-Net with residual blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from napari_unet.learning.networks.layers import Crop, convolution, relu_layer
from napari_unet.learning.networks.unet import UNet

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions whose input is added to their output, then a ReLU.

    References
    ----------
    He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016,
    fig. 2; the shortcut is a 1x1 convolution where widths differ (option B).
    """

    def __init__(self, n_in: int, n_out: int, config: NetworkConfig) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *convolution(n_in, n_out, config),
            *convolution(n_out, n_out, config, relu=False),
        )
        # Unpadded, the two convolutions lose two pixels a side.
        crop = Crop(2 if config.padding == "valid" else 0, config.n_dims)
        widen = (
            []
            if n_in == n_out
            else convolution(n_in, n_out, config, size=1, relu=False)
        )
        self.shortcut = nn.Sequential(crop, *widen)
        self.relu = relu_layer(config)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, [Z,] Y, X) to (N, C', [Z,] Y, X)."""
        summed: Tensor = self.relu(self.residual(features) + self.shortcut(features))
        return summed


class ResidualUNet(UNet):
    """The U-Net whose blocks are residual.

    The block is that of He et al. 2016 and all else the U-Net's: max-pooling, not
    strided convolution, and the published order convolution, normalisation, ReLU, not
    the pre-activation of Zhang, Liu, Wang 2018 ("Road extraction by deep residual
    U-Net").

    Parameters
    ----------
    config : NetworkConfig
        Shape of the network.
    """

    def block(self, n_in: int, n_out: int) -> nn.Module:
        """Return a residual block."""
        return ResidualBlock(n_in, n_out, self.config)
