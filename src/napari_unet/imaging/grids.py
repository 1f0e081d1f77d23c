"""The grid that a network sees beside that of the image, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.imaging.resampling import along_axes, interpolation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    Region = tuple[slice, ...]


@dataclass(frozen=True)
class Grids:
    """A network works on a finer or coarser grid than its image and its outputs have.

    Resampling is linear, so what several tiles add to one pixel of the outputs is what
    the whole would give: no tile needs to know its neighbours, and no array of the
    network's grid is larger than a tile.

    Parameters
    ----------
    own : tuple of int
        Shape of the image, ([Z,] Y, X).
    seen : tuple of int
        Shape of what the network sees of it.
    finer : int
        Pixels of the outputs for each of the image, and for each that the network sees.
    """

    own: tuple[int, ...]
    seen: tuple[int, ...]
    finer: int = 1

    @property
    def is_one(self) -> bool:
        """Whether the network sees the image's own pixels."""
        return self.own == self.seen

    def read(
        self,
        get: Callable[[Region], NDArray[np.float32]],
        region: Region,
        pads: Sequence[tuple[int, int]],
    ) -> NDArray[np.float32]:
        """Return a window of what the network sees of an image.

        Parameters
        ----------
        get : callable
            Returns a window of the image, float32 (C, *window); asked once.
        region : tuple of slice
            In the network's grid, mirrored beyond its ends; it counts from the first
            mirrored pixel on.
        pads : sequence of (int, int)
            Mirrored pixels before and after, one pair an axis.
        """
        matrices: list[csr_array | None] = []
        windows, picked = [], []
        for i, (n_own, n_seen) in enumerate(zip(self.own, self.seen, strict=True)):
            at = np.arange(region[i].start, region[i].stop) - pads[i][0]
            at = _mirrored(at, n_seen)
            window = rows = slice(int(at.min()), int(at.max()) + 1)
            matrix = None
            if n_own != n_seen:
                matrix = interpolation(n_own, n_seen, rows)
                window = slice(int(matrix.indices.min()), int(matrix.indices.max()) + 1)
                matrix = matrix[:, window]
            matrices.append(matrix)
            windows.append(window)
            picked.append(at - rows.start)
        seen = along_axes(get(tuple(windows)), matrices)
        for axis, at in enumerate(picked, 1):
            # Mirrored or not: where nothing is, nothing has to be copied.
            if len(at) != seen.shape[axis] or (np.diff(at) != 1).any():
                seen = seen.take(at, axis)
        return np.ascontiguousarray(seen)

    def needed(self, region: Region) -> Region:
        """Return what a window of the outputs rests on, on the network's grid.

        Parameters
        ----------
        region : tuple of slice
            In the outputs, on the image's grid.

        Returns
        -------
        tuple of slice
            In the outputs on the network's grid.
        """
        return tuple(
            slice(int(first[part.start]), int(last[part.stop - 1]) + 1)
            for first, last, part in zip(self._first, self._last, region, strict=True)
        )

    def window(self, found: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
        """Return a window of the outputs on the image's grid.

        Parameters
        ----------
        found : ndarray of float32, shape (K, *needed(region))
            What the network gives there, whole.
        region : tuple of slice
            In the outputs, on the image's grid.

        Returns
        -------
        ndarray of float32, shape (K, *region)
        """
        matrices: list[csr_array | None] = []
        for n_own, n_seen, part, rests in zip(
            self.own, self.seen, region, self.needed(region), strict=True
        ):
            matrix = None
            if n_own != n_seen:
                whole = interpolation(n_seen * self.finer, n_own * self.finer, part)
                matrix = whole[:, rests]
            matrices.append(matrix)
        return along_axes(found, matrices)

    def add(
        self, outputs: NDArray[np.float32], found: NDArray[np.float32], region: Region
    ) -> None:
        """Add a tile's share to the outputs; all tiles' shares make the whole.

        Parameters
        ----------
        outputs : ndarray of float32, shape (K, *(finer * own))
            Changed in place; zero before the first tile.
        found : ndarray of float32, shape (K, *region)
            What the tile contributes, and no other tile.
        region : tuple of slice
            Where that is, in the outputs on the network's grid.
        """
        matrices, where = [], []
        for i, part in enumerate(region):
            n_own, n_seen = self.own[i] * self.finer, self.seen[i] * self.finer
            reached = slice(
                int(np.searchsorted(self._last[i], part.start)),
                int(np.searchsorted(self._first[i], part.stop)),
            )
            matrices.append(interpolation(n_seen, n_own, reached)[:, part])
            where.append(reached)
        outputs[(slice(None), *where)] += along_axes(found, matrices)

    def final(self, region: Region) -> Region:
        """Return which outputs no later tile adds to, and no earlier one had done.

        Parameters
        ----------
        region : tuple of slice
            The same, in the outputs on the network's grid; tiles in the order of the
            image's pixels.
        """
        return tuple(
            slice(
                int(np.searchsorted(self._last[i], part.start)),
                int(np.searchsorted(self._last[i], part.stop)),
            )
            for i, part in enumerate(region)
        )

    @cached_property
    def _first(self) -> list[NDArray[np.int64]]:
        """The first pixel of the network's grid that each output rests on."""
        return [first for first, _ in self._reached]

    @cached_property
    def _last(self) -> list[NDArray[np.int64]]:
        """The last one."""
        return [last for _, last in self._reached]

    @cached_property
    def _reached(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        pairs = []
        for n_own, n_seen in zip(self.own, self.seen, strict=True):
            if n_own == n_seen:
                itself = np.arange(n_own * self.finer)
                pairs.append((itself, itself))
                continue
            matrix: Any = interpolation(n_seen * self.finer, n_own * self.finer)
            taps, ends = matrix.indices.astype(np.int64), matrix.indptr
            pairs.append((taps[ends[:-1]], taps[ends[1:] - 1]))
        return pairs


def _mirrored(at: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return indices mirrored into [0, length), as `mirror_pad` does."""
    if length == 1:
        return np.zeros_like(at)
    period = 2 * (length - 1)
    at = at % period
    return np.minimum(at, period - at)
