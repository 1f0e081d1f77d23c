"""The image layer that shows a weight map, changed in place."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.widgets._layers import show_image

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from numpy.typing import NDArray

    from napari_unet.widgets._live_map import Weighed

# Perceptually uniform, so that equal steps of weight look equally large; black at 0,
# so that what is ignored adds no light to the image beneath.
_COLORMAP = "inferno"
# Linear, the weight 1 of all cells would be as black as what is ignored.
_GAMMA = 0.6


class WeightLayer:
    """One image layer for one annotation.

    Parameters
    ----------
    viewer : napari viewer
        Where it is shown.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: weakref.ref[Image] | None = None
        self._weights: NDArray[np.float32] | None = None
        self._highest = 0.0

    def layer(self) -> Image | None:
        """Return the layer, or None where it is not shown yet, or was deleted."""
        return None if self._layer is None else self._layer()

    def forget(self) -> None:
        """Let go of the layer: it is gone, or that of another annotation."""
        self._layer = self._weights = None

    def show(self, labels: Labels, event: Weighed) -> Image:
        """Show what changed."""
        shape = tuple(labels.data.shape)
        if self._weights is None or self._weights.shape != shape:
            self._weights = np.zeros(shape, np.float32)
        if event.window is not None:
            self._weights[event.wanted.plane][event.window] = event.weights
        layer = self.layer()
        if layer is None or layer.data is not self._weights:
            layer = self._add(labels, self._weights)
        elif event.window is not None:
            # Without what a stroke does not change: a few ms at 2048 x 2048.
            is_part = event.weights is not None and event.weights.shape != shape[-2:]
            layer.refresh(thumbnail=not is_part, highlight=False, extent=False)
        self._set_limits(layer, event)
        return layer

    def _add(self, labels: Labels, weights: NDArray[np.float32]) -> Image:
        layers = self._viewer.layers
        active = layers.selection.active
        layer = show_image(
            self._viewer,
            f"{labels.name} weights",
            weights,
            like=labels,
            colormap=_COLORMAP,
            gamma=_GAMMA,
            blending="additive",
            opacity=0.7,
        )
        layer.visible = True
        self._layer, self._highest = weakref.ref(layer), 0.0
        # It only adds light to what is beneath, which stays to be painted in.
        layers.selection.active = active
        return layer

    def _set_limits(self, layer: Any, event: Weighed) -> None:
        # What the user set stays until other weights are possible.
        highest = event.wanted.config.w0 + max(1.0, *event.class_factors)
        if highest != self._highest:
            self._highest = highest
            layer.contrast_limits_range = (0.0, highest)
            layer.contrast_limits = (0.0, highest)
