"""The middle of Annotate: classes, brushes and finished regions, and their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QGridLayout,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from napari_unet.widgets import _finished as finished
from napari_unet.widgets import _painting as painting
from napari_unet.widgets._class_colors import is_colored_by_class
from napari_unet.widgets._class_list import ClassList
from napari_unet.widgets._classes import class_of, classes_of, note_classes
from napari_unet.widgets._controls import button, plain_label
from napari_unet.widgets._keys import bind_key
from napari_unet.widgets._layers import note_about, unwrapped
from napari_unet.widgets._painted import regions_layer_of
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from napari.components import ViewerModel
    from napari.layers import Labels

    from napari_unet.widgets._classes import Classes

_N_KEYS = 9
_TO_REMOVE = (
    "\nTo remove a region, click on it with the arrow of its layer (Select shapes) and "
    "press Delete: Ctrl+Z takes back paint only"
)
_PAINTING = ("paint", "fill", "polygon")


class PaintTools(QWidget):
    """Choose what is painted.

    Parameters
    ----------
    viewer : napari viewer
        Where is painted.
    chosen : callable
        Returns the annotation to paint in, or raises a LabelError.

    Signals
    -------
    failed(Failure)
        Something could not be done.
    """

    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, chosen: Callable[[], Labels]) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._chosen = chosen
        self._build()
        self._lay_out()
        self._connect()

    def show_annotation(self, labels: Labels | None) -> None:
        """Show what is painted in an annotation now."""
        self.setEnabled(labels is not None)
        self.brush_label.setText("" if labels is None else self._brush_text(labels))
        if labels is None:
            return
        self.eraser_button.setChecked(labels.mode == "erase")
        self.plane_button.setText("Whole image" if labels.ndim == 2 else "Whole slice")
        self.class_list.show_classes(
            classes_of(labels),
            class_of(labels, int(labels.selected_label)),
            by_class=is_colored_by_class(labels),
        )

    def bind_keys(self, target: Any) -> None:
        """Listen to the keys of the viewer, or of a layer."""
        bind_key(target, "N", self.next_cell)
        bind_key(target, "G", self.background)
        bind_key(target, "E", self.erase)
        for k in range(1, _N_KEYS + 1):
            bind_key(target, str(k), self.paint_class, k)
            # Not Shift: with it most keyboards send another sign than the digit.
            bind_key(target, f"Control-{k}", self.give_class, k)

    def show_failure(self, failure: Failure) -> None:
        """Tell of a failure of one of our slots."""
        self.failed.emit(failure)

    # -- layout -----------------------------------------------------------------

    def _build(self) -> None:
        self.class_list = ClassList()
        self.next_button = button(
            "Next cell (N)",
            "Paint another cell of the same class, with an id of its own. Key: N; "
            "keys 1 to 9: one of that class",
        )
        self.background_button = button(
            "Background (G)", "Paint what is surely no cell. Key: G"
        )
        self.eraser_button = button(
            "Eraser (E)", "Erase with the brush; any class key paints again. Key: E"
        )
        self.eraser_button.setCheckable(True)
        self.rectangle_button = button(
            "Rectangle",
            "Draw a rectangle in which all cells are painted: the rest of it is "
            f"background.{_TO_REMOVE}",
            name="Finished region: rectangle",
        )
        self.polygon_button = button(
            "Polygon",
            "Click the corners of an area in which all cells are painted, and end it "
            f"with Esc: the rest of it is background.{_TO_REMOVE}",
            name="Finished region: polygon",
        )
        self.plane_button = button(
            "Whole image",
            "All cells of what is on screen are painted: the rest of this image, or of "
            f"this slice of a stack, is background.{_TO_REMOVE}",
            name="Finished region: whole image",
        )
        self.brush_label = plain_label("What is painted now")

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.addWidget(self.next_button, 0, 0)
        grid.addWidget(self.background_button, 0, 1)
        grid.addWidget(self.eraser_button, 0, 2)
        grid.addWidget(plain_label("Finished region", "Finished region:"), 1, 0, 1, 3)
        grid.addWidget(self.rectangle_button, 2, 0)
        grid.addWidget(self.polygon_button, 2, 1)
        grid.addWidget(self.plane_button, 2, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.class_list)
        layout.addLayout(grid)
        layout.addWidget(self.brush_label)

    def _connect(self) -> None:
        self.next_button.clicked.connect(self.next_cell)
        self.background_button.clicked.connect(self.background)
        self.eraser_button.clicked.connect(self.erase)
        self.rectangle_button.clicked.connect(self._draw_rectangle)
        self.polygon_button.clicked.connect(self._draw_polygon)
        self.plane_button.clicked.connect(self._finish_plane)
        self.class_list.chosen.connect(self.paint_class)
        self.class_list.edited.connect(self._set_classes)
        self.class_list.removal_wanted.connect(self._remove_class)
        self.class_list.coloring_chosen.connect(self._set_coloring)
        self.class_list.failed.connect(self.failed)

    def _brush_text(self, labels: Labels) -> str:
        active = self._viewer.layers.selection.active
        if active is not None and active is regions_layer_of(labels):
            return "Drawing: finished region"
        if labels.mode == "erase":
            return "Erasing"
        doing = "Painting" if labels.mode in _PAINTING else "Chosen"
        classes, i = classes_of(labels), int(labels.selected_label)
        if i < 0:
            return f"{doing}: id {i}, which is negative and ignored"
        k = class_of(labels, i)
        if not classes.is_cell(k):
            return f"{doing}: {classes.names[k]}"
        name = f" ({classes.names[k]})" if len(classes) > 2 else ""
        return f"{doing}: cell {i}{name}"

    # -- slots ------------------------------------------------------------------

    @guarded
    def next_cell(self) -> None:
        """Paint another cell of the same class."""
        labels = self._chosen()
        painting.paint_class(self._viewer, labels, painting.current_class(labels))

    @guarded
    def background(self) -> None:
        """Paint background."""
        painting.paint_class(self._viewer, self._chosen(), 0)

    @guarded
    def paint_class(self, class_index: int) -> None:
        """Paint a new cell of a class, or an area."""
        painting.paint_class(self._viewer, self._chosen(), class_index)

    @guarded
    def give_class(self, class_index: int) -> None:
        """Make the cell under the mouse, or the selected one, one of another class."""
        labels = self._chosen()
        i = painting.cell_in_hand(self._viewer, labels)
        painting.give_class(labels, i, class_index)
        name = classes_of(labels).names[class_index]
        self._viewer.status = f"cell {i} is of class {name} now"

    @guarded
    def erase(self) -> None:
        """Erase with the brush."""
        painting.erase(self._viewer, self._chosen())

    @guarded
    def _draw_rectangle(self) -> None:
        finished.draw_finished(self._viewer, self._chosen())

    @guarded
    def _draw_polygon(self) -> None:
        finished.draw_finished(self._viewer, self._chosen(), "polygon")

    @guarded
    def _finish_plane(self) -> None:
        finished.finish_plane(self._viewer, self._chosen())

    @guarded
    def _set_classes(self, classes: Classes) -> None:
        note_classes(self._chosen(), classes)

    @guarded
    def _remove_class(self, class_index: int) -> None:
        labels = self._chosen()
        classes = classes_of(labels)
        left = classes.without(class_index)
        question = (
            f"“{classes.names[class_index]}” is painted. Remove the class, and "
            f"make what is painted “{left.names[1]}”? No painted pixel is lost."
        )
        if not painting.is_used(labels, class_index) or _confirmed(self, question):
            painting.remove_class(labels, class_index)

    @guarded
    def _set_coloring(self, by: str) -> None:
        note_about(self._chosen(), color_by=by)


def _confirmed(parent: QWidget, question: str) -> bool:
    box = QMessageBox(parent)
    # A class may be called anything, HTML as well.
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setWindowTitle("Remove class")
    box.setText(question)
    answer = QMessageBox.StandardButton
    box.setStandardButtons(answer.Yes | answer.Cancel)
    box.setDefaultButton(answer.Cancel)
    return bool(box.exec() == answer.Yes)
