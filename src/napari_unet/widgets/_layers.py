"""Layers of the viewer <-> the types that travel.

The only place that adds layers to a viewer or reads pixels out of one. What we know
about a layer is kept in ``layer.metadata["napari_unet"]``, a small dict that is
replaced, never changed in place: ``shown_as`` marks a result that we may update;
``label_class``, ``unpainted`` and ``regions`` belong to an annotation.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer, Shapes

from napari_unet.errors import ImageError, LabelError
from napari_unet.files.annotations import Region, StoredAnnotation, known_pixels
from napari_unet.imaging.arrays import Annotation, Image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from napari_unet.files.annotations import Unpainted

Kind = Literal["image", "labels", "shapes"]

META = "napari_unet"
CLASS_NAMES = ("background", "cell")

_CLASSES: dict[str, type[Layer]] = {
    "image": ImageLayer,
    "labels": Labels,
    "shapes": Shapes,
}
_LETTERS = {
    "z": "Z",
    "depth": "Z",
    "t": "T",
    "time": "T",
    "c": "C",
    "channel": "C",
    "y": "Y",
    "x": "X",
}
_CHOICES = {
    2: ["YX"],
    3: ["ZYX", "TYX", "CYX"],
    4: ["TZYX", "CZYX", "CTYX"],
    5: ["CTZYX"],
}
_N_ELLIPSE_VERTICES = 64


def unwrapped(thing: Any) -> Any:
    """Return the viewer or layer itself: napari gives a plugin a proxy of its viewer.

    Layers that come out of the proxy are proxies as well, a new one each time: they
    are never `is` another, weak references to them die at once, and each access to
    an attribute inspects the stack.
    """
    return getattr(thing, "__wrapped__", thing)


def layer_choices(viewer: ViewerModel, kind: Kind) -> list[Any]:
    """Return the layers that a user can choose from, the topmost first.

    Images that show a result of ours (weight maps, probabilities) are left out.
    """
    every = reversed(unwrapped(viewer).layers)
    layers = [layer for layer in every if isinstance(layer, _CLASSES[kind])]
    if kind == "image":
        layers = [x for x in layers if "shown_as" not in about(x)]
    return layers


def about(layer: Layer) -> Mapping[str, Any]:
    """Return what we know about a layer; empty for one that isn't ours."""
    known = layer.metadata.get(META, {})
    return known if isinstance(known, dict) else {}


def note_about(layer: Layer, **changes: Any) -> None:
    """Change what we know about a layer; tells listeners of `events.metadata`."""
    layer.metadata = {**layer.metadata, META: {**about(layer), **changes}}


# -- image layers --------------------------------------------------------------


def axes_choices(layer: ImageLayer) -> list[str]:
    """Return the axes that a layer may have, or [] where they are clear."""
    return [] if _known_axes(layer) else list(_CHOICES.get(layer.ndim, []))


def image_from_layers(layers: Sequence[ImageLayer], axes: str | None = None) -> Image:
    """Return layers as one image: a layer, or one-channel layers side by side.

    Parameters
    ----------
    layers : sequence of napari image layers
        One layer, or several of one shape that become the channels of one image, in
        this order. Of a multiscale layer the full resolution is taken; an alpha
        channel is dropped (`dropped_alpha` says so).
    axes : str, optional
        Axes of each layer as the user gave them ("ZYX", "TYX", "CYX", ...); they go
        before the layer's own. An `rgb` layer's colours are not named.

    Returns
    -------
    Image
        The pixel size comes from scale and units; a layer in pixels has none.

    Raises
    ------
    ImageError
        No layer, axes that nobody named (NU-I09), axes that don't fit (NU-I09), or
        layers that can't be the channels of one image (NU-I11).
    """
    if not layers:
        raise ImageError("NU-I06", "no image layer is chosen: choose one")
    first = layers[0]
    layer_axes = _checked_axes(first, axes)
    if len(layers) > 1:
        _check_channels(layers, layer_axes)
        data = np.stack([_full_resolution(layer) for layer in layers])
        names = tuple(str(layer.name) for layer in layers)
    else:
        data = _channels_first(first, layer_axes)
        names = ("red", "green", "blue") if first.rgb else ()
    return Image(
        data=data,
        axes="C" + layer_axes.replace("C", ""),
        pixel_size_um=pixel_size_um_of(first, layer_axes),
        channel_names=names,
        source=f'image "{first.name}"',
    )


def dropped_alpha(layers: Sequence[ImageLayer]) -> list[str]:
    """Return a sentence for each layer whose alpha channel is not used."""
    return [
        f'The alpha channel of image "{layer.name}" is not used.'
        for layer in layers
        if layer.rgb and _full_resolution(layer).shape[-1] == 4
    ]


