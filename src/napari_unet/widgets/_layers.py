"""Layers of the viewer <-> the types that travel.

The only place that adds layers to a viewer or reads pixels out of one. What we know
about a layer is kept in ``layer.metadata["napari_unet"]``, a small dict that is
replaced, never changed in place: ``shown_as`` marks a result that we may update, and
``shown`` refers to what we gave it; ``image`` refers to the layer that a result or an
annotation was made for; ``label_class``, ``unpainted`` and ``regions`` belong to an
annotation.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Layer, Shapes

from napari_unet.errors import ImageError
from napari_unet.imaging.arrays import Image
from napari_unet.widgets._grids import divided

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari.components import ViewerModel
    from numpy.typing import NDArray

Kind = Literal["image", "labels", "shapes"]

META = "napari_unet"

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


def unwrapped(thing: Any) -> Any:
    """Return the viewer or layer itself: napari gives a plugin a proxy of its viewer.

    Layers that come out of the proxy are proxies as well, a new one each time: they
    are never `is` another, weak references to them die at once, and each access to
    an attribute inspects the stack.
    """
    return getattr(thing, "__wrapped__", thing)


def layer_choices(viewer: ViewerModel, kind: Kind) -> list[Any]:
    """Return the layers that a user can choose from, the topmost first.

    Images and shapes that show a result of ours (weight maps, probabilities, lines)
    are left out.
    """
    every = reversed(unwrapped(viewer).layers)
    layers = [layer for layer in every if isinstance(layer, _CLASSES[kind])]
    if kind != "labels":
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


def axes_choices(layer: Layer) -> list[str]:
    """Return the axes that a layer may have, or [] where they are clear."""
    return [] if known_axes(layer) else list(_CHOICES.get(layer.ndim, []))


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
        data = np.stack([full_resolution(layer) for layer in layers])
        names = tuple(str(layer.name) for layer in layers)
    else:
        data = _channels_first(first, layer_axes)
        names = ("red", "green", "blue") if first.rgb else ()
    return Image(
        data=data,
        axes="C" + layer_axes.replace("C", ""),
        pixel_size_um=pixel_size_um_of(first, layer_axes),
        channel_names=names,
        source=_source_of(layers),
    )


def _source_of(layers: Sequence[ImageLayer]) -> str:
    names = ", ".join(f'"{layer.name}"' for layer in layers)
    return f"layers {names}" if len(layers) > 1 else f"image {names}"


def dropped_alpha(layers: Sequence[ImageLayer]) -> list[str]:
    """Return a sentence for each layer whose alpha channel is not used."""
    return [
        f'The alpha channel of image "{layer.name}" is not used.'
        for layer in layers
        if layer.rgb and full_resolution(layer).shape[-1] == 4
    ]


def full_resolution(layer: Layer) -> Any:
    """Return the pixels of a layer, of the finest level where there are several."""
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    # Dask arrays stay lazy; stores without array functions (zarr) are read.
    return data if hasattr(data, "__array_function__") else np.asarray(data)


def _channels_first(layer: ImageLayer, axes: str) -> Any:
    data = full_resolution(layer)
    if layer.rgb:
        return np.moveaxis(data, -1, 0)[:3]
    return data if axes[0] == "C" else data[np.newaxis]


def known_axes(layer: Layer) -> str:
    """Return the axes that a layer names, "YX" for planes, else ""."""
    if layer.ndim == 2:
        return "YX"
    letters = [_LETTERS.get(str(label).lower(), "?") for label in layer.axis_labels]
    named = "".join(letters)
    return named if named in _CHOICES.get(layer.ndim, []) else ""


def _checked_axes(layer: ImageLayer, axes: str | None) -> str:
    found = (axes or known_axes(layer)).upper()
    choices = _CHOICES.get(layer.ndim, [])
    shape = tuple(full_resolution(layer).shape)
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
    shape = tuple(full_resolution(first).shape)
    for layer in layers:
        other = tuple(full_resolution(layer).shape)
        if layer.rgb or "C" in axes:
            raise ImageError(
                "NU-I11",
                f'image "{layer.name}" has several channels by itself: choose it '
                "alone, or only layers of one channel",
            )
        if other != shape:
            raise ImageError(
                "NU-I11",
                f'image "{layer.name}" is {size_text(other)} but "{first.name}" is '
                f"{size_text(shape)}: channels of one image need one shape",
            )


def size_text(shape: Sequence[int]) -> str:
    """Return a shape as people write it: 512 x 256."""
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


# -- results -------------------------------------------------------------------


def show_labels(
    viewer: ViewerModel, name: str, labels: NDArray[Any], *, like: Layer
) -> Labels:
    """Show instance labels on top of a layer; update in place what we showed before.

    Parameters
    ----------
    labels : ndarray of int, at most as many axes as `like`
        Lie on the last axes of `like` and get its place, units and axis labels; twice
        as many pixels as it has are half as large.

    Returns
    -------
    napari Labels layer
        The one that showed `name` before; else a new one. A layer that the user made
        is never touched, whatever its name, nor is a result that the user painted in:
        that becomes an annotation, and is autosaved.
    """
    before = set(unwrapped(viewer).layers)
    layer: Labels = _show(viewer, Labels, name, labels, like=like)
    if layer not in before:
        _adopt_when_painted(unwrapped(viewer), layer)
    return layer


def show_image(
    viewer: ViewerModel, name: str, data: NDArray[Any], *, like: Layer, **style: Any
) -> ImageLayer:
    """Show an image on top of a layer; update in place what we showed before.

    As `show_labels`; `style` (colormap, opacity, contrast_limits, ...) goes to a new
    layer only, so that what the user changed stays.
    """
    return _show(viewer, ImageLayer, name, data, like=like, **style)


def show_lines(
    viewer: ViewerModel,
    name: str,
    lines: Sequence[NDArray[Any]],
    *,
    like: Layer,
    colors: Sequence[str],
    width: float,
) -> Shapes:
    """Show lines on top of a layer; update in place what we showed before.

    Each is an ndarray (2, n_axes) of its ends, in pixels of `like` as the width is.
    """
    viewer, like = unwrapped(viewer), unwrapped(like)
    active = viewer.layers.selection.active
    for layer in viewer.layers:
        if type(layer) is Shapes and about(layer).get("shown_as") == name:
            break
    else:
        layer = Shapes(
            ndim=like.ndim,
            name=name,
            metadata={META: {"shown_as": name}},
            **placed_like(like, like.ndim),
        )
        viewer.add_layer(layer)
        # What is painted in stays to be painted in.
        viewer.layers.selection.active = active
    layer.data = (list(lines), ["line"] * len(lines)) if lines else []
    if lines:
        layer.edge_color = list(colors[: len(lines)])
        layer.edge_width = [width] * len(lines)
    return layer


def _show(
    viewer: ViewerModel,
    kind: type[Layer],
    name: str,
    data: NDArray[Any],
    *,
    like: Layer,
    **style: Any,
) -> Any:
    viewer, like = unwrapped(viewer), unwrapped(like)
    coarse = full_resolution(like).shape[: like.ndim]
    place = divided(placed_like(like, data.ndim), coarse, data.shape)
    for layer in viewer.layers:
        is_ours = type(layer) is kind and _is_as_shown(layer, name)
        if is_ours and layer.ndim == data.ndim:
            # In place: taking a layer out of a shown viewer can crash OpenGL.
            layer.data = data
            for key, value in place.items():
                setattr(layer, key, value)
            break
    else:
        # Known as a result before anyone hears of it.
        style["metadata"] = {META: {"shown_as": name}}
        layer = viewer.add_layer(kind(data, name=name, **place, **style))
    note_about(
        layer,
        shown_as=name,
        shown=weakref.ref(layer.data),
        image=weakref.ref(like),
    )
    return layer


def _is_as_shown(layer: Layer, name: str) -> bool:
    """Return whether a layer shows our result, and not what the user put there."""
    known = about(layer)
    return known.get("shown_as") == name and known["shown"]() is layer.data


def _adopt_when_painted(viewer: ViewerModel, layer: Labels) -> None:
    viewer_ref, layer_ref = weakref.ref(viewer), weakref.ref(layer)

    def on_paint(event: Any) -> None:
        # Here and not above: it builds on this module.
        from napari_unet.widgets._autosave import adopt_painted

        viewer, layer = viewer_ref(), layer_ref()
        if viewer is not None and layer is not None:
            layer.events.paint.disconnect(on_paint)
            adopt_painted(viewer, layer)

    layer.events.paint.connect(on_paint)


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


def lies_on(labels: Labels, image: ImageLayer) -> bool:
    """Return whether labels have the pixels of an image: shape, scale and place."""
    ndim = labels.ndim
    shape = tuple(full_resolution(image).shape[: image.ndim])
    return tuple(full_resolution(labels).shape) == shape[-ndim:] and is_placed_as(
        labels, image
    )


def is_placed_as(layer: Layer, other: Layer) -> bool:
    """Return whether layers have one scale and place along their last axes."""
    n = min(layer.ndim, other.ndim)
    scale = other.scale[-n:]
    # A thousandth of a pixel is rounding.
    return np.allclose(layer.scale[-n:], scale, rtol=1e-3, atol=0) and np.allclose(
        layer.translate[-n:] / scale, other.translate[-n:] / scale, atol=1e-3
    )
