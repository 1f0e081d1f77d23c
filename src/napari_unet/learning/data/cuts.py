"""Straight cuts through planes: one side to learn from, one to hold back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.windows import whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.imaging.windows import Window
    from napari_unet.learning.data.summaries import PlaneSummary

MIN_BLOCK_PX = 16
# What is blurred by the microscope reaches this far beyond the line.
GUARD_PX = 4


def best_cut(
    planes: Sequence[PlaneSummary],
    shape: tuple[int, int],
    fraction: float,
    is_regression: bool,
) -> tuple[Window, Window] | None:
    """Return the (train, held back) windows of the straight cut that cuts fewest cells.

    The held-back block is at one of the four sides and holds about `fraction` of what
    is known; both parts keep a whole cell. A cell that is missing there to that share
    of all cells counts as one that is cut: a score on one cell says little. None where
    there is no such cut.

    Parameters
    ----------
    planes : sequence of PlaneSummary
        The planes to cut alike.
    shape : (int, int)
        Of each, in pixels.
    fraction : float
        Share to hold back.
    is_regression : bool
        There are no cells to keep whole.
    """
    wanted = fraction * sum(int(plane.cells.is_cell.sum()) for plane in planes)
    best: tuple[float, tuple[Window, Window]] | None = None
    for axis, line, is_first in lines(planes, shape, fraction):
        kept, held = _windows(axis, line, is_first, shape)
        if not is_regression and not all(
            any(_has_object(plane, window, axis) for plane in planes)
            for window in (kept, held)
        ):
            continue
        n_cut = sum(_n_across(plane, axis, line) for plane in planes)
        n_held = sum(_n_inside(plane, held) for plane in planes)
        lost = n_cut + max(0.0, wanted - n_held)
        if best is None or lost < best[0]:
            best = (lost, (kept, held))
    return None if best is None else best[1]


def _n_across(plane: PlaneSummary, axis: int, line: int) -> int:
    """Return how many cells a line cuts."""
    boxes = plane.cells.boxes[plane.cells.is_cell]
    is_cut = (boxes[:, axis] < line) & (boxes[:, axis + 2] > line)
    return int(np.count_nonzero(is_cut))


def _n_inside(plane: PlaneSummary, window: Window) -> int:
    """Return how many cells a window has, whole."""
    cells = plane.cells
    return int(np.count_nonzero(cells.inside(window) & cells.is_cell))


def _has_object(plane: PlaneSummary, window: Window, axis: int) -> bool:
    """Return whether a window has a whole cell or, where there are none, an area."""
    cells = plane.cells
    if cells.is_cell.any():
        return bool((cells.inside(window) & cells.is_cell).any())
    return bool(plane.painted[axis][window[axis]].any())


def lines(
    planes: Sequence[PlaneSummary], shape: tuple[int, int], fraction: float
) -> Iterator[tuple[int, int, bool]]:
    """Yield axis and place of lines to try, and whether what is before is held back.

    Both sides are 16 px wide or more; the parameters are those of `best_cut`.
    """
    for axis in (0, 1):
        known = np.cumsum(np.sum([plane.known[axis] for plane in planes], axis=0))
        for share, is_first in ((fraction, True), (1 - fraction, False)):
            at = int(np.searchsorted(known, share * known[-1])) + 1
            for shift in range(-8, 9, 2):
                line = at + shift
                if MIN_BLOCK_PX <= line <= shape[axis] - MIN_BLOCK_PX:
                    yield axis, line, is_first


def _windows(
    axis: int, line: int, is_first: bool, shape: tuple[int, int]
) -> tuple[Window, Window]:
    """Return the windows (train, held back) on the two sides of a line."""
    everything = whole(shape)
    if is_first:
        held, kept = slice(0, line), slice(line + GUARD_PX, shape[axis])
    else:
        held, kept = slice(line, shape[axis]), slice(0, line - GUARD_PX)
    both = [list(everything), list(everything)]
    both[0][axis], both[1][axis] = kept, held
    return tuple(both[0]), tuple(both[1])
