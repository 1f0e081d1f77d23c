"""The work of Measure: from labels and an image to a row for each cell; no Qt."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.events import Event, Note, counted
from napari_unet.files.tables import write_table
from napari_unet.imaging.arrays import Image, as_label_ids
from napari_unet.imaging.measure_parts import measure_in_parts
from napari_unet.widgets._classes import Classes
from napari_unet.widgets._run_state import WorkAt, WorkDone

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.events import BlockDone
    from napari_unet.imaging.measure import Measurements

_INTENSITIES = ("mean", "sd", "min", "max")


@dataclass(frozen=True, eq=False)
class ToMeasure:
    """What is to be measured, as it was when the user asked for it.

    Parameters
    ----------
    labels : array of int, shape ([T,] [Z,] Y, X)
        Instance ids, which nobody paints in any more; numpy, or lazy. 0 and negative
        ids are background.
    axes : str
        Of the labels, such as "TYX".
    source : str
        Layer that they come from.
    image : Image, optional
        For intensities; of the same shape without channels.
    pixel_size_um : tuple of float, optional
        Along ([Z,] Y, X), where there is no image that says it.
    label_class : mapping of int to int, optional
        Of an annotation: class of each id. Ids that are not named are of class 1.
    classes : Classes
        Of an annotation: what is no cell is not measured.
    """

    labels: Any
    axes: str
    source: str
    image: Image | None = None
    pixel_size_um: tuple[float, ...] | None = None
    label_class: Mapping[int, int] | None = None
    classes: Classes = field(default_factory=Classes)


@dataclass(frozen=True, eq=False)
class Measured(Event):
    """A row for each cell.

    Parameters
    ----------
    columns : dict of str to ndarray, shape (n,)
        As `Measurements.columns`.
    positions : ndarray of float64, shape (n, number of axes)
        Centre of each cell, in pixels along all axes of the labels.
    diameters_px : ndarray of float64, shape (n,)
        Of the disc (or ball) of its size, in pixels along Y and X.
    n_dims : int
        2 where each plane has its own cells, 3 where cells are volumes.
    digest : int, optional
        Of the labels, to see whether they are still the same; None for lazy ones.
    """

    columns: dict[str, NDArray[Any]]
    positions: NDArray[np.float64]
    diameters_px: NDArray[np.float64]
    n_dims: int
    digest: int | None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def is_one_a_label(self) -> bool:
        """Whether no id is that of cells in several planes, as in a tracked movie."""
        return len(np.unique(self.columns["label"])) == len(self)

    def on_plane(self, position: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the cells of the plane (or volume) that a place lies in.

        Parameters
        ----------
        position : ndarray of float64, shape (number of axes,)
            In pixels along all axes of the labels.
        """
        n_stack = self.positions.shape[1] - self.n_dims
        index = np.round(position[:n_stack])
        here = (self.positions[:, :n_stack] == index).all(axis=1)
        return np.flatnonzero(here)

    def cell_at(self, label: int, position: NDArray[np.float64]) -> int | None:
        """Return which cell has an id in the plane (or volume) of a place."""
        cells = self.on_plane(position)
        found = cells[self.columns["label"][cells] == label]
        return int(found[0]) if len(found) else None


@dataclass(frozen=True)
class Digested(Event):
    """The digest of labels as they are now."""

    digest: int


def digest_of(labels: NDArray[Any]) -> int:
    """Return a number that tells whether pixels have changed: a few GB a second."""
    return zlib.crc32(np.ascontiguousarray(labels).data)


def digesting(labels: NDArray[Any]) -> Generator[Event, None, None]:
    """Yield the digest of labels."""
    yield Digested(digest_of(labels))


def saving(
    path: Path, columns: Mapping[str, NDArray[Any]]
) -> Generator[Event, None, None]:
    """Write columns as CSV.

    Raises
    ------
    SaveError
        The file can't be written (NU-S01).
    """
    write_table(path, columns)
    yield WorkDone(f"Saved {path}")


