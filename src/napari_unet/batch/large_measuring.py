"""The cells of an image that is too large to be looked at as a whole, measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_unet.events import counted
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.instances import is_cell
from napari_unet.imaging.measure import (
    Measurements,
    in_order,
    measure,
    neighbours,
    stack_names,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_unet.files.ome_zarr import LabelStore

    Region = tuple[slice, ...]

# What is read around a chunk reaches as far as the cells that begin in it.
WIDEST_PX = {2: 4096, 3: 512}


class Votes:
    """Which class most pixels of each cell are of, counted block by block.

    Parameters
    ----------
    roles : sequence of str
        Meaning of each output of the model.
    """

    def __init__(self, roles: Sequence[str]) -> None:
        self._cells = [i for i, role in enumerate(roles) if is_cell(role)]
        self._names = [roles[i].partition(":")[2] for i in self._cells]
        self._waiting: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._counts = np.zeros((1, len(self._cells)), np.int64)

    def likeliest(self, outputs: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class of each pixel, counted among those of cells."""
        return np.asarray(outputs[self._cells].argmax(0), np.uint8)

    def add(self, found: NDArray[np.int64], likeliest: NDArray[np.uint8]) -> None:
        """Count the pixels of a block, by the numbers that its cells have there."""
        inside = found > 0
        both = found[inside] * len(self._cells) + likeliest[inside]
        self._waiting.append(np.unique(both, return_counts=True))

    def settle(self, numbers: NDArray[np.integer[Any]]) -> None:
        """Count what was added for the ids that the cells have in the end."""
        n_classes = len(self._cells)
        counts = np.zeros((int(numbers.max(initial=0)) + 1, n_classes), np.int64)
        counts[: len(self._counts)] = self._counts
        for both, n in self._waiting:
            np.add.at(counts, (numbers[both // n_classes], both % n_classes), n)
        self._counts, self._waiting = counts, []

    def names(self) -> NDArray[np.object_]:
        """Return the name of the class of each cell, by id."""
        names: NDArray[np.object_] = np.array(self._names, object)
        return np.asarray(names.take(self._counts.argmax(1)))


def measure_stored(
    store: LabelStore,
    image: Image,
    n_dims: int,
    classes: NDArray[Any] | None = None,
) -> tuple[Measurements, int]:
    """Measure each cell of labels on the disk, a part of them in memory at a time.

    Every cell is measured whole, so the numbers are those of
    `napari_unet.imaging.measure.measure`, places to rounding.

    Parameters
    ----------
    store : LabelStore
        Labels ([T,] [Z,] Y, X), each id in one plane (or volume).
    image : Image
        What they were found in; of a model that makes finer pixels, a whole number of
        times coarser than the labels.
    n_dims : int
        2 where each plane has its own cells, 3 where cells are volumes.
    classes : ndarray of str, shape (n + 1,), optional
        Name of the class of each id.

    Returns
    -------
    Measurements
        Rows in the order of the ids.
    int
        How many cells are wider than 4,096 px (512 px in volumes) and left out, so
        that memory stays bounded.
    """
    parts: list[dict[str, Any]] = []
    n_left_out = 0
    for index in np.ndindex(store.array.shape[:-n_dims]):
        boxes = _boxes(store, index, n_dims)
        n_left_out += boxes.leave_out_wider_than(WIDEST_PX[n_dims])
        for ids in _near_each_other(store, boxes, n_dims):
            columns = _measured(store, image, index, boxes, ids)
            parts.append(columns)
    if not parts:
        parts = [_measured_nothing(image, n_dims)]
    columns = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    order = np.argsort(columns["label"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    if classes is not None:
        names = classes[columns["label"]]
        columns = {"label": columns.pop("label"), "class": names, **columns}
    return Measurements(columns), n_left_out


def about_left_out(n: int, n_dims: int) -> str:
    """Return in a sentence how many cells are too wide to be measured."""
    return (
        f"{counted(n, 'cell')} wider than {WIDEST_PX[n_dims]:,} px: the table of "
        "measurements is without them"
    )


@dataclass
class _Boxes:
    """The cells of one plane (or volume): their ids, and from where to where they are.

    `first` and `end` are int64 (n, [3 or] 2).
    """

    ids: NDArray[np.int64]
    first: NDArray[np.int64]
    end: NDArray[np.int64]

    def leave_out_wider_than(self, n_px: int) -> int:
        is_wide = (self.end - self.first).max(1, initial=0) > n_px
        self.ids, self.first, self.end = (
            a[~is_wide] for a in (self.ids, self.first, self.end)
        )
        return int(is_wide.sum())


def _boxes(store: LabelStore, index: tuple[int, ...], n_dims: int) -> _Boxes:
    """Look where the cells of a plane (or volume) are, chunk by chunk."""
    ids, corners = [np.zeros(0, np.int64)], [np.zeros((0, 2, n_dims), np.int64)]
    for where in store.chunks(index):
        own, at = np.unique(store.read(where), return_inverse=True)
        at = at.reshape([w.stop - w.start for w in where[-n_dims:]])
        starts = np.array([w.start for w in where[-n_dims:]])
        # Those of 0, which is none of the cells, come first, if there is any.
        boxes = ndimage.find_objects(at + 1)
        sides = np.array([[(s.start, s.stop) for s in box] for box in boxes])
        is_cell_ = own > 0
        ids.append(own[is_cell_].astype(np.int64))
        corners.append(sides.transpose(0, 2, 1)[is_cell_] + starts)
    every, place = np.unique(np.concatenate(ids), return_inverse=True)
    both = np.concatenate(corners)
    first = np.full((len(every), n_dims), np.iinfo(np.int64).max)
    end = np.zeros((len(every), n_dims), np.int64)
    np.minimum.at(first, place, both[:, 0])
    np.maximum.at(end, place, both[:, 1])
    return _Boxes(every, first, end)


def _near_each_other(
    store: LabelStore, boxes: _Boxes, n_dims: int
) -> Iterator[NDArray[np.int64]]:
    """Yield which cells begin in the same chunk, as places in the list of them."""
    chunk = np.array(store.array.chunks[-n_dims:])
    if n_dims == 3:
        # Chunks of volumes are single planes.
        chunk[0] = max(chunk[-1] // 4, 1)
    _, which = np.unique(boxes.first // chunk, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    ends = np.flatnonzero(np.diff(which.ravel()[order])) + 1
    yield from (group for group in np.split(order, ends) if len(group))


def _measured(
    store: LabelStore,
    image: Image,
    index: tuple[int, ...],
    boxes: _Boxes,
    which: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the columns of some cells of a plane (or volume)."""
    n_dims = boxes.first.shape[1]
    shape = np.array(store.array.shape[-n_dims:])
    # One pixel more, for neighbours.
    start = np.maximum(boxes.first[which].min(0) - 1, 0)
    stop = np.minimum(boxes.end[which].max(0) + 1, shape)
    window = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    places = tuple(slice(i, i + 1) for i in index)
    labels = store.read((*places, *window)).reshape(stop - start)
    every, at = np.unique(labels, return_inverse=True)
    at = at.reshape(labels.shape) + (every[0] > 0)
    every = every if every[0] == 0 else np.concatenate([[0], every])
    is_own = np.isin(every, boxes.ids[which])
    part = _part(image, index, window, [int(n) for n in shape])
    own = np.where(is_own[at], at, 0).astype(np.int32)
    found = measure(own, part, n_dims=n_dims).columns
    row = found["label"]
    unit = "px" if part.pixel_size_um is None else "um"
    for axis, letter in enumerate("zyx"[-n_dims:]):
        size = 1.0 if part.pixel_size_um is None else part.pixel_size_um[axis]
        found[f"{letter}_{unit}"] = found[f"{letter}_{unit}"] + start[axis] * size
    found["neighbours"] = neighbours(at)[row]
    found["label"] = every[row].astype(np.int64)
    by_id = np.searchsorted(boxes.ids, found["label"])
    is_at_edge = (boxes.first[by_id] == 0) | (boxes.end[by_id] == shape)
    found["at_border"] = is_at_edge.any(1)
    stack = dict(zip(stack_names(image, n_dims), index, strict=True))
    full = found | {name: np.full(len(row), i) for name, i in stack.items()}
    return {name: full[name] for name in in_order(full)}


def _part(
    image: Image, index: tuple[int, ...], window: Region, shape: Sequence[int]
) -> Image:
    """Return a window of one plane (or volume), with pixels like those of labels."""
    n_dims = len(window)
    finer = shape[-1] // image.shape[-1]
    coarse = tuple(slice(w.start // finer, -(-w.stop // finer)) for w in window)
    data = np.asarray(image.data[(slice(None), *index, *coarse)])
    for axis in range(1, data.ndim):
        data = data.repeat(finer, axis)
    inner = (slice(w.start % finer, w.start % finer + w.stop - w.start) for w in window)
    sizes = image.pixel_size_um
    if sizes is not None:
        sizes = tuple(size / finer for size in sizes[-n_dims:])
    return Image(
        data[(slice(None), *inner)],
        axes="C" + image.axes[-n_dims:],
        pixel_size_um=sizes,
        channel_names=image.channel_names,
        source=image.source,
    )


def _measured_nothing(image: Image, n_dims: int) -> dict[str, Any]:
    """Return the columns that cells would have, of none."""
    shape = (1,) * (image.data.ndim - 1)
    empty = replace(image, data=np.zeros((image.n_channels, *shape)))
    return measure(np.zeros(shape, np.int32), empty, n_dims=n_dims).columns
