"""How much each pixel counts in training: class factor plus border term.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox: U-Net: Convolutional Networks for
   Biomedical Image Segmentation. MICCAI 2015, eq. 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError
from napari_unet.imaging.arrays import Annotation, as_label_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Border terms below this are 0. float32 could not tell 1e-8 from 0 next to a class
# factor of 1; the rest is margin for those who look at the term alone.
_SMALLEST_TERM = 1e-12

# A class that is hardly painted must not drown all others.
_MAX_CLASS_WEIGHT = 10.0


def border_weights(
    labels: NDArray[Any],
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    spacing: float | Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Return the border term: high in narrow gaps between two cells.

    ``w0 * exp(-(d1 + d2)**2 / (2 * sigma**2))`` [1]_, where d1 and d2 are the
    distances from the centre of a background pixel to the nearest pixel of the
    nearest and of the second nearest cell. The labels are taken as given: touching
    cells have no gap, so cut them apart first (`separate_touching`).

    Parameters
    ----------
    labels : ndarray of int, shape ([Z,] Y, X)
        Instance ids; 0 (and below) is background. Ids may have gaps; an id in
        several pieces is one cell. A stack is one volume here.
    w0 : float
        Height of the term (2015: 10).
    sigma : float
        Width of the term (2015: about 5), in pixels, or in the unit of `spacing`.
    spacing : float or sequence of float, optional
        Size of a pixel along each axis; None means 1.

    Returns
    -------
    ndarray of float32, shape of `labels`
        0 inside cells, where there are fewer than two cells, and where the term
        is below 1e-12.

    Raises
    ------
    LabelError
        `labels` is no label image.
    ConfigError
        `w0`, `sigma` or `spacing` is out of range.

    References
    ----------
    .. [1] Ronneberger, Fischer, Brox: U-Net. MICCAI 2015, eq. 2.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[1, 0, 0, 0, 2], [1, 0, 0, 0, 2]])
    >>> border_weights(labels, w0=10, sigma=5).round(2)
    array([[0.  , 7.26, 7.26, 7.26, 0.  ],
           [0.  , 7.26, 7.26, 7.26, 0.  ]], dtype=float32)
    """
    ids = as_label_ids(np.asarray(labels), source="labels")
    pixel = _check_settings(w0, sigma, spacing, ids.ndim)
    weights = np.zeros(ids.shape, np.float32)
    if w0 <= _SMALLEST_TERM:
        return weights
    reach = sigma * math.sqrt(2 * math.log(w0 / _SMALLEST_TERM))
    d1, d2 = _two_nearest(ids, reach, pixel)
    total = np.add(d1, d2, out=d1)
    near = (total <= reach) & (ids == 0)
    weights[near] = w0 * np.exp(-((total[near] / sigma) ** 2) / 2)
    return weights


def _check_settings(
    w0: float, sigma: float, spacing: float | Sequence[float] | None, n_axes: int
) -> tuple[float, ...]:
    if not (math.isfinite(w0) and w0 >= 0):
        raise ConfigError("NU-C01", f"w0 is {w0!r}: give a number of 0 or more")
    if not (math.isfinite(sigma) and sigma > 0):
        raise ConfigError("NU-C01", f"sigma is {sigma!r}: give a number above 0")
    given = np.atleast_1d(np.asarray(1.0 if spacing is None else spacing, float))
    if given.shape not in {(1,), (n_axes,)} or not (
        np.isfinite(given).all() and (given > 0).all()
    ):
        raise ConfigError(
            "NU-C01",
            f"spacing is {spacing!r}: give one size above 0, or one for each of the "
            f"{n_axes} axes",
        )
    return tuple(float(size) for size in np.broadcast_to(given, (n_axes,)))


