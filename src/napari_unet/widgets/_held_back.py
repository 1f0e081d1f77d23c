"""What is held back for validation, drawn on screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Vectors

from napari_unet.widgets._layers import META, about, placed_like, unwrapped
from napari_unet.widgets._live_layer import move_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_unet.events import Region

_SHOWN_AS = "held back"
_COLOR = "#ff9f1c"
_SHARE_OF_SIDE = 1 / 250
_N_DASHES = 16


class HeldBackLayer:
    """The dashed outlines of what a viewer's training is validated on.

    Vectors, which nobody can move by mistake, and which one shader draws: those of
    Shapes take a second to compile where there is no graphics card.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = unwrapped(viewer)

    def layer(self) -> Vectors | None:
        """Return the layer, or None where there is none (any more)."""
        for layer in self._viewer.layers:
            if about(layer).get("shown_as") == _SHOWN_AS:
                return layer
        return None

    def show(self, regions: Sequence[Region], grid: Layer, name: str) -> Vectors:
        """Draw the regions where they lie on an annotation or image."""
        dashes = [dashes_of(region) for region in regions]
        dashes.append(np.zeros((0, 2, grid.ndim)))
        data = np.concatenate(dashes)
        side = max((max(region.shape) for region in regions), default=1)
        width = max(0.7, _SHARE_OF_SIDE * side)
        place = placed_like(grid, grid.ndim)
        layer = self.layer()
        if layer is None or layer.ndim != grid.ndim:
            return self._add(data, name, edge_width=width, **place)
        layer.data, layer.name, layer.edge_width = data, name, width
        move_to(layer, place)
        return layer

    def set_visible(self, is_visible: bool) -> None:
        """Show or hide it."""
        layer = self.layer()
        if layer is not None and layer.visible != is_visible:
            layer.visible = is_visible

    def _add(self, data: NDArray[np.float64], name: str, **more: Any) -> Vectors:
        layers = self._viewer.layers
        active = layers.selection.active
        layer = Vectors(
            data,
            ndim=data.shape[-1],
            name=name,
            vector_style="line",
            edge_color=_COLOR,
            opacity=1.0,
            metadata={META: {"shown_as": _SHOWN_AS}},
            **more,
        )
        layers.append(layer)
        # What is painted in stays to be painted in.
        layers.selection.active = active
        return layer


def dashes_of(region: Region) -> NDArray[np.float64]:
    """Return the outline of a region, at the outer edges of its pixels, as dashes.

    Returns
    -------
    ndarray of float64, shape (N, 2, n_axes)
        Start and extent of each dash, in pixels of the image.
    """
    (top, left), (height, width) = np.subtract(region.start, 0.5), region.shape
    corners = np.array(
        [
            (top, left),
            (top, left + width),
            (top + height, left + width),
            (top + height, left),
        ]
    )
    dashes = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # A dash at both ends of each side, so that the corners are closed.
        n = 2 * _N_DASHES - 1
        step = (end - start) / n
        starts = start + np.arange(0, n, 2)[:, None] * step
        dashes.append(np.stack([starts, np.broadcast_to(step, starts.shape)], axis=1))
    flat = np.concatenate(dashes)
    planes = np.zeros((len(flat), 2, len(region.plane)))
    planes[:, 0] = region.plane
    return np.concatenate([planes, flat], axis=-1)
