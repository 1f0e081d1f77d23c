"""Rectangular windows of a field, as tuples of slices with both ends given."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, overload

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Window = tuple[slice, ...]

# A block's work takes some 30 bytes a pixel.
BLOCK_PX = 2**22


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
