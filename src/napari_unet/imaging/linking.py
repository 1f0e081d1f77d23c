"""One id for a cell over the frames of a movie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet.errors import ImageError, ModelError
from napari_unet.imaging.instances import has_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image

# A cell that moves by half its size still has a third of it in common with before.
_LEAST_IOU = 0.1


def link_frames(
    labels: NDArray[np.int32], *, least_iou: float = _LEAST_IOU
) -> NDArray[np.int32]:
    """Return a movie in which a cell keeps its id from frame to frame.

    Cells of two frames in a row are matched one to one so that the sum of their IoU is
    largest. What has no partner in the frame before begins a track of its own; so do
    the daughters of a division but one.

    Parameters
    ----------
    labels : ndarray of int32, shape (T, [Z,] Y, X)
        Ids of the cells in each frame; 0 is background.
    least_iou : float
        Cells that have less in common are not the same.

    Returns
    -------
    ndarray of int32, shape of `labels`
        Ids 1..n without gaps, in the order in which they appear.

    References
    ----------
    Kuhn: The Hungarian method for the assignment problem. Naval Research Logistics
    Quarterly 2, 83 (1955); here Crouse's algorithm, as scipy has it.

    Examples
    --------
    >>> movie = np.array([[[7, 7, 7, 0, 3, 3]], [[0, 1, 1, 1, 2, 2]]], np.int32)
    >>> link_frames(movie)[:, 0]
    array([[2, 2, 2, 0, 1, 1],
           [0, 2, 2, 2, 1, 1]], dtype=int32)
    """
    linked = np.zeros_like(labels)
    n_tracks = 0
    for t, frame in enumerate(labels):
        ids = np.unique(frame[frame > 0])
        track_of = np.zeros(int(frame.max(initial=0)) + 1, np.int32)
        if t > 0:
            for before, now in _same(linked[t - 1], frame, least_iou):
                track_of[now] = before
        new = ids[track_of[ids] == 0]
        track_of[new] = np.arange(n_tracks + 1, n_tracks + len(new) + 1)
        n_tracks += len(new)
        linked[t] = track_of[frame]
    return linked


def check_links(roles: Sequence[str]) -> None:
    """Refuse a model that finds no single cells (NU-M14)."""
    if not has_cells(roles):
        raise ModelError(
            "NU-M14",
            f"the model gives {', '.join(roles)} and no single cells, so there is "
            "nothing to link over time: predict without linking",
        )


def check_has_frames(image: Image) -> None:
    """Refuse to link the cells of an image without a time axis (NU-I15)."""
    if "T" not in image.axes:
        raise ImageError(
            "NU-I15",
            f"{image.source} has the axes {image.axes} and no time to link its cells "
            "over: say which axis is T, such as TYX, or predict without linking",
        )


def _same(
    before: NDArray[Any], now: NDArray[Any], least_iou: float
) -> list[tuple[int, int]]:
    """Return pairs of ids of two frames that are the same cell."""
    both = (before > 0) & (now > 0)
    pairs, common = np.unique(
        np.stack([before[both], now[both]], 1), axis=0, return_counts=True
    )
    if not len(pairs):
        return []
    a, b = pairs.T
    sizes = np.bincount(before.ravel()), np.bincount(now.ravel())
    iou = common / (sizes[0][a] + sizes[1][b] - common)
    is_likely = iou >= least_iou
    a, b, iou = a[is_likely], b[is_likely], iou[is_likely]
    found: list[tuple[int, int]] = []
    # Cells that have nothing in common, even by way of others, are matched apart.
    for members in _groups(a, b):
        rows, row_of = np.unique(a[members], return_inverse=True)
        columns, column_of = np.unique(b[members], return_inverse=True)
        gain = np.zeros((len(rows), len(columns)))
        gain[row_of, column_of] = iou[members]
        chosen = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
        found += [(int(rows[i]), int(columns[j])) for i, j in chosen if gain[i, j] > 0]
    return found


def _groups(a: NDArray[Any], b: NDArray[Any]) -> list[NDArray[np.intp]]:
    """Return which pairs belong together: indices, group by group."""
    if not len(a):
        return []
    n_before, n_now = int(a.max()) + 1, int(b.max()) + 1
    n = n_before + n_now
    links = coo_array((np.ones(len(a), bool), (a, b + n_before)), shape=(n, n))
    group_of = connected_components(links, directed=False)[1][a]
    order = np.argsort(group_of, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group_of[order])) + 1)
