"""The weight map of one field, kept up to date while it is painted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.imaging.arrays import as_label_ids, classes_of
from napari_unet.imaging.distances import (
    blocks,
    box_of,
    boxes,
    distance_sums,
    grow,
    hull,
    nearest_distances,
    shifted,
    whole,
    within,
)
from napari_unet.imaging.pixel_weights import explain
from napari_unet.imaging.targets import gaps
from napari_unet.imaging.weight_formulas import (
    Formula,
    class_factors,
    combine,
    grid_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.config import WeightConfig
    from napari_unet.imaging.arrays import Annotation
    from napari_unet.imaging.distances import Window
    from napari_unet.imaging.pixel_weights import PixelWeight


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
    ) -> None:
        shape = annotation.labels.shape
        self._source = annotation.source
        self._pixel_size_um = pixel_size_um
        self._formula = self._formula_of(config, len(shape))
        self._label_class = dict(annotation.label_class)
        self._area_classes = frozenset(annotation.area_classes)
        self._n_classes = len(annotation.class_names)
        self._free_is_known = _known_if_erased(annotation)
        # What was seen last. Nothing is painted yet: all that follows is an update.
        self._painted = np.zeros(shape, np.int32)
        self._boxes: dict[int, Window] = {}
        self._cells = np.zeros(shape, np.int32)
        self._classes = np.zeros(shape, np.int16)
        self._known = self._free_is_known.copy()
        self._counts = np.zeros(self._n_classes, np.int64)
        self._counts[0] = np.count_nonzero(self._known)
        # Distances, and how far they were looked for.
        self._reach = self._far_reach = 0.0
        self._sums = np.empty(shape)
        self._d1: NDArray[np.float64] | None = None
        self._base: NDArray[np.float32] = np.ones(shape, np.float32)
        self.class_factors: tuple[float, ...] = (1.0,) * self._n_classes
        self.border: NDArray[np.float32] = np.zeros(shape, np.float32)
        self.weights: NDArray[np.float32] = np.zeros(shape, np.float32)
        self._see(annotation.labels, whole(shape))
        self._measure_all()
        self._weigh(whole(shape))

    @property
    def config(self) -> WeightConfig:
        """The formula and its numbers."""
        return self._formula.config

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Known pixels of each class, after touching cells were cut apart."""
        return tuple(self._counts.tolist())

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
        labels = np.asarray(labels)
        self._check_shape(labels.shape)
        known = None if known is None else np.asarray(known, bool)
        if known is not None:
            self._check_shape(known.shape)
        changed = box_of(labels != self._painted)
        if changed is not None:
            as_label_ids(labels[changed], source=self._source, copy=False)
        if known is not None:
            changed = hull(changed, box_of(known != self._free_is_known))
        changed = hull(changed, self._take_classes(label_class, area_classes))
        if changed is None:
            return None
        if known is not None:
            self._free_is_known[changed] = known[changed]
        return self._refresh(labels, changed)

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
        falls_short = self._reach < formula.reach or self._far_reach < formula.far_reach
        needs_d1 = formula.far_reach > 0 and self._d1 is None
        if formula.grid != before.grid or needs_d1 or (falls_short and is_final):
            self._measure_all()
        elif config == before.config:
            return None
        return self._weigh(whole(self.weights.shape))

    def explain(self, position: tuple[int, ...]) -> PixelWeight:
        """Return how the weight of a pixel comes about.

        Parameters
        ----------
        position : tuple of int
            Index of the pixel in the field.
        """
        return explain(
            self._cells,
            position,
            self._formula,
            class_index=int(self._classes[position]),
            is_known=bool(self._known[position]),
            factors=np.asarray(self.class_factors, np.float32),
        )

    def _formula_of(self, config: WeightConfig, n_axes: int) -> Formula:
        grid = grid_of(config, n_axes, self._pixel_size_um, source=self._source)
        return Formula(config, grid)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self.weights.shape:
            raise LabelError(
                "NU-L02",
                f"{self._source} has shape {shape} but its weights have shape "
                f"{self.weights.shape}: begin anew with another field",
            )

    def _is_cell(self, kind: int) -> bool:
        return kind != 0 and kind not in self._area_classes

    def _take_classes(
        self,
        label_class: Mapping[int, int] | None,
        area_classes: Collection[int] | None,
    ) -> Window | None:
        """Return the window of the painted ids that are of another kind now."""
        before = {i: self._kind(i) for i in self._boxes}
        if label_class is not None:
            self._label_class = dict(label_class)
            self._n_classes = max(
                self._n_classes, 1 + max(label_class.values(), default=0)
            )
            self._counts.resize(self._n_classes, refcheck=False)
        if area_classes is not None:
            self._area_classes = frozenset(area_classes)
        window: Window | None = None
        for i, box in self._boxes.items():
            if before[i] != self._kind(i):
                window = hull(window, box)
        return window

    def _kind(self, i: int) -> tuple[int, bool]:
        kind = self._label_class.get(i, 1)
        return kind, self._is_cell(kind)

    def _refresh(self, labels: NDArray[Any], changed: Window) -> Window | None:
        moved, touched = self._see(labels, changed)
        if moved is not None:
            touched = hull(touched, self._measure_around(moved))
        return None if touched is None else self._weigh(touched)

    def _see(
        self, labels: NDArray[Any], changed: Window
    ) -> tuple[Window | None, Window | None]:
        """Take over what is painted in a window, and cut touching cells apart again.

        Returns the windows in which cells changed, and in which classes or what is
        known changed.
        """
        # A cell that has a pixel here or beside may be cut in another way now, as
        # far as it goes: whether it would vanish depends on all its pixels.
        around = self._grown(changed)
        ids = set(np.unique(self._painted[around]).tolist())
        self._painted[changed] = labels[changed]
        ids |= set(np.unique(self._painted[around]).tolist())
        ids = {i for i in ids if i > 0}
        cell_ids = [i for i in ids if self._kind(i)[1]]
        window = changed
        for i in ids:
            self._boxes[i] = hull(self._boxes.get(i), changed)
        for i in cell_ids:
            window = hull(window, self._boxes[i])
        self._fit_boxes(ids, window)
        return self._take_over(window, *self._cut(window, cell_ids))

    def _fit_boxes(self, ids: Collection[int], window: Window) -> None:
        """Make the boxes of ids tight again where all of them is in a window."""
        found = dict(boxes(self._painted[window]))
        for i in ids:
            if hull(self._boxes[i], window) != window:
                continue
            if i in found:
                self._boxes[i] = shifted(found[i], window)
            else:
                del self._boxes[i]

    def _cut(
        self, window: Window, cell_ids: Collection[int]
    ) -> tuple[NDArray[np.int32], NDArray[np.int16], NDArray[np.bool_]]:
        """Return the cut cells, classes and what is known in a window.

        The cells of `cell_ids` lie in the window as a whole; others are as before.
        """
        around = self._grown(window)
        inside = within(window, around)
        classes = classes_of(self._painted[around], self._label_class)
        is_cell = np.array([self._is_cell(kind) for kind in range(self._n_classes)])
        cells = np.where(is_cell[classes], self._painted[around], 0)
        cut = np.where(gaps(cells), 0, cells)[inside]
        cells, classes = cells[inside], classes[inside]
        others = (cells > 0) & ~np.isin(cells, list(cell_ids))
        cut = np.where(others, self._cells[window], cut)
        classes[(cells > 0) & (cut == 0)] = 0
        painted = self._painted[window]
        known = (self._free_is_known[window] & (painted == 0)) | (painted > 0)
        return cut, classes, known

    def _take_over(
        self,
        window: Window,
        cells: NDArray[np.int32],
        classes: NDArray[np.int16],
        known: NDArray[np.bool_],
    ) -> tuple[Window | None, Window | None]:
        old_classes, old_known = self._classes[window], self._known[window]
        n = self._n_classes
        self._counts -= np.bincount(old_classes[old_known], minlength=n)
        self._counts += np.bincount(classes[known], minlength=n)
        moved = box_of(cells != self._cells[window])
        touched = box_of((classes != old_classes) | (known != old_known))
        self._cells[window], self._classes[window] = cells, classes
        self._known[window] = known
        return shifted(moved, window), shifted(touched, window)

    def _grown(self, window: Window, reach: float | None = None) -> Window:
        """Return a window grown by a reach, or by one pixel."""
        shape, grid = self.weights.shape, self._formula.grid
        margins = (1,) * len(shape) if reach is None else grid.margins(reach)
        return grow(window, margins, shape)

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

    def _measure_all(self) -> None:
        everything = whole(self.weights.shape)
        self._reach = self._formula.search_reach
        self._far_reach = self._formula.far_search_reach
        self._measure_sums(everything)
        self._d1 = None
        if self._far_reach > 0:
            self._d1 = np.empty(self.weights.shape)
            self._measure_d1(self._d1, everything)

    def _measure_sums(self, window: Window) -> None:
        grid = self._formula.grid
        for block in blocks(self._sums[window].shape):
            part = shifted(block, window)
            self._sums[part] = distance_sums(self._cells, part, self._reach, grid)

    def _measure_d1(self, d1: NDArray[np.float64], window: Window) -> None:
        grid = self._formula.grid
        d1[window] = nearest_distances(self._cells, window, self._far_reach, grid)

    def _weigh(self, window: Window) -> Window:
        """Weigh a window anew, or everything if the class factors changed."""
        classes, known = self._classes[window], self._known[window]
        sums = np.where(known & (classes == 0), self._sums[window], np.inf)
        self.border[window] = self._formula.border_term(sums)
        d1 = None if self._d1 is None else self._d1[window]
        self._base[window] = self._formula.base(classes, d1)
        factors = (1.0,) * self._n_classes
        if self.config.balance_classes:
            factors = class_factors(self.class_counts)
        if factors != self.class_factors:
            self.class_factors, window = factors, whole(self.weights.shape)
        self.weights[window] = combine(
            self._classes[window],
            self._known[window],
            np.asarray(factors, np.float32),
            self._base[window],
            self.border[window],
        )
        return window


def _known_if_erased(annotation: Annotation) -> NDArray[np.bool_]:
    """Return where pixels, if nothing is painted on them, are background."""
    unpainted = annotation.labels == 0
    known: NDArray[np.bool_] = annotation.is_known
    if unpainted.any() and known.all():
        return np.ones(known.shape, bool)
    erased: NDArray[np.bool_] = known & unpainted
    return erased
