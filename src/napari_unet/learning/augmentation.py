"""Random deformation and intensity changes of whole batches, on their device.

One fused resampling (affine + elastic) moves the image linearly and the classes and
weights by nearest neighbour, so that a weight is 0 exactly where it was.
"""

from __future__ import annotations

import itertools
import math
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from napari_unet.config import TrainConfig


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches to learn from.

    What is to be learned lies on a grid `upscale` times finer than the image's, and
    covers the same field: the same grid, but for super-resolution.

    Parameters
    ----------
    image : Tensor of float32, shape (N, C, Y, X)
        Normalised intensities.
    classes : Tensor of int64, shape (N, s Y, s X), optional
        Class of each pixel; of any integer type in windows that are still to be
        deformed. None where nothing but values is learned.
    weights : Tensor of float32, shape (N, s Y, s X)
        Weight of each pixel, 0 where ignored.
    values : Tensor of float32, shape (N, M, s Y, s X), optional
        What outputs of values should be: distances, or target images.
    """

    image: Tensor
    classes: Tensor | None
    weights: Tensor
    values: Tensor | None = None

    @property
    def upscale(self) -> int:
        """Pixels of the target for each pixel of the image, along each axis."""
        return self.weights.shape[-1] // self.image.shape[-1]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def middle(self, size: int) -> Batch:
        """Return the middle `size` x `size` pixels of the target, and their image."""
        image = _middle(self.image, size // self.upscale)
        return replace(self._each(lambda tensor: _middle(tensor, size)), image=image)

    def parts(self, n: int) -> list[Batch]:
        """Return the patches in `n` parts of about the same number, none empty."""
        bounds = [i * len(self.image) // n for i in range(n + 1)]
        pairs = [(a, b) for a, b in itertools.pairwise(bounds) if a < b]
        return [self._each(operator.itemgetter(slice(a, b))) for a, b in pairs]

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        found = (self.image, self.classes, self.weights, self.values)
        image, classes, weights, values = (t if t is None else change(t) for t in found)
        assert image is not None and weights is not None  # noqa: PT018, S101
        return Batch(image, classes, weights, values)


def _middle(tensor: Tensor, size: int) -> Tensor:
    top, left = ((n - size) // 2 for n in tensor.shape[-2:])
    return tensor[..., top : top + size, left : left + size]


def window_size(patch_size: int, config: TrainConfig) -> int:
    """Return the side of the window that a turned and shrunk patch is cut from."""
    turn = math.sqrt(2) if config.rotation_deg > 0 else 1.0
    size = math.ceil(patch_size * turn * (1 + config.scale) + 4 * config.elastic_px)
    # Of the same parity: both middles then fall alike on the pixel grid.
    return size + (size - patch_size) % 2


def _uniform(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _affine(n: int, config: TrainConfig, rng: torch.Generator) -> Tensor:
    """Return matrices (N, 2, 2) that map patch offsets to window offsets, in pixels."""
    limit = math.radians(config.rotation_deg)
    angle = _uniform(n, -limit, limit, rng)
    log_scale = math.log1p(config.scale)
    scale = torch.exp(_uniform(n, -log_scale, log_scale, rng))
    mirror = torch.ones(n)
    if config.flip:
        quarter_turns = torch.randint(0, 4, (n,), generator=rng)
        angle = angle + math.pi / 2 * quarter_turns
        mirror = 1.0 - 2.0 * torch.randint(0, 2, (n,), generator=rng)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = [torch.stack([cos * mirror, -sin], 1), torch.stack([sin * mirror, cos], 1)]
    return torch.stack(rows, 1)


def _displacement(
    n: int, size: int, config: TrainConfig, rng: torch.Generator
) -> Tensor:
    """Return a smooth random displacement (N, size, size, 2), in pixels."""
    n_nodes = max(3, round(size / config.elastic_grid_px) + 1)
    nodes = config.elastic_px * torch.randn(n, 2, n_nodes, n_nodes, generator=rng)
    smooth = functional.interpolate(nodes, (size, size), mode="bicubic")
    return smooth.permute(0, 2, 3, 1)


def deform(batch: Batch, size: int, config: TrainConfig, rng: torch.Generator) -> Batch:
    """Return patches cut from the windows of a batch, deformed at random.

    Parameters
    ----------
    batch : Batch
        Windows at least `window_size` large; beyond them everything is mirrored.
    size : int
        Side of the patches, in pixels.
    config : TrainConfig
        `flip`, `rotation_deg`, `scale`, `elastic_px`, `elastic_grid_px`.
    rng : torch.Generator
        On the CPU, so that the same seed draws the same on every device.
    """
    n, _, height, width = batch.image.shape
    offsets = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    grid = torch.einsum(
        "nij,yxj->nyxi", _affine(n, config, rng), torch.stack([x, y], -1)
    )
    if config.elastic_px > 0:
        grid = grid + _displacement(n, size, config, rng)
    # Pixel offsets from the middle -> grid_sample's [-1, 1] with align_corners=False.
    grid = grid * torch.tensor([2.0 / width, 2.0 / height])
    grid = grid.to(batch.image.device)
    image = _sample(batch.image, grid, "bilinear")
    assert batch.classes is not None  # noqa: S101
    carried = torch.stack([batch.classes.float(), batch.weights], 1)
    classes, weights = _sample(carried, grid, "nearest").unbind(1)
    return Batch(image, classes.round().long(), weights)


def _sample(source: Tensor, grid: Tensor, mode: str) -> Tensor:
    return functional.grid_sample(
        source, grid, mode=mode, padding_mode="reflection", align_corners=False
    )


def change_intensity(image: Tensor, amount: float, rng: torch.Generator) -> Tensor:
    """Return images with random contrast, brightness, gamma and noise.

    Parameters
    ----------
    image : Tensor of float32, shape (N, C, Y, X)
        Normalised intensities, mostly in [0, 1].
    amount : float
        0 changes nothing; 1 is very strong.
    rng : torch.Generator
        On the CPU.
    """
    if amount == 0:
        return image
    n, n_channels = image.shape[:2]

    def draw(low: float, high: float) -> Tensor:
        values = _uniform(n * n_channels, low, high, rng).to(image.device)
        return values.view(n, n_channels, 1, 1)

    gamma = torch.exp(draw(-amount, amount))
    # Only what lies within the normal range is bent; the rest stays on a line.
    inside = image.clamp(1e-4, 1)
    image = image - inside + inside**gamma
    image = image * torch.exp(draw(-amount, amount)) + draw(-amount / 3, amount / 3)
    noise = torch.randn(image.shape, generator=rng).to(image.device)
    return image + draw(0, amount / 5) * noise


def augment(
    batch: Batch, size: int, config: TrainConfig, rng: torch.Generator
) -> Batch:
    """Return patches of a batch of windows, deformed and changed in intensity.

    Parameters
    ----------
    batch, size, config, rng
        As for `deform`.
    """
    batch = deform(batch, size, config, rng)
    image = change_intensity(batch.image, config.intensity, rng)
    return replace(batch, image=image)
