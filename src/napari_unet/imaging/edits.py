"""Corrections of painted cells: split, merge, fill, grow, shrink, delete.

Each function returns an `Edit`, the pixels that change and what they become, so that
the caller can make it part of an undo history. Ids are looked for once in the whole
array; all else happens in the box around the cell. Pixels belong together where they
share a side or a corner.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import ndimage

from napari_unet.errors import LabelError
from napari_unet.imaging.pieces import (
    all_but_largest,
    corners,
    cut_off,
    find_box,
    find_holes,
    ids_along,
    line_pixels,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_unet.imaging.pieces import Box

# For so many cells one pass over everything is quicker than a box for each.
_MANY_CELLS = 30
_NO_PARENTS: Mapping[int, int] = MappingProxyType({})


class Edit(NamedTuple):
    """The pixels that change, and what they become.

    Parameters
    ----------
    indices : tuple of ndarray of intp
        One array for each axis of the labels; they index the pixels that change.
    values : ndarray of int32
        What each of them becomes.
    parents : mapping of int to int
        New id -> id of the cell that it was part of, whose class it inherits.
    """

    indices: tuple[NDArray[np.intp], ...]
    values: NDArray[np.int32]
    parents: Mapping[int, int] = _NO_PARENTS

    def applied_to(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of the labels with this edit made."""
        edited = labels.copy()
        edited[self.indices] = self.values
        return edited


def split_cells(
    labels: NDArray[Any],
    line: ArrayLike,
    new_id: int,
    *,
    ids: Iterable[int] | None = None,
) -> Edit:
    """Cut each cell that a drawn line crosses from side to side.

    No pixel is lost: those under the line go to the piece that is nearest inside the
    cell, to either where two are as near. The largest piece keeps the id. What the
    line merely touches stays whole, and crumbs (less than 5 px and less than a
    twentieth of the cell) are no pieces.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        Instance ids; 0 is unpainted.
    line : array of float, shape (n, 2)
        Vertices (y, x) in pixels; whole numbers are the middles of pixels.
    new_id : int
        The first new cell; more take the numbers that follow, which must be free.
    ids : iterable of int, optional
        Cut these only; None cuts all that are crossed.

    Returns
    -------
    Edit
        New ids are given cell by cell along the line, larger pieces first.

    Raises
    ------
    LabelError
        The line cuts no cell in two (NU-L10).

    Examples
    --------
    >>> labels = np.array([[0, 4, 4, 4, 4, 4, 4]])
    >>> edit = split_cells(labels, [[-1, 4], [1, 4]], new_id=5)
    >>> edit.applied_to(labels)
    array([[0, 4, 4, 4, 5, 5, 5]])
    >>> edit.parents
    {5: 4}
    """
    path = line_pixels(line)
    touched = ids_along(labels, path)
    if ids is not None:
        wanted = set(ids)
        touched = tuple(i for i in touched if i in wanted)
    parts: list[Edit] = []
    parents: dict[int, int] = {}
    for i in touched:
        box = find_box(labels, i)
        starts = [part.start for part in box]
        pieces = cut_off(labels[box] == i, path - starts)
        parts.append(_renamed(box, pieces, new_id + len(parents)))
        parents.update(dict.fromkeys(_new_ids(pieces, new_id + len(parents)), i))
    if not parents:
        what = f"does not cut {_named(touched)} in two" if touched else "meets no cell"
        raise LabelError(
            "NU-L10",
            f"the line {what}: draw it from one side of the cell to the other",
        )
    return _joined(parts, parents)


def cells_under(labels: NDArray[Any], line: ArrayLike) -> tuple[int, ...]:
    """Return the ids of the cells under a line, in the order in which it meets them.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        Instance ids; 0 is unpainted.
    line : array of float, shape (n, 2)
        Vertices (y, x) in pixels; one vertex is a point. What lies beyond the image
        is left out.

    Raises
    ------
    LabelError
        No line of points (y, x) (NU-L10).

    Examples
    --------
    >>> cells_under(np.array([[7, 7, 0, 3]]), [[0, 3.2], [0, 0]])
    (3, 7)
    """
    return ids_along(labels, line_pixels(line))


