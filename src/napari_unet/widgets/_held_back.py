"""What is held back for validation, drawn on screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Shapes

from napari_unet.widgets._layers import META, about, placed_like, unwrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray

    from napari_unet.events import Region

_SHOWN_AS = "held back"
_COLOR = "#ff9f1c"
_SHARE_OF_SIDE = 1 / 300


class HeldBackLayer:
    """The rectangles of a viewer that are validated on: outlined, not to be edited."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = unwrapped(viewer)

    def layer(self) -> Shapes | None:
        """Return the layer, or None where there is none (any more)."""
        for layer in self._viewer.layers:
            if about(layer).get("shown_as") == _SHOWN_AS:
                return layer
        return None

    def show(self, regions: Sequence[Region], labels: Labels, name: str) -> Shapes:
        """Draw the regions where they lie on an annotation."""
        layer = self.layer()
        if layer is None or layer.ndim != labels.ndim:
            layer = self._add(labels, name)
        layer.name = name
        for key, value in placed_like(labels, labels.ndim).items():
            setattr(layer, key, value)
        corners = [rectangle_of(region) for region in regions]
        layer.data = (corners, ["rectangle"] * len(corners)) if corners else []
        if corners:
            side = max(max(region.shape) for region in regions)
            layer.edge_width = [max(1.0, _SHARE_OF_SIDE * side)] * len(corners)
            layer.edge_color = [_COLOR] * len(corners)
            layer.face_color = ["transparent"] * len(corners)
        layer.editable = False
        return layer

    def set_visible(self, is_visible: bool) -> None:
        """Show or hide it."""
        layer = self.layer()
        if layer is not None and layer.visible != is_visible:
            layer.visible = is_visible

    def _add(self, labels: Labels, name: str) -> Shapes:
        layers = self._viewer.layers
        active = layers.selection.active
        layer = Shapes(
            ndim=labels.ndim, name=name, metadata={META: {"shown_as": _SHOWN_AS}}
        )
        layers.append(layer)
        layers.selection.active = active
        return layer


def rectangle_of(region: Region) -> NDArray[np.float64]:
    """Return the corners of a region, at the outer edges of its pixels."""
    (top, left), (n_rows, n_columns) = np.subtract(region.start, 0.5), region.shape
    corners = [(top, left), (top, left + n_columns)]
    corners += [(top + n_rows, left + n_columns), (top + n_rows, left)]
    return np.array([(*region.plane, y, x) for y, x in corners], float)
