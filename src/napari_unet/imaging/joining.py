"""Cells found block by block, joined to those of the whole image.

Each block is looked at with a halo, so that a cell at its edge is seen whole, by this
block and by its neighbour. Where both see the same cell it gets one number; each pixel
is what the block says that it lies in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Region = tuple[slice, ...]


@dataclass(frozen=True)
class Block:
    """A part of an image; each field has one slice an axis, in pixels.

    Parameters
    ----------
    place : tuple of int
        Which block along each axis this is.
    core : tuple of slice
        What is kept of it. The cores partition the image.
    window : tuple of slice
        What is looked at: the core and its halo, within the image.
    """

    place: tuple[int, ...]
    core: Region
    window: Region

    @property
    def core_in_window(self) -> Region:
        """The core as it counts from the start of the window."""
        return _within(self.core, self.window)

    def open_sides(self, shape: Sequence[int]) -> tuple[tuple[bool, bool], ...]:
        """Return whether the image goes on before and after the window, by axis."""
        return tuple(
            (part.start > 0, part.stop < n)
            for part, n in zip(self.window, shape, strict=True)
        )


def plan_blocks(shape: Sequence[int], *, size: int, halo: int) -> list[Block]:
    """Divide an image into blocks whose cores partition it.

    Parameters
    ----------
    shape : sequence of int
        Of the image, ([Z,] Y, X).
    size : int
        Side of a core, in pixels.
    halo : int
        What is looked at around it, in pixels, 1 or more: twice the largest cell.

    Returns
    -------
    list of Block
        In the order of the image's pixels.

    Examples
    --------
    >>> first, second = plan_blocks((10,), size=6, halo=2)
    >>> first.window, second.core, second.window
    ((slice(0, 8, None),), (slice(6, 10, None),), (slice(4, 10, None),))
    """
    counts = [-(-n // size) for n in shape]
    blocks = []
    for place in np.ndindex(*counts):
        core = tuple(
            slice(i * size, min((i + 1) * size, n))
            for i, n in zip(place, shape, strict=True)
        )
        window = tuple(
            slice(max(c.start - halo, 0), min(c.stop + halo, n))
            for c, n in zip(core, shape, strict=True)
        )
        blocks.append(Block(place, core, window))
    return blocks


class Joiner:
    """Numbers the cells of blocks so that each has one number in the whole image.

    Where two blocks meet both have looked at a seam, half a halo wide on either side.
    Two cells are one where what they have in common there is more than half of what
    either of them has there (IoU above 0.5: of each cell one at most). What is the same
    over several blocks is found by union-find.

    Parameters
    ----------
    shape : sequence of int
        Of the image, ([Z,] Y, X).
    halo : int
        That of the blocks, in pixels.

    References
    ----------
    Union-find: Galler, Fischer: An improved equivalence algorithm. CACM 7, 301 (1964).
    """

    def __init__(self, shape: Sequence[int], halo: int) -> None:
        self._shape, self._reach = tuple(shape), max(halo // 2, 1)
        # What blocks said of the seams to those that are still to come.
        self._seams: dict[tuple[tuple[int, ...], int], NDArray[np.int64]] = {}
        self._pairs: list[NDArray[np.int64]] = []
        self._sizes: list[NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._at_border: list[NDArray[np.int64]] = []
        # The first pixel and the one after the last, along each axis.
        nothing = np.zeros((1, len(self._shape)), np.int64)
        self._firsts, self._ends = [nothing], [nothing]
        self.n_found = 0

    def add(self, block: Block, labels: NDArray[np.int32]) -> NDArray[np.int64]:
        """Take the cells of the next block, in the order of `plan_blocks`.

        Parameters
        ----------
        block : Block
            Which block they are of.
        labels : ndarray of int32, shape of its window
            Ids 1..n without gaps; 0 is background.

        Returns
        -------
        ndarray of int64, shape of its core
            The same with numbers that no other block has, for `numbers`.
        """
        found = np.where(labels > 0, labels.astype(np.int64) + self.n_found, 0)
        n_own = int(labels.max(initial=0))
        for axis in range(len(self._shape)):
            before = self._seams.pop((block.place, axis), None)
            if before is not None:
                seam = self._seam(block, axis, block.core[axis].start)
                self._pairs.append(_same(before, found[seam]))
            if block.core[axis].stop < self._shape[axis]:
                place = list(block.place)
                place[axis] += 1
                seam = self._seam(block, axis, block.core[axis].stop)
                self._seams[tuple(place), axis] = found[seam].copy()
        core = found[block.core_in_window]
        sizes = np.bincount(core.ravel(), minlength=self.n_found + n_own + 1)
        self._sizes.append(sizes[self.n_found + 1 :])
        self._at_border.append(self._touching(block, core))
        self._add_extents(block, labels[block.core_in_window], n_own)
        self.n_found += n_own
        return core

    def _seam(self, block: Block, axis: int, at: int) -> Region:
        """Return the seam at a place along an axis, within a block's window."""
        region = []
        for i, (core, n) in enumerate(zip(block.core, self._shape, strict=True)):
            first, last = (at, at) if i == axis else (core.start, core.stop)
            region.append(
                slice(max(first - self._reach, 0), min(last + self._reach, n))
            )
        return _within(region, block.window)

    def _add_extents(self, block: Block, core: NDArray[np.int32], n: int) -> None:
        """Note from where to where each cell of a core reaches."""
        # A cell of the halo alone reaches from everywhere to nowhere.
        firsts = np.full((n, core.ndim), max(self._shape), np.int64)
        ends = -firsts
        for i, box in enumerate(ndimage.find_objects(core, n)):
            if box is not None:
                firsts[i] = [part.start for part in box]
                ends[i] = [part.stop for part in box]
        start = [part.start for part in block.core]
        self._firsts.append(firsts + start)
        self._ends.append(ends + start)

    def _touching(self, block: Block, core: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which cells touch the border of the image."""
        found = [np.zeros(0, np.int64)]
        for axis, (part, n) in enumerate(zip(block.core, self._shape, strict=True)):
            for is_at_end, i in ((part.start == 0, 0), (part.stop == n, -1)):
                if is_at_end:
                    found.append(np.unique(core.take(i, axis)))
        return np.concatenate(found)

    def numbers(
        self, *, min_size_px: int = 0, clears_border: bool = False, first: int = 1
    ) -> NDArray[np.uint32]:
        """Return the number of each cell in the whole image, once all blocks are in.

        Parameters
        ----------
        min_size_px : int
            Smaller cells are dropped, in pixels.
        clears_border : bool
            Whether those that touch the border of the image are dropped as well.
        first : int
            The first number.

        Returns
        -------
        ndarray of uint32, shape (n_found + 1,)
            By the numbers that `add` returned: 0 for background and what is dropped,
            else without gaps, in the order in which the cells were found.
        """
        cell_of = self._cell_of()
        sizes = np.bincount(cell_of, np.concatenate(self._sizes))
        is_kept = (sizes > 0) & (sizes >= min_size_px)
        if clears_border:
            is_kept[cell_of[np.concatenate(self._at_border)]] = False
        is_kept[cell_of[0]] = False
        # Components are numbered by their first member already.
        numbers = np.where(is_kept, np.cumsum(is_kept) + first - 1, 0)
        return np.asarray(numbers[cell_of], np.uint32)

    def n_wider_than(self, width_px: int) -> int:
        """Return how many cells are wider than this along an axis, in pixels.

        A cell wider than half the halo may reach beyond what one of its blocks looked
        at; its outline may then differ at the seam.
        """
        cell_of = self._cell_of()
        n_cells = int(cell_of.max()) + 1
        firsts = np.full((n_cells, len(self._shape)), max(self._shape), np.int64)
        ends = np.zeros_like(firsts)
        np.minimum.at(firsts, cell_of, np.concatenate(self._firsts))
        np.maximum.at(ends, cell_of, np.concatenate(self._ends))
        return int(((ends - firsts).max(1) > width_px).sum())

    def _cell_of(self) -> NDArray[np.int32]:
        """Return for each number which cell it is of; 0 is the background's."""
        n = self.n_found + 1
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *self._pairs])
        links = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(n, n))
        _, cell_of = connected_components(links, directed=False)
        return np.asarray(cell_of)


def _same(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs of numbers whose cells are the same by both, shape (n, 2)."""
    both = (a > 0) & (b > 0)
    pairs, common = np.unique(
        np.stack([a[both], b[both]], 1), axis=0, return_counts=True
    )
    sizes = [
        dict(zip(*np.unique(x[x > 0], return_counts=True), strict=True)) for x in (a, b)
    ]
    either = [
        sizes[0][i] + sizes[1][j] - n
        for (i, j), n in zip(pairs.tolist(), common.tolist(), strict=True)
    ]
    return np.asarray(pairs[2 * common > np.array(either, np.int64)])


def _within(region: Sequence[slice], window: Sequence[slice]) -> Region:
    """Return a region as it counts from the start of a window."""
    return tuple(
        slice(r.start - w.start, r.stop - w.start)
        for r, w in zip(region, window, strict=True)
    )
