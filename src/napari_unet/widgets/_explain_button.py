"""Clicks on the canvas that ask how the weight of a pixel comes about."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton

from napari_unet.widgets._clicks import on_plain_click
from napari_unet.widgets._controls import describe
from napari_unet.widgets._keys import bind_key
from napari_unet.widgets._layers import about, unwrapped
from napari_unet.widgets._lines import MouseTool

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Labels

KEY = "Shift-W"
"""Switches the mode; none of napari's keys, nor of our other tools."""

_LEFT = 1


class PixelPicker(MouseTool):
    """Pick places by clicks or drags, until stopped; nothing is painted meanwhile.

    Signals
    -------
    picked(tuple of float)
        A place of the world.
    """

    picked = Signal(object)

    def _drag(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        if layer.mouse_pan:  # the space bar is held
            return
        if event.button != _LEFT:
            self._cancel()
            return
        self.picked.emit(tuple(event.position))
        yield
        while event.type == "mouse_move":
            self.picked.emit(tuple(event.position))
            yield

    def _on_active(self) -> None:
        layers = self._viewer.layers
        active = layers.selection.active
        # The lines of the first pixel are a new layer, which is active for a moment.
        is_result = active is not None and "shown_as" in about(active)
        if not (is_result or (active is None and self.layer in layers)):
            super()._on_active()


class ExplainButton(QPushButton):
    """Have clicks on the canvas explain pixels.

    Plain clicks do so wherever they would do nothing else; while the button is on they
    do so with a brush in hand as well.

    Parameters
    ----------
    viewer : napari viewer
        Whose canvas is clicked on.

    Signals
    -------
    asked(tuple of float)
        A place of the world was clicked on.
    """

    asked = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__("Explain pixels")
        self._labels: weakref.ref[Labels] | None = None
        self._picker = PixelPicker(viewer)
        self.setCheckable(True)
        self.setEnabled(False)
        describe(
            self,
            "Explain pixels",
            "Clicks explain pixels and do not paint. Escape or a right click ends it, "
            f"and the brush comes back. Key: {KEY.replace('-', '+')}",
        )
        self.toggled.connect(self._on_toggled)
        self._picker.picked.connect(self.asked)
        self._picker.stopped.connect(self._on_stopped)
        self.destroyed.connect(self._picker.stop)
        on_plain_click(viewer, self, ExplainButton._tell)
        bind_key(unwrapped(viewer), KEY, self._on_key)

    def watch(self, labels: Labels | None) -> None:
        """Take clicks on an annotation from now on, or on none."""
        if labels is None or labels is not self._picker.layer:
            self.setChecked(False)
        self._labels = None if labels is None else weakref.ref(labels)
        self.setEnabled(labels is not None)

    def _on_toggled(self, is_on: bool) -> None:
        labels = None if self._labels is None else self._labels()
        if is_on and labels is not None:
            self._picker.start(labels)
        else:
            self._picker.stop()

    def _on_stopped(self) -> None:
        self.setChecked(False)

    def _on_key(self) -> None:
        self.click()

    def _tell(self, _: Any, position: tuple[float, ...]) -> None:
        if self.isEnabled():
            self.asked.emit(position)