def merge_cells(labels: NDArray[Any], ids: Sequence[int]) -> Edit:
    """Make several cells one, which has the first of the ids.

    Parameters
    ----------
    labels : ndarray of int, any shape
        Instance ids; 0 is unpainted.
    ids : sequence of int
        Two cells or more. They need not touch.

    Raises
    ------
    LabelError
        Fewer than two cells, or one that is not there (NU-L10).

    Examples
    --------
    >>> labels = np.array([[1, 1, 2, 3]])
    >>> merge_cells(labels, [3, 1]).applied_to(labels)
    array([[3, 3, 2, 3]])
    """
    different = list(dict.fromkeys(ids))
    if len(different) < 2:
        raise LabelError("NU-L10", "one cell alone can't be merged: choose two or more")
    boxes = [find_box(labels, i) for i in different]
    pairs = list(zip(different, boxes, strict=True))[1:]
    return _joined([_edit(box, labels[box] == i, different[0]) for i, box in pairs])


def fill_holes(labels: NDArray[Any], ids: Iterable[int] | None = None) -> Edit:
    """Fill the holes of cells: unpainted pixels that one cell encloses.

    Holes that another cell lies in, or reaches, are left, as is all that is painted.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X) or (Z, Y, X)
        Instance ids; 0 is unpainted. In a volume a hole is closed on all sides.
    ids : iterable of int, optional
        The cells to fill; None fills all.

    Returns
    -------
    Edit
        Empty where there is no hole.

    Raises
    ------
    LabelError
        A cell that is not there (NU-L10).

    Examples
    --------
    >>> labels = np.array([[2, 2, 2], [2, 0, 2], [2, 2, 2]])
    >>> fill_holes(labels).applied_to(labels)[1]
    array([2, 2, 2])
    """
    everything = tuple(slice(0, n) for n in labels.shape)
    if ids is None:
        return _filled(labels, everything)
    wanted = np.unique(np.fromiter(ids, np.int64))
    if wanted.size > _MANY_CELLS:
        missing = wanted[~np.isin(wanted, labels)]
        if missing.size:
            find_box(labels, int(missing[0]))  # says that it is not there
        return _filled(labels, everything, only=wanted)
    nothing = _edit(everything, np.zeros(labels.shape, bool), 0)
    fills = (_filled(labels, find_box(labels, i), only=i) for i in wanted.tolist())
    return _joined([nothing, *fills])


def grow_cell(labels: NDArray[Any], i: int, px: int = 1) -> Edit:
    """Grow a cell by a rim of unpainted pixels.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X) or (Z, Y, X)
        Instance ids; 0 is unpainted, and nothing else is painted over.
    i : int
        The cell.
    px : int
        Width of the rim, 1 or more. It does not reach across another cell.

    Raises
    ------
    LabelError
        No such cell, or no room around it (NU-L10).

    Examples
    --------
    >>> labels = np.array([[0, 0, 0, 6, 5, 0]])
    >>> grow_cell(labels, 6, px=2).applied_to(labels)
    array([[0, 6, 6, 6, 5, 0]])
    """
    box = find_box(labels, i, margin=px)
    cell, free = labels[box] == i, labels[box] == 0
    near = free & (ndimage.distance_transform_edt(~cell) <= px)
    # Across sides only: not through where two other cells share a corner.
    grown = ndimage.binary_propagation(cell, mask=cell | near)
    if not (grown & ~cell).any():
        raise LabelError(
            "NU-L10", f"cell {i} can't grow: there is no unpainted pixel beside it"
        )
    return _edit(box, grown & ~cell, i)


