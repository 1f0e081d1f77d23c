"""What is painted on a window of a plane: strokes, objects, and another scale."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.windows import within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_unet.events import Region, Stroke
    from napari_unet.imaging.arrays import Annotation
    from napari_unet.imaging.windows import Window


def objects_of(annotation: Annotation) -> NDArray[np.int32]:
    """Return what predicted labels are compared with: cells, or else areas."""
    n_classes = len(annotation.class_names)
    if set(range(1, n_classes)) <= annotation.area_classes:
        return annotation.class_map().astype(np.int32)
    return annotation.cells()


def with_lost_cells(
    labels: NDArray[np.int32], before: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return scaled labels with a pixel for each id that fell between the new pixels.

    Examples
    --------
    >>> before = np.array([[0, 0, 0, 0, 5, 0, 0, 0]], np.int32)
    >>> with_lost_cells(np.zeros((1, 2), np.int32), before)
    array([[0, 5]], dtype=int32)
    """
    lost = np.setdiff1d(before, labels)
    lost = lost[lost > 0]
    if not lost.size:
        return labels
    found = labels.copy()
    for i in lost.tolist():
        at = np.argwhere(before == i)
        middle = at[len(at) // 2]
        place = tuple(
            min(int((k + 0.5) * n / m), n - 1)
            for k, n, m in zip(middle, labels.shape, before.shape, strict=True)
        )
        if found[place] == 0:
            found[place] = i
    return found


def pasted(given: Annotation, view: Region, stroke: Stroke) -> Annotation:
    """Return an annotation of a view with a stroke painted over it."""
    both = overlap_of(view, stroke.region)
    if both is None:
        return given
    own, other = within(both, view.slices), within(both, stroke.region.slices)
    labels, known = given.labels.copy(), given.is_known.copy()
    labels[own], known[own] = stroke.labels[other], stroke.known[other]
    fresh = np.unique(stroke.labels[other]).tolist()
    kinds: Mapping[int, int] = {
        **given.label_class,
        **{i: stroke.label_class.get(i, 1) for i in fresh if i > 0},
    }
    return replace(given, labels=labels, known=known, label_class=kinds)


def overlap_of(a: Region, b: Region) -> Window | None:
    """Return where two regions overlap, in pixels of their plane; None if nowhere."""
    if (a.image, a.plane) != (b.image, b.plane):
        return None
    sides = [
        slice(max(s.start, t.start), min(s.stop, t.stop))
        for s, t in zip(a.slices, b.slices, strict=True)
    ]
    is_some = all(side.start < side.stop for side in sides)
    return tuple(sides) if is_some else None
