"""What should be looked at in an annotation, each a click away from its place."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QEvent, Signal
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import (
    QListWidgetItem,
    QPushButton,
    QStyle,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import LabelError
from napari_unet.imaging import edits
from napari_unet.widgets._check_rows import Rows, folded, row_text
from napari_unet.widgets._controls import describe, plain_label
from napari_unet.widgets._layer_edits import apply_edit, as_annotation, free_id
from napari_unet.widgets._layers import full_resolution, unwrapped
from napari_unet.widgets._painting import next_id
from napari_unet.widgets._run import FailureBox
from napari_unet.widgets._worker import guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_unet.imaging.checks import Problem
    from napari_unet.imaging.edits import Edit
    from napari_unet.widgets._layer_box import LayerBox
    from napari_unet.widgets._worker import Failure

_MOST_ROWS = 200
_FADED = 0.65
# A cell takes up half of the height and of the width: a quarter of the view.
_SHARE_OF_VIEW = 0.5
# A speck is shown with what is around it.
_LEAST_EXTENT_PX = 20
_REPAIRS = {
    "pieces": "Repair: number the pieces",
    "speck": "Repair: delete it",
    "hole": "Repair: fill it",
    "negative": "Repair: give it a positive id",
}
_NO_REPAIR = "Repair"


class CheckList(QWidget):
    """List problems of an annotation; a click goes to the place of one.

    Parameters
    ----------
    viewer : napari viewer
        Where the annotation is shown.
    labels_box : LayerBox
        Where the annotation is chosen; another one empties the list.

    Signals
    -------
    changed()
        The list has changed.
    fixed()
        A problem was repaired, and has left the list.
    acted()
        Something was done or tried, before an error of it is shown: what went wrong
        before is over.
    """

    changed = Signal()
    fixed = Signal()
    acted = Signal()

    def __init__(self, viewer: ViewerModel, labels_box: LayerBox) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._labels_box = labels_box
        self._layer: weakref.ref[Labels] | None = None
        self._problems: list[Problem] | None = None
        # What each row stands for; which of them was gone to; not yet by a click.
        self._rows: list[list[Problem]] = []
        self._at, self._is_new = 0, False
        self._n_dims = 2
        self._build()
        self._connect()
        self._render()

    @property
    def n_problems(self) -> int:
        """Number of problems; notes are none."""
        return sum(not problem.is_note for problem in self._problems or ())

    @property
    def n_notes(self) -> int:
        """Number of notes, where there is nothing to repair."""
        return len(self._problems or ()) - self.n_problems

    def show_problems(self, problems: Sequence[Problem], *, n_dims: int = 2) -> None:
        """List what was found in the chosen annotation, notes last.

        What was chosen stays so, where it is still there: looking again, after each
        edit, must not take the list from under the user's hands.

        Parameters
        ----------
        problems : sequence of Problem
            As `check_annotation` returns them.
        n_dims : int
            What it was given: 2 for planes, 3 for volumes.
        """
        labels = self._labels_box.layer()
        self._layer = None if labels is None else weakref.ref(labels)
        self._n_dims = n_dims
        found = sorted(problems, key=lambda problem: problem.is_note)
        if found != self._problems:
            chosen, self._problems = self._chosen(), found
            self._fill(chosen)

    def clear(self) -> None:
        """Show nothing: nothing was looked at."""
        self._problems = None
        self._fill()

    def show_failure(self, failure: Failure) -> None:
        """Show an error."""
        self.acted.emit()
        self.failure.show_failure(failure)

    def changeEvent(self, event: QEvent | None) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        kinds = (QEvent.Type.StyleChange, QEvent.Type.PaletteChange)
        if event is not None and event.type() in kinds and hasattr(self, "list"):
            self._fade_notes()

    def _build(self) -> None:
        self.heading = plain_label("What was found")
        self.list = Rows()
        describe(self.list, "Problems", "Click on one to go to its place")
        self.more = plain_label("What is not listed")
        self.repair_button = QPushButton(_NO_REPAIR)
        describe(
            self.repair_button,
            "Repair",
            "Repair the chosen problem; Ctrl+Z takes it back",
        )
        self.failure = FailureBox()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.heading,
            self.list,
            self.more,
            self.repair_button,
            self.failure,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        # A click on the row that is chosen already goes there again.
        self.list.itemClicked.connect(self._on_clicked)
        self.list.currentRowChanged.connect(self._on_row)
        self.repair_button.clicked.connect(self._repair)
        self._labels_box.layer_changed.connect(self._on_annotation)

    # -- drawing ----------------------------------------------------------------

    def _fill(self, chosen: Problem | None = None) -> None:
        self._rows = folded(self._problems or [])
        listed = self._rows[:_MOST_ROWS]
        bar = self.list.verticalScrollBar()
        scrolled_to = 0 if bar is None else bar.value()
        self.list.blockSignals(True)  # nobody chose anything
        self.list.clear()
        for row, problems in enumerate(listed):
            text = row_text(problems)
            self.list.addItem(QListWidgetItem(self._icon(problems[0]), text))
            if chosen in problems:
                self._at = problems.index(chosen)
                self.list.setCurrentRow(row)
        self.list.fit()
        self.list.blockSignals(False)
        if bar is not None:
            bar.setValue(scrolled_to)
        self._fade_notes()
        self.failure.show_failure(None)
        self._render()
        self.changed.emit()

    def _icon(self, problem: Problem) -> Any:
        kinds = QStyle.StandardPixmap
        is_note = problem.is_note
        kind = kinds.SP_MessageBoxInformation if is_note else kinds.SP_MessageBoxWarning
        style = self.style()
        return style.standardIcon(kind) if style is not None else None

    def _fade_notes(self) -> None:
        color = self.list.palette().color(QPalette.ColorRole.Text)
        color.setAlphaF(_FADED)
        for row, problems in enumerate(self._rows[: self.list.count()]):
            item = self.list.item(row)
            if problems[0].is_note and item is not None:
                item.setForeground(color)

    def _render(self) -> None:
        problems = self._problems
        self.heading.setText("" if problems is None else self._heading_text())
        self.heading.setVisible(problems is not None)
        self.list.setVisible(bool(problems))
        n_more = len(self._rows) - _MOST_ROWS
        self.more.setText(f"… and {n_more} more")
        self.more.setVisible(n_more > 0)
        chosen = self._chosen()
        text = _NO_REPAIR if chosen is None else _REPAIRS.get(chosen.kind, _NO_REPAIR)
        self.repair_button.setText(text)
        self.repair_button.setEnabled(text != _NO_REPAIR)
        self.repair_button.setVisible(self.n_problems > 0)

    def _heading_text(self) -> str:
        parts = [(self.n_problems, "problem"), (self.n_notes, "note")]
        texts = [f"{n} {noun}{'s' if n > 1 else ''}" for n, noun in parts if n]
        return f"{', '.join(texts)}:" if texts else "Nothing found."

    # -- slots ------------------------------------------------------------------

    @guarded
    def _on_annotation(self) -> None:
        self.clear()

    @guarded
    def _on_row(self) -> None:
        self._at, self._is_new = 0, True
        self._go()

    @guarded
    def _on_clicked(self) -> None:
        row = self.list.currentRow()
        # The click that chose the row went to the first of them already.
        if not self._is_new and row >= 0:
            self._at = (self._at + 1) % len(self._rows[row])
        self._is_new = False
        self._go()

    def _go(self) -> None:
        self.failure.show_failure(None)
        self.acted.emit()
        self._render()
        problem = self._chosen()
        labels = self._labels()
        if problem is None or labels is None:
            return
        if problem.position is not None:
            go_to(self._viewer, labels, problem.position, cell=problem.cell)
        if problem.cell is not None:
            labels.selected_label = problem.cell

    @guarded
    def _repair(self) -> None:
        problem, labels = self._chosen(), self._labels()
        if problem is None or labels is None or problem.kind not in _REPAIRS:
            return
        as_annotation(self._viewer, labels)
        apply_edit(labels, *repair(labels, problem, n_dims=self._n_dims))
        # No other one is chosen: the view stays at what was repaired.
        self._problems = [p for p in self._problems or () if p is not problem]
        self._fill()
        self.fixed.emit()

    def _chosen(self) -> Problem | None:
        row = self.list.currentRow()
        return self._rows[row][self._at] if 0 <= row < len(self._rows) else None

    def _labels(self) -> Labels | None:
        return None if self._layer is None else self._layer()


def repair(
    labels: Labels, problem: Problem, *, n_dims: int = 2
) -> tuple[Edit, tuple[int, ...]]:
    """Return the edit that repairs a problem, and the index of what it is made for.

    Raises
    ------
    LabelError
        The problem is not there any more (NU-L10).
    """
    i, position = problem.cell, problem.position
    if i is None or position is None:
        raise LabelError("NU-L10", "this can't be repaired by itself: paint it")
    if problem.kind == "speck":
        return edits.delete_cell(labels.data, i), ()
    if problem.kind == "negative":
        return _numbered(labels, i), ()
    place = position[:-n_dims]
    field = labels.data[place]
    if problem.kind == "pieces":
        return edits.split_pieces(field, i, free_id(labels, beside=i)), place
    edit = edits.fill_holes(field, [i])
    if not edit.values.size:
        raise LabelError("NU-L10", f"cell {i} has no hole any more: check again")
    return edit, place


def _numbered(labels: Labels, i: int) -> Edit:
    """Return the edit that makes what has a negative id a cell of its own."""
    indices = np.nonzero(labels.data == i)
    if not indices[0].size:
        raise LabelError("NU-L10", f"id {i} is not painted any more: check again")
    new = np.full(indices[0].size, next_id(labels), np.int32)
    return edits.Edit(indices, new)


def go_to(
    viewer: ViewerModel,
    labels: Labels,
    position: tuple[int, ...],
    *,
    cell: int | None = None,
) -> None:
    """Show a pixel of a layer in the middle, and its cell large; never zooms out.

    Parameters
    ----------
    viewer : napari viewer
        Whose camera and slices are moved.
    labels : napari Labels layer
        Becomes the active layer.
    position : tuple of int
        Index of the pixel.
    cell : int, optional
        Id of a cell, which will take up about a quarter of the view.
    """
    viewer.layers.selection.active = labels
    world = labels.data_to_world(position)
    n_more = viewer.dims.ndim - labels.ndim
    displayed = viewer.dims.displayed
    for axis, value in enumerate(world):
        if axis + n_more not in displayed:
            viewer.dims.set_point(axis + n_more, value)
    # Before 0.9 napari had them elsewhere.
    camera = getattr(viewer, "scene", viewer).camera
    shown = [world[axis - n_more] for axis in displayed if axis >= n_more]
    camera.center = (*camera.center[: 3 - len(shown)], *shown)
    if cell is None:
        return
    axes = [axis - n_more for axis in displayed if axis >= n_more]
    view = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    extent = _extent(labels, position, cell, axes)
    zoom = _SHARE_OF_VIEW * min(view) / max(extent)
    camera.zoom = max(camera.zoom, zoom)


def _extent(
    labels: Labels, position: tuple[int, ...], cell: int, axes: list[int]
) -> list[float]:
    """Return the extent of a cell along the axes on screen, in world coordinates."""
    cut = tuple(slice(None) if i in axes else k for i, k in enumerate(position))
    places = np.nonzero(np.asarray(full_resolution(labels)[cut]) == cell)
    spans = [int(np.ptp(place)) + 1 if place.size else 1 for place in places]
    order = sorted(axes)
    return [
        max(span, _LEAST_EXTENT_PX) * abs(float(labels.scale[axis]))
        for axis, span in zip(order, spans, strict=True)
    ]
