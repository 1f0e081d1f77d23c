"""A stored array with its axes in another order, read when it is sliced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class LazyArray:
    """An array whose axes can be put in another order without reading it.

    It has what `napari_unet.files.axes.arrange` needs of numpy, and gives numpy where
    it is sliced.

    Parameters
    ----------
    stored : array
        Anything with `dtype` and `shape` that takes a slice for each axis.
    places : sequence of int or None, optional
        For each axis of this array that of the stored one, None for a new one of
        length 1; all in order if omitted. Stored axes that are left out have length 1.

    Examples
    --------
    >>> stored = np.arange(24).reshape(2, 3, 1, 4)
    >>> lazy = LazyArray(stored).squeeze(axis=(2,)).transpose([2, 0, 1])
    >>> lazy.shape, lazy[1:3, 0, ::2].tolist()
    ((4, 2, 3), [[1, 9], [2, 10]])
    """

    def __init__(self, stored: Any, places: Sequence[int | None] | None = None) -> None:
        self._stored = stored
        self._places = tuple(range(len(stored.shape)) if places is None else places)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers, in the machine's byte order."""
        dtype: np.dtype[Any] = np.dtype(self._stored.dtype)
        return dtype.newbyteorder("=")

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        lengths = self._stored.shape
        return tuple(1 if p is None else int(lengths[p]) for p in self._places)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._places)

    def squeeze(self, axis: Sequence[int]) -> LazyArray:
        """Return this without some axes of length 1."""
        kept = [p for i, p in enumerate(self._places) if i not in axis]
        return LazyArray(self._stored, kept)

    def transpose(self, axes: Sequence[int]) -> LazyArray:
        """Return this with its axes in another order."""
        return LazyArray(self._stored, [self._places[i] for i in axes])

    def take(self, indices: Sequence[int], axis: int) -> LazyArray:
        """Return some places along an axis, in the order that is given."""
        return LazyArray(_Taken(self, tuple(indices), axis))

    def __getitem__(self, key: Any) -> Any:
        """Return a part as numpy; with None alone, this with one more axis before."""
        if key is np.newaxis:
            return LazyArray(self._stored, [None, *self._places])
        return self._read(key if isinstance(key, tuple) else (key,))

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> NDArray[Any]:
        """Return all of it as numpy."""
        del copy  # it is read anew each time
        return np.asarray(self._read(()), dtype)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        given = [*key, *[slice(None)] * (self.ndim - len(key))]
        stored: list[slice] = [slice(0, 1)] * len(self._stored.shape)
        for place, part in zip(self._places, given, strict=True):
            if place is not None:
                stored[place] = _as_slice(part, int(self._stored.shape[place]))
        part = np.asarray(self._stored[tuple(stored)])
        used = [p for p in self._places if p is not None]
        left_out = tuple(i for i in range(part.ndim) if i not in used)
        part = part.squeeze(axis=left_out)
        part = part.transpose(np.argsort(np.argsort(used)))
        new = [slice(None) if p is not None else np.newaxis for p in self._places]
        part = part[tuple(new)]
        # What was asked for by number, and windows of new axes.
        own = [
            (0 if not isinstance(g, slice) else g if p is None else slice(None))
            for g, p in zip(given, self._places, strict=True)
        ]
        return np.asarray(part[tuple(own)], self.dtype)


class _Taken:
    """An array of some places along one axis of another one."""

    def __init__(self, stored: LazyArray, indices: tuple[int, ...], axis: int) -> None:
        self._stored, self._indices, self._axis = stored, indices, axis
        self.dtype = stored.dtype
        lengths = stored.shape
        self.shape = (*lengths[:axis], len(indices), *lengths[axis + 1 :])

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        before, after = key[: self._axis], key[self._axis + 1 :]
        wanted = self._indices[key[self._axis]]
        first = min(wanted, default=0)
        # What lies together in the file is read together.
        near = slice(first, max(wanted, default=-1) + 1)
        part = np.asarray(self._stored[(*before, near, *after)])
        return part.take([i - first for i in wanted], self._axis)


def _as_slice(part: Any, length: int) -> slice:
    if isinstance(part, slice):
        return part
    i = int(part)
    if not -length <= i < length:
        raise IndexError(f"index {i} for an axis of {length}")
    return slice(i % length, i % length + 1)
