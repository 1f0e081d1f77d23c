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

from napari_unet.learning.deformation import draw_deformation, uniform

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
    values_follow_image : bool
        Whether what makes the image brighter makes the values brighter.
    """

    image: Tensor
    classes: Tensor | None
    weights: Tensor
    values: Tensor | None = None
    values_follow_image: bool = False

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
        classes = None if self.classes is None else change(self.classes)
        values = None if self.values is None else change(self.values)
        return replace(
            self,
            image=change(self.image),
            classes=classes,
            weights=change(self.weights),
            values=values,
        )


def _middle(tensor: Tensor, size: int) -> Tensor:
    top, left = ((n - size) // 2 for n in tensor.shape[-2:])
    return tensor[..., top : top + size, left : left + size]


def window_size(patch_size: int, config: TrainConfig) -> int:
    """Return the side of the window that a turned and shrunk patch is cut from."""
    turn = math.sqrt(2) if config.rotation_deg > 0 else 1.0
    size = math.ceil(patch_size * turn * (1 + config.scale) + 4 * config.elastic_px)
    # Of the same parity: both middles then fall alike on the pixel grid.
    return size + (size - patch_size) % 2


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
    if batch.values is not None and batch.values_follow_image:
        return change_brightness(batch, batch.values, config, rng)
    return replace(batch, image=change_intensity(batch.image, config, rng))


def deform(batch: Batch, size: int, config: TrainConfig, rng: torch.Generator) -> Batch:
    """Return patches cut from the windows of a batch, deformed at random.

    Parameters
    ----------
    batch : Batch
        Windows at least `window_size` large; beyond them everything is mirrored.
        Classes of any type.
    size : int
        Side of the patches, in pixels of the image.
    config : TrainConfig
        `flip`, `rotation_deg`, `scale`, `elastic_px`, `elastic_grid_px`.
    rng : torch.Generator
        On the CPU, so that the same seed draws the same on every device.

    Returns
    -------
    Batch
        The image and the values sampled linearly, classes and weights at the nearest
        pixel, so that a weight is 0 exactly where it was.
    """
    drawn = draw_deformation(len(batch.image), size, config, rng)
    drawn = drawn.to(batch.image.device)
    height, width = batch.image.shape[-2:]

    def grid(upscale: int) -> Tensor:
        # Offsets from the middle in pixels -> grid_sample's [-1, 1].
        offsets = drawn.offsets(upscale)
        offsets[:, 0].mul_(2 / width)
        offsets[:, 1].mul_(2 / height)
        return offsets.permute(0, 2, 3, 1)

    of_image = grid(1)
    # Finer pixels of the same field, in the same deformation.
    of_target = of_image if batch.upscale == 1 else grid(batch.upscale)
    classes, weights, values = batch.classes, batch.weights, batch.values
    if classes is not None:
        # By itself: stacked with the weights, copying would take longer than sampling.
        found = _sample(classes[:, None].float(), of_target, "nearest")
        classes = found[:, 0].long()
    if values is not None:
        values = _sample(values, of_target, "bilinear")
    return Batch(
        _sample(batch.image, of_image, "bilinear"),
        classes,
        _sample(weights[:, None], of_target, "nearest")[:, 0],
        values,
        batch.values_follow_image,
    )


def _sample(source: Tensor, grid: Tensor, mode: str) -> Tensor:
    return functional.grid_sample(
        source, grid, mode=mode, padding_mode="reflection", align_corners=False
    )


def change_intensity(
    image: Tensor, config: TrainConfig, rng: torch.Generator
) -> Tensor:
    """Return images with random blur, gamma, contrast, brightness and noise.

    In the order in which a microscope makes them: optics, detector, noise.

    Parameters
    ----------
    image : Tensor of float32, shape (N, C, Y, X)
        Normalised intensities, mostly in [0, 1].
    config : TrainConfig
        `intensity`: 0 changes nothing, 1 is very strong. `blur_px`: largest standard
        deviation of the blur, in pixels; every other channel is not blurred.
    rng : torch.Generator
        On the CPU. Everything but the noise is the same on all devices.

    Returns
    -------
    Tensor of float32, of the same shape
        The very tensor that came where nothing is to be changed.
    """
    n, n_channels = image.shape[:2]
    if config.blur_px > 0:
        sigmas = uniform((n, n_channels), config.blur_px, rng)
        image = blur(image, sigmas.to(image.device))
    amount = config.intensity
    if amount == 0:
        return image
    limits = torch.tensor([amount, amount, amount / 3, amount / 5])[:, None, None]
    drawn = limits * uniform((4, n, n_channels), 1.0, rng)
    drawn = drawn.to(image.device)[..., None, None]
    gamma, contrast, brightness, noise = drawn
    # Only what lies within the normal range is bent; the rest stays on a line.
    inside = image.clamp(1e-4, 1)
    changed = image - inside
    changed += inside.log_().mul_(gamma.exp()).exp_()
    changed.mul_(contrast.exp()).add_(brightness)
    return changed.addcmul_(noise, _normal(image, rng))


def change_brightness(
    batch: Batch, values: Tensor, config: TrainConfig, rng: torch.Generator
) -> Batch:
    """Return a batch in which images and values are brighter or darker alike.

    By a factor for each channel: noise, blur and gamma would change what there is to
    learn, how the image came of what is to be made.

    Parameters
    ----------
    batch : Batch
        With as many values as channels.
    values : Tensor
        Its values.
    config : TrainConfig
        `intensity`: the factor is at most e to this, and at least its inverse.
    rng : torch.Generator
        On the CPU.
    """
    if config.intensity == 0:
        return batch
    factors = torch.exp(uniform(batch.image.shape[:2], config.intensity, rng))
    factors = factors.to(batch.image.device)[..., None, None]
    return replace(batch, image=batch.image * factors, values=values * factors)


def _normal(like: Tensor, rng: torch.Generator) -> Tensor:
    if like.device.type != "cpu":
        # Drawing on the CPU and copying would take longer than the rest.
        seed = int(torch.randint(2**62, (), generator=rng))
        rng = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=rng, device=like.device)


def blur(image: Tensor, sigmas_px: Tensor) -> Tensor:
    """Return images smoothed by a Gaussian, mirrored at their borders.

    Parameters
    ----------
    image : Tensor of float32, shape (N, C, Y, X)
        Not changed.
    sigmas_px : Tensor of float32, shape (N, C)
        Standard deviation for each channel, in pixels; those <= 0 change nothing.

    Returns
    -------
    Tensor of float32, of the same shape
    """
    chosen = (sigmas_px > 0).nonzero(as_tuple=True)
    if len(chosen[0]) == 0:
        return image
    sigma = sigmas_px[chosen]
    planes = image[chosen]
    reach = min(math.ceil(3 * float(sigma.max())), min(planes.shape[-2:]) - 1)
    at = torch.arange(reach + 1, device=image.device)
    taps = torch.exp(-0.5 * (at / sigma[:, None]) ** 2)
    taps = taps / (2 * taps.sum(1, keepdim=True) - taps[:, :1])
    for axis in (1, 2):
        planes = _smooth(planes, taps, axis)
    blurred = image.clone()
    blurred[chosen] = planes
    return blurred


def _smooth(planes: Tensor, taps: Tensor, axis: int) -> Tensor:
    """Return planes (M, Y, X) smoothed along an axis by symmetric taps (M, reach + 1).

    By shifted sums: on a CPU a convolution with as many groups takes 1.5 times as long,
    and its products might be rounded.
    """
    reach, n = taps.shape[1] - 1, planes.shape[axis]
    pad = (reach, reach, 0, 0) if axis == 2 else (0, 0, reach, reach)
    padded = functional.pad(planes[:, None], pad, mode="reflect")[:, 0]
    factors = taps.T[:, :, None, None]
    total = padded.narrow(axis, reach, n) * factors[0]
    for k in range(1, reach + 1):
        before, after = (padded.narrow(axis, reach + s * k, n) for s in (-1, 1))
        total.addcmul_(before + after, factors[k])
    return total
