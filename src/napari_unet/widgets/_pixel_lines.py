"""The lines from an explained pixel to the cells that its weight comes from."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.widgets._layers import placed_like, show_lines
from napari_unet.widgets._pixel_readout import LINE_COLORS

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Shapes

    from napari_unet.imaging.pixel_weights import PixelWeight

_LINE_PX = 4


class PixelLines:
    """One Shapes layer, changed in place, whatever the annotation.

    Parameters
    ----------
    viewer : napari viewer
        Where it is shown.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: weakref.ref[Shapes] | None = None
        self._is_hidden = False

    def layer(self) -> Shapes | None:
        """Return the layer, or None where no pixel was explained, or it was deleted."""
        layer = None if self._layer is None else self._layer()
        return layer if layer in self._viewer.layers else None

    def show(
        self, labels: Labels, position: tuple[int, ...], pixel: PixelWeight
    ) -> None:
        """Show the lines of a pixel, an index of the labels; there may be none."""
        ends = [pixel.first_at, pixel.second_at]
        if pixel.class_index or not pixel.is_known:
            ends = []
        lines = [
            np.array([position, (*position[: -len(end)], *end)], float)
            for end in ends
            if end is not None
        ]
        layer = self.layer()
        if layer is not None and layer.ndim == labels.ndim:
            _place(layer, labels)
        elif not lines:
            self.hide()
            return
        # A Shapes layer keeps its number of axes: one for planes, one for stacks.
        kind = f"pixel explained ({labels.ndim}D)"
        layer = show_lines(
            self._viewer,
            kind,
            lines,
            like=labels,
            colors=LINE_COLORS,
            width=_LINE_PX / self._viewer.scene.camera.zoom / abs(labels.scale[-1]),
        )
        self._layer = weakref.ref(layer)
        if layer.name == kind:
            layer.name = "pixel explained"
        if self._is_hidden:
            layer.visible, self._is_hidden = True, False

    def hide(self) -> None:
        """Hide the lines until others are shown."""
        layer = self.layer()
        if layer is not None:
            layer.visible, self._is_hidden = False, True


def _place(layer: Shapes, labels: Labels) -> None:
    for name, value in placed_like(labels, labels.ndim).items():
        setattr(layer, name, value)
