"""Fresh strokes on a plane: only what they can change is made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.files.lazy import part_of
from napari_unet.imaging.arrays import Target
from napari_unet.imaging.windows import box_of, grow, hull, within
from napari_unet.learning.data.fields import Painted
from napari_unet.learning.data.painted import overlap_of, pasted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.events import Stroke
    from napari_unet.imaging.windows import Window
    from napari_unet.learning.data.fields import Field
    from napari_unet.learning.data.planes import Plane


def repainted(
    field: Field, plane: Plane, painted: Painted, stroke: Stroke
) -> tuple[Plane, Painted]:
    """Return a field's plane after a stroke; the same as if it were read anew.

    What can change lies within reach of the stroke and of the cells that it touches,
    and depends on cells within reach of that.

    Parameters
    ----------
    field : Field
        To which the plane belongs.
    plane, painted
        As they are now; left alone.
    stroke : Stroke
        What was painted.
    """
    both = overlap_of(field.view, stroke.region)
    if both is None:
        return plane, painted
    given = pasted(painted.given, field.view, stroke)
    scaled = field.scaled(given)
    touched = field.to_working(within(both, field.view.slices))
    old, shape = painted.scaled.labels, field.shape
    touched = grow(touched, (1, 1), shape)
    reach = (field.recipe.reach_px(field.view.image),) * 2
    changes = hull(_cells_in(old, touched), _cells_in(scaled.labels, touched))
    window = grow(hull(touched, changes), reach, shape)
    needed = grow(hull(window, _cells_in(scaled.labels, window)), reach, shape)
    if field.recipe.weights.balance_classes:
        needed = window = tuple(slice(0, n) for n in shape)  # it depends on all of it
    part = field.target_of(part_of(scaled, (), needed), needed)
    target = _replaced(plane.target, part, window, within(window, needed))
    return field.plane_of(plane.image, scaled, target), Painted(given, scaled)


def _cells_in(labels: NDArray[np.int32], window: Window) -> Window | None:
    """Return the window of all cells that have a pixel in a window."""
    ids = np.unique(labels[window])
    return box_of(np.isin(labels, ids[ids > 0]))


def _replaced(target: Target, part: Target, to: Window, of: Window) -> Target:
    """Return a target with a window taken from another."""
    classes, weights, values = target.classes, target.weights.copy(), target.values
    weights[to] = part.weights[of]
    if classes is not None and part.classes is not None:
        classes = classes.copy()
        classes[to] = part.classes[of]
    if values is not None and part.values is not None:
        values = values.copy()
        values[(slice(None), *to)] = part.values[(slice(None), *of)]
    return Target(classes, weights, values)


def touches(field: Field, stroke: Stroke) -> bool:
    """Return whether a stroke lies, at least partly, on a field's own pixels."""
    return overlap_of(field.region, stroke.region) is not None


def fresh_pixels(field: Field, stroke: Stroke, plane: Plane) -> NDArray[np.int64]:
    """Return the pixels where a stroke gave something to learn, as flat indices."""
    both = overlap_of(field.region, stroke.region)
    if both is None:
        return np.empty(0, np.int64)
    window = field.to_working(within(both, field.view.slices))
    inside = np.zeros(plane.shape, bool)
    inside[window] = plane.target.weights[window] > 0
    return np.flatnonzero(inside)
