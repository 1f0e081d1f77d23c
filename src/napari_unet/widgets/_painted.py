"""What is painted in the layers of an annotation -> Annotation.

Annotate keeps in the Labels layer's metadata (`about`): ``label_class``,
``class_names``, ``class_colors``, ``area_classes``, ``unpainted``, and ``regions``, a
weak reference to the Shapes layer with the finished regions.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.files.annotations import Region, StoredAnnotation, known_pixels
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets._classes import classes_of
from napari_unet.widgets._layers import (
    about,
    full_resolution,
    is_placed_as,
    note_about,
    size_text,
    unwrapped,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Labels, Layer, Shapes
    from numpy.typing import NDArray

    from napari_unet.files.annotations import Unpainted
    from napari_unet.imaging.arrays import Image

_N_ELLIPSE_VERTICES = 64


def check_lies_on(labels_layer: Labels, image_layer: ImageLayer) -> None:
    """Refuse labels that lie elsewhere than the image layer (NU-L02)."""
    if not is_placed_as(labels_layer, image_layer):
        raise LabelError(
            "NU-L02",
            f'labels "{labels_layer.name}" lie elsewhere than image '
            f'"{image_layer.name}", or have pixels of another size: choose labels '
            "that were painted on this image, or give both layers one scale and "
            "translate",
        )


def annotated_image(labels: Labels, images: Sequence[Layer]) -> Layer | None:
    """Return the image that an annotation was made for, or None.

    Parameters
    ----------
    labels : napari Labels layer
        The annotation. What was noted when it was made goes first, then its name,
        which begins with the image's, then where it lies.
    images : sequence of napari Image layers
        To choose from, the likeliest first.
    """
    noted = about(labels).get("image")
    image = noted() if isinstance(noted, weakref.ref) else None
    if image in images:
        return image
    fitting = [image for image in images if _lies_on(labels, image)]
    by_name = [x for x in fitting if str(labels.name).startswith(str(x.name))]
    # "cells 10 annotation" begins with "cells 1", too.
    by_name.sort(key=lambda image: -len(str(image.name)))
    return next(iter(by_name or fitting), None)


def _lies_on(labels: Labels, image: Layer) -> bool:
    shape = full_resolution(image).shape[: image.ndim]
    return (
        tuple(full_resolution(labels).shape) == tuple(shape[-labels.ndim :])
        and np.allclose(labels.scale, image.scale[-labels.ndim :])
        and np.allclose(labels.translate, image.translate[-labels.ndim :])
    )


def check_shape(painted: Painted, image: Image) -> None:
    """Refuse labels of another shape than the image (NU-L02)."""
    shape = tuple(painted.labels.shape)
    if shape != image.shape:
        raise LabelError(
            "NU-L02",
            f"{painted.source} is {size_text(shape)} but {image.source} is "
            f"{size_text(image.shape)}: choose labels that were painted on this image",
        )


@dataclass(frozen=True, eq=False)
class Painted:
    """What is in the layers of an annotation; `labels` is the layer's own array.

    Quick to make, on the GUI thread. Its methods copy, which takes time with a large
    stack, and may be called in the background.
    """

    labels: Any
    label_class: dict[int, int]
    class_names: tuple[str, ...]
    regions: Sequence[Region]
    unpainted: Unpainted
    source: str
    class_colors: tuple[str, ...] = ()
    area_classes: frozenset[int] = frozenset()

    def annotation(self, plane: tuple[int, ...] = ()) -> Annotation:
        """Return the annotation: of all, or of one plane as it is in its stack."""
        labels = np.asarray(self.labels[plane])
        known = self.known(plane)
        return Annotation(
            labels=labels,
            label_class=self.label_class,
            known=known,
            class_names=self.class_names,
            class_colors=self.class_colors,
            area_classes=self.area_classes,
            source=self.source,
        )

    def known(self, plane: tuple[int, ...] = ()) -> NDArray[np.bool_]:
        """Return where a pixel is background if nothing is painted on it."""
        # Negative ids are ignored: nothing is painted there.
        labels = np.maximum(np.asarray(self.labels[plane]), 0)
        if not plane:
            return known_pixels(labels, self.regions, self.unpainted)
        # A stack of one: on a plane of a stack where nothing is painted, nothing is
        # known.
        here = [region for region in self.regions if region.plane == plane]
        in_stack = [Region((0,), region.vertices) for region in here]
        known = known_pixels(labels[np.newaxis], in_stack, self.unpainted)
        return known.reshape(labels.shape)

    def negative_ids(self) -> list[int]:
        """Return the ids below 0, which are ignored in training and not saved."""
        labels = np.asarray(self.labels)
        if labels.dtype.kind not in "if" or not labels.size or labels.min() >= 0:
            return []
        return [int(i) for i in np.unique(labels[labels < 0])[::-1]]

    def stored(self) -> StoredAnnotation:
        """Return what a file should hold; negative ids are left out."""
        return StoredAnnotation(self.annotation(), self.regions, self.unpainted)


def painted_of(labels_layer: Labels) -> Painted:
    """Return what is painted in a layer, with what Annotate noted about it.

    Finished regions that are not on one slice are left out.
    """
    shapes = regions_layer_of(labels_layer)
    regions = (
        []
        if shapes is None
        else regions_from_shapes(shapes, labels_layer, skip_crossing=True)
    )
    known, classes = about(labels_layer), classes_of(labels_layer)
    return Painted(
        labels=full_resolution(labels_layer),
        label_class=dict(known.get("label_class", {})),
        class_names=classes.names,
        regions=regions,
        unpainted=known.get("unpainted", "unknown"),
        source=f'labels "{labels_layer.name}"',
        class_colors=classes.colors,
        area_classes=classes.areas,
    )


def link_regions(viewer: ViewerModel, labels_layer: Labels, shapes: Shapes) -> None:
    """Make a Shapes layer hold the finished regions of an annotation.

    The link ends when the Shapes layer leaves the viewer, and is there again when that
    layer comes back, unless the annotation has another one by then. It survives
    renaming.
    """
    shapes_ref = weakref.ref(unwrapped(shapes))
    note_about(labels_layer, regions=shapes_ref)
    labels_ref = weakref.ref(unwrapped(labels_layer))

    def unlink(event: Any) -> None:
        labels = labels_ref()
        if labels is not None and event.value is regions_layer_of(labels):
            note_about(labels, regions=None)

    def link_again(event: Any) -> None:
        labels = labels_ref()
        is_ours = labels is not None and event.value is shapes_ref()
        if is_ours and regions_layer_of(labels) is None:
            note_about(labels, regions=shapes_ref)

    events = unwrapped(viewer).layers.events
    events.removed.connect(unlink)
    events.inserted.connect(link_again)


def regions_layer_of(labels_layer: Labels) -> Shapes | None:
    """Return the Shapes layer with the finished regions of an annotation, or None."""
    reference = about(labels_layer).get("regions")
    return None if reference is None else reference()


def regions_from_shapes(
    shapes: Shapes, labels_layer: Labels, *, skip_crossing: bool = False
) -> list[Region]:
    """Return the areas of a Shapes layer in pixels of a Labels layer.

    Parameters
    ----------
    shapes, labels_layer : napari layers
        Their transforms are taken into account.
    skip_crossing : bool
        Leave shapes out that are not on one slice, instead of raising: what is shown
        and saved on the way must not fail for them, training must.

    Returns
    -------
    list of Region
        Lines and paths enclose nothing and are left out. A shape of a layer with fewer
        dimensions than the labels shows on every slice, and counts on every slice.

    Raises
    ------
    LabelError
        A shape that is not on one slice (NU-L09).
    """
    regions = []
    stack_shape = tuple(full_resolution(labels_layer).shape[:-2])
    for kind, corners in zip(shapes.shape_type, shapes.data, strict=True):
        if kind not in ("rectangle", "ellipse", "polygon"):
            continue
        points = _ellipse(corners) if kind == "ellipse" else np.asarray(corners)
        pixels = np.array(
            [labels_layer.world_to_data(shapes.data_to_world(p)) for p in points]
        )
        planes = np.unique(np.round(pixels[:, :-2]).astype(int), axis=0)
        if len(planes) > 1:
            if skip_crossing:
                continue
            raise LabelError(
                "NU-L09",
                f'a finished region in "{shapes.name}" is not on one slice: draw it '
                "again with Y and X on screen",
            )
        found = [tuple(int(i) for i in planes[0])]
        if shapes.ndim < labels_layer.ndim:
            found = list(np.ndindex(stack_shape))
        regions += [
            Region(plane, pixels[:, -2:])
            for plane in found
            if _is_in(plane, stack_shape)
        ]
    return regions


def _is_in(plane: tuple[int, ...], stack_shape: tuple[int, ...]) -> bool:
    return all(0 <= i < n for i, n in zip(plane, stack_shape, strict=True))


def _ellipse(corners: Any) -> NDArray[np.float64]:
    """Return vertices on the ellipse that napari draws into four corners."""
    a, b, _, d = np.asarray(corners, float)
    turn = np.linspace(0, 2 * np.pi, _N_ELLIPSE_VERTICES, endpoint=False)[:, None]
    centre = (b + d) / 2
    return np.asarray(
        centre + np.cos(turn) * (b - a) / 2 + np.sin(turn) * (d - a) / 2, float
    )
