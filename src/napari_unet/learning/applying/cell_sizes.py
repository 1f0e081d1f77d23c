"""How large the cells of an image are, by a first look with the model itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import NormalizationConfig
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.cell_size import next_scale, typical_diameter
from napari_unet.imaging.instances import find_instances
from napari_unet.learning.applying.scale import LARGEST_SCALE, given_scale, on_own_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_unet.config import PredictConfig
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.model import Model

    # Outputs (K, Y, X) of a model for an image at these factors.
    Run = Callable[[Model, Image, Sequence[float]], NDArray[np.float32]]

# What one look may cost: about a second on a CPU.
_LOOKED_AT_PX = 768
_MOST_LOOKS = 3
# Of fewer cells the size may be chance.
_ENOUGH_CELLS = 3
_NEAR = 0.15
# Of what one look found, the next has to find this share: texture within cells, taken
# for ever smaller cells as it is enlarged, fills less and less of them.
_LEAST_FOUND_AGAIN = 0.85
# Where to look, in turn, until there are enough cells: how far down and right the
# window is of what it can be.
_PLACES = ((0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0))


def wants_measuring(model: Model, config: PredictConfig | None) -> bool:
    """Whether a model learned cells at one size, and the user does not say theirs."""
    is_planar = model.network.n_dims == 2 and model.network.upscale == 1
    return model.scales_by_cells and is_planar and given_scale(model, config) is None


def measured_factors(
    model: Model,
    image: Image,
    factors: Sequence[float],
    *,
    span: IntensityRange,
    run: Run,
) -> tuple[float, ...]:
    """Return factors at which an image's cells are as large as the model knows them.

    The middle of the image (of a stack its middle plane) is segmented, or one of its
    corners where that shows fewer than three cells; what is found there tells a better
    factor for a look at where most was found, and so on until it changes by less than
    15 %, three times at most. A step after which less is found is taken back.

    Parameters
    ----------
    model : Model
        One that knows how large its cells are.
    image : Image
        The image.
    factors : sequence of float
        Where to begin: pixels that the network sees for each of the image.
    span : IntensityRange
        What the whole image is normalised with.
    run : callable
        Applies a model to an image at given factors.
    """
    fixed = replace(
        model,
        normalization=NormalizationConfig(policy="dataset"),
        dataset_range=span,
    )
    factors = before = tuple(factors)
    last: _Look | None = None
    for _ in range(_MOST_LOOKS):
        if last is None:
            look = _first_look(fixed, image, factors, run)
        else:
            window = last.densest(_shape(image, factors))
            look = _look(fixed, image, factors, window, run)
            if look.finds_less_than(last):
                return before
        step = step_of(model, look.areas * np.prod(factors))
        if step == 1:
            break
        before, last = factors, look
        factors = tuple(
            min(max(f * step, 1 / LARGEST_SCALE), LARGEST_SCALE) for f in factors
        )
    return factors


def step_of(model: Model, areas: NDArray[np.floating[Any]]) -> float:
    """Return by how much to change the scale of an image, after a look at it.

    Parameters
    ----------
    model : Model
        One that knows how large its cells are.
    areas : ndarray of float, shape (n,)
        Those of the cells that were found, in pixels that the network sees.

    Returns
    -------
    float
        1 where they are as large as the model knows them, within 15 %, or too few.
    """
    if len(areas) < _ENOUGH_CELLS:
        return 1.0
    step = next_scale(1.0, typical_diameter(areas), model.working_cell_px or 0.0)
    return step if abs(step - 1) > _NEAR else 1.0


@dataclass(frozen=True)
class _Look:
    """What was found in a window of an image, in its own pixels."""

    window: tuple[slice, ...]
    labels: NDArray[np.int32]

    @property
    def areas(self) -> NDArray[np.int64]:
        return np.bincount(self.labels.ravel())[1:]

    def densest(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        """Return where, in a window of this shape at most, most was found."""
        shape = tuple(map(min, shape, self.labels.shape))
        # Sums over each such window, by running sums.
        sums = np.pad((self.labels > 0).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        h, w = shape
        n = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
        corner = np.unravel_index(n.argmax(), n.shape)
        return tuple(
            slice(own.start + int(c), own.start + int(c) + side)
            for own, c, side in zip(self.window, corner, shape, strict=True)
        )

    def finds_less_than(self, other: _Look) -> bool:
        """Whether clearly less is cells, by this look within a window of the other."""
        inner = tuple(
            slice(own.start - of.start, own.stop - of.start)
            for own, of in zip(self.window, other.window, strict=True)
        )
        n, n_before = (
            int(np.count_nonzero(of)) for of in (self.labels, other.labels[inner])
        )
        return n < _LEAST_FOUND_AGAIN * n_before


def _first_look(
    model: Model, image: Image, factors: Sequence[float], run: Run
) -> _Look:
    """Return the cells in a part of an image that shows some."""
    seen: list[Any] = []
    for place in _PLACES:
        window = _window(image, factors, place)
        if window in seen:  # the image is no larger
            continue
        seen.append(window)
        look = _look(model, image, factors, window, run)
        if len(look.areas) >= _ENOUGH_CELLS:
            break
    return look


def _look(
    model: Model,
    image: Image,
    factors: Sequence[float],
    window: tuple[slice, ...],
    run: Run,
) -> _Look:
    """Return the cells in a window of an image."""
    settings = on_own_grid(model.instances, factors)
    outputs = run(model, _part(image, window), factors)
    return _Look(window, find_instances(outputs, model.roles, settings))


def _shape(image: Image, factors: Sequence[float]) -> tuple[int, ...]:
    """Return the shape of what is looked at, in the image's pixels."""
    return tuple(
        min(n, max(1, round(_LOOKED_AT_PX / factor)))
        for n, factor in zip(image.plane_shape, factors, strict=True)
    )


def _window(
    image: Image, factors: Sequence[float], place: Sequence[float]
) -> tuple[slice, ...]:
    """Return a window of a plane at one of the places."""
    sides = _shape(image, factors)
    starts = (
        round((n - side) * share)
        for n, side, share in zip(image.plane_shape, sides, place, strict=True)
    )
    return tuple(
        slice(start, start + side) for start, side in zip(starts, sides, strict=True)
    )


def _part(image: Image, window: Sequence[slice]) -> Image:
    """Return a window of an image's middle plane."""
    plane = tuple(n // 2 for n in image.stack_shape)
    part = np.asarray(image.data[(slice(None), *plane, *window)])
    return Image(part, source=image.source)
