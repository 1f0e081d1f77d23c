"""What the Annotate widget does to layers: annotations and brushes."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_unet.errors import LabelError
from napari_unet.imaging.arrays import as_label_ids
from napari_unet.widgets._class_colors import draw_classes
from napari_unet.widgets._classes import (
    CLASS_NAMES,
    class_of,
    classes_of,
    note_classes,
    without_class,
)
from napari_unet.widgets._finished import add_regions
from napari_unet.widgets._largest_id import largest_id
from napari_unet.widgets._layers import (
    META,
    about,
    image_from_layers,
    layer_choices,
    lies_on,
    note_about,
    placed_like,
    unwrapped,
)

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_unet.files.annotations import StoredAnnotation, Unpainted


def image_key(layer: Layer) -> str:
    """Return what an image is known by in later sessions: its file, or its name."""
    path = layer.source.path
    if path:
        return str(Path(path).resolve())
    return f"{layer.name} {tuple(layer.data.shape)}"


def image_of(
    viewer: ViewerModel, labels: Labels, preferred: ImageLayer | None = None
) -> ImageLayer | None:
    """Return the image that labels were made for, or else one at the same place.

    Of several at that place it is the preferred one, or else the topmost; None where
    there is none.
    """
    images = layer_choices(viewer, "image")
    reference = about(labels).get("image")
    made_for: ImageLayer | None = None if reference is None else reference()
    if made_for in images:
        return made_for
    found = [image for image in images if lies_on(labels, image)]
    return preferred if preferred in found else next(iter(found), None)


def new_annotation(
    viewer: ViewerModel, image_layer: ImageLayer, axes: str | None = None
) -> Labels:
    """Add an empty annotation of an image, ready to paint the first cell.

    Axes that the user names become the axis labels of the image layer, so that they
    are not asked for again.

    Raises
    ------
    ImageError
        Axes that nobody named (NU-I09); see `image_from_layers`.
    """
    shape = image_from_layers([image_layer], axes).shape
    if axes is not None:
        image_layer.axis_labels = tuple(axes.lower())
    labels = _add_labels(
        viewer,
        image_layer,
        np.zeros(shape, np.int32),
        f"{image_layer.name} cells",
        {"label_class": {}, "class_names": CLASS_NAMES, "unpainted": "unknown"},
    )
    paint_with(viewer, labels, 1, next_free=2)
    return labels


def open_annotation(
    viewer: ViewerModel, image_layer: ImageLayer, stored: StoredAnnotation, *, name: str
) -> Labels:
    """Add an annotation on top of its image, with its finished regions.

    Raises
    ------
    LabelError
        Of another shape than the image (NU-L02).
    """
    annotation = stored.annotation
    shape = tuple(image_layer.data.shape[: image_layer.ndim])
    if annotation.labels.shape not in (shape, shape[1:]):
        raise LabelError(
            "NU-L02",
            f"{annotation.source} is of shape {annotation.labels.shape} but image "
            f'"{image_layer.name}" is of shape {shape}: choose the image that was '
            "annotated",
        )
    known = metadata_of(stored)
    labels = _add_labels(viewer, image_layer, annotation.labels, name, known)
    redraw(labels)
    if stored.regions:
        add_regions(viewer, labels, stored.regions)
    unwrapped(viewer).layers.selection.active = labels
    return labels


def metadata_of(stored: StoredAnnotation) -> dict[str, Any]:
    """Return what the layer of an annotation notes about it (see `_layers.about`)."""
    annotation = stored.annotation
    # Every id that is not named is of class 1; the id of an area is.
    plain = {1} - annotation.area_classes
    return {
        "label_class": {
            i: c for i, c in annotation.label_class.items() if c not in plain
        },
        "class_names": annotation.class_names,
        "class_colors": annotation.class_colors,
        "area_classes": annotation.area_classes,
        "unpainted": stored.unpainted or "unknown",
    }


def _add_labels(
    viewer: ViewerModel,
    image_layer: ImageLayer,
    ids: NDArray[np.int32],
    name: str,
    known: dict[str, Any],
) -> Labels:
    metadata = {META: {**known, "image": weakref.ref(unwrapped(image_layer))}}
    place = placed_like(image_layer, ids.ndim)
    labels = Labels(ids, name=name, metadata=metadata, **place)
    unwrapped(viewer).add_layer(labels)
    return labels


def adopt(labels: Labels, image_layer: ImageLayer | None = None) -> None:
    """Make any Labels layer an annotation (of an image); one that is stays as it is.

    A result of ours is not updated any more: it belongs to the user now. Ids become
    int32, because in a smaller type napari would stay on the largest id, and paint
    the next cell into another one; data of dask, in which napari can't paint, are read.
    Negative ids stay: what is ignored is seen, and may be made a cell.

    Raises
    ------
    LabelError
        Labels in several resolutions (NU-L07), or ids that don't fit (NU-L01).
    """
    if "label_class" in about(labels):
        return
    source = f'labels "{labels.name}"'
    if getattr(labels, "multiscale", False):
        raise LabelError(
            "NU-L07",
            f"{source} come in several resolutions (multiscale), which napari can't "
            "paint in: add the finest one as a layer of its own, and paint in that",
        )
    if not isinstance(labels.data, np.ndarray) or labels.data.dtype != np.int32:
        labels.data = _as_painted(np.asarray(labels.data), source)
    mine: dict[str, Any] = {
        "label_class": {},
        "unpainted": "unknown",
        "image": None if image_layer is None else weakref.ref(unwrapped(image_layer)),
    }
    labels.metadata = {**labels.metadata, META: mine}
    redraw(labels)


def _as_painted(array: NDArray[Any], source: str) -> NDArray[np.int32]:
    ids, is_negative = as_label_ids(array, source=source), array < 0
    negative = array[is_negative].astype(np.int64)
    ids[is_negative] = np.maximum(negative, np.iinfo(np.int32).min)
    return ids


def next_id(labels: Labels) -> int:
    """Return the id of a cell that nobody has painted: one more than the largest."""
    named = list(about(labels)["label_class"])
    largest: int = max(largest_id(labels), *named, 0)
    if largest < np.iinfo(np.int32).max:
        return largest + 1
    used = np.union1d(np.unique(labels.data), named)
    return int(np.setdiff1d(np.arange(1, used.size + 2), used)[0])


def background_id(labels: Labels) -> int:
    """Return the id of the background brush; takes the next free id at first."""
    return _id_of_class(labels, 0)


def brush_id(labels: Labels, class_index: int) -> int:
    """Return the id to paint a class with.

    Background and each area have one id. A cell gets an id that nobody has painted:
    the selected one if it is such a one.
    """
    if not classes_of(labels).is_cell(class_index):
        return _id_of_class(labels, class_index)
    i = int(labels.selected_label)
    if not (_is_cell(labels, i) and i > largest_id(labels)):
        i = next_id(labels)
    if class_of(labels, i) != class_index:
        set_class(labels, i, class_index)
    return i


def _id_of_class(labels: Labels, class_index: int) -> int:
    label_class = about(labels)["label_class"]
    found = [i for i, c in label_class.items() if c == class_index]
    if not found and class_index == 1:
        # Ids that are not named are of class 1.
        painted = np.unique(labels.data)
        found = np.setdiff1d(painted[painted > 0], [*label_class]).tolist()
    i = int(min(found)) if found else next_id(labels)
    if i not in label_class:
        set_class(labels, i, class_index)
    return i


def _is_cell(labels: Labels, i: int) -> bool:
    return i > 0 and classes_of(labels).is_cell(class_of(labels, i))


def set_class(labels: Labels, i: int, class_index: int) -> None:
    """Note the class of an id."""
    label_class = about(labels)["label_class"]
    note_about(labels, label_class={**label_class, i: class_index})


def current_class(labels: Labels) -> int:
    """Return the class of the next cell: that of the selected one, or of the last."""
    if _is_cell(labels, labels.selected_label):
        return class_of(labels, labels.selected_label)
    last = int(about(labels).get("class_brush", 1))
    return last if 0 < last < len(classes_of(labels)) else 1


def paint_class(viewer: ViewerModel, labels: Labels, class_index: int) -> None:
    """Paint background, an area, or a new cell of a class.

    Raises
    ------
    LabelError
        There is no such class (NU-L06).
    """
    _check_class(labels, class_index)
    if class_index and about(labels).get("class_brush", 1) != class_index:
        note_about(labels, class_brush=class_index)
    paint_with(viewer, labels, brush_id(labels, class_index))


def give_class(labels: Labels, i: int, class_index: int) -> None:
    """Make a painted cell one of another class.

    Raises
    ------
    LabelError
        There is no such class (NU-L06), or the id is not a cell's (NU-L04).
    """
    _check_class(labels, class_index)
    if not _is_cell(labels, i):
        raise LabelError(
            "NU-L04",
            "no cell is chosen: hold the mouse over a cell, or pick it, and press "
            "the key again",
        )
    set_class(labels, i, class_index)
    redraw(labels)


def _check_class(labels: Labels, class_index: int) -> None:
    n = len(classes_of(labels)) - 1
    if not 0 <= class_index <= n:
        raise LabelError(
            "NU-L06",
            f"there is no class {class_index}, only {n}: add it with “+” first",
        )


def cell_in_hand(viewer: ViewerModel, labels: Labels) -> int:
    """Return the id of the cell under the mouse, or else the selected one."""
    viewer = unwrapped(viewer)
    i = 0
    if viewer.mouse_over_canvas and len(viewer.dims.displayed) == 2:
        i = labels.get_value(viewer.cursor.position, world=True) or 0
    return int(i if _is_cell(labels, i) else labels.selected_label)


def is_used(labels: Labels, class_index: int) -> bool:
    """Return whether something is painted as a class."""
    label_class = about(labels)["label_class"]
    ids = [i for i, c in label_class.items() if c == class_index]
    if class_index == 1:
        others = [i for i, c in label_class.items() if c != 1]
        return bool((~np.isin(labels.data, others) & (labels.data > 0)).any())
    return bool(np.isin(labels.data, ids).any())


def remove_class(labels: Labels, class_index: int) -> None:
    """Remove a class; what is painted stays, as class 1.

    Raises
    ------
    LabelError
        Background, or the only class (NU-L06).
    """
    classes = classes_of(labels).without(class_index)
    label_class = without_class(about(labels)["label_class"], class_index)
    note_classes(labels, classes, label_class)
    redraw(labels)


def redraw(labels: Labels) -> None:
    """Show classes as they are now."""
    draw_classes(labels, next_id(labels))


def paint_with(
    viewer: ViewerModel, labels: Labels, i: int, *, next_free: int | None = None
) -> None:
    """Paint with the id `i` in a layer; `next_free` is its `next_id` where known."""
    # Before it is selected: napari shows the colour that an id has at that moment.
    draw_classes(labels, next_id(labels) if next_free is None else next_free)
    labels.selected_label = i
    if labels.mode not in ("paint", "polygon"):
        labels.mode = "paint"
    unwrapped(viewer).layers.selection.active = labels


def erase(viewer: ViewerModel, labels: Labels) -> None:
    """Erase with the brush."""
    labels.mode = "erase"
    unwrapped(viewer).layers.selection.active = labels


def set_unpainted(labels: Labels, unpainted: Unpainted) -> None:
    """Note what is not painted in an annotation."""
    note_about(labels, unpainted=unpainted)
