"""How much each pixel counts in training: class factor plus border term.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox: U-Net: Convolutional Networks for
   Biomedical Image Segmentation. MICCAI 2015, eq. 2.
.. [2] T. Falk et al.: U-Net: deep learning for cell counting, detection, and
   morphometry. Nature Methods 16, 67 (2019), Online Methods.
"""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError
from napari_unet.imaging.arrays import Annotation, as_label_ids, classes_of
from napari_unet.imaging.distances import SMALL_BLOCK_PX, Grid
from napari_unet.imaging.given import LEAST, MOST, as_sizes, check_n_dims, shown
from napari_unet.imaging.pixel_weights import PixelWeight, explain
from napari_unet.imaging.weight_formulas import (
    Formula,
    class_factors,
    combine,
    grid_of,
)
from napari_unet.imaging.windows import blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


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
    cells = as_label_ids(labels, source="labels", copy=False)
    _check_bell(w0, sigma)
    size = 1.0 if spacing is None else spacing
    grid = Grid.of(as_sizes(size, cells.ndim, name="spacing"))
    # Whoever calls this may go beyond the bounds that make sense in a form.
    config = WeightConfig.model_construct(w0=float(w0), sigma=float(sigma))
    formula = Formula(config, grid)
    weights = np.empty(cells.shape, np.float32)
    _border(cells, formula, weights)
    return weights


def _check_bell(w0: float, sigma: float) -> None:
    # float32, in which the map is, ends at 3e38.
    for name, value, least in (("w0", w0, 0.0), ("sigma", sigma, LEAST)):
        if not (isinstance(value, Real) and least <= value <= MOST):
            raise ConfigError(
                "NU-C01",
                f"{name} is {shown(value)}: give a number from {least:g} to {MOST:g}",
            )


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
    counts = np.zeros(len(annotation.class_names), np.int64)
    for block in blocks(annotation.labels.shape):
        classes = classes_of(annotation.labels[block], annotation.label_class)
        known = classes[annotation.is_known[block]]
        counts += np.bincount(known, minlength=len(counts))
    return class_factors(counts.tolist())