def _full_resolution(layer: Layer) -> Any:
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    # Dask arrays stay lazy; stores without array functions (zarr) are read.
    return data if hasattr(data, "__array_function__") else np.asarray(data)


def _channels_first(layer: ImageLayer, axes: str) -> Any:
    data = _full_resolution(layer)
    if layer.rgb:
        return np.moveaxis(data, -1, 0)[:3]
    return data if axes[0] == "C" else data[np.newaxis]


def _known_axes(layer: ImageLayer) -> str:
    """Return the axes that the layer's labels name, "YX" for planes, else ""."""
    if layer.ndim == 2:
        return "YX"
    letters = [_LETTERS.get(str(label).lower(), "?") for label in layer.axis_labels]
    named = "".join(letters)
    return named if named in _CHOICES.get(layer.ndim, []) else ""


def _checked_axes(layer: ImageLayer, axes: str | None) -> str:
    found = (axes or _known_axes(layer)).upper()
    choices = _CHOICES.get(layer.ndim, [])
    shape = tuple(_full_resolution(layer).shape)
    if not found:
        raise ImageError(
            "NU-I09",
            f'image "{layer.name}" has {layer.ndim} axes {shape} and nothing says '
            f"what they are: choose its axes{_or_list(choices)}",
        )
    if layer.rgb:
        choices = [choice for choice in choices if "C" not in choice]
    if found not in choices:
        raise ImageError(
            "NU-I09",
            f'image "{layer.name}" of shape {shape} can\'t have the axes {found}: '
            f"choose its axes{_or_list(choices)}; channels in another place must be "
            "split into layers first",
        )
    return found


def _or_list(choices: Sequence[str]) -> str:
    return f" ({' or '.join(choices)})" if choices else ""


def _check_channels(layers: Sequence[ImageLayer], axes: str) -> None:
    first = layers[0]
    shape = tuple(_full_resolution(first).shape)
    for layer in layers:
        other = tuple(_full_resolution(layer).shape)
        if layer.rgb or "C" in axes:
            raise ImageError(
                "NU-I11",
                f'image "{layer.name}" has several channels by itself: choose it '
                "alone, or only layers of one channel",
            )
        if other != shape:
            raise ImageError(
                "NU-I11",
                f'image "{layer.name}" is {_size(other)} but "{first.name}" is '
                f"{_size(shape)}: channels of one image need one shape",
            )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)


def pixel_size_um_of(layer: Layer, axes: str) -> tuple[float, ...] | None:
    """Return the size of a pixel along the axes Z, Y, X; None for a layer in pixels."""
    spatial = [i for i, letter in enumerate(axes) if letter in "ZYX"]
    units = [layer.units[i] for i in spatial]
    if not all(unit.is_compatible_with("micrometer") for unit in units):
        return None
    scale = [abs(float(layer.scale[i])) for i in spatial]
    return tuple(
        float((size * unit).to("micrometer").magnitude)
        for size, unit in zip(scale, units, strict=True)
    )


# -- annotations ---------------------------------------------------------------


def read_annotation_of(labels_layer: Labels, image: Image) -> Annotation:
    """Return a Labels layer as an annotation, with what Annotate noted about it.

    A layer that Annotate never saw has classes and regions of its own: none, and
    what is not painted is unknown.
    """
    known = about(labels_layer)
    return annotation_from_layers(
        labels_layer,
        image,
        regions_layer=regions_layer_of(labels_layer),
        unpainted=known.get("unpainted", "unknown"),
    )


def annotation_from_layers(
    labels_layer: Labels,
    image: Image,
    *,
    regions_layer: Shapes | None = None,
    unpainted: Unpainted = "unknown",
) -> Annotation:
    """Return what is painted in a layer as the annotation of an image: a copy.

    Parameters
    ----------
    labels_layer : napari Labels layer
        Its classes (background brush) are in its metadata.
    image : Image
        The image that it annotates.
    regions_layer : napari Shapes layer, optional
        Its rectangles, ellipses and polygons are finished: inside, what is not
        painted is background.
    unpainted : {"unknown", "background"}
        What is not painted elsewhere. On a stack "background" holds for slices with
        a painted pixel only.

    Raises
    ------
    LabelError
        Another shape than the image (NU-L02), not label ids (NU-L01), or a finished
        region that is not on one slice (NU-L09).
    """
    regions = []
    if regions_layer is not None:
        regions = regions_from_shapes(regions_layer, labels_layer)
    painted = _painted(labels_layer, regions, unpainted)
    shape = tuple(painted.labels.shape)
    if shape != image.shape:
        raise LabelError(
            "NU-L02",
            f"{painted.source} is {_size(shape)} but {image.source} is "
            f"{_size(image.shape)}: choose labels that were painted on this image",
        )
    return painted.annotation()


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

    def annotation(self, plane: tuple[int, ...] = ()) -> Annotation:
        """Return the annotation: of all, or of one plane as it is in its stack."""
        labels = np.asarray(self.labels[plane])
        if not plane:
            known = known_pixels(labels, self.regions, self.unpainted)
        else:
            # A stack of one: on a plane of a stack where nothing is painted,
            # nothing is known.
            here = [r for r in self.regions if r.plane == plane]
            in_stack = [Region((0,), region.vertices) for region in here]
            known = known_pixels(labels[np.newaxis], in_stack, self.unpainted)[0]
        return Annotation(
            labels=labels,
            label_class=self.label_class,
            known=known,
            class_names=self.class_names,
            source=self.source,
        )

    def stored(self) -> StoredAnnotation:
        """Return what a file should hold."""
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
    unpainted = about(labels_layer).get("unpainted", "unknown")
    return _painted(labels_layer, regions, unpainted)


