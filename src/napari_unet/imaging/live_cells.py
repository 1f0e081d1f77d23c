"""What is painted in one field, cut apart, kept up to date stroke by stroke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.imaging.arrays import as_label_ids, classes_of
from napari_unet.imaging.targets import gaps
from napari_unet.imaging.windows import (
    box_of,
    boxes,
    grow,
    hull,
    shifted,
    whole,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Annotation
    from napari_unet.imaging.windows import Window


class Change(NamedTuple):
    """Where something changed; None if nowhere.

    Parameters
    ----------
    moved : tuple of slice, or None
        Where cells changed, after they were cut apart.
    touched : tuple of slice, or None
        Where classes changed, or what is known.
    """

    moved: Window | None = None
    touched: Window | None = None


class LiveCells:
    """One field as `cut_annotation` cuts it, while it is painted.

    Parameters
    ----------
    annotation : Annotation, shape ([Z,] Y, X)
        What is painted when painting begins.

    Attributes
    ----------
    ids : ndarray of int32
        Single cells, touching ones cut apart; 0 is none.
    classes : ndarray of int16
        Class of each pixel; gaps are background.
    known : ndarray of bool
        Where something is known.
    counts : ndarray of int64
        Known pixels of each class.
    """

    def __init__(self, annotation: Annotation) -> None:
        shape = annotation.labels.shape
        self._source = annotation.source
        self._label_class = dict(annotation.label_class)
        self._area_classes = frozenset(annotation.area_classes)
        self._free_is_known = _known_if_erased(annotation)
        # What was seen last, and a box around all pixels of each id. Nothing is
        # painted yet: the annotation comes as the first change.
        self._painted = np.zeros(shape, np.int32)
        self._boxes: dict[int, Window] = {}
        self.ids: NDArray[np.int32] = np.zeros(shape, np.int32)
        self.classes: NDArray[np.int16] = np.zeros(shape, np.int16)
        self.known: NDArray[np.bool_] = self._free_is_known.copy()
        self.counts: NDArray[np.int64] = np.zeros(len(annotation.class_names), np.int64)
        self.counts[0] = np.count_nonzero(self.known)
        self._see(annotation.labels, whole(shape))

    def take(
        self,
        labels: NDArray[Any],
        *,
        label_class: Mapping[int, int] | None = None,
        known: NDArray[np.bool_] | None = None,
        area_classes: Collection[int] | None = None,
    ) -> Change:
        """Take what is painted now; parameters as of `LiveWeights.update`."""
        labels = np.asarray(labels)
        known = self._free_is_known if known is None else np.asarray(known, bool)
        self._check_shape(labels.shape)
        self._check_shape(known.shape)
        changed = box_of(labels != self._painted)
        if changed is not None:
            as_label_ids(labels[changed], source=self._source, copy=False)
        if known is not self._free_is_known:
            changed = hull(changed, box_of(known != self._free_is_known))
        changed = hull(changed, self._take_classes(label_class, area_classes))
        if changed is None:
            return Change()
        self._free_is_known[changed] = known[changed]
        return self._see(labels, changed)

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self.ids.shape:
            raise LabelError(
                "NU-L02",
                f"{self._source} came with shape {shape} but its weights have shape "
                f"{self.ids.shape}: begin anew with a field of another shape",
            )

    def _is_cell(self, kind: int) -> bool:
        return kind != 0 and kind not in self._area_classes

    def _take_classes(
        self,
        label_class: Mapping[int, int] | None,
        area_classes: Collection[int] | None,
    ) -> Window | None:
        """Return the window of the painted ids that are of another kind now."""
        is_same = label_class is None or label_class == self._label_class
        if is_same and area_classes in (None, self._area_classes):
            return None
        before = {i: self._kind(i) for i in self._boxes}
        if label_class is not None:
            self._label_class = dict(label_class)
            n_classes = 1 + max(label_class.values(), default=0)
            n_new = max(n_classes - len(self.counts), 0)
            self.counts = np.pad(self.counts, (0, n_new))
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

    def _see(self, labels: NDArray[Any], changed: Window) -> Change:
        """Take over what is painted in a window, and cut touching cells apart."""
        # A cell that has a pixel here or beside may be cut in another way now, as
        # far as it goes: whether it would vanish depends on all its pixels.
        around = self._with_neighbours(changed)
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
        around = self._with_neighbours(window)
        inside = within(window, around)
        classes = classes_of(self._painted[around], self._label_class)
        is_cell = np.array([self._is_cell(kind) for kind in range(len(self.counts))])
        cells = np.where(is_cell[classes], self._painted[around], 0)
        cut = np.where(gaps(cells), 0, cells)[inside]
        cells, classes = cells[inside], classes[inside]
        others = (cells > 0) & ~np.isin(cells, list(cell_ids))
        cut = np.where(others, self.ids[window], cut)
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
    ) -> Change:
        old_classes, old_known = self.classes[window], self.known[window]
        n = len(self.counts)
        self.counts -= np.bincount(old_classes[old_known], minlength=n)
        self.counts += np.bincount(classes[known], minlength=n)
        moved = box_of(cells != self.ids[window])
        touched = box_of((classes != old_classes) | (known != old_known))
        self.ids[window], self.classes[window] = cells, classes
        self.known[window] = known
        return Change(shifted(moved, window), shifted(touched, window))

    def _with_neighbours(self, window: Window) -> Window:
        return grow(window, (1,) * len(window), self.ids.shape)


def _known_if_erased(annotation: Annotation) -> NDArray[np.bool_]:
    """Return where pixels, if nothing is painted on them, are background."""
    unpainted = annotation.labels == 0
    known: NDArray[np.bool_] = annotation.is_known
    if unpainted.any() and known.all():
        return np.ones(known.shape, bool)
    erased: NDArray[np.bool_] = known & unpainted
    return erased
