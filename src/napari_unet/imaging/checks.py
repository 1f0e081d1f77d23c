"""What should be looked at in an annotation before training, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from skimage.measure import label

from napari_unet.imaging.pieces import SPECK_PX, find_holes
from napari_unet.imaging.scores import touching_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Annotation

# A cell smaller than this share of the typical one is rather a slip of the brush:
# true cells of one image seldom differ more than tenfold in area.
_SPECK_SHARE = 1 / 20


@dataclass(frozen=True)
class Problem:
    """Something in an annotation that should be looked at.

    Parameters
    ----------
    kind : str
        "no background", "pieces", "speck", "hole" or "cut"; "negative" is an id that
        an `Annotation` does not hold any more: who sees the layer says it.
    message : str
        One sentence for the person who painted it.
    position : tuple of int, or None
        A pixel of the problem itself, as an index ([T,] [Z,] Y, X) into the labels.
    cell : int, or None
        The cell that it is about.
    is_note : bool
        Whether there is nothing to repair.
    """

    kind: Literal["no background", "pieces", "speck", "hole", "cut", "negative"]
    message: str
    position: tuple[int, ...] | None = None
    cell: int | None = None
    is_note: bool = False


@dataclass(frozen=True)
class ClassCount:
    """What is painted of one class.

    Parameters
    ----------
    name : str
        Name of the class.
    n_cells : int
        Number of ids; 0 for background and areas, which have no cells.
    painted_px : int
        Painted pixels.
    """

    name: str
    n_cells: int
    painted_px: int


@dataclass(frozen=True)
class AnnotationCounts:
    """What an annotation holds.

    Parameters
    ----------
    classes : tuple of ClassCount
        One a class, background first.
    n_touching_pairs : int
        Pairs of single cells that touch, if only at a corner; each pair once.
    n_planes : int
        Planes (Y, X) on which something is painted or known.
    """

    classes: tuple[ClassCount, ...]
    n_touching_pairs: int
    n_planes: int

    @property
    def n_cells(self) -> int:
        """Number of single cells of all classes."""
        return sum(kind.n_cells for kind in self.classes)


def check_annotation(
    annotation: Annotation, *, n_dims: int = 2, most: int = 200
) -> list[Problem]:
    """List what should be looked at before training.

    No known background; cells in several pieces (pixels that share a corner hold
    together); specks: less than 5 px, or less than a twentieth of the median cell;
    holes: unpainted pixels that one cell encloses; and, as a note, cells that the
    image border cuts. Areas and painted background are no cells.

    Parameters
    ----------
    annotation : Annotation
        What is painted, ([T,] [Z,] Y, X).
    n_dims : int
        2 looks at each plane of a stack by itself: a cell may go through several
        planes, and its largest section says whether it is a speck. 3 looks at
        volumes. Cells that the border cuts are never specks.
    most : int
        Stop after so many problems.

    Returns
    -------
    list of Problem
        By kind, in the order above, and then by place; each cell once a kind (and
        plane), but a cut one once for all planes.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_unet.imaging.arrays import Annotation
    >>> labels = np.zeros((9, 9), int)
    >>> labels[1:5, 1:5], labels[7, 7] = 1, 1
    >>> [problem] = check_annotation(Annotation.complete(labels))
    >>> problem.message
    'Cell 1 is in 2 pieces, the smallest of 1 px: a slip of the brush?'
    >>> problem.position
    (7, 7)
    """
    cells = annotation.cells()
    pieces = _find_pieces(cells, n_dims)
    is_cut = _find_cut(cells, n_dims)
    problems = chain(
        _missing_background(annotation),
        _in_pieces(pieces, cells.shape),
        _specks(pieces, is_cut, cells.shape),
        _with_holes(annotation, cells, n_dims),
        _cut_by_border(is_cut),
    )
    return list(islice(problems, most))


def count_annotation(annotation: Annotation, *, n_dims: int = 2) -> AnnotationCounts:
    """Count cells, painted pixels, touching pairs and annotated planes.

    Parameters
    ----------
    annotation : Annotation
        What is painted, ([T,] [Z,] Y, X).
    n_dims : int
        2 takes each plane of a stack by itself: cells touch within a plane only. 3
        takes volumes.

    Returns
    -------
    AnnotationCounts
        An id that is on several planes is one cell.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_unet.imaging.arrays import Annotation
    >>> counts = count_annotation(Annotation(np.array([[1, 1, 2, 0, 3]])))
    >>> counts.classes[1]
    ClassCount(name='cell', n_cells=3, painted_px=4)
    >>> counts.n_touching_pairs
    1
    """
    n_classes = len(annotation.class_names)
    ids, sizes = _id_sizes(annotation.labels)
    kinds = np.array([annotation.label_class.get(i, 1) for i in ids.tolist()], int)
    n_ids = np.bincount(kinds, minlength=n_classes)
    n_ids[[0, *annotation.area_classes]] = 0
    painted = np.zeros(n_classes, np.int64)
    np.add.at(painted, kinds, sizes)
    return AnnotationCounts(
        classes=tuple(
            ClassCount(name, int(n), int(px))
            for name, n, px in zip(annotation.class_names, n_ids, painted, strict=True)
        ),
        n_touching_pairs=_n_touching(annotation.cells(), n_dims),
        n_planes=int(annotation.is_known.any(axis=(-2, -1)).sum()),
    )


def _id_sizes(labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids and how many pixels each has."""
    if labels.max() <= labels.size:  # else counting would take more room than sorting
        sizes = np.bincount(labels.ravel())
        ids = np.flatnonzero(sizes[1:]) + 1
        return ids, sizes[ids]
    return np.unique(labels[labels > 0].astype(np.int64), return_counts=True)