def shrink_cell(labels: NDArray[Any], i: int, px: int = 1) -> Edit:
    """Take a rim off a cell; what it leaves is unpainted.

    Edges of the image are no rim: beyond them the cell may go on.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X) or (Z, Y, X)
        Instance ids; 0 is unpainted.
    i : int
        The cell.
    px : int
        Width of the rim, 1 or more.

    Raises
    ------
    LabelError
        No such cell, or nothing of it would be left (NU-L10).

    Examples
    --------
    >>> labels = np.array([[0, 3, 3, 3, 3, 3]])
    >>> shrink_cell(labels, 3).applied_to(labels)
    array([[0, 0, 3, 3, 3, 3]])
    """
    box = find_box(labels, i, margin=1)
    cell = labels[box] == i
    if cell.all():  # it fills the image, and distances to nothing are not defined
        return _edit(box, ~cell, 0)
    kept = ndimage.distance_transform_edt(cell) > px
    if not kept.any():
        raise LabelError(
            "NU-L10",
            f"cell {i} is too small to shrink by {px} px: delete it if it is none",
        )
    return _edit(box, cell & ~kept, 0)


def delete_cell(labels: NDArray[Any], i: int) -> Edit:
    """Erase a cell.

    Parameters
    ----------
    labels : ndarray of int, any shape
        Instance ids; 0 is unpainted.
    i : int
        The cell.

    Raises
    ------
    LabelError
        No such cell (NU-L10).

    Examples
    --------
    >>> labels = np.array([[1, 2, 2]])
    >>> delete_cell(labels, 2).applied_to(labels)
    array([[1, 0, 0]])
    """
    box = find_box(labels, i)
    return _edit(box, labels[box] == i, 0)


def split_pieces(labels: NDArray[Any], i: int, new_id: int) -> Edit:
    """Make each piece of a cell that is in several pieces a cell of its own.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X) or (Z, Y, X)
        Instance ids; 0 is unpainted.
    i : int
        The cell; its largest piece keeps the id.
    new_id : int
        The first new cell; more take the numbers that follow, larger pieces first.

    Raises
    ------
    LabelError
        No such cell, or it is in one piece (NU-L10).

    Examples
    --------
    >>> labels = np.array([[1, 0, 1, 1]])
    >>> split_pieces(labels, 1, new_id=2).applied_to(labels)
    array([[2, 0, 1, 1]])
    """
    box = find_box(labels, i)
    cell = labels[box] == i
    pieces, n_pieces = ndimage.label(cell, corners(cell))
    if n_pieces < 2:
        raise LabelError("NU-L10", f"cell {i} is in one piece: draw a line to split it")
    pieces = all_but_largest(pieces, np.zeros(n_pieces + 1, int))
    return Edit(
        *_renamed(box, pieces, new_id)[:2],
        parents=dict.fromkeys(_new_ids(pieces, new_id), i),
    )


def _new_ids(pieces: NDArray[np.intp], new_id: int) -> range:
    return range(new_id, new_id + int(pieces.max()))


def _named(ids: Sequence[int]) -> str:
    if len(ids) == 1:
        return f"cell {ids[0]}"
    return f"any of the cells {', '.join(map(str, ids))}"


def _filled(
    labels: NDArray[Any], box: Box, *, only: NDArray[np.int64] | int | None = None
) -> Edit:
    regions, cells = find_holes(labels[box])
    if only is not None:
        cells[~np.isin(cells, only)] = 0
    return _edit(box, cells[regions] > 0, cells[regions])


def _renamed(box: Box, pieces: NDArray[np.intp], new_id: int) -> Edit:
    return _edit(box, pieces > 0, pieces + (new_id - 1))


def _edit(box: Box, where: NDArray[np.bool_], value: int | NDArray[Any]) -> Edit:
    """Return the edit that gives pixels of a box a value, or one value each."""
    inside = np.nonzero(where)
    values = np.broadcast_to(value, where.shape)[inside].astype(np.int32)
    places = zip(inside, box, strict=True)
    return Edit(tuple(at + part.start for at, part in places), values)


def _joined(parts: Sequence[Edit], parents: Mapping[int, int] = _NO_PARENTS) -> Edit:
    return Edit(
        tuple(map(np.concatenate, zip(*(part.indices for part in parts), strict=True))),
        np.concatenate([part.values for part in parts]),
        parents,
    )
