"""Tools that correct painted cells, each one step to undo."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QVBoxLayout, QWidget

from napari_unet.errors import LabelError
from napari_unet.imaging import edits
from napari_unet.imaging.interpolation import interpolate_slices
from napari_unet.widgets._classes import class_of, classes_of
from napari_unet.widgets._controls import describe, plain_label
from napari_unet.widgets._keys import bind_key
from napari_unet.widgets._layer_edits import (
    apply_edit,
    as_annotation,
    free_id,
    on_screen,
)
from napari_unet.widgets._layers import full_resolution, unwrapped
from napari_unet.widgets._lines import CellPicker, LineDrawer
from napari_unet.widgets._run import FailureBox
from napari_unet.widgets._worker import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray
    from qtpy.QtGui import QHideEvent

    from napari_unet.imaging.edits import Edit
    from napari_unet.widgets._layer_box import LayerBox
    from napari_unet.widgets._worker import Failure

_FOLLOW_AFTER_MS = 100
_EDITS = (
    "selected_label",
    "n_edit_dimensions",
    "paint",
    "set_data",
    "data",
    "metadata",
)
_N_VOLUME_AXES = 3

# name: text, key (none of napari's own), row and column, tooltip
_BUTTONS = {
    "split": (
        "Split by a line",
        "Shift-S",
        (0, 0),
        "Draw a line across a cell to cut it in two. Stays on for the next cell; "
        "Escape or a right click ends it",
    ),
    "merge": (
        "Merge along a line",
        "Shift-M",
        (0, 1),
        "Draw a line over several cells to make them one. Stays on for the next ones; "
        "Escape or a right click ends it",
    ),
    "pick": (
        "Pick cell",
        "Shift-K",
        (2, 0),
        "Click on the cell to correct; the brush comes back then. napari's own picker "
        "(key L) does as well, and stays on",
    ),
    "delete": ("Delete", "Shift-D", (2, 1), "Delete the selected cell"),
    "grow": ("Grow", "Shift-G", (3, 0), "Make the selected cell a pixel wider"),
    "shrink": ("Shrink", "Shift-H", (3, 1), "Make the selected cell a pixel narrower"),
    "fill": ("Fill holes", "Shift-F", (4, 0), "Fill the holes of the selected cell"),
    "interpolate": (
        "Interpolate",
        "Shift-I",
        (4, 1),
        "Fill the slices between the painted ones of the selected cell; nothing that "
        "is painted is overwritten",
    ),
}


class EditTools(QWidget):
    """Correct the cells of an annotation.

    Parameters
    ----------
    viewer : napari viewer
        Where the annotation is shown.
    labels_box : LayerBox
        Where the annotation is chosen.

    Signals
    -------
    edited()
        A tool has changed the annotation.
    acted()
        Something was done or tried, before an error of it is shown: what went wrong
        before is over.
    """

    edited = Signal()
    acted = Signal()

    def __init__(self, viewer: ViewerModel, labels_box: LayerBox) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._labels_box = labels_box
        self._line = LineDrawer(self._viewer)
        self._picker = CellPicker(self._viewer)
        self._followed: weakref.ref[Labels] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_FOLLOW_AFTER_MS)
        self._build()
        self._connect()
        self._on_annotation()

    def show_failure(self, failure: Failure) -> None:
        """Show an error."""
        self._say("")
        # Not all: what failed may be the looking at the selected cell.
        self._render_buttons()
        self.failure.show_failure(failure)

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Give the mouse back with the dock that closes; not to a minimised window."""
        super().hideEvent(event)
        if event is None or not event.spontaneous():
            self._stop()

    def _build(self) -> None:
        self.buttons: dict[str, QPushButton] = {}
        self.cell_label = plain_label("Selected cell")
        self.message = plain_label("What was done")
        self.failure = FailureBox()
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        for name, (text, key, (row, column), tooltip) in _BUTTONS.items():
            button = QPushButton(text)
            button.setCheckable(name in ("split", "merge", "pick"))
            describe(button, text, f"{tooltip}. Key: {key.replace('-', '+')}")
            grid.addWidget(button, row, column)
            self.buttons[name] = button
        grid.addWidget(self.cell_label, 1, 0, 1, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(grid)
        layout.addWidget(self.message)
        layout.addWidget(self.failure)
        self._say("")

    def _connect(self) -> None:
        for name in ("split", "merge"):
            self.buttons[name].clicked.connect(partial(self._draw_lines, name))
        self.buttons["pick"].clicked.connect(self._pick)
        self.buttons["delete"].clicked.connect(self._delete)
        self.buttons["grow"].clicked.connect(self._grow)
        self.buttons["shrink"].clicked.connect(self._shrink)
        self.buttons["fill"].clicked.connect(self._fill)
        self.buttons["interpolate"].clicked.connect(self._interpolate)
        self._line.drawn.connect(self._on_line)
        self._picker.picked.connect(self._on_picked)
        self._picker.missed.connect(self._on_missed)
        for tool in (self._line, self._picker):
            tool.stopped.connect(self._on_stopped)
            self.destroyed.connect(tool.stop)
        self._labels_box.layer_changed.connect(self._on_annotation)
        self._viewer.dims.events.connect(self._on_edit)
        self._timer.timeout.connect(self._on_timeout)
        for name, (_, key, _, _) in _BUTTONS.items():
            bind_key(self._viewer, key, self._on_key, name)

    # -- drawing ----------------------------------------------------------------

    def _render(self) -> None:
        labels = self._labels_box.layer()
        self._render_buttons()
        self.cell_label.setText("" if labels is None else self._cell_text(labels))

    def _render_buttons(self) -> None:
        labels = self._labels_box.layer()
        for button in self.buttons.values():
            button.setEnabled(labels is not None)
        is_stack = labels is not None and labels.ndim > 2
        self.buttons["interpolate"].setVisible(is_stack)
        self.buttons["interpolate"].setEnabled(is_stack)  # its key
        if self._line.layer is None:
            self.buttons["split"].setChecked(False)
            self.buttons["merge"].setChecked(False)
        self.buttons["pick"].setChecked(self._picker.layer is not None)

    def _cell_text(self, labels: Labels) -> str:
        i = int(labels.selected_label)
        if i == 0:
            return "No cell is selected."
        if i < 0:
            return f"Id {i} is negative: it is ignored, see Check"
        classes, c = classes_of(labels), class_of(labels, i)
        name = classes.names[c] if c < len(classes) else f"class {c}"
        text = f"Cell {i} ({name})" if classes.is_cell(c) else name.capitalize()
        try:
            place = self._place(labels)
        except LabelError:
            return text
        n = int(np.count_nonzero(np.asarray(full_resolution(labels)[place]) == i))
        if n == 0:
            return f"{text}, not painted{' on this slice' if place else ''}"
        return f"{text}, {n} px"

    def _say(self, message: str) -> None:
        self.failure.show_failure(None)
        self.acted.emit()
        self.message.setText(message)
        self.message.setVisible(bool(message))

    # -- slots ------------------------------------------------------------------

    @guarded
    def _on_annotation(self) -> None:
        self._stop()
        before = None if self._followed is None else self._followed()
        labels = self._labels_box.layer()
        for name in _EDITS:
            if before is not None:
                getattr(before.events, name).disconnect(self._on_edit)
            if labels is not None:
                getattr(labels.events, name).connect(self._on_edit)
        self._followed = None if labels is None else weakref.ref(labels)
        self._say("")
        self._render()

    @guarded
    def _on_edit(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    @guarded
    def _on_timeout(self) -> None:
        self._render()

    @guarded
    def _on_stopped(self) -> None:
        self._render()

    @guarded
    def _on_key(self, name: str) -> None:
        self.buttons[name].click()

    @guarded
    def _draw_lines(self, name: str, is_on: bool) -> None:
        self._stop()
        self._say("")
        if not is_on:
            return
        labels = self._chosen()
        on_screen(self._viewer, labels)
        self._line.start(labels)
        self.buttons[name].setChecked(True)
        what = "across a cell" if name == "split" else "over the cells to join"
        self._say(f"Draw a line {what}. To end: Escape.")

    @guarded
    def _on_line(self, line: NDArray[np.float64]) -> None:
        labels = self._chosen()
        if self.buttons["split"].isChecked():
            self._split(labels, line)
        else:
            self._merge(labels, line)

    def _split(self, labels: Labels, line: NDArray[np.float64]) -> None:
        place = on_screen(self._viewer, labels)
        plane = labels.data[place]
        # Painted background and areas may lie under the ends of the line.
        ids = _cells_among(labels, edits.cells_under(plane, line))
        new_id = free_id(labels, beside=ids[0] if ids else 0)
        edit = edits.split_cells(plane, line, new_id, ids=ids)
        apply_edit(labels, edit, place)
        parents = list(dict.fromkeys(edit.parents.values()))
        self._done(f"Split {_cells_text(parents)}.")

    def _merge(self, labels: Labels, line: NDArray[np.float64]) -> None:
        plane = labels.data[on_screen(self._viewer, labels)]
        ids = _cells_among(labels, edits.cells_under(plane, line))
        if len(ids) < 2:
            raise LabelError(
                "NU-L10",
                "the line meets fewer than two cells: draw it over all that are one",
            )
        place = self._place(labels)
        apply_edit(labels, edits.merge_cells(labels.data[place], ids), place)
        self._done(f"Merged {_cells_text(ids)} into cell {ids[0]}.")

    @guarded
    def _pick(self, is_on: bool) -> None:
        self._stop()
        self._say("")
        if is_on:
            self._picker.start(self._chosen())
            self._say("Click on a cell. To end: Escape.")
            self._render()

    @guarded
    def _on_picked(self, i: int) -> None:
        self._labels_box.layer().selected_label = i
        self._say("")
        self._render()

    @guarded
    def _on_missed(self) -> None:
        self._say("Nothing is painted there: click on a cell.")

    @guarded
    def _delete(self) -> None:
        self._edit_cell(edits.delete_cell, "Deleted")

    @guarded
    def _grow(self) -> None:
        self._edit_cell(edits.grow_cell, "Grew")

    @guarded
    def _shrink(self) -> None:
        self._edit_cell(edits.shrink_cell, "Shrank")

    @guarded
    def _fill(self) -> None:
        self._edit_cell(_fill_holes, "Filled the holes of")

    @guarded
    def _interpolate(self) -> None:
        self._edit_cell(interpolate_slices, "Interpolated", n_axes=_N_VOLUME_AXES)

    def _edit_cell(
        self,
        make: Callable[[NDArray[np.int32], int], Edit],
        done: str,
        *,
        n_axes: int | None = None,
    ) -> None:
        labels = self._chosen()
        i = int(labels.selected_label)
        if i == 0:
            raise LabelError(
                "NU-L10", "no cell is selected: press “Pick cell” and click on one"
            )
        place = self._place(labels, n_axes)
        apply_edit(labels, make(labels.data[place], i), place)
        self._done(f"{done} {_cells_text([i])}.")

    # -- the annotation ---------------------------------------------------------

    def _chosen(self) -> Labels:
        labels: Labels | None = self._labels_box.layer()
        if labels is None:
            raise LabelError(
                "NU-L04", "there is no annotation yet: press “New annotation” first"
            )
        return as_annotation(self._viewer, labels)

    def _place(self, labels: Labels, n_axes: int | None = None) -> tuple[int, ...]:
        """Return the index of what is edited: the plane on screen, or the volume."""
        n_axes = n_axes or int(labels.n_edit_dimensions)
        n_axes = min(n_axes, _N_VOLUME_AXES, labels.ndim)
        return on_screen(self._viewer, labels, n_axes)

    def _done(self, message: str) -> None:
        self._say(message)
        self._render()
        self.edited.emit()

    def _stop(self) -> None:
        self._line.stop()
        self._picker.stop()


def _fill_holes(array: NDArray[np.int32], i: int) -> Edit:
    edit = edits.fill_holes(array, [i])
    if not edit.values.size:
        raise LabelError("NU-L10", f"cell {i} has no hole: nothing to fill")
    return edit


def _cells_among(labels: Labels, ids: tuple[int, ...]) -> tuple[int, ...]:
    """Return the single cells among painted objects: no background, no areas."""
    classes = classes_of(labels)
    return tuple(i for i in ids if classes.is_cell(class_of(labels, i)))


def _cells_text(ids: list[int] | tuple[int, ...]) -> str:
    *most, last = [str(i) for i in ids]
    return f"cells {', '.join(most)} and {last}" if most else f"cell {last}"
