"""How painted cells hang together: boxes, pieces, holes, and lines across them.

Pixels of a cell belong together where they share a side or a corner; so a line or a
hole is closed only where its own pixels share sides.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from napari_unet.errors import LabelError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Box = tuple[slice, ...]

# What is smaller is a slip of the brush, or a crumb beside a cut, and no cell.
SPECK_PX = 5
# ... unless it is a good part of the cell that was cut.
_CRUMB_SHARE = 1 / 20


def find_box(labels: NDArray[Any], i: int, *, margin: int = 0) -> Box:
    """Return the box around a cell, with a margin as far as the image goes.

    Parameters
    ----------
    labels : ndarray of int, any shape
        Instance ids; 0 is unpainted.
    i : int
        The cell.
    margin : int
        Pixels to add on each side.

    Raises
    ------
    LabelError
        No such cell (NU-L10).

    Examples
    --------
    >>> find_box(np.array([[0, 2, 2, 0, 0]]), 2, margin=1)
    (slice(0, 1, None), slice(0, 4, None))
    """
    box: Box = ()
    part = labels if i > 0 else labels[:0]
    for axis, n in enumerate(labels.shape):
        others = tuple(a for a in range(labels.ndim) if a != axis)
        found = np.flatnonzero((part == i).any(axis=others))
        if found.size == 0:
            raise LabelError("NU-L10", f"there is no cell {i} here: choose another")
        first, last = int(found[0]), int(found[-1]) + 1
        part = part[(slice(None),) * axis + (slice(first, last),)]
        box = (*box, slice(max(first - margin, 0), min(last + margin, n)))
    return box


def corners(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the structure of neighbours that share a side or a corner.

    Examples
    --------
    >>> corners(np.zeros((5, 7))).shape
    (3, 3)
    """
    return np.ones((3,) * array.ndim, bool)


