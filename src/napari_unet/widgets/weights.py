"""Dock widget: the weight map of an annotation, while it is painted."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFormLayout, QPushButton, QVBoxLayout, QWidget

from napari_unet.config import WeightConfig
from napari_unet.events import Event
from napari_unet.imaging.targets import make_target
from napari_unet.widgets._controls import describe, plain_label, scrollable
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import about, note_about, show_image, unwrapped
from napari_unet.widgets._painted import painted_of, regions_layer_of
from napari_unet.widgets._run import FailureBox
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Image, Labels
    from numpy.typing import NDArray
    from qtpy.QtGui import QShowEvent

    from napari_unet.widgets._painted import Painted

_UPDATE_AFTER_MS = 100
_EDITS = ("labels_update", "paint", "set_data", "data", "metadata")


@dataclass(frozen=True, eq=False)
class Weighed(Event):
    """The weights of one plane, or (`plane` empty) of all: float32 ([Z,] Y, X)."""

    plane: tuple[int, ...]
    weights: NDArray[np.float32]
    w0: float


class WeightMapWidget(QWidget):
    """Show how much each pixel counts in training, as an image layer.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._runner = Runner(self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_UPDATE_AFTER_MS)
        self._labels: weakref.ref[Labels] | None = None
        self._shown: weakref.ref[Image] | None = None
        self._weights: NDArray[np.float32] | None = None
        self._build()
        self._connect()
        self._on_labels()

    @property
    def is_busy(self) -> bool:
        """Whether an update is due or being computed."""
        return self._timer.isActive() or self._runner.is_running

    def shown_layer(self) -> Image | None:
        """Return the layer with the weight map, or None."""
        return None if self._shown is None else self._shown()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take over what was set in Train."""
        super().showEvent(event)
        self._take_settings()

    def show_failure(self, failure: Failure) -> None:
        """Show an error."""
        self.failure.show_failure(failure)

    def _build(self) -> None:
        self.labels_box = LayerBox(
            self._viewer, "labels", "Annotation", "Whose weight map is shown"
        )
        self.form = ConfigForm(WeightConfig)
        self.show_button = QPushButton("Show weight map")
        self.show_button.setCheckable(True)
        describe(
            self.show_button,
            "Show weight map",
            "Show the map as an image, and keep it up to date while painting",
        )
        self.cursor_label = plain_label("Weight under the cursor")
        self.legend = plain_label(
            "Legend",
            "0: ignored, because nothing is known there. 1: a cell, or background "
            "far from cells. Up to 1 + w0: the gap between close cells.",
        )
        self.failure = FailureBox()
        content = QWidget()
        layout = QVBoxLayout(content)
        row = QFormLayout()
        row.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        row.addRow("Annotation", self.labels_box)
        layout.addLayout(row)
        for widget in (
            self.form,
            self.show_button,
            self.cursor_label,
            self.legend,
            self.failure,
        ):
            layout.addWidget(widget)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrollable(content))

    def _connect(self) -> None:
        self.labels_box.layer_changed.connect(self._on_labels)
        self.form.valueChanged.connect(self._on_settings)
        self.show_button.toggled.connect(self._on_toggled)
        self._timer.timeout.connect(self._update)
        self._runner.happened.connect(self._on_weighed)
        self._runner.failed.connect(self.show_failure)
        self._viewer.dims.events.current_step.connect(self._on_edit)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self._viewer.cursor.events.position.connect(self._on_cursor)

    # -- slots ------------------------------------------------------------------

    @guarded
    def _on_labels(self) -> None:
        self._hide()
        labels = self.labels_box.layer()
        self._labels = None if labels is None else weakref.ref(labels)
        self.show_button.setEnabled(labels is not None)
        if labels is None:
            self.show_button.setChecked(False)
            return
        for name in _EDITS:
            getattr(labels.events, name).connect(self._on_edit)
        self._take_settings()
        self._on_edit()

    @guarded
    def _take_settings(self) -> None:
        """Show the settings of the annotation, whichever dock they were made in."""
        labels = None if self._labels is None else self._labels()
        stored = None if labels is None else about(labels).get("weights")
        if stored is not None and stored != self.form.value():
            self.form.setValue(stored)

    @guarded
    def _on_settings(self) -> None:
        labels = None if self._labels is None else self._labels()
        if labels is not None and about(labels).get("weights") != self.form.value():
            note_about(labels, weights=self.form.value())
        self._on_edit()

    @guarded
    def _on_toggled(self, is_on: bool) -> None:
        self.failure.show_failure(None)
        shown = self.shown_layer()
        if shown is not None:
            shown.visible = is_on
        self._on_edit()

    @guarded
    def _on_edit(self) -> None:
        labels = None if self._labels is None else self._labels()
        if labels is None or not self.show_button.isChecked():
            return
        shapes = regions_layer_of(labels)
        if shapes is not None:
            shapes.events.data.connect(self._on_edit)
        # Not started anew by each move of the brush: the map follows the stroke.
        if not self._timer.isActive():
            self._timer.start()

    @guarded
    def _update(self) -> None:
        labels = None if self._labels is None else self._labels()
        if labels is None or not self.show_button.isChecked():
            return
        if self._runner.is_running:
            self._timer.start()
            return
        plane = self._plane_on_screen(labels)
        events = _weighing(painted_of(labels), plane, self.form.value())
        self._runner.run(lambda: events)

    @guarded
    def _on_weighed(self, events: list[Event]) -> None:
        labels = None if self._labels is None else self._labels()
        if labels is None or not self.show_button.isChecked():
            return
        for event in events:
            if isinstance(event, Weighed):
                self._show(labels, event)

    @guarded
    def _on_removed(self, event: Any) -> None:
        if event.value is self.shown_layer():
            self._shown = self._weights = None
            self.show_button.setChecked(False)

    @guarded
    def _on_cursor(self) -> None:
        shown = self.shown_layer()
        if shown is None or not shown.visible:
            self.cursor_label.setText("")
            return
        w = shown.get_value(self._viewer.cursor.position, world=True)
        if w is None:
            self.cursor_label.setText("")
        else:
            note = " (ignored)" if w == 0 else ""
            self.cursor_label.setText(f"Weight under the cursor: {w:.2f}{note}")

    # -- drawing ----------------------------------------------------------------

    def _plane_on_screen(self, labels: Labels) -> tuple[int, ...]:
        point = labels.world_to_data(self._viewer.dims.point)[:-2]
        last = np.array(labels.data.shape[:-2]) - 1
        clipped = np.clip(np.round(point), 0, last)
        return tuple(int(i) for i in clipped)

    def _show(self, labels: Labels, event: Weighed) -> None:
        if self._weights is None or self._weights.shape != labels.data.shape:
            self._weights = np.zeros(labels.data.shape, np.float32)
        self._weights[event.plane] = event.weights
        shown = self.shown_layer()
        if shown is None or shown.data is not self._weights:
            shown = self._add(labels, self._weights)
            self._shown = weakref.ref(shown)
        else:
            shown.refresh()
        limits = (0.0, event.w0 + 1.0)
        if tuple(shown.contrast_limits) != limits:
            shown.contrast_limits_range = limits
            shown.contrast_limits = limits

    def _add(self, labels: Labels, weights: NDArray[np.float32]) -> Image:
        layers = self._viewer.layers
        active = layers.selection.active
        shown = show_image(
            self._viewer,
            f"{labels.name} weights",
            weights,
            like=labels,
            colormap="inferno",
            blending="additive",
            opacity=0.7,
        )
        shown.visible = True
        bar = getattr(shown, "colorbar", None)  # napari 0.7 and later
        if bar is not None:
            bar.visible = True
        # It only adds light to what is beneath, which stays to be painted in.
        layers.selection.active = active
        return shown

    def _hide(self) -> None:
        shown = self.shown_layer()
        if shown is not None:
            shown.visible = False
        self._shown = self._weights = None


def _weighing(
    painted: Painted, plane: tuple[int, ...], config: WeightConfig
) -> Generator[Event, None, None]:
    """Compute the weights that training would use.

    Of a stack the plane on screen is enough, as planes are weighed one by one; only
    the balance of classes is a matter of the whole.
    """
    if config.balance_classes:
        plane = ()
    target = make_target(painted.annotation(plane), config)
    yield Weighed(plane, target.weights, config.w0)
