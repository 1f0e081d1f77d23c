"""Distances to the nearest cells, window by window.

A cell matters only within the reach of a formula, so its distance map is computed on
its own box, grown by the reach, and nowhere else: the whole field is a sum of such
boxes, and after a stroke only those near the stroke are computed again. Squared
distances are whole numbers wherever the size of a pixel allows it: whatever the
window, a pixel gets the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_unet.imaging.windows import (
    blocks,
    boxes,
    grow,
    hull,
    overlap,
    shifted,
    whole,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.imaging.windows import Window

# Where one distance map is for all of a block, at some 40 bytes a pixel.
SMALL_BLOCK_PX = 2**20

# Ratios of squared pixel sizes that are no fractions of such numbers are no fractions
# by anyone's intention; the limits keep squared distances of 20,000 px within int64.
_MAX_DENOMINATOR = 2**27
_MAX_SQUARE = 2**32


@dataclass(frozen=True)
class Grid:
    """Lengths on a grid of pixels.

    Parameters
    ----------
    size : tuple of float
        Size of a pixel along each axis.
    squares : tuple of int or of float
        Squared size along each axis, in `unit` squared. Whole where the sizes allow.
    unit : float
        Length that the squares are measured in.
    """

    size: tuple[float, ...]
    squares: tuple[float, ...]
    unit: float

    @classmethod
    def of(cls, size: Sequence[float]) -> Grid:
        """Return the grid of pixels of a size.

        Examples
        --------
        >>> Grid.of((0.5, 0.25))
        Grid(size=(0.5, 0.25), squares=(4, 1), unit=0.25)
        """
        sizes = tuple(map(float, size))
        least = min(sizes)
        ratios = [(s / least) ** 2 for s in sizes]
        near = [Fraction(r).limit_denominator(_MAX_DENOMINATOR) for r in ratios]
        scale = math.lcm(*(f.denominator for f in near))
        squares = tuple(int(f * scale) for f in near)
        is_exact = all(
            abs(f / r - 1) < 2e-15 for f, r in zip(near, ratios, strict=True)
        )
        if is_exact and max(squares) <= _MAX_SQUARE:
            return cls(sizes, squares, least / math.sqrt(scale))
        return cls(sizes, tuple(ratios), least)

    def margins(self, reach: float) -> tuple[int, ...]:
        """Return how many pixels a reach is along each axis."""
        return tuple(math.ceil(reach / size) for size in self.size)

    def dtype_for(self, shape: Sequence[int]) -> np.dtype[Any]:
        """Return a dtype that holds all squared distances within a shape."""
        largest = sum(s * n**2 for s, n in zip(self.squares, shape, strict=True))
        if not all(isinstance(s, int) for s in self.squares):
            return np.dtype(np.float64)
        return np.dtype(np.int32 if largest < 2**31 - 1 else np.int64)

    def squared(
        self, offsets: Sequence[NDArray[Any]], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Return squared lengths of offsets in pixels, in `unit` squared."""
        terms: list[NDArray[Any]] = [
            np.multiply(offset, offset, dtype=dtype) for offset in offsets
        ]
        for term, square in zip(terms, self.squares, strict=True):
            if square != 1:
                term *= dtype.type(square)
        for term in terms[1:]:
            terms[0] += term
        return terms[0]

    def lengths(self, squared: NDArray[Any]) -> NDArray[np.float64]:
        """Return the lengths of squared ones."""
        lengths: NDArray[np.float64] = np.sqrt(squared, dtype=np.float64)
        lengths *= self.unit
        return lengths


def distance_sums(
    cells: NDArray[np.int32], window: Window, reach: float, grid: Grid
) -> NDArray[np.float64]:
    """Return d1 + d2, the distances to the nearest two cells, in a window.

    Parameters
    ----------
    cells : ndarray of int32
        Ids of the cells of one field; 0 is none. Any ids, in any number of pieces.
    window : tuple of slice
        The part of the field to compute; both ends given.
    reach : float
        Sums beyond it are inf. What lies further from the window does not matter.
    grid : Grid
        The unit of the distances.

    Returns
    -------
    ndarray of float64, shape of the window
        Between pixel centres, to the nearest pixel of a cell; inf beyond `reach`,
        and where there are fewer than two cells.

    Examples
    --------
    >>> cells = np.array([[1, 0, 0, 0, 2, 0]], np.int32)
    >>> everything = (slice(0, 1), slice(0, 6))
    >>> distance_sums(cells, everything, 10.0, Grid.of((1, 1)))
    array([[4., 4., 4., 4., 4., 6.]])
    """
    if reach <= 0:
        return np.full([s.stop - s.start for s in window], np.inf)
    crop = grow(window, grid.margins(reach), cells.shape)
    first, second = _two_nearest(cells[crop], within(window, crop), reach, grid)
    nothing = second == _nothing(second.dtype)
    sums = grid.lengths(second)
    del second
    sums += grid.lengths(first)
    nothing |= sums > reach
    sums[nothing] = np.inf
    return sums


def _two_nearest(
    cells: NDArray[np.int32], window: Window, reach: float, grid: Grid
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the squared distances to the nearest two cells."""
    dtype = grid.dtype_for(cells.shape)
    shape = [s.stop - s.start for s in window]
    first = np.full(shape, _nothing(dtype), dtype)
    second = first.copy()
    margins = grid.margins(reach)
    for i, cell in boxes(cells):
        near = overlap(grow(cell, margins, cells.shape), window)
        if near is None:
            continue
        around = hull(cell, near)
        squared = _squared_distances(cells[around] != i, grid, dtype)
        squared = squared[within(near, around)]
        here = within(near, window)
        nearest, next_nearest = first[here], second[here]
        np.minimum(next_nearest, np.maximum(nearest, squared), out=next_nearest)
        np.minimum(nearest, squared, out=nearest)
    return first, second


def nearest_distances(
    cells: NDArray[np.int32], window: Window, reach: float, grid: Grid
) -> NDArray[np.float64]:
    """Return d1, the distance to the nearest cell, in a window; inf beyond `reach`.

    Parameters are those of `distance_sums`.

    Examples
    --------
    >>> cells = np.array([[1, 0, 0, 0, 2, 0, 0]], np.int32)
    >>> everything = (slice(0, 1), slice(0, 7))
    >>> nearest_distances(cells, everything, 1.5, Grid.of((1, 1)))
    array([[ 0.,  1., inf,  1.,  0.,  1., inf]])
    """
    distances = np.full([s.stop - s.start for s in window], np.inf)
    if reach <= 0:
        return distances
    margins = grid.margins(reach)
    for block in blocks(distances.shape, SMALL_BLOCK_PX):
        part = shifted(block, window)
        crop = grow(part, margins, cells.shape)
        empty = cells[crop] <= 0
        if empty.all():
            continue
        squared = _squared_distances(empty, grid, grid.dtype_for(empty.shape))
        found = grid.lengths(squared[within(part, crop)])
        found[found > reach] = np.inf
        distances[block] = found
    return distances


def _nothing(dtype: np.dtype[Any]) -> Any:
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def _squared_distances(
    outside: NDArray[np.bool_], grid: Grid, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return the squared distance to the nearest pixel that is not outside."""
    is_even = len(set(grid.squares)) == 1
    places = ndimage.distance_transform_edt(
        outside,
        sampling=None if is_even else [math.sqrt(s) for s in grid.squares],
        return_distances=False,
        return_indices=True,
    )
    for axis, own_places in enumerate(np.ogrid[whole(outside.shape)]):
        places[axis] -= own_places
    return grid.squared(places, dtype)
