"""From what people painted to what the network should learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_unet.imaging.arrays import Target, as_label_ids
from napari_unet.imaging.given import check_n_dims
from napari_unet.imaging.weight_maps import weight_map

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    ConfigError
        `n_dims` is neither 2 nor 3, or more than there are axes (NU-C01).

    Examples
    --------
    >>> import numpy as np
    >>> separate_touching(np.array([[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2]]))
    array([[1, 1, 0, 0, 2, 2],
           [1, 1, 0, 0, 2, 2]], dtype=int32)
    """
    cut = as_label_ids(labels, source="labels")
    n_dims = check_n_dims(n_dims, cut.ndim, source="labels")
    for index in np.ndindex(cut.shape[:-n_dims]):
        field = cut[index]
        field[gaps(field)] = 0
    return cut


def gaps(cells: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which pixels of the cells of one field give way to a gap.

    Examples
    --------
    >>> gaps(np.array([[1, 1, 2, 0, 3]], np.int32))
    array([[False,  True, False, False, False]])
    """
    touching = _touches_another(cells)
    candidates = np.unique(cells[touching])
    kept = np.unique(cells[~touching & (cells > 0)])
    vanishing = np.setdiff1d(candidates, kept, assume_unique=True)
    return touching & ~np.isin(cells, vanishing)


def _touches_another(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return where a cell's pixel has a neighbour of another cell."""
    cell = labels > 0
    highest = ndimage.maximum_filter(labels, size=3, mode="nearest")
    # Background must not count as the lowest neighbour.
    no_background = np.where(cell, labels, np.iinfo(np.int32).max)
    lowest = ndimage.minimum_filter(no_background, size=3, mode="nearest")
    touching: NDArray[np.bool_] = cell & (highest != lowest)
    return touching


def cut_annotation(annotation: Annotation, *, n_dims: int = 2) -> Annotation:
    """Return an annotation whose touching cells are cut apart.

    The pixels of a gap are known: they are background. Areas and painted background
    neither cut nor are cut.

    Parameters
    ----------
    annotation : Annotation
        What is painted, ([T,] [Z,] Y, X).
    n_dims : int
        2 takes each plane of a stack by itself, 3 takes volumes.

    Raises
    ------
    ConfigError
        `n_dims` is neither 2 nor 3, or more than there are axes (NU-C01).

    Examples
    --------
    >>> from napari_unet.imaging.arrays import Annotation
    >>> annotation = Annotation(np.array([[1, 1, 1, 2, 2, 2, 7]]), {7: 0})
    >>> cut = cut_annotation(annotation)
    >>> cut.labels
    array([[1, 1, 0, 0, 2, 2, 7]], dtype=int32)
    >>> cut.is_known.all()
    np.True_
    """
    n_dims = check_n_dims(n_dims, annotation.labels.ndim, source=annotation.source)
    cells = annotation.cells()
    labels = annotation.labels.copy()
    for index in np.ndindex(labels.shape[:-n_dims]):
        labels[index][gaps(cells[index])] = 0
    return replace(annotation, labels=labels, known=annotation.is_known)


def make_target(
    annotation: Annotation,
    config: WeightConfig | None = None,
    *,
    n_dims: int = 2,
    pixel_size_um: Sequence[float] | None = None,
) -> Target:
    """Return what the network should learn from an annotation.

    Touching cells are cut apart (`separate_touching`) and the cut labels weighed
    (`weight_map`). The pixels of a cut are known: they are background. Areas and
    painted background neither cut nor are cut.

    Parameters
    ----------
    annotation : Annotation
        What is painted and what is known to be background, ([T,] [Z,] Y, X).
    config : WeightConfig, optional
        How much each pixel counts; without it the defaults.
    n_dims : int
        2 takes each plane of a stack by itself, 3 takes volumes.
    pixel_size_um : sequence of float, optional
        Size of a pixel in micrometres along ([Z,] Y, X), for sigmas in micrometres.

    Returns
    -------
    Target
        `classes` int16 and `weights` float32, of the annotation's shape; weights
        are exactly 0 where nothing is known, so a plane on which nothing was
        painted or finished does not count at all.

    Raises
    ------
    ConfigError
        The unit is um but the pixel size is not known (NU-C07); `config`, `n_dims` or
        `pixel_size_um` is none (NU-C01).

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
    cut = cut_annotation(annotation, n_dims=n_dims)
    weights = weight_map(cut, config, n_dims=n_dims, pixel_size_um=pixel_size_um)
    return Target(classes=cut.class_map(), weights=weights)
