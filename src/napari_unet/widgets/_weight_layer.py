"""The image layer that shows a weight map, changed in place."""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.widgets._layers import about, note_about, show_image

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from numpy.typing import NDArray

    from napari_unet.widgets._live_map import Weighed

# Perceptually uniform, so that equal steps of weight look equally large; black at 0,
# so that what is ignored adds no light to the image beneath.
_COLORMAP = "inferno"
_BRIGHTNESS_OF_1 = 0.25
# napari's slider goes no further.
_LEAST_GAMMA = 0.2
_SHOWN_AS = "weight map"


class WeightLayer:
    """The one image layer of a viewer for weight maps, whatever the annotation.

    It is never removed, which can crash OpenGL; another annotation's map takes its
    place.

    Parameters
    ----------
    viewer : napari viewer
        Where it is shown.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: weakref.ref[Image] | None = None
        self._labels: weakref.ref[Labels] | None = None
        self._weights: NDArray[np.float32] | None = None
        self._highest = 0.0
        self._is_hidden = False

    def layer(self) -> Image | None:
        """Return the layer, or None where it is not shown yet, or was deleted."""
        return None if self._layer is None else self._layer()

    def forget(self) -> None:
        """Let go of the weights: others come, of another annotation."""
        self._labels = self._weights = None

    def lose(self) -> None:
        """Let go of the layer, which was deleted."""
        self._layer = None
        self.forget()

    def hide(self) -> None:
        """Hide the layer until `show` has something to show."""
        layer = self.layer()
        if layer is not None:
            layer.visible, self._is_hidden = False, True

    def weight_at(self, position: tuple[float, ...]) -> float | None:
        """Return the weight at a place of the world; None outside, or while hidden."""
        layer, weights = self.layer(), self._weights
        if layer is None or weights is None or not layer.visible:
            return None
        pixel = np.round(layer.world_to_data(position)).astype(int)
        is_in = ((pixel >= 0) & (pixel < weights.shape)).all()
        return float(weights[tuple(pixel)]) if is_in else None

    def show(self, labels: Labels, event: Weighed) -> Image:
        """Show what changed."""
        shape = tuple(labels.data.shape)
        if self._weights is None or self._weights.shape != shape:
            self._weights = np.zeros(shape, np.float32)
        if event.window is not None:
            self._weights[event.wanted.plane][event.window] = event.weights
        layer = self.layer()
        if layer is None or layer.data is not self._weights:
            layer = self._replace(labels, self._weights)
        elif event.window is not None:
            # Without what a stroke does not change: a few ms at 2048 x 2048.
            is_part = event.weights is not None and event.weights.shape != shape[-2:]
            layer.refresh(thumbnail=not is_part, highlight=False, extent=False)
        self._set_limits(layer, event)
        if self._is_hidden:
            layer.visible, self._is_hidden = True, False
        return layer

    def _replace(self, labels: Labels, weights: NDArray[np.float32]) -> Image:
        """Show an array in the layer; adds the layer where there is none."""
        layers = self._viewer.layers
        active = layers.selection.active
        before = self._found()
        if before is not None and before.ndim != labels.ndim:
            # `show_image` would add one: its own array is the sign of our layer.
            before.data = weights
            note_about(before, shown=weakref.ref(weights))
        layer = show_image(
            self._viewer,
            _SHOWN_AS,
            weights,
            like=labels,
            colormap=_COLORMAP,
            blending="additive",
            opacity=0.7,
        )
        if self.layer() is not layer:
            self._highest = 0.0
            layer.visible, self._is_hidden = True, False
        if self._labels is None or self._labels() is not labels:
            layer.name = f"{labels.name} weights"
            if layers.index(layer) < layers.index(labels):
                layers.move(layers.index(layer), layers.index(labels) + 1)
        self._layer, self._labels = weakref.ref(layer), weakref.ref(labels)
        # It only adds light to what is beneath, which stays to be painted in.
        layers.selection.active = active
        return layer

    def _found(self) -> Image | None:
        """Return the layer of this dock, or of one that was closed."""
        for layer in self._viewer.layers:
            known = about(layer)
            if known.get("shown_as") == _SHOWN_AS and known["shown"]() is layer.data:
                return layer
        return None

    def _set_limits(self, layer: Any, event: Weighed) -> None:
        # What the user set stays until other weights are possible.
        highest = event.wanted.config.w0 + max(1.0, *event.class_factors)
        if highest != self._highest:
            self._highest = highest
            layer.contrast_limits_range = (0.0, highest)
            layer.contrast_limits = (0.0, highest)
            layer.gamma = gamma_for(highest)


def gamma_for(highest: float) -> float:
    """Return the gamma that makes weight 1 equally bright whatever the highest one.

    Linear, the weight 1 of all cells would be as black as what is ignored.
    """
    if highest <= 1 / _BRIGHTNESS_OF_1:
        return 1.0
    return max(math.log(_BRIGHTNESS_OF_1) / -math.log(highest), _LEAST_GAMMA)
