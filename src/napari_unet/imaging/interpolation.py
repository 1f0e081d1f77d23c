"""Filling the slices between painted ones."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_unet.errors import LabelError
from napari_unet.imaging.edits import Edit
from napari_unet.imaging.pieces import find_box

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDING_PX = 1e-9


def interpolate_slices(labels: NDArray[Any], i: int) -> Edit:
    """Fill the slices between the painted slices of a cell.

    Shape-based: the signed distances to the outlines of the slices before and after
    are shifted so that their centroids lie on a straight line, and mixed linearly;
    the cell is where the mixture is 0 or more (at least where it is highest, so that
    no slice is left out). So a cell that leans keeps its width, and one that widens
    does so evenly.

    Parameters
    ----------
    labels : ndarray of int, shape (Z, Y, X)
        Instance ids; 0 is unpainted. Painted slices, and what is painted of other
        cells in between, stay as they are.
    i : int
        The cell, painted on two slices or more.

    Returns
    -------
    Edit
        Unpainted pixels in between that become the cell; empty where all of them
        are painted with other cells.

    Raises
    ------
    LabelError
        No stack of slices, no such cell, or no slice between its painted ones
        (NU-L10).

    References
    ----------
    .. [1] Raya and Udupa 1990, "Shape-based interpolation of multidimensional
       objects", IEEE Transactions on Medical Imaging 9, 32-42.

    Examples
    --------
    >>> labels = np.zeros((3, 5, 7), int)
    >>> labels[0, 1:4, 1:4] = 2
    >>> labels[2, 1:4, 3:6] = 2
    >>> interpolate_slices(labels, 2).applied_to(labels)[1]
    array([[0, 0, 0, 0, 0, 0, 0],
           [0, 0, 2, 2, 2, 0, 0],
           [0, 0, 2, 2, 2, 0, 0],
           [0, 0, 2, 2, 2, 0, 0],
           [0, 0, 0, 0, 0, 0, 0]])
    """
    if labels.ndim != 3:
        raise LabelError(
            "NU-L10", f"labels of shape {labels.shape} have no slices to fill between"
        )
    box = find_box(labels, i)
    part = labels[box]
    painted = np.flatnonzero((part == i).any(axis=(1, 2))).tolist()
    gaps = [(a, b) for a, b in pairwise(painted) if b > a + 1]
    if not gaps:
        raise LabelError(
            "NU-L10",
            f"cell {i} has no slice to fill: paint it on two slices with others "
            "between them",
        )
    filled = np.zeros(part.shape, bool)
    for a, b in gaps:
        shares = np.arange(1, b - a) / (b - a)
        filled[a + 1 : b] = _between(part[a] == i, part[b] == i, shares)
    inside = np.nonzero(filled & (part == 0))
    indices = tuple(at + s.start for at, s in zip(inside, box, strict=True))
    return Edit(indices, np.full(inside[0].size, i, np.int32))


def _between(
    first: NDArray[np.bool_], second: NDArray[np.bool_], shares: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return the masks at shares (0 to 1) of the way from one mask to another."""
    way = _centroid(second) - _centroid(first)
    # Room to shift in: what is shifted in from beyond the edge must be outside.
    pad = int(np.ceil(np.abs(way).max())) + 1
    distances = [_signed_distance(np.pad(mask, pad)) for mask in (first, second)]
    masks = []
    for share in shares:
        before = _shifted(distances[0], share * way)
        after = _shifted(distances[1], (share - 1) * way)
        mixed = (1 - share) * before + share * after
        mixed = mixed[pad:-pad, pad:-pad]
        # The outline itself counts: a cell of one pixel, moved by half, is two.
        masks.append(mixed >= min(0, mixed.max()) - _ROUNDING_PX)
    return np.stack(masks)


def _centroid(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(np.argwhere(mask).mean(axis=0))


def _signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the distance to the outline between the pixels; positive inside."""
    inside = ndimage.distance_transform_edt(mask) - 0.5
    outside = ndimage.distance_transform_edt(~mask) - 0.5
    return np.asarray(np.where(mask, inside, -outside))


def _shifted(
    distance: NDArray[np.float64], by: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(ndimage.shift(distance, by, order=1, mode="nearest"))
