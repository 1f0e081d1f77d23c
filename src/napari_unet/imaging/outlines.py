"""Outlines of cells along pixel edges, and the pixels inside outlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from skimage.measure import label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

Rings: TypeAlias = "list[NDArray[np.float64]]"  # an outer ring, then its holes

# Steps (y, x) along the edges of a pixel, the pixel to the right of each.
_STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])


def outlines(mask: NDArray[np.bool_]) -> list[Rings]:
    """Return the exact outlines of a mask, along the edges of its pixels.

    Pieces and holes are 4-connected: pixels that touch at a corner only belong to
    different pieces, and so do holes. No ring touches itself, so the polygons are
    valid for programs that insist on that (OGC's simple features); two rings may
    share a corner.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X)
        True inside.

    Returns
    -------
    list of list of ndarray of float64, shape (N, 2)
        For each piece its outer ring, then its holes. Vertices (y, x) in pixels, at
        corners only and not closed: pixel (0, 0) spans -0.5 to 0.5. On the screen,
        y down, outer rings run clockwise and holes counterclockwise.

    See Also
    --------
    runs_inside : the exact inverse.

    Examples
    --------
    >>> outlines(np.array([[True, True]]))[0][0].tolist()
    [[-0.5, -0.5], [-0.5, 1.5], [0.5, 1.5], [0.5, -0.5]]
    """
    return label_outlines(np.asarray(mask, bool).astype(np.int32)).get(1, [])


def label_outlines(labels: NDArray[np.int32]) -> dict[int, list[Rings]]:
    """Return the exact outlines of all cells, as `outlines` does for one.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        Instance ids; 0 is no cell.

    Returns
    -------
    dict of int to list of list of ndarray
        Id -> outlines of its pieces, ids in ascending order.

    Examples
    --------
    >>> found = label_outlines(np.array([[7, 0, 3]]))
    >>> {i: len(pieces) for i, pieces in found.items()}
    {3: 1, 7: 1}
    """
    pieces = label(labels, background=0, connectivity=1)
    if not pieces.any():
        return {}
    _, first = np.unique(pieces, return_index=True)
    id_of = np.asarray(labels).ravel()[first[-pieces.max() :]]
    found: dict[int, list[Rings]] = {int(i): [] for i in np.unique(id_of)}
    for i, rings in zip(id_of.tolist(), _trace(pieces), strict=True):
        found[i].append(rings)
    return found


def runs_inside(
    rings: Sequence[ArrayLike], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the pixels whose centres are inside rings, as runs along the rows.

    By the even-odd rule. It costs as much as the outline is long, however large the
    image is.

    Parameters
    ----------
    rings : sequence of array of float, shape (N, 2)
        Finite vertices (y, x) in pixels, closed or not: outer rings and holes alike.
        A centre on a left or upper edge is inside, on a right or lower one outside.
    shape : (int, int)
        Shape of the image; what lies outside is cut off.

    Returns
    -------
    ndarray of int64, shape (N, 2)
        First index and the one after the last in the flattened image, ascending.

    Examples
    --------
    >>> runs_inside([[(0, 0), (0, 2), (2, 2), (2, 0)]], (3, 4)).tolist()
    [[0, 2], [4, 6]]
    """
    row, x = _crossings(rings, shape[0])
    column = np.clip(np.ceil(x), 0, shape[1]).astype(np.int64)
    # Each row is crossed an even number of times, so that sorted crossings are pairs.
    runs = np.sort(row * shape[1] + column).reshape(-1, 2)
    return runs[runs[:, 0] < runs[:, 1]]


