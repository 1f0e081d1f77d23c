"""Dock widget: the weight map of an annotation, while it is painted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QPushButton, QWidget

from napari_unet.widgets._class_balance import ClassBalance
from napari_unet.widgets._color_bar import ColorBar
from napari_unet.widgets._controls import describe, fill_dock, plain_label
from napari_unet.widgets._explain_button import ExplainButton
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import about, note_about, unwrapped
from napari_unet.widgets._map_updater import MapUpdater
from napari_unet.widgets._pixel_lines import PixelLines
from napari_unet.widgets._pixel_readout import PixelReadout, heading_of, rows_of
from napari_unet.widgets._run import FailureBox
from napari_unet.widgets._weight_form import WeightForm
from napari_unet.widgets._weight_layer import WeightLayer
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Shapes
    from qtpy.QtGui import QHideEvent, QShowEvent

    from napari_unet.config import WeightConfig
    from napari_unet.imaging.pixel_weights import PixelWeight
    from napari_unet.widgets._live_map import Weighed


class WeightMapWidget(QWidget):
    """Show how much each pixel counts in training, as an image layer.

    The map follows the brush and the sliders; a click on it explains a pixel. All
    annotations share one layer, which shows the map of the chosen one.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._map = WeightLayer(self._viewer)
        self._lines = PixelLines(self._viewer)
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
        return self._lines.layer()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take over what was set in Train."""
        super().showEvent(event)
        self._take_settings()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Give the mouse back with the dock that closes; not to a minimised window."""
        super().hideEvent(event)
        if event is None or not event.spontaneous():
            self.explain_button.setChecked(False)

    def changeEvent(self, event: QEvent | None) -> None:
        """Hide the map with a dock that is closed for good: nobody keeps it up."""
        super().changeEvent(event)
        is_moved = event is not None and event.type() == QEvent.Type.ParentChange
        if is_moved and self.parentWidget() is None:
            self.show_button.setChecked(False)

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
        self.explain_button = ExplainButton(self._viewer)
        self.balance = ClassBalance()
        self.failure = FailureBox()
        fill_dock(
            self,
            self.form,
            self.show_button,
            self.failure,
            self.bar,
            self.cursor_label,
            self.explain_button,
            self.readout,
            self.balance,
        )

    def _connect(self) -> None:
        self.labels_box.layer_changed.connect(self._on_labels)
        self.form.valueChanged.connect(self._on_settings)
        self.form.released.connect(self._on_released)
        self.show_button.toggled.connect(self._on_toggled)
        self._updater.weighed.connect(self._on_weighed)
        self._updater.failed.connect(self._on_failed)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._viewer.cursor.events.position.connect(self._on_cursor)
        self.explain_button.asked.connect(self._on_click)

    # -- slots ------------------------------------------------------------------

    @guarded
    def _on_labels(self) -> None:
        self._hide()
        self._map.forget()
        self.readout.clear()
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
        if not is_on:
            self._hide()
        self._updater.set_active(is_on)

    @guarded
    def _on_click(self, position: tuple[float, ...]) -> None:
        self.explain(position)

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
        self._on_cursor()

    @guarded
    def _on_failed(self, failure: Failure) -> None:
        # What was shown is not the map of these settings, of this annotation.
        self._hide()
        self.show_failure(failure)

    @guarded
    def _on_removed(self, event: Any) -> None:
        if event.value is self.shown_layer():
            self._map.lose()
            self._updater.begin_anew()
            self.bar.watch(None)
            self.show_button.setChecked(False)

    @guarded
    def _on_cursor(self) -> None:
        w = self._map.weight_at(self._viewer.cursor.position)
        if w is None:
            # A space keeps its line: what is beneath must not jump.
            self.cursor_label.setText("")
        else:
            note = " (ignored)" if w == 0 else ""
            self.cursor_label.setText(f"Weight under the cursor: {w:.2f}{note}")

    # -- drawing ----------------------------------------------------------------

    def _show_extras(self, is_on: bool) -> None:
        for widget in (self.bar, self.cursor_label, self.readout, self.explain_button):
            widget.setVisible(is_on)
        self.balance.setVisible(is_on and bool(self.balance.texts()))
        self.explain_button.watch(self._updater.labels() if is_on else None)

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
        self._lines.show(labels, position, pixel)

    def _hide(self) -> None:
        self._map.hide()
        self._lines.hide()
        self._show_extras(False)
        self._on_cursor()


def _padded(counts: tuple[int, ...], n: int) -> Any:
    return np.array(counts + (0,) * (n - len(counts)), np.int64)