def _n_touching(cells: NDArray[np.int32], n_dims: int) -> int:
    fields = (cells[index] for index in np.ndindex(cells.shape[:-n_dims]))
    pairs = [touching_pairs(field) for field in fields if field.any()]
    return len(np.unique(np.concatenate(pairs), axis=0)) if pairs else 0


# --- finding -----------------------------------------------------------------------


class _Pieces(NamedTuple):
    """The pieces of all cells in all fields, one entry each."""

    field: NDArray[np.int64]
    cell: NDArray[np.int64]
    size: NDArray[np.int64]
    at: NDArray[np.int64]  # its first pixel, counted through the whole array

    def sections(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first piece of each cell in each field, and whose each is."""
        keys = self.field << 32 | self.cell
        _, first, section = np.unique(keys, return_index=True, return_inverse=True)
        return first, section


def _find_pieces(cells: NDArray[np.int32], n_dims: int) -> _Pieces:
    field_size = int(np.prod(cells.shape[-n_dims:]))
    found = [_Pieces(*np.zeros((4, 0), np.int64))]
    for k, index in enumerate(np.ndindex(cells.shape[:-n_dims])):
        if not cells[index].any():
            continue
        numbers = label(cells[index], connectivity=n_dims, background=0).ravel()
        sizes, first = np.bincount(numbers)[1:], _first_pixels(numbers)[1:]
        cell = cells[index].ravel()[first].astype(np.int64)
        field = np.full(sizes.size, k)
        found.append(_Pieces(field, cell, sizes, first + k * field_size))
    return _Pieces(*map(np.concatenate, zip(*found, strict=True)))


def _first_pixels(numbers: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return where each number above 0 comes first; all from 1 to the last occur."""
    numbered = np.flatnonzero(numbers)[::-1]
    first = np.zeros(int(numbers.max()) + 1, np.int64)
    # Written from behind: what comes first is what stays.
    first[numbers[numbered]] = numbered
    return first


def _find_cut(cells: NDArray[np.int32], n_dims: int) -> dict[int, tuple[int, ...]]:
    """Return the cells at the image border, each with a pixel there."""
    cut: dict[int, tuple[int, ...]] = {}
    for axis in range(cells.ndim - n_dims, cells.ndim):
        n = cells.shape[axis]
        for side in (0, n - 1) if n > 1 else ():
            face = np.take(cells, side, axis)
            ids, first = np.unique(face, return_index=True)
            for i, at in zip(ids.tolist(), first.tolist(), strict=True):
                place = np.unravel_index(at, face.shape)
                where = (*map(int, place[:axis]), side, *map(int, place[axis:]))
                cut.setdefault(i, where)
    cut.pop(0, None)
    return cut


# --- telling -----------------------------------------------------------------------


def _missing_background(annotation: Annotation) -> Iterator[Problem]:
    labels, kinds = annotation.labels, annotation.label_class
    background = [i for i, kind in kinds.items() if kind == 0]
    is_painted = labels > 0
    if background:
        is_painted &= ~np.isin(labels, background)
    if is_painted.any() and not (annotation.is_known & ~is_painted).any():
        yield Problem(
            "no background",
            "No background is known, so there is nothing to learn 'not a cell' from: "
            "paint some background, draw a finished region, or choose 'unpainted is "
            "background'",
        )


def _in_pieces(pieces: _Pieces, shape: tuple[int, ...]) -> Iterator[Problem]:
    first, section = pieces.sections()
    n_pieces = np.bincount(section, minlength=first.size)
    # The smallest piece of each section comes first.
    by_size = np.lexsort((pieces.size, section))
    smallest = by_size[np.searchsorted(section[by_size], np.arange(first.size))]
    for k in np.flatnonzero(n_pieces > 1):
        piece = smallest[k]
        cell, px = int(pieces.cell[piece]), int(pieces.size[piece])
        advice = ": give each its own number, or join them"
        if px < SPECK_PX:
            advice = f", the smallest of {px} px: a slip of the brush?"
        yield Problem(
            "pieces",
            f"Cell {cell} is in {n_pieces[k]} pieces{advice}",
            _place(pieces.at[piece], shape),
            cell,
        )


def _specks(
    pieces: _Pieces, is_cut: dict[int, tuple[int, ...]], shape: tuple[int, ...]
) -> Iterator[Problem]:
    first, section = pieces.sections()
    areas = np.bincount(section, pieces.size, first.size).astype(np.int64)
    ids, of_cell = np.unique(pieces.cell[first], return_inverse=True)
    largest = np.zeros(ids.size, np.int64)
    np.maximum.at(largest, of_cell, areas)
    limit = max(SPECK_PX, _SPECK_SHARE * float(np.median(largest))) if ids.size else 0
    for k in np.flatnonzero(largest < limit):
        cell = int(ids[k])
        if cell not in is_cut:
            yield Problem(
                "speck",
                f"Cell {cell} is only {largest[k]} px: a slip of the brush?",
                _place(pieces.at[first[of_cell == k][0]], shape),
                cell,
            )


def _with_holes(
    annotation: Annotation, cells: NDArray[np.int32], n_dims: int
) -> Iterator[Problem]:
    no_cells = {0, *annotation.area_classes}

    def is_cell(i: int) -> bool:
        return annotation.label_class.get(i, 1) not in no_cells

    for index in np.ndindex(cells.shape[:-n_dims]):
        if not cells[index].any():
            continue
        regions, around = find_holes(annotation.labels[index])
        if not around.any():  # as mostly, and counting pixels takes its time
            continue
        sizes, first = np.bincount(regions.ravel()), _first_pixels(regions.ravel())
        for cell in filter(is_cell, np.unique(around[around > 0]).tolist()):
            holes = np.flatnonzero(around == cell)
            px, n = int(sizes[holes].sum()), holes.size
            what = f"a hole of {px} px" if n == 1 else f"{n} holes, {px} px in all"
            at = first[holes[np.argmax(sizes[holes])]]
            place = (*index, *_place(at, regions.shape))
            yield Problem("hole", f"Cell {cell} has {what}", place, cell)


def _cut_by_border(is_cut: dict[int, tuple[int, ...]]) -> Iterator[Problem]:
    for cell, place in sorted(is_cut.items(), key=lambda item: (item[1], item[0])):
        yield Problem(
            "cut",
            f"Cell {cell} is cut by the image border: it counts, but its size is not "
            "whole",
            place,
            cell,
            is_note=True,
        )


def _place(at: int | np.int64, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(at, shape))
