"""What the Annotate widget does to layers: brushes, classes, colours and counts."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from napari.layers import Labels, Shapes
from napari.utils.colormaps import CyclicLabelColormap, label_colormap

from napari_unet.errors import LabelError
from napari_unet.imaging.arrays import as_label_ids
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
from napari_unet.widgets._painted import CLASS_NAMES, link_regions, regions_layer_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_unet.files.annotations import Region, StoredAnnotation, Unpainted
    from napari_unet.widgets._painted import Painted

# napari's own colours for cells, but for its greys; the grey of the background comes
# back after many more ids than they do.
_N_PLAIN_COLORS = 49
_N_COLORS = 2**14 - 1
_MIN_COLORFULNESS = 0.2
_GREY = (0.65, 0.65, 0.65, 0.55)
# Ids may be sparse and large: the table of names is not.
_N_NAMED_IDS = 10_000
_N_NAMED_AT_ONCE = 500


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
    # Every id that is not named is of class 1.
    named = {i: c for i, c in annotation.label_class.items() if c != 1}
    known = {
        "label_class": named,
        "class_names": annotation.class_names,
        "class_colors": annotation.class_colors,
        "area_classes": annotation.area_classes,
        "unpainted": stored.unpainted or "unknown",
    }
    labels = _add_labels(viewer, image_layer, annotation.labels, name, known)
    _draw_classes(labels)
    if stored.regions:
        add_regions(viewer, labels, stored.regions)
    unwrapped(viewer).layers.selection.active = labels
    return labels


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
        labels.data = as_label_ids(np.asarray(labels.data), source=source)
    mine: dict[str, Any] = {
        "label_class": {},
        "unpainted": "unknown",
        "image": None if image_layer is None else weakref.ref(unwrapped(image_layer)),
    }
    labels.metadata = {**labels.metadata, META: mine}
    _draw_classes(labels)


def next_id(labels: Labels) -> int:
    """Return the id of a cell that nobody has painted: one more than the largest."""
    named = list(about(labels)["label_class"])
    largest: int = max(int(np.max(labels.data)), *named, 0)
    if largest < np.iinfo(np.int32).max:
        return largest + 1
    used = np.union1d(np.unique(labels.data), named)
    return int(np.setdiff1d(np.arange(1, used.size + 2), used)[0])


def background_id(labels: Labels) -> int:
    """Return the id of the background brush; takes the next free id at first."""
    label_class = about(labels)["label_class"]
    for i, c in label_class.items():
        if c == 0:
            return int(i)
    i = next_id(labels)
    note_about(labels, label_class={**label_class, i: 0})
    return i


def paint_with(
    viewer: ViewerModel, labels: Labels, i: int, *, next_free: int | None = None
) -> None:
    """Paint with the id `i` in a layer; `next_free` is its `next_id` where known."""
    labels.selected_label = i
    if labels.mode not in ("paint", "polygon"):
        labels.mode = "paint"
    _draw_classes(labels, next_free)
    unwrapped(viewer).layers.selection.active = labels


def draw_finished(viewer: ViewerModel, labels: Labels) -> Shapes:
    """Draw finished rectangles for an annotation; adds their layer at first."""
    shapes = regions_layer_of(labels) or add_regions(viewer, labels, [])
    unwrapped(viewer).layers.selection.active = shapes
    shapes.mode = "add_rectangle"
    return shapes


def add_regions(
    viewer: ViewerModel, labels: Labels, regions: Iterable[Region]
) -> Shapes:
    """Add the layer of an annotation's finished regions, given in its pixels."""
    corners = [
        np.column_stack([np.tile(plane, (len(vertices), 1)), vertices])
        for plane, vertices in regions
    ]
    shapes = Shapes(
        corners or None,
        ndim=labels.ndim,
        shape_type="polygon",
        name=f"{labels.name.removesuffix(' cells')} finished",
        face_color="transparent",
        edge_color="lime",
        edge_width=max(1.0, max(labels.data.shape) / 400),
        **placed_like(labels, labels.ndim),
    )
    unwrapped(viewer).add_layer(shapes)
    link_regions(viewer, labels, shapes)
    return shapes


def set_unpainted(labels: Labels, unpainted: Unpainted) -> None:
    """Note what is not painted in an annotation."""
    note_about(labels, unpainted=unpainted)


@dataclass(frozen=True)
class Counts:
    """What an annotation holds.

    `n_slices` counts the planes that hold a painted pixel or a finished region.
    """

    n_cells: int
    n_regions: int
    n_slices: int
    n_planes: int


def count(painted: Painted) -> Counts:
    """Count cells, finished regions and annotated planes."""
    cells: set[int] = set()
    planes = {region.plane for region in painted.regions}
    stack_shape = painted.labels.shape[:-2]
    for index in np.ndindex(stack_shape):
        found = set(np.unique(np.asarray(painted.labels[index])).tolist()) - {0}
        cells |= {i for i in found if painted.label_class.get(i, 1) != 0}
        if found:
            planes.add(index)
    n_planes = int(np.prod(stack_shape, dtype=int))
    return Counts(len(cells), len(painted.regions), len(planes), n_planes)


def _draw_classes(labels: Labels, next_free: int | None = None) -> None:
    """Show background in grey, and the class of an id under the cursor.

    Only what is new is given to napari, which takes a tenth of a second for it.
    """
    label_class = about(labels)["label_class"]
    colormap = _colormap(tuple(sorted(i for i, c in label_class.items() if c == 0)))
    if labels.colormap.name != colormap.name:
        labels.colormap = colormap
    # Rounded up: the next cells have their name already.
    n_ids = next_id(labels) if next_free is None else next_free
    n_ids = -(-n_ids // _N_NAMED_AT_ONCE) * _N_NAMED_AT_ONCE
    first = range(1, min(n_ids, _N_NAMED_IDS) + 1)
    ids = [0, *sorted({*first, *label_class, labels.selected_label} - {0})]
    class_names = about(labels).get("class_names", CLASS_NAMES)
    names = [class_names[label_class.get(i, 1)] if i else "not painted" for i in ids]
    features = pd.DataFrame({"index": ids, "class": names})
    if not features.equals(labels.features):
        labels.features = features


@lru_cache(maxsize=16)
def _colormap(grey_ids: tuple[int, ...]) -> CyclicLabelColormap:
    plain = label_colormap(_N_PLAIN_COLORS)
    nothing, cells = plain.colors[:1], plain.colors[1:]
    cells = cells[np.ptp(cells[:, :3], axis=1) > _MIN_COLORFULNESS]
    n_repeats = -(-_N_COLORS // len(cells))
    colors = np.concatenate([nothing, *[cells] * n_repeats])[: _N_COLORS + 1]
    for i in grey_ids:
        colors[(i - 1) % _N_COLORS + 1] = _GREY
    return CyclicLabelColormap(
        colors=colors,
        background_value=0,
        name=f"cells and background {grey_ids}",
        seed=plain.seed,
    )
