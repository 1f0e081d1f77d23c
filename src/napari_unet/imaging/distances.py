"""Distances to the nearest cells, window by window.

A cell matters only within the reach of a formula, so its distance map is computed on
its own box, grown by the reach, and nowhere else: the whole field is a sum of such
boxes, and after a stroke only those near the stroke are computed again. Squared
distances are whole numbers wherever the size of a pixel allows it: whatever the
window, a pixel gets the same bits.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Window = tuple[slice, ...]

# A block's work takes some 30 bytes a pixel.
BLOCK_PX = 2**22
_SMALL_BLOCK_PX = 2**20

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
    for block in blocks(distances.shape, _SMALL_BLOCK_PX):
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


# --- windows -----------------------------------------------------------------------


def boxes(labels: NDArray[np.int32]) -> Iterator[tuple[int, Window]]:
    """Yield each id above 0 and the smallest window that holds all of it."""
    highest = int(labels.max(initial=0))
    if highest <= 0:
        return
    if highest <= labels.size:
        for i, box in enumerate(ndimage.find_objects(labels), start=1):
            if box is not None:
                yield i, box
        return
    # find_objects would list every id up to the largest.
    ids = np.unique(labels[labels > 0])
    ranks = np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0)
    for i, box in zip(ids.tolist(), ndimage.find_objects(ranks), strict=True):
        yield i, box


def blocks(shape: Sequence[int], n_px: int = BLOCK_PX) -> Iterator[Window]:
    """Yield windows that partition a shape, of about `n_px` pixels at most."""
    side = round(n_px ** (1 / len(shape)))
    starts = [range(0, n, side) for n in shape]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + side, n))
            for start, n in zip(corner, shape, strict=True)
        )


def grow(window: Window, margins: Sequence[int], shape: Sequence[int]) -> Window:
    """Return a window grown by margins, cut off at the field's border."""
    return tuple(
        slice(max(side.start - margin, 0), min(side.stop + margin, n))
        for side, margin, n in zip(window, margins, shape, strict=True)
    )


def overlap(a: Window, b: Window) -> Window | None:
    """Return where two windows overlap; None if nowhere."""
    both = tuple(
        slice(max(s.start, t.start), min(s.stop, t.stop))
        for s, t in zip(a, b, strict=True)
    )
    return both if all(side.start < side.stop for side in both) else None


@overload
def hull(a: Window, b: Window | None) -> Window: ...
@overload
def hull(a: Window | None, b: Window) -> Window: ...
@overload
def hull(a: Window | None, b: Window | None) -> Window | None: ...
def hull(a: Window | None, b: Window | None) -> Window | None:
    """Return the smallest window that holds both."""
    if a is None or b is None:
        return a or b
    return tuple(
        slice(min(s.start, t.start), max(s.stop, t.stop))
        for s, t in zip(a, b, strict=True)
    )


def within(window: Window, other: Window) -> Window:
    """Return a window as seen from the start of another."""
    return tuple(
        slice(side.start - start.start, side.stop - start.start)
        for side, start in zip(window, other, strict=True)
    )


@overload
def shifted(window: Window, other: Window) -> Window: ...
@overload
def shifted(window: None, other: Window) -> None: ...
@overload
def shifted(window: Window | None, other: Window) -> Window | None: ...
def shifted(window: Window | None, other: Window) -> Window | None:
    """Return a window in another as seen from where the other is; None for None."""
    if window is None:
        return None
    return tuple(
        slice(side.start + start.start, side.stop + start.start)
        for side, start in zip(window, other, strict=True)
    )


def whole(shape: Sequence[int]) -> Window:
    """Return the window of everything."""
    return tuple(slice(0, n) for n in shape)


def box_of(mask: NDArray[np.bool_]) -> Window | None:
    """Return the smallest window that holds all True pixels; None if there are none."""
    box: Window = ()
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        found = np.flatnonzero(mask.any(axis=others))
        if not len(found):
            return None
        side = slice(int(found[0]), int(found[-1]) + 1)
        box = (*box, side)
        mask = mask[(slice(None),) * axis + (side,)]
    return box