def weight_map(
    labels_or_annotation: NDArray[Any] | Annotation,
    config: WeightConfig | None = None,
    *,
    n_dims: int | None = None,
    pixel_size_um: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Return the whole weight map of a formula, 0 where nothing is known.

    ``ronneberger2015`` [1]_: ``w_c + w0 * exp(-(d1 + d2)**2 / (2 * sigma**2))``.
    ``falk2019`` [2]_: ``w_c`` on cells; on background ``w_c * (v_bal + (1 - v_bal) *
    exp(-d1**2 / (2 * sigma1**2))) + w0 * exp(-(d1 + d2)**2 / (2 * sigma**2))``.
    d1 and d2 are the distances to the nearest two cells (`border_weights`), w_c is 1,
    or with `balance_classes` the factor of the pixel's class (`class_weights`).

    Parameters
    ----------
    labels_or_annotation : ndarray of int or Annotation, shape ([T,] [Z,] Y, X)
        An array is a complete annotation: all that is not painted is background.
        Labels are taken as given; `make_target` cuts touching cells apart first.
    config : WeightConfig, optional
        The formula and its numbers; without it those of 2015.
    n_dims : int, optional
        How many last axes make one field: 2 takes each plane of a stack by itself,
        3 takes volumes. None takes the array as one.
    pixel_size_um : sequence of float, optional
        Size of a pixel in micrometres along ([Z,] Y, X), for sigmas in micrometres.

    Returns
    -------
    ndarray of float32, shape of the labels
        Exactly 0 where nothing is known. Only painted cells count for the distances;
        painted background and areas are no cells, and the border term is on
        background alone.

    Raises
    ------
    LabelError
        The array is no label image.
    ConfigError
        The unit is um but the pixel size is not known (NU-C07); `config`, `n_dims` or
        `pixel_size_um` is none (NU-C01).

    References
    ----------
    .. [1] Ronneberger, Fischer, Brox: U-Net. MICCAI 2015, eq. 2.
    .. [2] Falk et al.: U-Net. Nature Methods 16, 67 (2019), Online Methods.

    Examples
    --------
    >>> import numpy as np
    >>> weight_map(np.array([[1, 0, 2], [0, 0, 0]])).round(2)
    array([[ 1.  , 10.23,  1.  ],
           [ 9.11,  9.52,  9.11]], dtype=float32)
    >>> far_apart = np.zeros((1, 100), int)
    >>> far_apart[0, 0] = 1
    >>> weight_map(far_apart, WeightConfig.falk2019())[0, [0, 10, 99]].round(2)
    array([1.  , 0.65, 0.1 ], dtype=float32)
    """
    config = WeightConfig() if config is None else config
    if isinstance(labels_or_annotation, Annotation):
        annotation = labels_or_annotation
    else:
        annotation = Annotation.complete(labels_or_annotation, source="labels")
    n_axes = annotation.labels.ndim
    if n_dims is not None:
        n_axes = check_n_dims(n_dims, n_axes, source=annotation.source)
    grid = grid_of(config, n_axes, pixel_size_um, source=annotation.source)
    return _weigh(annotation, Formula(config, grid), n_axes)


def _weigh(annotation: Annotation, formula: Formula, n_axes: int) -> NDArray[Any]:
    """Return the map field by field and block by block, in the formula's dtype."""
    factors = factors_of(annotation, formula)
    cells, labels = annotation.cells(), annotation.labels
    weights = np.empty(labels.shape, formula.dtype)
    for index in np.ndindex(labels.shape[:-n_axes]):
        field = weights[index]
        _border(cells[index], formula, field)
        for part in blocks(field.shape, SMALL_BLOCK_PX):
            classes = classes_of(labels[index][part], annotation.label_class)
            known = annotation.is_known[index][part]
            base = formula.base(classes, formula.far_distances(cells[index], part))
            border = np.where(classes == 0, field[part], 0)
            field[part] = combine(classes, known, factors, base, border)
    return weights


def _border(cells: NDArray[np.int32], formula: Formula, out: NDArray[Any]) -> None:
    """Write the border term of a field."""
    for block in blocks(cells.shape):
        out[block] = formula.border(cells, cells[block] == 0, block)


def factors_of(annotation: Annotation, formula: Formula) -> NDArray[Any]:
    """Return w_c of each class, all 1 unless the classes are to be balanced."""
    if formula.config.balance_classes:
        return np.asarray(class_weights(annotation), formula.dtype)
    return np.ones(len(annotation.class_names), formula.dtype)


def explain_pixel(
    annotation_cut: Annotation,
    position: tuple[int, ...],
    config: WeightConfig,
    *,
    n_dims: int = 2,
    pixel_size_um: Sequence[float] | None = None,
    factors: Sequence[float] | None = None,
) -> PixelWeight:
    """Return how the weight of one pixel comes about.

    Parameters
    ----------
    annotation_cut : Annotation, shape ([T,] [Z,] Y, X)
        Touching cells are cut apart already (`cut_annotation`).
    position : tuple of int
        Index of the pixel.
    config : WeightConfig
        The formula and its numbers.
    n_dims : int
        2 takes each plane of a stack by itself, 3 takes volumes.
    pixel_size_um : sequence of float, optional
        Size of a pixel along ([Z,] Y, X), for sigmas in micrometres.
    factors : sequence of float, optional
        One factor a class, where they are known already.

    Returns
    -------
    PixelWeight
        Its `weight` is the value of the map there.

    Raises
    ------
    ConfigError
        The unit is um but the pixel size is not known (NU-C07).

    Examples
    --------
    >>> import numpy as np
    >>> annotation = Annotation.complete(np.array([[1, 0, 0, 0, 2]]))
    >>> pixel = explain_pixel(annotation, (0, 1), WeightConfig())
    >>> pixel.d1, pixel.first, pixel.d2, pixel.second, round(pixel.weight, 2)
    (1.0, 1, 3.0, 2, 8.26)
    """
    check_n_dims(n_dims, annotation_cut.labels.ndim, source=annotation_cut.source)
    grid = grid_of(config, n_dims, pixel_size_um, source=annotation_cut.source)
    formula = Formula(config, grid)
    if factors is None:
        w_c = factors_of(annotation_cut, formula)
    else:
        w_c = np.asarray(factors, formula.dtype)
    kind = classes_of(
        annotation_cut.labels[position].reshape(1), annotation_cut.label_class
    )
    return explain(
        annotation_cut.cells()[position[:-n_dims]],
        position[-n_dims:],
        formula,
        class_index=int(kind[0]),
        is_known=bool(annotation_cut.is_known[position]),
        factors=w_c,
    )
