"""From what people painted to what the network should learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_unet.imaging.arrays import Target, as_label_ids
from napari_unet.imaging.weight_maps import weight_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.config import WeightConfig
    from napari_unet.imaging.arrays import Annotation


def separate_touching(labels: NDArray[Any], *, n_dims: int = 2) -> NDArray[np.int32]:
    """Cut touching cells apart by a gap of background.

    A pixel of a cell becomes 0 where one of its 8 neighbours (26 in a volume)
    belongs to another cell: each side gives one pixel, whatever the ids, and the
    cells that remain touch nowhere, not even at a corner. A cell that would vanish
    keeps its pixels, so two cells of one pixel each go on touching.

    Parameters
    ----------
    labels : ndarray of int, shape ([T,] [Z,] Y, X)
        Instance ids; 0 is background.
    n_dims : int
        How many last axes make one field: 2 takes each plane of a stack by itself,
        3 takes volumes.

    Returns
    -------
    ndarray of int32, shape of `labels`
        The same ids with the gaps at 0.

    Raises
    ------
    LabelError
        `labels` is no label image.

    Examples
    --------
    >>> import numpy as np
    >>> separate_touching(np.array([[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2]]))
    array([[1, 1, 0, 0, 2, 2],
           [1, 1, 0, 0, 2, 2]], dtype=int32)
    """
    cut = as_label_ids(np.asarray(labels), source="labels")
    for index in np.ndindex(cut.shape[:-n_dims]):
        field = cut[index]
        touching = _touches_another(field)
        vanishing = np.setdiff1d(field[touching], field[~touching])
        field[touching & ~np.isin(field, vanishing)] = 0
    return cut


def _touches_another(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return where a cell's pixel has a neighbour of another cell."""
    cell = labels > 0
    highest = ndimage.maximum_filter(labels, size=3, mode="nearest")
    # Background must not count as the lowest neighbour.
    no_background = np.where(cell, labels, np.iinfo(np.int32).max)
    lowest = ndimage.minimum_filter(no_background, size=3, mode="nearest")
    touching: NDArray[np.bool_] = cell & (highest != lowest)
    return touching


def make_target(
    annotation: Annotation, config: WeightConfig | None = None, *, n_dims: int = 2
) -> Target:
    """Return what the network should learn from an annotation.

    Touching cells are cut apart (`separate_touching`) and the cut labels weighed
    (`weight_map`). The pixels of a cut are known: they are background.

    Parameters
    ----------
    annotation : Annotation
        What is painted and what is known to be background, ([T,] [Z,] Y, X).
    config : WeightConfig, optional
        How much each pixel counts; without it the defaults.
    n_dims : int
        2 takes each plane of a stack by itself, 3 takes volumes.

    Returns
    -------
    Target
        `classes` int16 and `weights` float32, of the annotation's shape; weights
        are exactly 0 where nothing is known, so a plane on which nothing was
        painted or finished does not count at all.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_unet.imaging.arrays import Annotation
    >>> labels = np.array([[1, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 0]])
    >>> target = make_target(Annotation(labels))
    >>> target.classes
    array([[1, 1, 0, 0, 1, 1],
           [0, 0, 0, 0, 0, 0]], dtype=int16)
    >>> target.weights.round(1)
    array([[1. , 1. , 9.4, 9.4, 1. , 1. ],
           [0. , 0. , 0. , 0. , 0. , 0. ]], dtype=float32)
    """
    classes = annotation.class_map()
    # Painted background is no cell: it neither cuts nor is cut.
    cells = np.where(classes > 0, annotation.labels, np.int32(0))
    cut = separate_touching(cells, n_dims=n_dims)
    classes[cut == 0] = 0
    cut_annotation = replace(annotation, labels=cut, known=annotation.is_known)
    weights = weight_map(cut_annotation, config, n_dims=n_dims)
    return Target(classes=classes, weights=weights)
