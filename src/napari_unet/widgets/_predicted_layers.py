"""What is predicted, as layers on the image, from the first tile on."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ImageError
from napari_unet.events import Event, TileDone
from napari_unet.widgets._contrast import limits_of
from napari_unet.widgets._layers import (
    full_resolution,
    show_image,
    show_labels,
    size_text,
)
from napari_unet.widgets._prediction import (
    PROBABILITIES,
    AttentionMapped,
    Predicted,
    TilesFollow,
    Uncertain,
    names_of,
    output_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

_DRAW_EVERY_S = 0.3
_STYLE = {
    "colormap": "magma",
    "contrast_limits": (0, 1),
    "blending": "additive",
    "opacity": 0.7,
}


class PredictedLayers:
    """Draws the events of a prediction; what an earlier one has shown is updated.

    Parameters
    ----------
    viewer : napari viewer
        Where the layers go.
    keeps_probabilities : callable
        Returns whether the user wants to keep the probabilities by now.
    """

    def __init__(
        self, viewer: ViewerModel, keeps_probabilities: Callable[[], bool]
    ) -> None:
        self._viewer = viewer
        self._keeps_probabilities = keeps_probabilities
        self._target: weakref.ref[Layer] | None = None
        self._preview: weakref.ref[Layer] | None = None
        self._shape: tuple[int, ...] = ()
        self._roles: tuple[str, ...] = ()
        self._drawn_at = 0.0

    @property
    def target(self) -> Any:
        """The image that is predicted; None once it is gone."""
        target = None if self._target is None else self._target()
        return target if target is not None and target in self._viewer.layers else None

    def begin(self, target: Layer) -> None:
        """Show what follows on this image."""
        self._target, self._preview = weakref.ref(target), None
        self._shape = tuple(full_resolution(target).shape)
        self._drawn_at = 0.0

    def show(self, events: Sequence[Event]) -> None:
        """Draw what the events tell.

        Raises
        ------
        ImageError
            The image has another shape by now (NU-I11).
        """
        target = self.target
        if target is None:
            return
        # A new layer becomes the active one: the user may be painting in another.
        active = self._viewer.layers.selection.active
        fits = tuple(full_resolution(target).shape) == self._shape
        for event in events:
            if isinstance(event, TilesFollow):
                self._roles = event.roles
            elif isinstance(event, Predicted) and not fits:
                raise self._has_changed(target)
            elif fits:
                self._draw(target, event)
        self._viewer.layers.selection.active = active

    def end(self) -> None:
        """Hide what was there for the time of the prediction only."""
        preview = None if self._preview is None else self._preview()
        if preview is not None:
            preview.visible = self._keeps_probabilities()

    def _draw(self, target: Layer, event: Event) -> None:
        match event:
            case TileDone():
                self._show_preview(target, event.outputs)
            case Predicted():
                self._show_result(target, event)
            case Uncertain():
                self._show_uncertainty(target, event.maps)
            case AttentionMapped():
                self._show_attention(target, event.maps)

    def _has_changed(self, target: Layer) -> ImageError:
        now = tuple(full_resolution(target).shape)
        return ImageError(
            "NU-I11",
            f'image "{target.name}" was {size_text(self._shape)} when prediction began '
            f"and is {size_text(now)} now: its result is not shown, predict again",
        )

    def _may_draw(self) -> bool:
        now = time.monotonic()
        if now - self._drawn_at < _DRAW_EVERY_S:
            return False
        self._drawn_at = now
        return True

    def _show_preview(self, target: Layer, outputs: NDArray[np.float32]) -> None:
        channels = _probabilities(self._roles)
        shown = None if self._preview is None else self._preview()
        was_deleted = self._preview is not None and shown not in self._viewer.layers
        if not channels or was_deleted or not self._may_draw():
            return
        name = f"{target.name} probability"
        if not self._keeps_probabilities():
            # It stays, hidden: taking layers out of a viewer can crash OpenGL.
            name += " (preview)"
        first = outputs[channels[0]]
        layer = show_image(self._viewer, name, first, like=target, **_STYLE)
        layer.visible = True
        self._preview = weakref.ref(layer)

    def _show_result(self, target: Layer, result: Predicted) -> None:
        if result.labels is None or self._keeps_probabilities():
            self._show_outputs(target, result)
        if result.labels is not None:
            show_labels(
                self._viewer, f"{target.name} prediction", result.labels, like=target
            )

    def _show_outputs(self, target: Layer, result: Predicted) -> None:
        channels = _probabilities(result.roles)
        for i, k in enumerate(channels, 1):
            name = f"{target.name} probability{f' {i}' if i > 1 else ''}"
            show_image(self._viewer, name, result.outputs[k], like=target, **_STYLE)
        show_values(self._viewer, target, result.outputs, names_of(result.roles))

    def _show_uncertainty(
        self, target: Layer, maps: Mapping[str, NDArray[np.float32]]
    ) -> None:
        for i, (kind, each) in enumerate(maps.items()):
            name = f"{target.name} uncertainty ({kind})"
            style = {**_STYLE, "colormap": "inferno", "visible": i == 0}
            layer = show_image(self._viewer, name, each, like=target, **style)
            if kind != "entropy":
                layer.reset_contrast_limits_range()
                layer.contrast_limits = (0, max(float(each.max()), 1e-6))

    def _show_attention(self, target: Layer, maps: NDArray[np.float32]) -> None:
        for i, each in enumerate(maps, 1):
            name = f"{target.name} attention {i}"
            # One at a time: their colours would add up.
            style = {**_STYLE, "visible": i == 1}
            show_image(self._viewer, name, each, like=target, **style)


def show_values(
    viewer: ViewerModel,
    target: Layer,
    outputs: NDArray[Any],
    names: Mapping[int, str],
) -> list[Layer]:
    """Show some of the outputs (K, [T,] [Z,] Y, X) as images on top of a layer."""
    first = min(names, default=0)
    shown: list[Layer] = []
    for k, name in names.items():
        layer = show_image(
            viewer,
            f"{target.name} {name}",
            outputs[k],
            like=target,
            visible=k == first,  # the others would only cover it
        )
        # Values have no range of their own; another model's may be far off.
        layer.reset_contrast_limits_range()
        layer.contrast_limits = limits_of(outputs[k])
        shown.append(layer)
    return shown


def _probabilities(roles: Sequence[str]) -> list[int]:
    """Return the channels that are probabilities, but of the background."""
    return [
        k
        for k, role in enumerate(roles)
        if role.startswith(PROBABILITIES) and output_name(role) != "background"
    ]
