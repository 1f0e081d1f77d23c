"""From what people painted to what the network should learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from scipy import ndimage

from napari_unet.errors import ConfigError
from napari_unet.imaging.arrays import Target, as_label_ids
from napari_unet.imaging.given import check_n_dims
from napari_unet.imaging.weight_maps import weight_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.config import WeightConfig
    from napari_unet.imaging.arrays import Annotation

TargetKind = Literal["gap", "boundary", "distance"]
TARGETS: tuple[str, ...] = get_args(TargetKind)


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


def cell_boundaries(labels: NDArray[np.int32], *, n_dims: int = 2) -> NDArray[np.bool_]:
    """Return the outermost pixels of each cell: one pixel wide, inside the cell.

    A pixel of a cell is its boundary where one of its 8 neighbours (26 in a volume)
    belongs to another cell or to none; what lies beyond the image is not known and
    makes no boundary. A cell that would be nothing but boundary, as one of a single
    pixel, has none: every cell keeps an interior.

    Parameters
    ----------
    labels : ndarray of int32, shape ([T,] [Z,] Y, X)
        Instance ids; 0 is background.
    n_dims : int
        2 takes each plane of a stack by itself, 3 takes volumes.

    Returns
    -------
    ndarray of bool, shape of `labels`
        True on boundaries.

    Examples
    --------
    >>> labels = np.array([[1, 1, 1, 2, 2, 2, 0, 3, 0]], np.int32)
    >>> cell_boundaries(labels).astype(int)
    array([[0, 0, 1, 1, 0, 1, 0, 0, 0]])
    """
    found = np.zeros(labels.shape, bool)
    for index in np.ndindex(labels.shape[:-n_dims]):
        field = labels[index]
        highest = ndimage.maximum_filter(field, size=3, mode="nearest")
        lowest = ndimage.minimum_filter(field, size=3, mode="nearest")
        edge = (field > 0) & (highest != lowest)
        found[index] = edge & np.isin(field, np.unique(field[(field > 0) & ~edge]))
    return found


def border_distances(
    labels: NDArray[np.int32],
    *,
    n_dims: int = 2,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Return how deep inside its cell each pixel lies: 1 in the middle, 0 outside.

    The Euclidean distance to the nearest pixel that is not of the cell, touching
    cells included, divided by the greatest such distance in the cell: small cells
    count as much as large ones. What lies beyond the image is not known and is no
    border.

    Parameters
    ----------
    labels : ndarray of int32, shape ([T,] [Z,] Y, X)
        Instance ids; 0 is background. An id in several pieces is one cell.
    n_dims : int
        2 takes each plane of a stack by itself, 3 takes volumes.
    spacing : sequence of float, optional
        Size of a pixel along the last `n_dims` axes; None means 1.

    Returns
    -------
    ndarray of float32, shape of `labels`
        In [0, 1]; above 0 exactly on cells, and 1 somewhere in each.

    References
    ----------
    Naylor, Lae, Reyal, Walter: Segmentation of nuclei in histopathology images by
    deep regression of the distance map. IEEE TMI 38, 448 (2019), there without the
    division.

    Examples
    --------
    >>> labels = np.array([[0, 1, 1, 1, 2, 2, 2, 2, 2, 0]], np.int32)
    >>> border_distances(labels).round(2)
    array([[0.  , 0.5 , 1.  , 0.5 , 0.33, 0.67, 1.  , 0.67, 0.33, 0.  ]],
          dtype=float32)
    """
    found = np.zeros(labels.shape, np.float32)
    for index in np.ndindex(labels.shape[:-n_dims]):
        field, out = labels[index], found[index]
        for i, box in enumerate(ndimage.find_objects(field), start=1):
            if box is None:
                continue
            # One pixel of surroundings, where there are any.
            wider = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
            own = field[wider] == i
            depth = np.ones(own.shape)  # a cell that is all there is has no border
            if not own.all():
                depth = ndimage.distance_transform_edt(own, sampling=spacing)
            out[wider][own] = depth[own] / depth.max()
    return found


def make_target(
    annotation: Annotation,
    weights: WeightConfig | None = None,
    *,
    target: TargetKind = "gap",
    n_dims: int = 2,
    pixel_size_um: Sequence[float] | None = None,
) -> Target:
    """Return what the network should learn from an annotation.

    What keeps cells apart that touch is a choice:

    - ``"gap"``: they are cut apart by a gap of background (`separate_touching`) [1]_.
    - ``"boundary"``: the boundary of each cell is one class more, the last one, shared
      by all cell classes (`cell_boundaries`) [2]_.
    - ``"distance"``: they are cut apart as well, and besides the classes there is how
      deep inside its cell, not cut, a pixel lies (`border_distances`) [3]_.

    The weights are the same for all three: those of the cut labels (`weight_map`), so
    that the pixels between two cells count most. They are known, whatever is painted
    around them. Areas and painted background neither cut nor are cut, and have neither
    boundary nor distance; where all classes are areas, the targets are the same.

    Parameters
    ----------
    annotation : Annotation
        What is painted and what is known to be background, ([T,] [Z,] Y, X).
    weights : WeightConfig, optional
        How much each pixel counts; without it the defaults.
    target : {"gap", "boundary", "distance"}
        What keeps touching cells apart.
    n_dims : int
        2 takes each plane of a stack by itself, 3 takes volumes.
    pixel_size_um : sequence of float, optional
        Size of a pixel in micrometres along ([Z,] Y, X), for sigmas in micrometres.

    Returns
    -------
    Target
        `classes` int16 and `weights` float32, of the annotation's shape; weights
        are exactly 0 where nothing is known, so a plane on which nothing was
        painted or finished does not count at all. `values` float32 (1, [T,] [Z,] Y,
        X) for ``"distance"``, else None.

    Raises
    ------
    ConfigError
        The unit is um but the pixel size is not known (NU-C07); `weights`, `target`,
        `n_dims` or `pixel_size_um` is none (NU-C01).

    References
    ----------
    .. [1] Ronneberger, Fischer, Brox: U-Net. MICCAI 2015.
    .. [2] Caicedo et al.: Evaluation of deep learning strategies for nucleus
       segmentation in fluorescence images. Cytometry A 95, 952 (2019).
    .. [3] Naylor, Lae, Reyal, Walter. IEEE TMI 38, 448 (2019).

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
    if target not in TARGETS:
        raise ConfigError(
            "NU-C01", f"target is {target!r}: give one of {', '.join(TARGETS)}"
        )
    cut = cut_annotation(annotation, n_dims=n_dims)
    weighed = weight_map(cut, weights, n_dims=n_dims, pixel_size_um=pixel_size_um)
    classes_of_cells = set(range(1, len(annotation.class_names)))
    if target == "gap" or classes_of_cells <= annotation.area_classes:
        return Target(classes=cut.class_map(), weights=weighed)
    cells = annotation.cells()
    if target == "boundary":
        classes = annotation.class_map()
        at = cell_boundaries(cells, n_dims=n_dims)
        classes[at] = len(annotation.class_names)
        return Target(classes=classes, weights=weighed)
    spacing = None if pixel_size_um is None else tuple(pixel_size_um)[-n_dims:]
    depth = border_distances(cells, n_dims=n_dims, spacing=spacing)
    return Target(classes=cut.class_map(), weights=weighed, values=depth[None])
