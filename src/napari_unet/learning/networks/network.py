"""What every network is and knows: its settings and its geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from napari_unet.errors import ConfigError
from napari_unet.learning.networks import geometry

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig


class Network(nn.Module):
    """A network that maps images to logits and knows how far it looks.

    Its forward pass maps float32 (N, C, [Z,] Y, X) to logits (N, K, [s Z,] s Y, s X)
    with s = ``config.upscale``. Sizes, halo and margin are in input pixels along an
    axis, the same along each; only `output_size` and what `input_size_for` is asked
    for are output pixels.

    Attributes
    ----------
    config : NetworkConfig
        The settings that it was built from; set by the subclass.
    """

    config: NetworkConfig

    @property
    def multiple(self) -> int:
        """Sizes of same-padding inputs are multiples of this: 2**depth."""
        return geometry.multiple(self.config)

    @property
    def halo(self) -> int | None:
        """Context in pixels that an aligned region needs to be predicted exactly.

        None for a network whose output depends on its whole input.
        """
        return geometry.halo_px(self.config)

    @property
    def margin(self) -> int:
        """Pixels lost on each side: 0 with same padding, 92 in the 2015 network."""
        return geometry.margin_px(self.config)

    def output_size(self, n: int) -> int:
        """Return the output size along an axis for the input size `n`.

        Raises
        ------
        ConfigError
            The network takes no input of size `n`.
        """
        size = geometry.output_size(n, self.config)
        if size == 0:
            following = max(n, 1)
            while geometry.output_size(following, self.config) == 0:
                following += 1
            raise ConfigError(
                "NU-C06",
                f"the network takes no input of {n} pixels: the next size is "
                f"{following}",
            )
        return size

    def input_size_for(self, n: int) -> int:
        """Return the smallest allowed input size whose output has >= `n` pixels."""
        return geometry.input_size_for(n, self.config)
