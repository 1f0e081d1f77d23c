"""The weight map of one field, kept up to date while it is painted."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.imaging.distances import distance_sums, nearest_distances
from napari_unet.imaging.live_cells import LiveCells
from napari_unet.imaging.pixel_weights import explain
from napari_unet.imaging.weight_formulas import (
    Formula,
    class_factors,
    combine,
    grid_of,
)
from napari_unet.imaging.windows import blocks, grow, hull, shifted, whole

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.config import WeightConfig
    from napari_unet.imaging.arrays import Annotation
    from napari_unet.imaging.pixel_weights import PixelWeight
    from napari_unet.imaging.windows import Window


class LiveWeights:
    """The weight map of one plane, or of one volume, while it is painted.

    `weights` is to the bit what `make_target` gives for the same annotation. After a
    stroke only the window is computed again whose weights can change: the cells that
    the stroke touches, grown by the reach of the formula. (Where the sizes of a pixel
    have no common measure, distances that are equal may differ in their last bit.)

    For one thread at a time.

    Parameters
    ----------
    annotation : Annotation, shape ([Z,] Y, X)
        One field: what is painted when painting begins.
    config : WeightConfig
        The formula and its numbers.
    pixel_size_um : sequence of float, optional
        Size of a pixel along ([Z,] Y, X), for sigmas in micrometres.
    other_counts : sequence of int
        Known pixels of each class on the other planes of its stack: classes are
        balanced over all of them.

    Attributes
    ----------
    weights : ndarray of float32
        The map; changed in place.
    border : ndarray of float32
        The border term alone; changed in place.
    class_factors : tuple of float
        w_c of each class; 1 unless the config balances classes.
    class_counts : tuple of int
        Known pixels of each class, after touching cells were cut apart.

    Raises
    ------
    ConfigError
        The unit is um but the pixel size is not known (NU-C07).

    Examples
    --------
    >>> from napari_unet.config import WeightConfig
    >>> from napari_unet.imaging.arrays import Annotation
    >>> painted = np.zeros((1, 200), np.int32)
    >>> painted[0, [0, 90]] = 1, 2
    >>> live = LiveWeights(Annotation.complete(painted), WeightConfig())
    >>> painted[0, 4] = 3
    >>> live.update(painted)
    (slice(0, 1, None), slice(0, 44, None))
    >>> live.weights[0, :6].round(1)
    array([1. , 8.3, 8.3, 8.3, 1. , 5.9], dtype=float32)
    """

    def __init__(
        self,
        annotation: Annotation,
        config: WeightConfig,
        *,
        pixel_size_um: Sequence[float] | None = None,
        other_counts: Sequence[int] = (),
    ) -> None:
        shape = annotation.labels.shape
        self._source = annotation.source
        self._pixel_size_um = pixel_size_um
        self._other_counts = tuple(other_counts)
        self._formula = self._formula_of(config, len(shape))
        self._cells = LiveCells(annotation)
        # Distances, and how far they were looked for.
        self._reach = self._far_reach = 0.0
        self._sums = np.empty(shape)
        self._d1: NDArray[np.float64] | None = None
        self._base: NDArray[np.float32] = np.ones(shape, np.float32)
        self.class_factors: tuple[float, ...] = (1.0,) * len(self.class_counts)
        self.border: NDArray[np.float32] = np.zeros(shape, np.float32)
        self.weights: NDArray[np.float32] = np.zeros(shape, np.float32)
        self._measure_all_sums()
        self._measure_all_d1()
        self._weigh(whole(shape))

    @property
    def config(self) -> WeightConfig:
        """The formula and its numbers."""
        return self._formula.config

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Known pixels of each class, after touching cells were cut apart."""
        return tuple(self._cells.counts.tolist())

    def update(
        self,
        labels: NDArray[Any],
        *,
        label_class: Mapping[int, int] | None = None,
        known: NDArray[np.bool_] | None = None,
        area_classes: Collection[int] | None = None,
    ) -> Window | None:
        """Take what is painted now; compute again what changed.

        Parameters
        ----------
        labels : ndarray of int
            What is painted, in the field's shape. It is compared with what was seen
            last, and not kept.
        label_class : mapping of int to int, optional
            Id -> class; None is as before.
        known : ndarray of bool, optional
            Where pixels, if nothing is painted on them, are background; None is as
            before. What was painted when this object was made is unknown when it is
            erased, unless all that was not painted was known.
        area_classes : collection of int, optional
            Classes that are no single cells; None is as before.

        Returns
        -------
        tuple of slice, or None
            The window whose weights may have changed; None if nothing changed.

        Raises
        ------
        LabelError
            Another shape (NU-L02), or what is painted is no label image (NU-L01).
        """
        moved, touched = self._cells.take(
            labels, label_class=label_class, known=known, area_classes=area_classes
        )
        if moved is not None:
            touched = hull(touched, self._measure_around(moved))
        return None if touched is None else self._weigh(touched)

    def set_config(
        self, config: WeightConfig, *, is_final: bool = True
    ) -> Window | None:
        """Take another formula or other numbers.

        Distances that are known are used again as far as they reach.

        Parameters
        ----------
        config : WeightConfig
            The formula and its numbers.
        is_final : bool
            False, as while a slider is dragged, does with the distances at hand even
            if they don't reach quite as far as the new numbers.

        Returns
        -------
        tuple of slice, or None
            The window whose weights may have changed; None if nothing changed.

        Raises
        ------
        ConfigError
            The unit is um but the pixel size is not known (NU-C07).
        """
        before, formula = self._formula, self._formula_of(config, self.weights.ndim)
        self._formula = formula
        is_new_grid = formula.grid != before.grid
        sums_fall_short = self._reach < formula.reach
        d1_falls_short = self._far_reach < formula.far_reach
        if is_new_grid or (sums_fall_short and is_final):
            self._measure_all_sums()
        elif not (d1_falls_short and is_final) and config == before.config:
            return None
        if is_new_grid or (d1_falls_short and (is_final or self._d1 is None)):
            self._measure_all_d1()
        return self._weigh(whole(self.weights.shape))

    def set_other_counts(self, counts: Sequence[int]) -> Window | None:
        """Take how many pixels of each class are known on the stack's other planes.

        Returns
        -------
        tuple of slice, or None
            The window whose weights may have changed; None if nothing changed.
        """
        if tuple(counts) == self._other_counts:
            return None
        self._other_counts = tuple(counts)
        window = self._weigh(tuple(slice(0, 0) for _ in self.weights.shape))
        return window if self.weights[window].size else None

    def explain(self, position: tuple[int, ...]) -> PixelWeight:
        """Return how the weight of a pixel comes about.

        Parameters
        ----------
        position : tuple of int
            Index of the pixel in the field.
        """
        return explain(
            self._cells.ids,
            position,
            self._formula,
            class_index=int(self._cells.classes[position]),
            is_known=bool(self._cells.known[position]),
            factors=np.asarray(self.class_factors, np.float32),
        )

    def _formula_of(self, config: WeightConfig, n_axes: int) -> Formula:
        grid = grid_of(config, n_axes, self._pixel_size_um, source=self._source)
        return Formula(config, grid)

    def _grown(self, window: Window, reach: float) -> Window:
        margins = self._formula.grid.margins(reach)
        return grow(window, margins, self.weights.shape)

    def _measure_around(self, moved: Window) -> Window:
        """Measure again all distances that cells in a window can change."""
        # Distances from before may reach further than is of use now.
        self._reach = min(self._reach, self._formula.search_reach)
        self._far_reach = min(self._far_reach, self._formula.far_search_reach)
        near = self._grown(moved, self._reach)
        self._measure_sums(near)
        if self._far_reach == 0:
            self._d1 = None
        if self._d1 is None:
            return near
        far = self._grown(moved, self._far_reach)
        self._measure_d1(self._d1, far)
        return hull(near, far)

    def _measure_all_sums(self) -> None:
        self._reach = self._formula.search_reach
        self._measure_sums(whole(self.weights.shape))

    def _measure_all_d1(self) -> None:
        self._far_reach, self._d1 = self._formula.far_search_reach, None
        if self._far_reach > 0:
            self._d1 = np.empty(self.weights.shape)
            self._measure_d1(self._d1, whole(self.weights.shape))

    def _measure_sums(self, window: Window) -> None:
        grid = self._formula.grid
        for block in blocks(self._sums[window].shape):
            part = shifted(block, window)
            self._sums[part] = distance_sums(self._cells.ids, part, self._reach, grid)

    def _measure_d1(self, d1: NDArray[np.float64], window: Window) -> None:
        grid = self._formula.grid
        d1[window] = nearest_distances(self._cells.ids, window, self._far_reach, grid)

    def _weigh(self, window: Window) -> Window:
        """Weigh a window anew, or everything if the class factors changed."""
        classes, known = self._cells.classes[window], self._cells.known[window]
        sums = np.where(known & (classes == 0), self._sums[window], np.inf)
        self.border[window] = self._formula.border_term(sums)
        d1 = None if self._d1 is None else self._d1[window]
        self._base[window] = self._formula.base(classes, d1)
        factors = (1.0,) * len(self.class_counts)
        if self.config.balance_classes:
            pairs = zip_longest(self.class_counts, self._other_counts, fillvalue=0)
            factors = class_factors([a + b for a, b in pairs])
        if factors != self.class_factors:
            self.class_factors, window = factors, whole(self.weights.shape)
        self.weights[window] = combine(
            self._cells.classes[window],
            self._cells.known[window],
            np.asarray(factors, np.float32),
            self._base[window],
            self.border[window],
        )
        return window