def find_holes(
    labels: NDArray[Any],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Find the unpainted regions, and which of them are holes in one cell.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X) or (Z, Y, X)
        Instance ids; 0 is unpainted.

    Returns
    -------
    regions : ndarray of int32, shape of `labels`
        1, 2, ... where nothing is painted; pixels of one region share sides.
    cells : ndarray of int64, shape (n + 1,)
        The id of the cell in which each region is a hole, 0 for what is no hole:
        regions at the image border or beside several cells.

    Examples
    --------
    >>> labels = np.array([[2, 2, 2, 0], [2, 0, 2, 0], [2, 2, 2, 0]])
    >>> regions, cells = find_holes(labels)
    >>> cells[regions]
    array([[0, 0, 0, 0],
           [0, 2, 0, 0],
           [0, 0, 0, 0]])
    """
    regions, n_regions = ndimage.label(labels == 0)
    is_inner = np.ones(n_regions + 1, bool)
    is_inner[0] = False
    for axis in range(labels.ndim):
        is_inner[np.moveaxis(regions, axis, 0)[[0, -1]]] = False
    places = np.nonzero(is_inner[regions])
    region = regions[places]
    lowest = np.full(n_regions + 1, np.iinfo(np.int64).max)
    highest = np.zeros(n_regions + 1, np.int64)
    for axis, step in product(range(labels.ndim), (-1, 1)):
        # Inner regions have neighbours on all sides.
        neighbours = [at + step * (k == axis) for k, at in enumerate(places)]
        label = labels[tuple(neighbours)]
        np.minimum.at(lowest, region[label != 0], label[label != 0])
        np.maximum.at(highest, region, label)
    cells = np.where(lowest == highest, lowest, 0)
    return np.asarray(regions, np.int32), cells


def line_pixels(line: ArrayLike) -> NDArray[np.intp]:
    """Return the pixels under a line, each sharing a side with the next.

    Parameters
    ----------
    line : array of float, shape (n, 2)
        Vertices (y, x) in pixels; whole numbers are the middles of pixels.

    Returns
    -------
    ndarray of intp, shape (m, 2)
        Pixels (y, x) in the order of the line, some of them more than once.

    Raises
    ------
    LabelError
        No line of points (y, x) (NU-L10).

    Examples
    --------
    >>> np.unique(line_pixels([[0, 0], [1, 1]]), axis=0).tolist()
    [[0, 0], [1, 0], [1, 1]]
    """
    vertices = np.asarray(line, float)
    is_line = vertices.ndim == 2 and vertices.shape[0] > 0 and vertices.shape[1] == 2
    if not (is_line and np.isfinite(vertices).all()):
        raise LabelError(
            "NU-L10",
            f"points of shape {vertices.shape} are no line of points (y, x): draw it "
            "anew",
        )
    points = [vertices[:1]]
    for a, b in pairwise(vertices):
        # Steps shorter than a pixel, so that none is jumped over.
        points.append(np.linspace(a, b, int(np.abs(b - a).max()) + 2))
    places = np.floor(np.concatenate(points) + 0.5).astype(np.intp)
    # A step across a corner becomes two.
    between = np.stack([places[1:, 0], places[:-1, 1]], axis=1)
    steps = np.stack([places[:-1], between], axis=1).reshape(-1, 2)
    return np.concatenate([steps, places[-1:]])


def ids_along(labels: NDArray[Any], path: NDArray[np.intp]) -> tuple[int, ...]:
    """Return the ids of the cells at the pixels of a path, each once, in its order.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        Instance ids; 0 is unpainted.
    path : ndarray of int, shape (n, 2)
        Pixels (y, x); those outside are left out.

    Examples
    --------
    >>> ids_along(np.array([[7, 0, 3]]), np.array([[0, 2], [0, 1], [0, 0]]))
    (3, 7)
    """
    met = labels[tuple(_inside(path, labels.shape).T)].tolist()
    return tuple(i for i in dict.fromkeys(met) if i > 0)


def _inside(path: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.intp]:
    return path[((path >= 0) & (path < shape)).all(axis=1)]


def cut_off(cell: NDArray[np.bool_], path: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return what a line cuts off a cell.

    Parameters
    ----------
    cell : ndarray of bool, shape (Y, X)
        The cell, which may already be in several pieces.
    path : ndarray of int, shape (n, 2)
        Pixels (y, x) of the line (`line_pixels`); those outside are left out.

    Returns
    -------
    ndarray of intp, shape of `cell`
        1, 2, ... for the parts cut off, larger ones first; 0 for the largest part of
        each former piece, and outside the cell.

    Examples
    --------
    >>> cut_off(np.ones((1, 6), bool), np.array([[0, 1]])).max()
    np.int64(1)
    """
    before, _ = ndimage.label(cell, corners(cell))
    rest = cell.copy()
    rest[tuple(_inside(path, cell.shape).T)] = False
    parts, n_parts = ndimage.label(rest, corners(cell))
    origin = np.zeros(n_parts + 1, np.intp)
    origin[parts[rest]] = before[rest]
    sizes, whole = np.bincount(parts.ravel()), np.bincount(before.ravel())
    is_crumb = sizes < np.minimum(SPECK_PX, _CRUMB_SHARE * whole[origin])
    parts[is_crumb[parts]] = 0
    # On a flat ground the watershed grows all parts at the same speed.
    parts = watershed(np.zeros(cell.shape), parts, mask=cell, connectivity=cell.ndim)
    return all_but_largest(parts, origin)


def all_but_largest(parts: NDArray[Any], origin: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return numbers 1, 2, ... for all parts but the largest of each origin.

    Parameters
    ----------
    parts : ndarray of int, any shape
        Number of each pixel's part; 0 is none.
    origin : ndarray of int, shape (n + 1,)
        What each part is a part of.

    Returns
    -------
    ndarray of intp, shape of `parts`
        Larger parts come first; of two alike the first one is the larger.

    Examples
    --------
    >>> all_but_largest(np.array([1, 2, 2, 2, 3, 3, 0]), np.array([0, 1, 1, 1]))
    array([2, 0, 0, 0, 1, 1, 0])
    """
    sizes = np.bincount(parts.ravel(), minlength=origin.size)
    sizes[0] = 0
    by_size = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    largest = by_size[np.unique(origin[by_size], return_index=True)[1]]
    others = by_size[~np.isin(by_size, largest)]
    number = np.zeros(origin.size, np.intp)
    number[others] = np.arange(1, others.size + 1)
    return np.asarray(number[parts])
