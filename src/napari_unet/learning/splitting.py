"""What is held back from training, so that scores are honest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.arrays import Target
from napari_unet.learning.patches import Plane

if TYPE_CHECKING:
    from collections.abc import Sequence

Window = tuple[slice, slice]

_MIN_IMAGES_TO_HOLD_BACK_WHOLE = 5
_MIN_BLOCK_PX = 16


@dataclass(frozen=True, eq=False)
class Split:
    """What to learn from, what to validate on, and how that was decided."""

    train: list[Plane]
    validation: list[Plane]
    how: str
    is_held_back: bool = True


def hold_back(
    groups: Sequence[Sequence[Plane]], fraction: float, rng: np.random.Generator
) -> Split:
    """Hold back whole images where there are five or more, else a block of each.

    Parameters
    ----------
    groups : sequence of sequences of Plane
        The annotated planes of each image.
    fraction : float
        Share to hold back.
    rng : numpy.random.Generator
        Decides which images.
    """
    if len(groups) >= _MIN_IMAGES_TO_HOLD_BACK_WHOLE:
        n_held = max(1, round(fraction * len(groups)))
        held = set(rng.permutation(len(groups))[:n_held].tolist())
        train = [p for i, group in enumerate(groups) if i not in held for p in group]
        back = [p for i in sorted(held) for p in groups[i]]
        if _has_cells(train) and _has_cells(back):
            return Split(train, back, f"{n_held} of {len(groups)} images held back")
    return _split_blocks([plane for group in groups for plane in group], fraction)


def _has_cells(planes: Sequence[Plane]) -> bool:
    return any(plane.labels.any() for plane in planes)


def _split_blocks(planes: Sequence[Plane], fraction: float) -> Split:
    train, back = [], []
    for plane in planes:
        cut = _best_cut(plane, fraction)
        if cut is None:
            train.append(plane)
        else:
            train.append(_crop(plane, cut[0]))
            back.append(_crop(plane, cut[1]))
    if not back:
        # One or two cells: nothing can be held back without losing what there is.
        how = "too few cells to hold any back: scores are on the training pixels"
        return Split(list(planes), list(planes), how, is_held_back=False)
    some = "each" if len(back) == len(planes) else f"{len(back)}"
    of = "the image" if len(planes) == 1 else f"{some} of {len(planes)} planes"
    how = f"a block of {of} held back"
    return Split(train, back, how)


def _crop(plane: Plane, window: tuple[slice, slice]) -> Plane:
    where = (..., *window)
    target = plane.target
    classes = None if target.classes is None else target.classes[where]
    return Plane(
        plane.image[where],
        plane.labels[where],
        plane.known[where],
        Target(classes, target.weights[where]),
    )


def _best_cut(plane: Plane, fraction: float) -> tuple[Window, Window] | None:
    """Return the (train, held back) windows of the straight cut that cuts fewest cells.

    The held-back block is at one of the four sides and holds about `fraction` of
    what is known; both parts keep a cell. None where there is no such cut.
    """
    candidates = []
    for axis in (0, 1):
        known = np.cumsum(plane.known.sum(axis=1 - axis))
        length = plane.known.shape[axis]
        for share, is_first in ((fraction, True), (1 - fraction, False)):
            at = int(np.searchsorted(known, share * known[-1])) + 1
            for shift in range(-8, 9, 2):
                line = at + shift
                if _MIN_BLOCK_PX <= line <= length - _MIN_BLOCK_PX:
                    candidates.append((axis, line, is_first))
    best: tuple[int, tuple[Window, Window]] | None = None
    for axis, line, is_first in candidates:
        windows = _windows(axis, line)
        held, kept = windows if is_first else windows[::-1]
        ids = [set(np.unique(plane.labels[w])) - {0} for w in (kept, held)]
        n_cut = len(ids[0] & ids[1])
        if min(len(i) for i in ids) > n_cut and (best is None or n_cut < best[0]):
            best = (n_cut, (kept, held))
    return None if best is None else best[1]


def _windows(axis: int, line: int) -> tuple[Window, Window]:
    first, second = slice(None, line), slice(line, None)
    whole = slice(None)
    if axis == 0:
        return (first, whole), (second, whole)
    return (whole, first), (whole, second)
