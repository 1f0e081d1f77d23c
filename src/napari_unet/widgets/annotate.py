"""Dock widget: paint cells, background and finished areas."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QMainWindow,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import LabelError
from napari_unet.events import Event
from napari_unet.widgets import _painting as painting
from napari_unet.widgets._annotation_files import AnnotationFiles
from napari_unet.widgets._autosave import autosaver_of
from napari_unet.widgets._controls import describe, plain_label, scrollable
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import about, axes_choices, layer_choices, unwrapped
from napari_unet.widgets._painted import painted_of, regions_layer_of
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Labels
    from qtpy.QtGui import QShowEvent

    from napari_unet.widgets._painted import Painted

_COUNT_AFTER_MS = 150
_EDITS = ("paint", "set_data", "data", "metadata", "selected_label", "mode")
_UNPAINTED = {"unknown": "unknown (ignored)", "background": "background"}


@dataclass(frozen=True)
class Counted(Event):
    """An annotation was counted."""

    counts: painting.Counts


class AnnotateWidget(QWidget):
    """Paint an annotation of an image.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    folder : Path, optional
        Folder of the autosaves; the user's data folder by default. It counts, as
        `delay_s` does, for the first one in a viewer.
    delay_s : float
        Time from a stroke to its autosave, in seconds.
    """

    def __init__(
        self,
        napari_viewer: ViewerModel,
        *,
        folder: Path | None = None,
        delay_s: float = 10.0,
    ) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._autosaver = autosaver_of(self._viewer, folder=folder, delay_s=delay_s)
        self._counter = Runner(self)
        self._count_timer = QTimer(self)
        self._count_timer.setSingleShot(True)
        self._count_timer.setInterval(_COUNT_AFTER_MS)
        self._build()
        self._lay_out()
        self._connect()
        self._watch_annotations()
        self._on_image()
        self._on_annotation()

    def annotation(self) -> Labels | None:
        """Return the layer that is painted in, or None."""
        layer: Labels | None = self.labels_box.layer()
        return layer

    def show_failure(self, failure: Failure) -> None:
        """Show an error."""
        self.files.show_failure(failure)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Watch for the closing of the window that we are docked in."""
        super().showEvent(event)
        window = self.parentWidget()
        while window is not None and not isinstance(window, QMainWindow):
            window = window.parentWidget()
        if window is not None:
            self._autosaver.guard(window)

    # -- layout -----------------------------------------------------------------

    def _build(self) -> None:
        self.image_box = LayerBox(
            self._viewer, "image", "Image", "The image to annotate"
        )
        self.axes_box = QComboBox()
        describe(self.axes_box, "Axes", "What the image's axes are: nothing says so")
        self.new_button = _button(
            "New annotation", "Add an empty annotation on top of the image"
        )
        self.labels_box = LayerBox(
            self._viewer, "labels", "Annotation", "The annotation to paint in"
        )
        self.unpainted_box = QComboBox()
        self.unpainted_box.setSizePolicy(
            QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed
        )
        for value, text in _UNPAINTED.items():
            self.unpainted_box.addItem(text, value)
        describe(
            self.unpainted_box,
            "Unpainted is",
            "What is not painted, outside of finished areas: unknown pixels are "
            "ignored in training",
        )
        self.next_button = _button(
            "Next cell (N)", "Paint another cell, with an id of its own. Key: N"
        )
        self.background_button = _button(
            "Background (G)", "Paint what is surely no cell, in grey. Key: G"
        )
        self.finished_button = _button(
            "Finished area",
            "Draw a rectangle in which all cells are painted: the rest of it is "
            "background",
        )
        self.brush_label = plain_label("What is painted now")
        self.count_label = plain_label("What is annotated")
        self.files = AnnotationFiles(
            self._viewer, self.image_box, self.labels_box, self._autosaver
        )

    def _lay_out(self) -> None:
        self._form = QFormLayout()
        self._form.setFieldGrowthPolicy(
            QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow
        )
        self._form.addRow("Image", self.image_box)
        self._form.addRow("Axes", self.axes_box)
        self._form.addRow(self.new_button)
        self._form.addRow("Annotation", self.labels_box)
        self._form.addRow("Unpainted is", self.unpainted_box)
        tools = QGridLayout()
        tools.addWidget(self.next_button, 0, 0)
        tools.addWidget(self.background_button, 0, 1)
        tools.addWidget(self.finished_button, 1, 0, 1, 2)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addWidget(self.files.offer_box)
        layout.addLayout(self._form)
        layout.addLayout(tools)
        for widget in (self.brush_label, self.count_label, self.files):
            layout.addWidget(widget)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrollable(content))

    def _connect(self) -> None:
        self.image_box.layer_changed.connect(self._on_image)
        self.labels_box.layer_changed.connect(self._on_annotation)
        self.labels_box.activated.connect(self._on_chosen)
        self.new_button.clicked.connect(self._new)
        self.next_button.clicked.connect(self._next_cell)
        self.background_button.clicked.connect(self._background)
        self.finished_button.clicked.connect(self._finished)
        self.unpainted_box.activated.connect(self._set_unpainted)
        self.files.opened.connect(self._on_opened)
        self._count_timer.timeout.connect(self._count)
        self._counter.happened.connect(self._on_counted)
        self._counter.failed.connect(self.show_failure)
        self._viewer.layers.selection.events.active.connect(self._on_active)
        # On the viewer, so that they work while a finished area is drawn, too; the
        # manifest's key bindings are not honoured by napari.
        self._bind(self._viewer, "N", "_next_cell")
        self._bind(self._viewer, "G", "_background")

    def _bind(self, target: Any, key: str, method: str) -> None:
        # The viewer outlives the widget: it must not keep it alive.
        reference = weakref.ref(self)

        def press(_: Any) -> None:
            widget = reference()
            if widget is not None:
                getattr(widget, method)()

        target.bind_key(key, press, overwrite=True)

    # -- drawing ----------------------------------------------------------------

    def _render(self) -> None:
        labels = self.annotation()
        self.new_button.setEnabled(self.image_box.layer() is not None)
        for control in (
            self.next_button,
            self.background_button,
            self.finished_button,
            self.unpainted_box,
        ):
            control.setEnabled(labels is not None)
        known = {} if labels is None else about(labels)
        unpainted = known.get("unpainted", "unknown")
        self.unpainted_box.setCurrentIndex(self.unpainted_box.findData(unpainted))
        self.brush_label.setText("" if labels is None else self._brush_text(labels))
        if labels is None:
            self.count_label.setText(
                "Nothing is annotated yet: press “New annotation” and paint a few "
                "cells, and some background."
            )

    def _brush_text(self, labels: Labels) -> str:
        active = self._viewer.layers.selection.active
        if active is not None and active is regions_layer_of(labels):
            return "Drawing: finished area"
        label_class = about(labels).get("label_class", {})
        if label_class.get(labels.selected_label) == 0:
            return "Painting: background"
        return f"Painting: cell {labels.selected_label}"

    def _render_counts(self, counts: painting.Counts) -> None:
        parts = [
            _plural(counts.n_cells, "cell"),
            _plural(counts.n_regions, "finished area"),
        ]
        if counts.n_planes > 1:
            parts.append(f"{counts.n_slices} of {counts.n_planes} slices annotated")
        self.count_label.setText(", ".join(parts))

    # -- slots ------------------------------------------------------------------

    @guarded
    def _watch_annotations(self) -> None:
        """Autosave what another widget, or one before us, made an annotation."""
        for layer in layer_choices(self._viewer, "labels"):
            if "label_class" in about(layer) and not self._autosaver.is_watched(layer):
                self.files.watch(layer)

    @guarded
    def _on_image(self) -> None:
        layer = self.image_box.layer()
        choices = [] if layer is None else axes_choices(layer)
        self.axes_box.clear()
        self.axes_box.addItem("choose …", None)
        for axes in choices:
            self.axes_box.addItem(axes, axes)
        self._form.setRowVisible(self.axes_box, bool(choices))
        self.files.refresh()
        self._render()

    @guarded
    def _on_annotation(self) -> None:
        labels = self.annotation()
        if labels is not None:
            for name in _EDITS:
                getattr(labels.events, name).connect(self._on_edit)
            self._on_edit()
            if "label_class" in about(labels):
                self._bind_new_label(labels)
        self.files.refresh()
        self._render()

    @guarded
    def _on_chosen(self) -> None:
        self._viewer.layers.selection.active = self.annotation()

    @guarded
    def _on_active(self) -> None:
        active = self._viewer.layers.selection.active
        if active is not None and "shown_as" in about(active):
            # A result that comes is active for a moment; once it is corrected, it is
            # an annotation.
            active.events.metadata.connect(self._on_active)
        elif active is not None:
            self.labels_box.set_layer(active)
            self.image_box.set_layer(active)
        self._render()

    @guarded
    def _on_opened(self, labels: Labels) -> None:
        self._take(labels)

    @guarded
    def _on_edit(self) -> None:
        labels = self.annotation()
        shapes = None if labels is None else regions_layer_of(labels)
        if shapes is not None:
            shapes.events.data.connect(self._on_edit)
        if not self._count_timer.isActive():
            self._count_timer.start()
        self._render()

    @guarded
    def _count(self) -> None:
        labels = self.annotation()
        if labels is None:
            return
        if self._counter.is_running:
            self._count_timer.start()
            return
        painted = painted_of(labels)
        self._counter.run(lambda: _counting(painted))

    @guarded
    def _on_counted(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Counted) and self.annotation() is not None:
                self._render_counts(event.counts)

    @guarded
    def _new(self) -> None:
        self.files.failure.show_failure(None)
        axes = self.axes_box.currentData()
        labels = painting.new_annotation(self._viewer, self.image_box.layer(), axes)
        self.files.watch(labels)
        self._take(labels)

    def _take(self, labels: Labels) -> None:
        self.labels_box.set_layer(labels)
        self._bind_new_label(labels)
        self._render()

    def _bind_new_label(self, labels: Labels) -> None:
        # napari's own M may take the id of the background brush.
        self._bind(labels, "M", "_next_cell")

    def _chosen_annotation(self) -> Labels:
        """Return the chosen annotation; a layer of another origin becomes one."""
        labels = self.annotation()
        if labels is None:
            raise LabelError(
                "NU-L04", "there is no annotation yet: press “New annotation” first"
            )
        if "label_class" not in about(labels):
            image = painting.image_of(self._viewer, labels, self.image_box.layer())
            painting.adopt(labels, image)
            self.files.watch(labels)
            self._take(labels)
        return labels

    @guarded
    def _next_cell(self) -> None:
        labels = self._chosen_annotation()
        painting.paint_with(self._viewer, labels, painting.next_id(labels))

    @guarded
    def _background(self) -> None:
        labels = self._chosen_annotation()
        painting.paint_with(self._viewer, labels, painting.background_id(labels))

    @guarded
    def _finished(self) -> None:
        painting.draw_finished(self._viewer, self._chosen_annotation())

    @guarded
    def _set_unpainted(self) -> None:
        labels = self._chosen_annotation()
        painting.set_unpainted(labels, self.unpainted_box.currentData())


def _counting(painted: Painted) -> Generator[Event, None, None]:
    yield Counted(painting.count(painted))


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    describe(button, text, tooltip)
    return button


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
