"""What the network would say now of what is on screen, as a layer."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Vectors
from napari.utils import Colormap
from napari.utils.transforms import Affine

from napari_unet.events import Event, Previewed, Region
from napari_unet.widgets._contrast import limits_of
from napari_unet.widgets._grids import divided
from napari_unet.widgets._layers import (
    META,
    about,
    placed_like,
    unwrapped,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

_SHOWN_AS = "live preview"
# Painted cells are filled with colours, so what is predicted is outlined in one.
_COLORMAP = Colormap([[0, 0, 0, 0], [0, 0.9, 1, 1]], name="napari-unet live")


@dataclass(frozen=True, eq=False)
class Drawn(Event):
    """A preview as a picture of a region.

    uint8 (Y, X), 255 on the outlines of cells; or float32, the image that is made, in
    its first channel and with as many pixels as it has there.
    """

    step: int
    region: Region
    picture: NDArray[Any]

    @property
    def is_made(self) -> bool:
        """Whether it is an image that is made, and no outlines."""
        return self.picture.dtype.kind == "f"


def drawn(events: Iterable[Event]) -> Iterator[Event]:
    """Draw what is previewed; for the thread of the training, where time is cheap."""
    for event in events:
        if isinstance(event, Previewed):
            made, labels = event.outputs, event.labels
            picture = made[0] if labels is None else outline_picture(labels)
            yield Drawn(event.step, event.region, picture)
        else:
            yield event


def outline_picture(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 (Y, X), 255 on the pixels of cells that have another neighbour."""
    is_edge = np.zeros(labels.shape, bool)
    for axis in range(2):
        here = (slice(None),) * axis
        low, high = (*here, slice(None, -1)), (*here, slice(1, None))
        differs = labels[low] != labels[high]
        is_edge[low] |= differs
        is_edge[high] |= differs
    return np.where(is_edge & (labels > 0), np.uint8(255), np.uint8(0))


class LiveLayer:
    """The live layer of a viewer: at most one, updated in place.

    It takes neither the selection nor, as long as it is drawn on, the slice.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = unwrapped(viewer)

    def layer(self) -> Image | None:
        """Return the layer, or None where there is none (any more)."""
        for layer in self._viewer.layers:
            if about(layer).get("shown_as") == _SHOWN_AS:
                return layer
        return None

    def show(
        self, preview: Drawn, grid: Layer, name: str, *, like: Layer | None = None
    ) -> Image:
        """Show a preview where it lies; adds the layer at first.

        Parameters
        ----------
        preview : Drawn
            What to show.
        grid : napari layer
            Has the pixels of the image.
        name : str
            Of the layer.
        like : napari layer, optional
            The target of an image that is made, which begins with its contrast.
        """
        region, picture = preview.region, preview.picture
        place = place_of(region, grid)
        place = divided(place, (1,) * len(region.plane) + region.shape, picture.shape)
        data = picture.reshape((1,) * len(region.plane) + picture.shape)
        layer = self.layer()
        if layer is None or layer.ndim != data.ndim:
            layer = self._add(data, name, place)
            self._dress(layer, preview, like)
            return layer
        is_dressed = (layer.data.dtype.kind == "f") == preview.is_made
        layer.data = data
        if not is_dressed:
            self._dress(layer, preview, like)
        move_to(layer, place)
        if layer.name != name:
            layer.name = name
        return layer

    def set_visible(self, is_visible: bool) -> None:
        """Show or hide it."""
        layer = self.layer()
        if layer is not None and layer.visible != is_visible:
            layer.visible = is_visible

    def remove(self) -> None:
        """Take it out of the viewer: what it shows is of the past."""
        layer = self.layer()
        if layer is not None:
            make_current(self._viewer)
            self._viewer.layers.remove(layer)

    def _add(self, data: NDArray[Any], name: str, place: dict[str, Any]) -> Image:
        layers = self._viewer.layers
        active = layers.selection.active
        layer = Image(
            data,
            name=name,
            contrast_limits=(0, 255),
            interpolation2d="nearest",
            blending="translucent_no_depth",
            metadata={META: {"shown_as": _SHOWN_AS}},
            **place,
        )
        layers.append(layer)
        # What is painted in stays to be painted in.
        layers.selection.active = active
        return layer

    def _dress(self, layer: Image, preview: Drawn, like: Layer | None) -> None:
        """Give the layer colours and contrast; from then on they are the user's."""
        limits = (0.0, 255.0)
        if preview.is_made:
            limits = limits_of(preview.picture)
            if isinstance(like, Image) and not like.rgb:
                # One look shows by what it differs from its target.
                limits = tuple(like.contrast_limits)
        layer.contrast_limits_range = limits
        layer.contrast_limits = limits
        layer.colormap = "gray" if preview.is_made else _COLORMAP
        if preview.is_made:
            self._put_beneath_lines(layer)

    def _put_beneath_lines(self, layer: Image) -> None:
        """Put an image, which hides all beneath, beneath what is held back."""
        layers = self._viewer.layers
        lines = [i for i, each in enumerate(layers) if isinstance(each, Vectors)]
        if lines and lines[0] < layers.index(layer):
            layers.move(layers.index(layer), lines[0])


def make_current(viewer: ViewerModel) -> None:
    """Let OpenGL calls reach the canvas of a viewer, if it has one.

    Without, taking a layer out of a shown viewer can end the process: what it was drawn
    with is deleted in whatever context was current last.
    """
    window: Any = getattr(viewer, "window", None)
    with suppress(AttributeError, RuntimeError):  # no window, or closed already
        window._qt_viewer.canvas.native.makeCurrent()


def place_of(region: Region, labels: Layer) -> dict[str, Any]:
    """Return the arguments that put a layer of a region's pixels where they lie."""
    place = placed_like(labels, labels.ndim)
    grid = Affine(
        scale=place["scale"],
        translate=place["translate"],
        rotate=place["rotate"],
        shear=place["shear"],
    )
    return place | {"translate": grid((*region.plane, *region.start))}


def move_to(layer: Layer, place: Mapping[str, Any]) -> None:
    """Put a layer somewhere; what stays as it is costs no drawing of all layers."""
    for key, value in place.items():
        if not _is_same(getattr(layer, key), value):
            setattr(layer, key, value)


def _is_same(now: Any, wanted: Any) -> bool:
    if isinstance(wanted, Affine):
        return np.array_equal(now.affine_matrix, wanted.affine_matrix)
    if isinstance(wanted, np.ndarray):
        return np.allclose(now, wanted)
    return bool(now == wanted)
