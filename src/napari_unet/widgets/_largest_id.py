"""The largest id of a Labels layer, without a look at all pixels each time."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Labels
    from numpy.typing import NDArray

_followed: WeakKeyDictionary[Labels, _Largest] = WeakKeyDictionary()


def largest_id(labels: Labels) -> int:
    """Return the largest id that is painted in a layer, or 0.

    Parameters
    ----------
    labels : napari Labels layer
        Of one resolution, with a NumPy array. It is looked at wholly the first time,
        and after undo; later a plane at a time, where its largest was painted over.
    """
    followed = _followed.get(labels)
    if followed is None or not followed.is_of(labels.data):
        if followed is not None:
            followed.leave(labels)
        _followed[labels] = followed = _Largest(labels)
    return followed.value()


class _Largest:
    """The largest id of each plane of an array, kept up to date by what is painted."""

    def __init__(self, labels: Labels) -> None:
        self._data = weakref.ref(labels.data)
        self._slice = _slice_of(labels)
        n_planes = labels.data.shape[:-2]
        self._largest = np.zeros(n_planes, np.int64)
        self._is_old = np.ones(n_planes, bool)
        labels.events.paint.connect(self._on_paint)
        labels.events.set_data.connect(self._on_set_data)

    def leave(self, labels: Labels) -> None:
        """Follow the layer no more."""
        labels.events.paint.disconnect(self._on_paint)
        labels.events.set_data.disconnect(self._on_set_data)

    def is_of(self, data: Any) -> bool:
        """Return whether it knows this array."""
        return self._data() is data

    def value(self) -> int:
        """Return the largest id; looks at planes of which it can't be sure."""
        data = self._data()
        if data is None:  # pragma: no cover - asked with the array in hand
            return 0
        for plane in map(tuple, np.argwhere(self._is_old)):
            self._largest[plane] = data[plane].max(initial=0)
        self._is_old[...] = False
        return int(self._largest.max(initial=0))

    def _on_paint(self, event: Any) -> None:
        """Follow strokes, fills and what tools write; comes with their undo step."""
        for atom in event.value:
            try:
                self._follow(*_read(atom))
            except (AttributeError, IndexError, TypeError, ValueError):
                # Another napari writes its undo steps in another way.
                self._is_old[...] = True

    def _follow(
        self, planes: tuple[Any, ...], old: NDArray[Any], new: NDArray[Any]
    ) -> None:
        largest, lost = self._largest[planes], old.max(initial=0)
        # Where several ids are written, each plane may have got another one.
        self._is_old[planes] |= ((lost > 0) & (largest <= lost)) | (new.ndim > 0)
        self._largest[planes] = np.maximum(largest, new.max(initial=0))

    def _on_set_data(self, event: Any) -> None:
        # Undo, redo and scripts tell no more than this; but so does another slice.
        before, self._slice = self._slice, _slice_of(event.source)
        if self._slice is None or self._slice == before:
            self._is_old[...] = True


def _read(atom: Any) -> tuple[tuple[Any, ...], NDArray[Any], NDArray[Any]]:
    """Return the planes, the ids before and the ids now of a part of an undo step."""
    if hasattr(atom, "slice_key"):
        return atom.slice_key[:-2], atom.old_values, np.asarray(atom.new_value)
    indices, old, new = atom
    return tuple(indices[:-2]), np.asarray(old), np.asarray(new)


def _slice_of(labels: Labels) -> Any:
    """Return what of a stack is shown; None where napari doesn't say."""
    point = getattr(getattr(labels, "_data_slice", None), "point", None)
    # Where all is shown there is NaN, which is unlike itself.
    return None if point is None else tuple(np.nan_to_num(point, nan=-1.0).tolist())