def measuring(given: ToMeasure) -> Generator[Event, None, None]:
    """Measure the cells; `Measured` is the last event but the one that says so.

    Raises
    ------
    LabelError
        No cells (NU-L04), or ids that are none (NU-L01, NU-L07).
    """
    array = np.asarray(given.labels)
    digest = digest_of(array) if isinstance(given.labels, np.ndarray) else None
    ids, labels = _numbered(as_label_ids(array, source=given.source))
    labels, classes = _cells_only(ids, labels, given)
    if not labels.any():
        raise LabelError(
            "NU-L04",
            f"{given.source} hold no cells: paint or predict some, then measure",
        )
    n_dims = 3 if _are_volumes(labels, given.axes) else 2
    if n_dims == 3:
        yield Note("Cells that reach through several slices: measured as volumes.")
    size = given.pixel_size_um if given.image is None else given.image.pixel_size_um
    image = given.image or Image(labels[np.newaxis], f"C{given.axes}", size)
    parts = measure_in_parts(labels, image, n_dims=n_dims, classes=classes)
    columns = (yield from _followed(parts)).columns
    columns["label"] = ids[columns["label"]]
    if given.image is None:
        columns = {k: v for k, v in columns.items() if k not in _INTENSITIES}
    yield Measured(
        columns,
        _positions(columns, given.axes, n_dims, size),
        _diameters(columns, size),
        n_dims,
        digest,
    )
    yield WorkDone(f"{counted(len(columns['label']), 'cell')} measured")


def _followed(
    parts: Generator[BlockDone, None, Measurements],
) -> Generator[Event, None, Measurements]:
    while True:
        try:
            at = next(parts)
        except StopIteration as end:
            found: Measurements = end.value
            return found
        message = f"Part {at.n_done} of {at.n_blocks}"
        yield WorkAt(at.n_done, at.n_blocks, message)


def _numbered(
    labels: NDArray[np.int32],
) -> tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]:
    """Return ids, and labels that are indices of them: measuring has tables by id."""
    largest = int(labels.max())
    if largest <= labels.size:
        return np.arange(largest + 1), labels
    ids, numbers = np.unique(labels, return_inverse=True)
    if ids[0] != 0:
        ids, numbers = np.concatenate([[0], ids]), numbers + 1
    return ids, numbers.reshape(labels.shape)


def _cells_only(
    ids: NDArray[np.integer[Any]], labels: NDArray[Any], given: ToMeasure
) -> tuple[NDArray[Any], NDArray[np.object_] | None]:
    """Return labels without what is no cell, and the class of each where several."""
    if given.label_class is None:
        return labels, None
    classes, named = given.classes, given.label_class
    kinds = np.array([0, *(named.get(i, 1) for i in ids[1:].tolist())])
    is_cell = np.array([classes.is_cell(kind) for kind in range(len(classes))])
    cells = np.where(is_cell[kinds][labels], labels, 0)
    has_several = np.count_nonzero(is_cell) > 1
    names = np.array(classes.names, object)[kinds]
    return cells, names if has_several else None


def _are_volumes(labels: NDArray[Any], axes: str) -> bool:
    """Return whether an id goes on from one slice to the next."""
    if "Z" not in axes:
        return False
    slices = np.moveaxis(labels, axes.index("Z"), 0)
    return any(bool(((a == b) & (a > 0)).any()) for a, b in pairwise(slices))


def _positions(
    columns: Mapping[str, NDArray[Any]],
    axes: str,
    n_dims: int,
    size: tuple[float, ...] | None,
) -> NDArray[np.float64]:
    """Return where cells lie, in pixels along each of the axes."""
    n_stack = len(axes) - n_dims
    names = ["frame" if axis == "T" else "plane" for axis in axes[:n_stack]]
    steps = [1.0] * n_stack + list((1.0,) * n_dims if size is None else size[-n_dims:])
    unit = "px" if size is None else "um"
    names += [f"{axis.lower()}_{unit}" for axis in axes[n_stack:]]
    pairs = zip(names, steps, strict=True)
    return np.stack([columns[name] / step for name, step in pairs], axis=1)


def _diameters(
    columns: Mapping[str, NDArray[Any]], size: tuple[float, ...] | None
) -> NDArray[np.float64]:
    if size is None:
        return np.asarray(columns["diameter_px"], np.float64)
    return np.asarray(columns["diameter_um"] / np.sqrt(size[-2] * size[-1]))
