"""Dock widget: the weight map of an annotation, while it is painted."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_unet.widgets._class_balance import ClassBalance
from napari_unet.widgets._color_bar import ColorBar
from napari_unet.widgets._controls import describe, plain_label, scrollable
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import about, note_about, show_lines, unwrapped
from napari_unet.widgets._map_updater import MapUpdater
from napari_unet.widgets._pixel_readout import (
    LINE_COLORS,
    PixelReadout,
    heading_of,
    rows_of,
)
from napari_unet.widgets._run import FailureBox
from napari_unet.widgets._weight_form import WeightForm
from napari_unet.widgets._weight_layer import WeightLayer
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Shapes
    from qtpy.QtGui import QShowEvent

    from napari_unet.config import WeightConfig
    from napari_unet.imaging.pixel_weights import PixelWeight
    from napari_unet.widgets._live_map import Weighed

_STILL_PX = 3
_LINE_PX = 4


class WeightMapWidget(QWidget):
    """Show how much each pixel counts in training, as an image layer.

    The map follows the brush and the sliders; a click on it explains a pixel.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._map = WeightLayer(self._viewer)
        self._lines: weakref.ref[Shapes] | None = None
        self._build()
        self._updater = MapUpdater(self._viewer, self)
        self._connect()
        self._on_labels()

    @property
    def is_busy(self) -> bool:
        """Whether an update is due or being computed."""
        return self._updater.is_busy

    def shown_layer(self) -> Image | None:
        """Return the layer with the weight map, or None."""
        return self._map.layer()

    def lines_layer(self) -> Shapes | None:
        """Return the layer with the lines of the explained pixel, or None."""
        return None if self._lines is None else self._lines()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take over what was set in Train."""
        super().showEvent(event)
        self._take_settings()

    def show_failure(self, failure: Failure) -> None:
        """Show an error."""
        self.failure.show_failure(failure)

    def explain(self, position: tuple[float, ...]) -> None:
        """Explain the pixel at a place of the world, as a click there does.

        Places outside of the annotation, and those where no map is shown, do nothing.
        """
        labels, shown = self._updater.labels(), self.shown_layer()
        if labels is None or shown is None or not shown.visible:
            return
        if not self.show_button.isChecked():
            return
        pixel = np.round(labels.world_to_data(position)).astype(int)
        is_in = ((pixel >= 0) & (pixel < labels.data.shape)).all()
        if is_in:
            self._updater.explain(tuple(pixel.tolist()))

    def _build(self) -> None:
        self.labels_box = LayerBox(
            self._viewer, "labels", "Annotation", "Whose weight map is shown"
        )
        self.form = WeightForm()
        self.form.insert_row("Annotation", self.labels_box)
        self.show_button = QPushButton("Show weight map")
        self.show_button.setCheckable(True)
        describe(
            self.show_button,
            "Show weight map",
            "Show the map as an image, and keep it up to date while painting",
        )
        self.bar = ColorBar()
        self.cursor_label = plain_label("Weight under the cursor")
        self.readout = PixelReadout()
        self.balance = ClassBalance()
        self.failure = FailureBox()
        content = QWidget()
        layout = QVBoxLayout(content)
        for widget in (
            self.form,
            self.show_button,
            self.failure,
            self.bar,
            self.cursor_label,
            self.readout,
            self.balance,
        ):
            layout.addWidget(widget)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrollable(content))
        self._show_extras(False)

    def _connect(self) -> None:
        self.labels_box.layer_changed.connect(self._on_labels)
        self.form.valueChanged.connect(self._on_settings)
        self.form.released.connect(self._on_released)
        self.show_button.toggled.connect(self._on_toggled)
        self._updater.weighed.connect(self._on_weighed)
        self._updater.failed.connect(self._on_failed)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._viewer.cursor.events.position.connect(self._on_cursor)
        self._viewer.mouse_drag_callbacks.append(_clicks_of(self))

    # -- slots ------------------------------------------------------------------

    @guarded
    def _on_labels(self) -> None:
        self._hide()
        labels = self.labels_box.layer()
        self.show_button.setEnabled(labels is not None)
        if labels is None:
            self.show_button.setChecked(False)
        self._updater.watch(labels)
        self._take_settings()

    @guarded
    def _take_settings(self) -> None:
        """Show the settings of the annotation, whichever dock they were made in."""
        labels = self._updater.labels()
        stored = None if labels is None else about(labels).get("weights")
        if stored is not None and stored != self.form.value():
            self.form.setValue(stored)

    @guarded
    def _on_settings(self, config: WeightConfig) -> None:
        self.bar.set_config(config)
        is_final = not self.form.is_dragged
        if is_final:
            self._note_settings(config)
        self._updater.set_config(config, is_final=is_final)

    @guarded
    def _on_released(self) -> None:
        config = self.form.value()
        self._note_settings(config)
        self._updater.set_config(config, is_final=True)

    def _note_settings(self, config: WeightConfig) -> None:
        labels = self._updater.labels()
        if labels is not None and about(labels).get("weights") != config:
            note_about(labels, weights=config)

    @guarded
    def _on_toggled(self, is_on: bool) -> None:
        self.failure.show_failure(None)
        shown = self.shown_layer()
        if shown is not None:
            shown.visible = is_on
        self._show_extras(is_on and shown is not None)
        self._updater.set_active(is_on)

    @guarded
    def _on_weighed(self, event: Weighed) -> None:
        labels = self._updater.labels()
        if labels is None:
            return
        self.failure.show_failure(None)
        layer = self._map.show(labels, event)
        self.bar.set_config(event.wanted.config)
        self.bar.watch(layer)
        config, painted = event.wanted.config, event.wanted.painted
        others = event.wanted.other_counts
        n = max(len(event.class_counts), len(others))
        counts = _padded(event.class_counts, n) + _padded(others, n)
        self.balance.show_counts(
            painted.class_names, counts.tolist(), is_balanced=config.balance_classes
        )
        if event.explained is not None:
            self._show_explained(labels, event, event.explained)
        self._show_extras(True)

    @guarded
    def _on_failed(self, failure: Failure) -> None:
        self.show_failure(failure)

    @guarded
    def _on_removed(self, event: Any) -> None:
        if event.value is self.shown_layer():
            self._map.forget()
            self._updater.begin_anew()
            self.bar.watch(None)
            self.show_button.setChecked(False)
        elif event.value is self.lines_layer():
            self._lines = None

    @guarded
    def _on_cursor(self) -> None:
        shown = self.shown_layer()
        w = None
        if shown is not None and shown.visible:
            w = shown.get_value(self._viewer.cursor.position, world=True)
        if w is None:
            # A space keeps its line: what is beneath must not jump.
            self.cursor_label.setText("")
        else:
            note = " (ignored)" if w == 0 else ""
            self.cursor_label.setText(f"Weight under the cursor: {w:.2f}{note}")

    # -- drawing ----------------------------------------------------------------

    def _show_extras(self, is_on: bool) -> None:
        for widget in (self.bar, self.cursor_label, self.readout):
            widget.setVisible(is_on)
        self.balance.setVisible(is_on and bool(self.balance.texts()))
        lines = self.lines_layer()
        if lines is not None:
            lines.visible = is_on

    def _show_explained(
        self, labels: Labels, event: Weighed, pixel: PixelWeight
    ) -> None:
        wanted = event.wanted
        if wanted.pixel is None:
            return
        position = (*wanted.plane, *wanted.pixel)
        axes = "TZYX"[-labels.ndim :] if labels.ndim <= 4 else "?" * labels.ndim
        self.readout.show_pixel(
            heading_of(axes, position, pixel),
            rows_of(pixel, wanted.config, wanted.painted.class_names),
        )
        ends = [pixel.first_at, pixel.second_at] if not pixel.class_index else []
        lines = [
            np.array([position, (*wanted.plane, *end)], float)
            for end in ends
            if end is not None and pixel.is_known
        ]
        if not lines and self.lines_layer() is None:
            return
        layer = show_lines(
            self._viewer,
            f"{labels.name} pixel explained",
            lines,
            like=labels,
            colors=LINE_COLORS,
            width=_LINE_PX / self._viewer.scene.camera.zoom / abs(labels.scale[-1]),
        )
        self._lines = weakref.ref(layer)

    def _hide(self) -> None:
        shown = self.shown_layer()
        if shown is not None:
            shown.visible = False
        self._show_extras(False)
        self._map.forget()
        self._lines = None
        self.bar.watch(None)
        self.readout.clear()


def _padded(counts: tuple[int, ...], n: int) -> Any:
    return np.array(counts + (0,) * (n - len(counts)), np.int64)


def _clicks_of(widget: WeightMapWidget) -> Any:
    """Return a callback for the viewer's mouse that explains what is clicked on."""
    # The viewer outlives the dock.
    reference = weakref.ref(widget)

    def on_press(viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
        start, position = np.array(event.pos), tuple(event.position)
        is_left = event.button in (1, Qt.MouseButton.LeftButton)
        yield
        is_still = True
        while event.type == "mouse_move":
            is_still &= bool(np.abs(np.array(event.pos) - start).max() <= _STILL_PX)
            yield
        widget = reference()
        if widget is not None and is_left and is_still and not event.modifiers:
            _explain(widget, position)

    return on_press


def _explain(widget: WeightMapWidget, position: tuple[float, ...]) -> None:
    guarded(type(widget).explain)(widget, position)
