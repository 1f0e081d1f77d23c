"""Cells measured some at a time, so that it can be followed, and stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_unet.events import BlockDone
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.measure import (
    Measurements,
    measure,
    neighbours,
    stack_names,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    Window = tuple[slice, ...]

# Some two seconds each.
_CELLS_AT_ONCE = 2000


def measure_in_parts(
    labels: NDArray[Any],
    image: Image,
    *,
    n_dims: int = 2,
    classes: NDArray[Any] | None = None,
    cells_at_once: int = _CELLS_AT_ONCE,
) -> Generator[BlockDone, None, Measurements]:
    """Measure each cell of an image as `measure` does, and say how far it is.

    Parameters
    ----------
    labels, image, n_dims, classes
        As for `measure`.
    cells_at_once : int
        At most, between two events.

    Yields
    ------
    BlockDone
        Some cells, or a plane without any, are measured.

    Returns
    -------
    Measurements
        What `measure` returns; places to rounding.

    Raises
    ------
    ValueError
        Labels of another shape.

    Examples
    --------
    >>> parts = measure_in_parts(np.array([[1, 0, 2]]), Image(np.ones((1, 1, 3))))
    >>> next(parts)
    BlockDone(n_done=1, n_blocks=1)
    """
    if tuple(labels.shape) != image.shape:
        raise ValueError(f"labels of {labels.shape} for an image of {image.shape}")
    planes = [_Plane(labels, index) for index in np.ndindex(labels.shape[:-n_dims])]
    parts = [(k, ids) for k, p in enumerate(planes) for ids in p.parts(cells_at_once)]
    if not parts:
        return measure(labels, image, n_dims=n_dims, classes=classes)
    done = []
    for k, ids in parts:
        done.append(planes[k].measured(ids, image))
        yield BlockDone(len(done), len(parts))
    columns = {name: np.concatenate([d[name] for d in done]) for name in done[0]}
    plane_of = np.repeat([k for k, _ in parts], [len(ids) for _, ids in parts])
    order = np.lexsort((columns["label"], plane_of))
    columns = {name: column[order] for name, column in columns.items()}
    if classes is not None:
        own = np.asarray(classes, object)[columns["label"]]
        columns = {"label": columns.pop("label"), "class": own, **columns}
    return Measurements(columns)


class _Plane:
    """One plane (or volume) of labels, and what is known of all of its cells."""

    def __init__(self, labels: NDArray[Any], index: tuple[int, ...]) -> None:
        self._index = index
        self._labels = labels[index]
        self._boxes = ndimage.find_objects(self._labels)
        self._neighbours = neighbours(self._labels)

    def parts(self, n_at_once: int) -> Iterator[NDArray[np.intp]]:
        """Yield the ids, some at a time: cells that lie near each other."""
        found = {i: box for i, box in enumerate(self._boxes, 1) if box is not None}
        ids = np.array(sorted(found, key=lambda i: found[i][0].start), np.intp)
        for start in range(0, len(ids), n_at_once):
            yield ids[start : start + n_at_once]

    def measured(self, ids: NDArray[np.intp], image: Image) -> dict[str, NDArray[Any]]:
        """Return the columns of some cells, looked at alone."""
        window = _around([self._boxes[i - 1] for i in ids])
        here = self._labels[window]
        alone = np.where(np.isin(here, ids), here, 0)
        stack = tuple(slice(i, i + 1) for i in self._index)
        pixels = np.asarray(image.data[(slice(None), *stack, *window)])
        cropped = Image(
            pixels, image.axes, image.pixel_size_um, image.channel_names, image.source
        )
        shape = (*(1 for _ in stack), *alone.shape)
        found = measure(alone.reshape(shape), cropped, n_dims=alone.ndim).columns
        return self._placed(found, window, image)

    def _placed(
        self, columns: dict[str, NDArray[Any]], window: Window, image: Image
    ) -> dict[str, NDArray[Any]]:
        """Put right what a window can't tell: places, and what is around."""
        placed = dict(columns)
        n_dims = len(window)
        for name, i in zip(stack_names(image, n_dims), self._index, strict=True):
            placed[name] = np.full_like(columns[name], i)
        size, unit = (1.0,) * n_dims, "px"
        if image.pixel_size_um is not None:
            size, unit = image.pixel_size_um[-n_dims:], "um"
        for axis, step, side in zip("zyx"[-n_dims:], size, window, strict=True):
            placed[f"{axis}_{unit}"] = columns[f"{axis}_{unit}"] + step * side.start
        ids = columns["label"]
        placed["neighbours"] = self._neighbours[ids]
        shape = self._labels.shape
        placed["at_border"] = np.array([_ends(self._boxes[i - 1], shape) for i in ids])
        return placed


def _around(boxes: Sequence[Window]) -> Window:
    """Return the smallest window that holds all boxes."""
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )


def _ends(box: Window, shape: Sequence[int]) -> bool:
    """Return whether a box reaches the border of the image."""
    sides = zip(box, shape, strict=True)
    return any(side.start == 0 or side.stop == n for side, n in sides)