def _painted(
    labels_layer: Labels, regions: Sequence[Region], unpainted: Unpainted
) -> Painted:
    known = about(labels_layer)
    return Painted(
        labels=_full_resolution(labels_layer),
        label_class=dict(known.get("label_class", {})),
        class_names=known.get("class_names", CLASS_NAMES),
        regions=regions,
        unpainted=unpainted,
        source=f'labels "{labels_layer.name}"',
    )


def link_regions(viewer: ViewerModel, labels_layer: Labels, shapes: Shapes) -> None:
    """Make a Shapes layer hold the finished regions of an annotation.

    The link ends when the Shapes layer leaves the viewer; it survives renaming.
    """
    note_about(labels_layer, regions=weakref.ref(unwrapped(shapes)))
    labels_ref = weakref.ref(unwrapped(labels_layer))

    def unlink(event: Any) -> None:
        labels = labels_ref()
        if labels is not None and event.value is regions_layer_of(labels):
            note_about(labels, regions=None)

    unwrapped(viewer).layers.events.removed.connect(unlink)


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
        Leave shapes out that are not on one slice, instead of raising.

    Returns
    -------
    list of Region
        Lines and paths enclose nothing and are left out. A shape of a
        layer with fewer dimensions than the labels shows on every slice, and counts
        on every slice.

    Raises
    ------
    LabelError
        A shape that is not on one slice (NU-L09).
    """
    regions = []
    stack_shape = tuple(_full_resolution(labels_layer).shape[:-2])
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


# -- results -------------------------------------------------------------------


def show_labels(
    viewer: ViewerModel, name: str, labels: NDArray[Any], *, like: Layer
) -> Labels:
    """Show instance labels on top of a layer; update in place what we showed before.

    Parameters
    ----------
    labels : ndarray of int, at most as many axes as `like`
        Lie on the last axes of `like` and get its scale, place, units and axis labels.

    Returns
    -------
    napari Labels layer
        The one that showed `name` before; else a new one. A layer that the user made
        is never touched, whatever its name.
    """
    return _show(viewer, Labels, name, labels, like=like)


def show_image(
    viewer: ViewerModel, name: str, data: NDArray[Any], *, like: Layer, **style: Any
) -> ImageLayer:
    """Show an image on top of a layer; update in place what we showed before.

    As `show_labels`; `style` (colormap, opacity, contrast_limits, ...) goes to a new
    layer only, so that what the user changed stays.
    """
    return _show(viewer, ImageLayer, name, data, like=like, **style)


def _show(
    viewer: ViewerModel,
    kind: type[Layer],
    name: str,
    data: NDArray[Any],
    *,
    like: Layer,
    **style: Any,
) -> Any:
    viewer = unwrapped(viewer)
    place = placed_like(unwrapped(like), data.ndim)
    for layer in viewer.layers:
        is_ours = type(layer) is kind and about(layer).get("shown_as") == name
        if is_ours and layer.ndim == data.ndim:
            # In place: taking a layer out of a shown viewer can crash OpenGL.
            layer.data = data
            for key, value in place.items():
                setattr(layer, key, value)
            return layer
    layer = kind(data, name=name, metadata={META: {"shown_as": name}}, **place, **style)
    return viewer.add_layer(layer)


def placed_like(layer: Layer, ndim: int) -> dict[str, Any]:
    """Return the arguments that put a layer of `ndim` axes where `layer` is."""
    place: dict[str, Any] = {
        "scale": layer.scale[-ndim:],
        "translate": layer.translate[-ndim:],
        "units": layer.units[-ndim:],
        "axis_labels": layer.axis_labels[-ndim:],
    }
    if layer.ndim == ndim:
        place |= {"rotate": layer.rotate, "shear": layer.shear, "affine": layer.affine}
    return place
