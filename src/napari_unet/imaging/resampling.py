"""Images and labels on a finer or coarser grid, whole or window by window.

Grids share their outer edges: with n pixels for m, pixel i of the new grid has its
middle at (i + 1/2) m / n - 1/2 of the old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def scaled_shape(shape: Sequence[int], factors: Sequence[float]) -> tuple[int, ...]:
    """Return a shape with each axis this many times longer, at least one pixel.

    Examples
    --------
    >>> scaled_shape((101, 3), (0.5, 0.1))
    (50, 1)
    """
    return tuple(
        max(1, round(n * factor)) for n, factor in zip(shape, factors, strict=True)
    )


def interpolation(n_old: int, n_new: int, rows: slice | None = None) -> csr_array:
    """Return the matrix that interpolates linearly along one axis.

    On a coarser grid the triangle is as wide as two new pixels, so that nothing
    between them is lost (anti-aliasing). What lies beyond the ends does not count.

    Parameters
    ----------
    n_old, n_new : int
        Pixels along the axis, before and after.
    rows : slice, optional
        Which of the new pixels; all if omitted. A row is the same in any window.

    Returns
    -------
    csr_array of float32, shape (rows, n_old)
        Each row sums to 1.

    References
    ----------
    Turkowski: Filters for common resampling tasks. Graphics Gems I, 1990.

    Examples
    --------
    >>> interpolation(2, 4).toarray()
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.  , 1.  ]], dtype=float32)
    """
    rows = rows or slice(0, n_new)
    ratio = n_old / n_new
    reach = max(1.0, ratio)
    middle = (np.arange(rows.start, rows.stop) + 0.5) * ratio
    first = np.floor(middle - reach).astype(np.int64)
    taps = first[:, None] + np.arange(2 * int(np.ceil(reach)) + 2)
    weights = np.maximum(0, 1 - np.abs(taps + 0.5 - middle[:, None]) / reach)
    weights[(taps < 0) | (taps >= n_old)] = 0
    weights /= weights.sum(1, keepdims=True)
    used = weights > 0
    ends = np.concatenate([[0], np.cumsum(used.sum(1))])
    return csr_array(
        (weights[used].astype(np.float32), taps[used], ends),
        shape=(len(middle), n_old),
    )


def resample(array: NDArray[Any], shape: Sequence[int]) -> NDArray[np.float32]:
    """Interpolate linearly onto another grid, smoothing first where it is coarser.

    Parameters
    ----------
    array : ndarray, shape (..., [Z,] Y, X)
        Numbers; what stands before the axes of `shape` is kept.
    shape : sequence of int
        The new lengths of the last axes.

    Returns
    -------
    ndarray of float32, shape (..., *shape)
        Channels that summed to 1 still do.

    Examples
    --------
    >>> resample(np.array([[0.0, 2.0, 4.0, 6.0]]), (1, 2))
    array([[1.4285715, 4.5714283]], dtype=float32)
    """
    first = array.ndim - len(shape)
    matrices = [
        None if n_old == n_new else interpolation(n_old, n_new)
        for n_old, n_new in zip(array.shape[first:], shape, strict=True)
    ]
    return along_axes(np.asarray(array, np.float32), matrices)


def along_axes(
    array: NDArray[np.float32], matrices: Sequence[csr_array | None]
) -> NDArray[np.float32]:
    """Multiply the last axes by one matrix each; None leaves an axis as it is.

    Parameters
    ----------
    array : ndarray of float32, shape (..., n_1, ..., n_k)
        What is interpolated.
    matrices : sequence of csr_array or None
        For each of the last axes one of shape (new, n).
    """
    first = array.ndim - len(matrices)
    # The axis that shrinks most goes first: less is left to do for the others.
    given = [(axis, m) for axis, m in enumerate(matrices, first) if m is not None]
    for axis, matrix in sorted(given, key=lambda g: g[1].shape[0] / g[1].shape[1]):
        moved = np.moveaxis(array, axis, 0)
        flat = matrix @ np.ascontiguousarray(moved).reshape(len(moved), -1)
        array = np.moveaxis(flat.reshape(-1, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(array, np.float32)


def resample_labels(labels: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return labels on another grid: each pixel gets that of the nearest one.

    Parameters
    ----------
    labels : ndarray, shape (..., [Z,] Y, X)
        Ids, classes or booleans; any dtype.
    shape : sequence of int
        The new lengths of the last axes.

    Returns
    -------
    ndarray, dtype of `labels`, shape (..., *shape)
        Of two that are equally near the later one counts.

    Examples
    --------
    >>> resample_labels(np.array([[1, 1, 0, 2]]), (2, 2))
    array([[1, 2],
           [1, 2]])
    """
    first = labels.ndim - len(shape)
    for axis, (n_old, n_new) in enumerate(
        zip(labels.shape[first:], shape, strict=True), start=first
    ):
        if n_old != n_new:
            nearest = (2 * np.arange(n_new) + 1) * n_old // (2 * n_new)
            labels = labels.take(nearest, axis)
    return labels
