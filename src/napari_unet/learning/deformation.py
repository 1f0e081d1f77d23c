"""Where the pixels of deformed patches are taken from: affine + elastic, drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from napari_unet.config import TrainConfig


@dataclass(frozen=True, eq=False)
class Deformation:
    """Where each pixel of N patches is taken from: affine + elastic.

    Parameters
    ----------
    size : int
        Side of the patches, in pixels of the image.
    matrices : Tensor of float32, shape (N, 2, 2)
        Map offsets (x, y) from the patch's middle to offsets from the window's.
    nodes : Tensor of float32, shape (N, 2, K, K), optional
        Displacements (x, y) in pixels on a grid around the patch's middle, rows first.
    spacing_px : float
        Distance between the nodes.
    """

    size: int
    matrices: Tensor
    nodes: Tensor | None
    spacing_px: float

    def to(self, device: torch.device) -> Deformation:
        """Return it on another device."""
        nodes = None if self.nodes is None else self.nodes.to(device)
        return replace(self, matrices=self.matrices.to(device), nodes=nodes)

    def offsets(self, upscale: int = 1) -> Tensor:
        """Return the offsets from the window's middle (N, 2, s Y, s X), in pixels.

        Parameters
        ----------
        upscale : int
            Sampling points for each pixel of the image, along each axis.
        """
        device = self.matrices.device
        at = _pixel_offsets(self.size, upscale).to(device)
        # Both terms of the matrix product, (N, 2, Y, 1) and (N, 2, 1, X): added one by
        # one, not multiplied out, so that reduced precision of products can't reach
        # them.
        along_x = (self.matrices[:, :, 0, None] * at)[:, :, None, :]
        along_y = (self.matrices[:, :, 1, None] * at)[:, :, :, None]
        if self.nodes is None:
            return along_x + along_y
        basis = _cubic_basis(self.size, upscale, self.spacing_px).to(device)
        # A cubic surface on a grid is a product of three matrices, the nodes' in the
        # middle.
        elastic = basis @ self.nodes @ basis.T
        return elastic.add_(along_x).add_(along_y)


def draw_deformation(
    n: int, size: int, config: TrainConfig, rng: torch.Generator
) -> Deformation:
    """Draw the deformation of `n` patches.

    Parameters
    ----------
    n, size, config, rng
        As for `deform`.

    References
    ----------
    Ronneberger, Fischer, Brox: U-Net. MICCAI 2015, section 3.1: random displacements
    on a coarse 3 by 3 grid, of 10 pixels standard deviation, and bicubic
    interpolation.
    """
    matrices = _draw_affine(n, config, rng)
    nodes = None
    if config.elastic_px > 0:
        k = n_nodes(size, config.elastic_grid_px)
        nodes = config.elastic_px * torch.randn(n, 2, k, k, generator=rng)
    return Deformation(size, matrices, nodes, config.elastic_grid_px)


def n_nodes(size: int, spacing_px: float) -> int:
    """Return how many nodes a side enclose a patch, one of them on its middle.

    Examples
    --------
    >>> n_nodes(572, 286.0), n_nodes(128, 32.0), n_nodes(130, 32.0)
    (3, 5, 7)
    """
    return 2 * math.ceil((size - 1) / 2 / spacing_px) + 1


def _draw_affine(n: int, config: TrainConfig, rng: torch.Generator) -> Tensor:
    limit, log_scale = math.radians(config.rotation_deg), math.log1p(config.scale)
    angle = uniform((n,), limit, rng)
    scale = torch.exp(uniform((n,), log_scale, rng))
    mirror = torch.ones(n)
    if config.flip:
        quarter_turns = torch.randint(0, 4, (n,), generator=rng)
        angle = angle + math.pi / 2 * quarter_turns
        mirror = 1.0 - 2.0 * torch.randint(0, 2, (n,), generator=rng)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cos * mirror, -sin], 1), torch.stack([sin * mirror, cos], 1)]
    return torch.stack(rows, 1)


def uniform(shape: tuple[int, ...], limit: float, rng: torch.Generator) -> Tensor:
    """Return random numbers between -limit and limit."""
    return limit * (2 * torch.rand(shape, generator=rng) - 1)


@cache
def _pixel_offsets(size: int, upscale: int) -> Tensor:
    """Return the centres of the (finer) pixels, in pixels from the patch's middle."""
    n = size * upscale
    return (torch.arange(n, dtype=torch.float64) - (n - 1) / 2).div(upscale).float()


@cache
def _cubic_basis(size: int, upscale: int, spacing_px: float) -> Tensor:
    """Return what each node counts at each pixel along one axis (s Y, K).

    References
    ----------
    Keys: Cubic convolution interpolation for digital image processing. IEEE Trans.
    Acoust. 29, 1153 (1981), eq. 15, a = -1/2. Beyond the last node its value goes on.
    """
    k = n_nodes(size, spacing_px)
    at = _pixel_offsets(size, upscale).double() / spacing_px + k // 2
    # Two nodes beyond each end, to be added to the last one.
    d = (at[:, None] - torch.arange(-2, k + 2)).abs()
    near = (1.5 * d - 2.5) * d**2 + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    weights = torch.where(d < 1, near, torch.where(d < 2, far, 0.0))
    basis = weights[:, 2:-2].clone()
    basis[:, 0] += weights[:, :2].sum(1)
    basis[:, -1] += weights[:, -2:].sum(1)
    return basis.float()
