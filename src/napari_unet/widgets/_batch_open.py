"""Images of a folder run and what was made of them, as layers."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.events import Event
from napari_unet.files.images import read_image, read_labels
from napari_unet.files.ome_zarr import is_zarr
from napari_unet.files.pyramids import read_levels
from napari_unet.widgets._layers import (
    about,
    full_resolution,
    layer_choices,
    note_about,
    placed_like,
    show_labels,
)
from napari_unet.widgets._predicted_layers import show_values
from napari_unet.widgets._prediction import names_of

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image

# What the result of a model that finds no cells ends in.
_OF_VALUES = "_predicted"
# A larger plane is not read as a whole.
_LARGE_PX = 4096**2
_CHUNK_PX = 1024
_COLOURS = ("red", "green", "blue", "cyan", "magenta", "yellow")


@dataclass(frozen=True, eq=False)
class Opened(Event):
    """An image and what was made of it: cells, or values as an image.

    `levels` are those of the image, (C, [T,] [Z,] Y, X), where it is read bit by bit;
    `origin` is where it begins, of a part of a file, in pixels along Y and X. `labels`
    are int32 ([T,] [Z,] Y, X), or levels of such that are read bit by bit.
    """

    path: Path
    image: Image
    labels: NDArray[np.int32] | list[Any] | None = None
    values: Image | None = None
    levels: Sequence[Any] = ()
    origin: tuple[int, int] | None = None


def is_of_values(output: Path | None) -> bool:
    """Return whether a result is an image that was made, and not cells."""
    return output is not None and output.stem.endswith(_OF_VALUES)


def is_large(image: Image) -> bool:
    """Return whether a plane of the image is too large to be looked at as a whole."""
    return image.shape[-2] * image.shape[-1] > _LARGE_PX


def read_result(
    path: Path, output: Path, axes: str | None
) -> Generator[Event, None, None]:
    """Read an image of a folder run and its result; yield them.

    Large images, and labels with levels, are not read but opened.
    """
    image = read_image(path, axes=axes)
    levels: list[Any] = []
    if is_zarr(path):
        levels = [_as_dask(level) for level in read_levels(path, axes=axes)]
    elif is_large(image):
        levels = [_as_dask(image.data)]
    if is_of_values(output):
        values = read_image(output, axes=image.axes)
        yield Opened(path, image, values=values, levels=levels)
    elif is_zarr(output):
        cells = [_as_dask(level)[0] for level in read_levels(output)]
        yield Opened(path, image, cells, levels=levels)
    else:
        yield Opened(path, image, read_labels(output), levels=levels)


def _as_dask(lazy: Any) -> Any:
    """Return an array that napari slices without reading the rest."""
    import dask.array

    sides = (min(n, _CHUNK_PX) for n in lazy.shape[-2:])
    chunks = (*[1] * (len(lazy.shape) - 2), *sides)
    meta = np.empty((0,) * len(lazy.shape), lazy.dtype)
    from_array: Any = dask.array.from_array
    return from_array(lazy, chunks, name=False, meta=meta)


class OpenedLayers:
    """Shows one file of a folder at a time; those before it are hidden.

    Parameters
    ----------
    viewer : napari viewer
        Where the layers go.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._shown: list[weakref.ref[Layer]] = []

    def show(self, opened: Opened) -> None:
        """Show a file and its result, and hide what was shown here before."""
        for reference in self._shown:
            layer = reference()
            if layer is not None:
                layer.visible = False
        image = self._image_layer(opened)
        channels = [x for x in self._viewer.layers if _is_of(x, opened)]
        result = self._show_result(image, opened)
        for layer in (image, *channels, *result[:1]):
            layer.visible = True
        # An image that the user opened stays as it is.
        self._shown = [weakref.ref(layer) for layer in (*channels, *result)]

    def _show_result(self, image: Layer, opened: Opened) -> list[Layer]:
        if opened.values is not None:
            return _show_values(self._viewer, image, opened.values)
        if opened.labels is None:
            return []
        name = f"{image.name} cells"
        if isinstance(opened.labels, list):
            layer: Layer = _show_levels(self._viewer, name, opened.labels, image)
        else:
            layer = show_labels(self._viewer, name, opened.labels, like=image)
        return [layer]

    def _image_layer(self, opened: Opened) -> Layer:
        """Return the layer of that file, or a new one with all channels as layers."""
        path, image = opened.path.resolve(), opened.image
        for layer in layer_choices(self._viewer, "image"):
            shape = tuple(full_resolution(layer).shape[: layer.ndim])
            origin = about(layer).get("origin")
            if path in _paths_of(layer) and (shape, origin) == (
                image.shape,
                opened.origin,
            ):
                return layer
        levels = opened.levels or [np.asarray(image.data)]
        size = image.pixel_size_um or ()
        n_plain = len(image.shape) - len(size)
        scale = (*(1.0 for _ in range(n_plain)), *size)
        first = (*(0.0 for _ in image.shape[:-2]), *(opened.origin or (0, 0)))
        name = f"{path.name} (part)" if opened.origin is not None else path.name
        layers = [
            self._viewer.add_image(
                [level[c] for level in levels] if len(levels) > 1 else levels[0][c],
                multiscale=len(levels) > 1,
                name=f"{name} {c + 1}" if c else name,
                scale=scale,
                translate=np.multiply(first, scale),
                units=(*("pixel" for _ in range(n_plain)), *("um" for _ in size)),
                axis_labels=tuple(image.axes[1:].lower()),
                **_colour(c, image.n_channels),
            )
            for c in range(image.n_channels)
        ]
        for layer in layers:
            note_about(layer, opened=str(path), origin=opened.origin)
        note_about(layers[0], path=str(path))
        return layers[0]


def _colour(c: int, n_channels: int) -> dict[str, str]:
    """Return how a channel is seen through the others."""
    if n_channels == 1:
        return {}
    names = ("magenta", "green") if n_channels == 2 else _COLOURS
    return {"colormap": names[c % len(names)], "blending": "additive"}


def _show_levels(
    viewer: ViewerModel, name: str, levels: list[Any], image: Layer
) -> Layer:
    """Show labels that are read bit by bit; those of the same name take them."""
    for layer in viewer.layers:
        if about(layer).get("levels_of") == name and layer.multiscale:
            layer.data = levels
            return layer
    place = placed_like(image, len(levels[0].shape))
    added = viewer.add_labels(levels, multiscale=True, name=name, **place)
    note_about(added, levels_of=name)
    return added


def _show_values(viewer: ViewerModel, layer: Layer, values: Image) -> list[Layer]:
    names = values.channel_names or tuple(map(str, range(1, values.n_channels + 1)))
    # As Predict calls them.
    shown = names_of([f"value:{name}" for name in names])
    return show_values(viewer, layer, np.asarray(values.data), shown)


def _is_of(layer: Layer, opened: Opened) -> bool:
    """Return whether a layer is one that was made here of a file."""
    known = about(layer)
    of = (known.get("opened"), known.get("origin"))
    return of == (str(opened.path.resolve()), opened.origin)


def _paths_of(layer: Layer) -> list[Path]:
    """Return the files that a layer shows, as far as it is known."""
    paths = (about(layer).get("path"), layer.source.path)
    return [Path(path).resolve() for path in paths if path]