def indices_of(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each index in runs.

    Examples
    --------
    >>> indices_of(np.array([[3, 5], [9, 10]])).tolist()
    [3, 4, 9]
    """
    start, n = runs[:, 0], runs[:, 1] - runs[:, 0]
    before = np.cumsum(n) - n
    indices: NDArray[np.int64] = np.repeat(start - before, n) + np.arange(n.sum())
    return indices


def _crossings(
    rings: Sequence[ArrayLike], n_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the rows (their centre lines) that edges cross, and x of the crossings."""
    closed = [np.asarray(ring, float).reshape(-1, 2) for ring in rings]
    start = np.concatenate([*closed, np.empty((0, 2))])
    ends = [np.roll(ring, -1, axis=0) for ring in closed]
    stop = np.concatenate([*ends, np.empty((0, 2))])
    low, high = np.minimum(start, stop)[:, 0], np.maximum(start, stop)[:, 0]
    first = np.clip(np.ceil(low), 0, n_rows).astype(np.int64)
    n = np.clip(np.ceil(high), 0, n_rows).astype(np.int64) - first
    edge = np.repeat(np.arange(len(n)), n)
    row = indices_of(np.stack([first, first + n], axis=1))
    (y, x), (dy, dx) = start[edge].T, (stop - start)[edge].T
    return row, x + (row - y) * dx / dy


def _trace(pieces: NDArray[Any]) -> list[Rings]:
    """Return the rings of pieces 1..n, the outer ring of each first."""
    edges = _edges(pieces)
    width = pieces.shape[1] + 1
    follower = _followers(edges, edges.vertex + _STEPS[edges.step] @ (width, 1))
    is_corner = np.empty(len(follower), bool)
    is_corner[follower] = edges.step[follower] != edges.step
    vertices = np.stack(np.divmod(edges.vertex, width), axis=1) - 0.5
    traced: list[Rings] = [[] for _ in range(int(pieces.max()))]
    for ring in _cycles(follower):
        # The first edge of a piece starts at its upper left corner: the outer ring's.
        traced[edges.piece[ring[0]] - 1].append(vertices[ring[is_corner[ring]]])
    return traced


class _Edges(NamedTuple):
    """Edges between a piece and what is not of it, sorted by piece and vertex."""

    piece: NDArray[np.int64]
    vertex: NDArray[np.int64]
    step: NDArray[np.int64]
    n_vertices: int


def _edges(pieces: NDArray[Any]) -> _Edges:
    """Return all edges, each directed so that its piece is on the right."""
    padded = np.pad(pieces, 1).astype(np.int64)
    here = padded[1:-1, 1:-1]
    beside = padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2]
    width = pieces.shape[1] + 1
    # From which corner of its pixel each step starts: the upper left one and so on.
    from_corner = 0, 1, width + 1, width
    found = []
    for step, (other, offset) in enumerate(zip(beside, from_corner, strict=True)):
        rows, columns = np.nonzero((here != other) & (here > 0))
        edges = np.full((3, len(rows)), step, np.int64)
        edges[:2] = here[rows, columns], rows * width + columns + offset
        found.append(edges)
    piece, vertex, steps = np.concatenate(found, axis=1)
    order = np.lexsort((steps, vertex, piece))
    n_vertices = (pieces.shape[0] + 1) * width
    return _Edges(piece[order], vertex[order], steps[order], n_vertices)


def _followers(edges: _Edges, stop: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the index of the edge that follows each edge, given where it ends."""
    start_keys = edges.piece * edges.n_vertices + edges.vertex
    stop_keys = edges.piece * edges.n_vertices + stop
    follower = np.searchsorted(start_keys, stop_keys)
    second = np.minimum(follower + 1, len(start_keys) - 1)
    # Where a piece touches itself at a corner two edges start there. The one to the
    # left goes around the same background pixel, so no ring meets itself.
    to_left = (edges.step[second] - edges.step) % 4 == 3
    is_second = (start_keys[second] == stop_keys) & to_left
    return np.where(is_second, second, follower)


def _cycles(follower: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    next_of = follower.tolist()
    is_seen = bytearray(len(next_of))
    for i in range(len(next_of)):
        ring = []
        while not is_seen[i]:
            is_seen[i] = True
            ring.append(i)
            i = next_of[i]
        if ring:
            yield np.array(ring)
