"""The U-Net with additive attention gates on its skips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_unet.learning.networks.layers import (
    CONV,
    CONV_TRANSPOSED,
    Crop,
    convolution,
    linear_up_sampling,
    start_as_he,
    with_image,
)
from napari_unet.learning.networks.unet import UNet

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig


class AttentionGate(nn.Module):
    """Weigh a skip by what the coarser level makes of it.

    With the skip's features x and those of the coarser level g,

        alpha = up(sigmoid(psi relu(W_x x + W_g g + b_g) + b_psi))

    on the grid of g, to which W_x brings pairs of pixels by its stride of 2; `up` is
    linear. What passes is alpha x, through two 1x1 convolutions as in the authors'
    code.

    References
    ----------
    Oktay et al.: Attention U-Net: learning where to look for the pancreas. MIDL 2018,
    eq. 1 and 2, fig. 2. https://arxiv.org/abs/1804.03999
    """

    def __init__(self, n_skip: int, n_gating: int, config: NetworkConfig) -> None:
        super().__init__()
        conv = CONV[config.n_dims]
        self.w_x = conv(n_skip, n_skip, 2, stride=2, bias=False)
        self.w_g = conv(n_gating, n_skip, 1)
        self.psi = conv(n_skip, 1, 1)
        self.up = nn.Sequential(*linear_up_sampling(config))
        self.crop = Crop(1 if config.padding == "valid" else 0, config.n_dims)
        self.out = nn.Sequential(
            *convolution(n_skip, n_skip, config, size=1, relu=False),
            *convolution(n_skip, n_skip, config, size=1),
        )

    def coefficients(self, skip: Tensor, gating: Tensor) -> Tensor:
        """Return alpha (N, 1, [Z,] Y, X) within 0..1 on the grid of the skip.

        Without padding, without the skip's outermost pixels.
        """
        question = torch.relu(self.w_x(skip) + self.w_g(gating))
        alpha: Tensor = self.up(torch.sigmoid(self.psi(question)))
        return alpha

    def forward(self, skip: Tensor, alpha: Tensor) -> Tensor:
        """Return the weighed skip (N, C, [Z,] Y, X), as large as `alpha`."""
        gated: Tensor = self.out(self.crop(skip) * alpha)
        return gated


class AttentionUNet(UNet):
    """The U-Net that learns which parts of its skips to let pass.

    Gated are all skips but the finest, whose features are of too low a level (at depth
    1 there is no other). The gating signal is what comes from the level below; of the
    bottom, after a 1x1 convolution. Linear up-sampling has no convolution of its own
    here: as published, the first one is that after the concatenation.

    Parameters
    ----------
    config : NetworkConfig
        `NetworkConfig.oktay2018()` is the published network, without its deep
        supervision.

    References
    ----------
    Oktay et al.: Attention U-Net: learning where to look for the pancreas. MIDL 2018.
    https://arxiv.org/abs/1804.03999
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        widths = [config.base_width * 2**level for level in range(config.depth + 1)]
        gated = range(min(1, config.depth - 1), config.depth)
        self.gating = nn.Sequential(
            *convolution(widths[-1], widths[-1], config, size=1)
        )
        self.gates = nn.ModuleList(
            AttentionGate(widths[i], widths[i + 1], config) for i in reversed(gated)
        )
        start_as_he(self.gating, config)
        start_as_he(self.gates, config)

    def up_block(self, n_in: int, n_out: int) -> nn.Module:
        """Return linear up-sampling as it is, or a transposed convolution."""
        config = self.config
        if config.up == "linear":
            # To be added to the skip it has to be as narrow.
            narrow = (
                convolution(n_in, n_out, config, size=1)
                if config.skips == "sum"
                else []
            )
            return nn.Sequential(*linear_up_sampling(config), *narrow)
        up = CONV_TRANSPOSED[config.n_dims](n_in, n_out, 2, stride=2)
        # As large as the gated skip, whose coefficients were up-sampled linearly.
        crop = [Crop(1, config.n_dims)] if config.padding == "valid" else []
        return nn.Sequential(up, *crop)

    def joined_width(self, across: int, below: int) -> int:
        """Return the width of what comes across together with what comes up."""
        if self.config.up == "linear" and self.config.skips == "concatenate":
            return across + below
        return super().joined_width(across, below)

    def lost_by_up_px(self) -> int:
        """Return what `up_block` loses on each side without padding."""
        return 1

    def crops_px(self) -> list[int]:
        """Return what is cut off each side of the skips, from the coarsest to level 0.

        What is left of a gated one fits its gating signal; the gate cuts off the rest.
        """
        config = self.config
        if config.padding == "same":
            return super().crops_px()
        n_gates = max(config.depth - 1, 1)
        return [px - (i < n_gates) for i, px in enumerate(super().crops_px())]

    def decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the features before the head, and the coefficients of each gate."""
        *skips, features = self.encode(image)
        gating = self.gating(features)
        coefficients: list[Tensor] = []
        for i, (up, merge) in enumerate(zip(self.up, self.merge, strict=True)):
            skip = self.crop[i](skips.pop())
            if i < len(self.gates):
                gate: Any = self.gates[i]
                coefficients.append(gate.coefficients(skip, gating))
                skip = gate(skip, coefficients[-1])
            features = gating = merge(self.join(skip, up(features)))
        return features, coefficients

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, C, [Z,] Y, X) to logits (N, K, [s Z,] s Y, s X)."""
        return with_image(self.head(self.decode(image)[0]), image, self.config)

    def attention(self, image: Tensor) -> list[Tensor]:
        """Return the coefficients of each gate, from the finest to the coarsest.

        Parameters
        ----------
        image : Tensor of float32, shape (N, C, [Z,] Y, X)
            What `forward` takes.

        Returns
        -------
        list of Tensor, each (N, 1, [Z,] Y, X)
            0..1, on the grid of the gated level: half as fine as the image, a quarter
            as fine and so on.
        """
        return self.decode(image)[1][::-1]