def _two_nearest(
    labels: NDArray[np.int32], reach: float, pixel: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances to the nearest two cells, inf where beyond `reach`."""
    d1 = np.full(labels.shape, np.inf)
    d2 = np.full(labels.shape, np.inf)
    if labels.max() > labels.size:  # find_objects lists every id up to the largest
        ids = np.unique(labels[labels > 0])
        labels = np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0)
    margins = [math.ceil(reach / size) for size in pixel]
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        # A cell matters only within reach: its own box, grown, is all it needs.
        near = tuple(
            slice(max(side.start - margin, 0), side.stop + margin)
            for side, margin in zip(box, margins, strict=True)
        )
        d = ndimage.distance_transform_edt(labels[near] != index, sampling=pixel)
        first, second = d1[near], d2[near]
        np.minimum(second, np.maximum(first, d), out=second)
        np.minimum(first, d, out=first)
    return d1, d2


def class_weights(annotation: Annotation) -> tuple[float, ...]:
    """Return one factor a class: the rarer in the annotation, the higher.

    ``n_known / (n_classes_present * n_of_class)``, so that each class has the same
    sum of weights and their mean over all known pixels is 1; 10 at most, and 1 for
    classes that do not occur.

    Parameters
    ----------
    annotation : Annotation
        What is painted; pixels where nothing is known do not count.

    Returns
    -------
    tuple of float
        In the order of ``annotation.class_names``.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_unet.imaging.arrays import Annotation
    >>> labels = np.array([[1, 0, 0, 0], [0, 0, 0, 0]])
    >>> class_weights(Annotation.complete(labels))
    (0.5714285714285714, 4.0)
    """
    known = annotation.class_map()[annotation.is_known]
    counts = np.bincount(known, minlength=len(annotation.class_names))
    n_present = int(np.count_nonzero(counts))
    return tuple(
        min(known.size / (n_present * n), _MAX_CLASS_WEIGHT) if n else 1.0
        for n in counts.tolist()
    )


def weight_map(
    labels_or_annotation: NDArray[Any] | Annotation,
    config: WeightConfig | None = None,
    *,
    n_dims: int | None = None,
) -> NDArray[np.float32]:
    """Return the whole weight map: (class factor + border term) where known.

    Parameters
    ----------
    labels_or_annotation : ndarray of int or Annotation, shape ([T,] [Z,] Y, X)
        An array is a complete annotation: all that is not painted is background.
        Labels are taken as given; `make_target` cuts touching cells apart first.
    config : WeightConfig, optional
        w0 and sigma of the border term (in pixels), and whether rare classes weigh
        more; without it the defaults.
    n_dims : int, optional
        How many last axes make one field: 2 takes each plane of a stack by itself.
        None takes the array as one.

    Returns
    -------
    ndarray of float32, shape of the labels
        Exactly 0 where nothing is known. Elsewhere 1 (or the factor of the class)
        plus, on background, the border term. Only painted cells count for it, and
        ids of class 0 are no cells.

    Raises
    ------
    LabelError
        The array is no label image.

    Examples
    --------
    >>> import numpy as np
    >>> weight_map(np.array([[1, 0, 2], [0, 0, 0]])).round(2)
    array([[ 1.  , 10.23,  1.  ],
           [ 9.11,  9.52,  9.11]], dtype=float32)
    """
    config = WeightConfig() if config is None else config
    if isinstance(labels_or_annotation, Annotation):
        annotation = labels_or_annotation
    else:
        annotation = Annotation.complete(labels_or_annotation, source="labels")
    cells = annotation.labels
    background = [i for i, kind in annotation.label_class.items() if kind == 0]
    if background:
        cells = np.where(np.isin(cells, background), np.int32(0), cells)
    weights = np.ones(cells.shape, np.float32)
    if config.balance_classes:
        factors = np.asarray(class_weights(annotation), np.float32)
        weights = factors[annotation.class_map()]
    for index in np.ndindex(cells.shape[: -(n_dims or cells.ndim)]):
        weights[index] += border_weights(cells[index], w0=config.w0, sigma=config.sigma)
    return weights * annotation.is_known
