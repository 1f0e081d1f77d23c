"""Corrections of painted cells <-> Labels layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.widgets._autosave import adopt_painted
from napari_unet.widgets._class_colors import N_SHADES
from napari_unet.widgets._layers import about, note_about
from napari_unet.widgets._painting import next_id, redraw

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer

    from napari_unet.imaging.edits import Edit


def as_annotation(viewer: ViewerModel, labels: Labels) -> Labels:
    """Return a layer, which becomes an annotation if it is none."""
    if "label_class" not in about(labels):
        adopt_painted(viewer, labels)
    return labels


def on_screen(viewer: ViewerModel, labels: Layer, n_axes: int = 2) -> tuple[int, ...]:
    """Return the index of the plane (or volume) of `n_axes` last axes on screen.

    Raises
    ------
    LabelError
        Another plane is shown than that of Y and X, or none of the layer (NU-L10).
    """
    n_more = viewer.dims.ndim - labels.ndim
    last = {labels.ndim - 2, labels.ndim - 1}
    if n_axes == 2 and {i - n_more for i in viewer.dims.displayed} != last:
        raise LabelError(
            "NU-L10",
            f'labels "{labels.name}" are edited slice by slice: show their last two '
            "axes (Y and X) in 2D",
        )
    position = labels.world_to_data(viewer.dims.point)[: labels.ndim - n_axes]
    place = tuple(round(float(i)) for i in position)
    for i, n in zip(place, labels.data.shape, strict=False):
        if not 0 <= i < n:
            raise LabelError(
                "NU-L10",
                f'labels "{labels.name}" have no slice here: go to one of their slices',
            )
    return place


def free_id(labels: Labels, *, beside: int) -> int:
    """Return an id for a cell that an edit makes; those that follow are free, too.

    Not that of the cell that the user is about to paint, and one of another shade
    than the cell `beside`: else a cut would not be seen where classes have colours.
    """
    i, selected = next_id(labels), int(labels.selected_label)
    last = np.iinfo(np.int32).max - 1
    if i <= selected < last:
        i = selected + 1
    return i + 1 if (i - beside) % N_SHADES == 0 and i < last else i


def apply_edit(labels: Labels, edit: Edit, place: tuple[int, ...] = ()) -> None:
    """Change painted pixels as one step of napari's undo.

    Parameters
    ----------
    labels : napari Labels layer
        An annotation; cells that are new get the class of the one they come from.
    edit : Edit
        What to change.
    place : tuple of int
        Index of the plane or volume that the edit was made for.
    """
    label_class = about(labels)["label_class"]
    inherited = {
        i: label_class[parent]
        for i, parent in edit.parents.items()
        if label_class.get(parent, 1) != 1
    }
    # Before the pixels: who hears of them looks at the classes.
    if inherited:
        note_about(labels, label_class={**label_class, **inherited})
    before = tuple(np.full(len(edit.values), i, np.intp) for i in place)
    labels.data_setitem((*before, *edit.indices), edit.values)
    redraw(labels)
