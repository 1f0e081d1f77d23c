"""Which images show the same field: they are learned from, or held back, together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from napari_unet.learning.data.summaries import PairSummary

# Correlation of fine structure; that of images of two fields is about 0.
_LEAST_OF_COPIES = 0.8
_MAX_TO_COMPARE = 3000


def groups_of(pairs: Sequence[PairSummary]) -> list[int]:
    """Return for each image the number of the field that it shows.

    Images belong together that are copies; whose fine structure is nearly the same, as
    of frames of a movie or of two exposures; and whose names differ in the number of a
    tile alone, as ``a_tile1.tif`` and ``a_tile2.tif`` (tile, crop, patch, block or
    part). Overlapping tiles of other names are not found.

    Parameters
    ----------
    pairs : sequence of PairSummary
        The images.
    """
    joined = _Joined(len(pairs))
    for names in ([p.pixels for p in pairs], [p.field_name for p in pairs]):
        first: dict[Hashable, int] = {}
        for i, name in enumerate(names):
            # Arrays and layers have no names of their own.
            if not isinstance(name, str) or name != "array":
                joined.join(i, first.setdefault(name, i))
    if len(pairs) <= _MAX_TO_COMPARE:
        views = np.stack([pair.view.ravel() for pair in pairs])
        for i in range(len(pairs)):
            for j in np.flatnonzero(views[:i] @ views[i] > _LEAST_OF_COPIES):
                joined.join(i, int(j))
    numbers: dict[int, int] = {}
    roots = [joined.root(i) for i in range(len(pairs))]
    return [numbers.setdefault(root, len(numbers)) for root in roots]


class _Joined:
    """Which of several things belong together."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, i: int) -> int:
        while self._parent[i] != i:
            i = self._parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        self._parent[max(self.root(i), self.root(j))] = min(self.root(i), self.root(j))
