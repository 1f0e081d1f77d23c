"""Two columns of measured cells against each other, with a region to choose in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from napari.utils.theme import get_theme
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QSizePolicy, QWidget

from napari_unet.widgets._controls import button, describe, plain_label
from napari_unet.widgets._layers import unwrapped
from napari_unet.widgets._worker import guarded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from napari_unet.widgets._worker import Failure

_HEIGHT_PX = 210
_POINT_PX, _CHOSEN_PX = 5, 7
_OPACITY = 0.55
# Where they are, what is at first to be seen against each other.
_X_FIRST = ("area", "volume")
_Y_FIRST = ("mean", "eccentricity", "neighbours")
_LEFT_AXIS_PX, _BELOW_AXIS_PX = 52, 6


class _DragBox(pg.ViewBox):  # type: ignore[misc] # pyqtgraph has no types
    """A view in which a drag with the left button draws a rectangle.

    Signals
    -------
    dragged(QRectF, bool)
        The rectangle so far, and whether it is the last one.
    clicked()
        A click without a drag.
    """

    dragged = Signal(object, bool)
    clicked = Signal()

    def mouseDragEvent(self, event: Any, axis: int | None = None) -> None:
        """Draw with the left button; the others move and zoom as pyqtgraph has it."""
        if event.button() != Qt.MouseButton.LeftButton or axis is not None:
            super().mouseDragEvent(event, axis)
            return
        event.accept()
        start = self.mapToView(event.buttonDownPos())
        rect = QRectF(start, self.mapToView(event.pos())).normalized()
        self.dragged.emit(rect, bool(event.isFinish()))

    def mouseClickEvent(self, event: Any) -> None:
        """Tell of clicks; two of them show all points again."""
        if event.button() != Qt.MouseButton.LeftButton:
            return
        event.accept()
        if event.double():
            self.enableAutoRange()
        else:
            self.clicked.emit()


class CellPlot(QWidget):
    """Scatter plot of two columns; a rectangle drawn in it chooses cells.

    Signals
    -------
    chosen(ndarray of int)
        The cells in the region, after it was drawn, moved or cleared.
    failed(Failure)
        A slot went wrong.
    """

    chosen = Signal(object)
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._columns: dict[str, NDArray[np.float64]] = {}
        self._marked = np.zeros(0, np.intp)
        self._has_region = False
        self._build()
        self._lay_out()
        self._connect()
        self._on_theme()
        self._render()

    @property
    def has_region(self) -> bool:
        """Whether a region is drawn."""
        return self._has_region

    def show_columns(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Show other cells; the columns of the plot stay where they can."""
        self._columns = {
            name: np.asarray(column, np.float64)
            for name, column in columns.items()
            if np.asarray(column).dtype.kind in "iuf" and name != "label"
        }
        for box, first in ((self.x_box, _X_FIRST), (self.y_box, _Y_FIRST)):
            names, now = list(self._columns), box.currentText()
            box.blockSignals(True)
            box.clear()
            box.addItems(names)
            box.setCurrentText(now if now in names else _likeliest(names, first))
            box.blockSignals(False)
        self._marked = np.zeros(0, np.intp)
        self.clear_region()
        self._draw()

    def mark(self, cells: NDArray[np.intp]) -> None:
        """Draw cells as chosen."""
        self._marked = np.asarray(cells, np.intp)
        x, y = (values[self._marked] for values in self._places())
        known = np.isfinite(x) & np.isfinite(y)
        self.marks.setData(x[known], y[known])

    def cells_in_region(self) -> NDArray[np.intp]:
        """Return the cells in the region; none where no region is drawn."""
        if not self._has_region:
            return np.zeros(0, np.intp)
        rect = self._region_rect()
        x, y = self._places()
        inside = (x >= rect.left()) & (x <= rect.right())
        inside &= (y >= rect.top()) & (y <= rect.bottom())
        return np.flatnonzero(inside)

    def set_region(self, rect: QRectF) -> None:
        """Draw a region, in units of the columns, and choose the cells in it."""
        self._draw_region(rect)
        self.chosen.emit(self.cells_in_region())

    def clear_region(self) -> None:
        """Take the region away; tells of it where there was one."""
        had_one, self._has_region = self._has_region, False
        self.region.hide()
        self._render()
        if had_one:
            self.chosen.emit(self.cells_in_region())

    def show_failure(self, failure: Failure) -> None:
        """Pass on what went wrong in a slot."""
        self.failed.emit(failure)

    def _build(self) -> None:
        self.x_box, self.y_box = QComboBox(), QComboBox()
        describe(
            self.x_box, "Horizontal axis", "What the plot shows from left to right"
        )
        describe(self.y_box, "Vertical axis", "What goes from bottom to top")
        for box in (self.x_box, self.y_box):
            # Long names must not widen the dock.
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(6)
        self.clear_button = button(
            "Clear", "Take the region away, and choose no cells", name="Clear region"
        )
        self.words = plain_label("Cells in the region")
        self.words.setWordWrap(False)  # nothing above it must jump
        self._box = _DragBox(enableMenu=False)
        self.graph = pg.PlotWidget(viewBox=self._box, enableMenu=False)
        describe(
            self.graph,
            "Plot of the cells",
            "Drag a rectangle: the cells in it are chosen. The wheel zooms, a double "
            "click shows all",
        )
        self.points = pg.ScatterPlotItem(pxMode=True, pen=None, size=_POINT_PX)
        self.marks = pg.ScatterPlotItem(pxMode=True, size=_CHOSEN_PX)
        self.region = pg.ROI((0, 0), (1, 1))
        for corner, opposite in (((0, 0), (1, 1)), ((1, 1), (0, 0))):
            self.region.addScaleHandle(corner, opposite)
        for item in (self.points, self.marks, self.region):
            self.graph.addItem(item, ignoreBounds=item is not self.points)
        self.region.setZValue(10)
        self.region.hide()
        self.graph.hideButtons()
        left = self.graph.getAxis("left")
        left.setWidth(_LEFT_AXIS_PX)
        # pyqtgraph puts the words of an axis 5 px below its end.
        self.graph.getPlotItem().layout.setContentsMargins(0, 0, 0, _BELOW_AXIS_PX)
        for side in ("left", "bottom"):
            self.graph.getAxis(side).enableAutoSIPrefix(False)
        # Its own size, 640 x 480, would widen the dock.
        ignored = QSizePolicy.Policy.Ignored
        self.graph.setSizePolicy(ignored, ignored)
        self.graph.setMinimumHeight(_HEIGHT_PX)

    def _lay_out(self) -> None:
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for column, (text, box) in enumerate((("x", self.x_box), ("y", self.y_box))):
            title = QLabel(text)
            title.setToolTip(box.toolTip())
            layout.addWidget(title, 0, 2 * column)
            layout.addWidget(box, 0, 2 * column + 1)
            layout.setColumnStretch(2 * column + 1, 1)
        layout.addWidget(self.graph, 1, 0, 1, 4)
        layout.setRowStretch(1, 1)
        layout.addWidget(self.words, 2, 0, 1, 3)
        layout.addWidget(self.clear_button, 2, 3)

    def _connect(self) -> None:
        self.x_box.currentIndexChanged.connect(self._on_axes)
        self.y_box.currentIndexChanged.connect(self._on_axes)
        self.clear_button.clicked.connect(self._on_cleared)
        self._box.dragged.connect(self._on_dragged)
        self._box.clicked.connect(self._on_cleared)
        self.region.sigRegionChanged.connect(self._on_changed)
        self.region.sigRegionChangeFinished.connect(self._on_region)
        self._viewer.events.theme.connect(self._on_theme)

    def _places(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        nothing = np.zeros(0)
        x, y = (
            self._columns.get(box.currentText(), nothing)
            for box in (self.x_box, self.y_box)
        )
        return x, y

    def _draw(self) -> None:
        x, y = self._places()
        known = np.isfinite(x) & np.isfinite(y)
        self.points.setData(x[known], y[known])
        self.graph.setLabel("bottom", self.x_box.currentText())
        self.graph.setLabel("left", self.y_box.currentText())
        self._box.enableAutoRange()
        self.mark(self._marked)
        self._render()

    def _region_rect(self) -> QRectF:
        start, size = self.region.pos(), self.region.size()
        corner = QPointF(start.x() + size.x(), start.y() + size.y())
        return QRectF(QPointF(start.x(), start.y()), corner).normalized()

    def _draw_region(self, rect: QRectF) -> None:
        self._has_region = True
        self.region.setPos((rect.left(), rect.top()), update=False, finish=False)
        self.region.setSize((rect.width(), rect.height()), finish=False)
        self.region.show()
        self._render()

    def _render(self) -> None:
        n = len(self._places()[0])
        self.setEnabled(n > 0)
        self.clear_button.setEnabled(self._has_region)
        n_inside = len(self.cells_in_region())
        told = f"{n_inside} of {n} cells in the region" if self._has_region else ""
        hint = "Drag a rectangle to choose cells" if n else ""
        self.words.setText(told or hint)

    @guarded
    def _on_cleared(self) -> None:
        self.clear_region()

    @guarded
    def _on_changed(self) -> None:
        self._render()

    @guarded
    def _on_axes(self) -> None:
        self.clear_region()
        self._draw()

    @guarded
    def _on_dragged(self, rect: QRectF, is_finished: bool) -> None:
        self._draw_region(rect)
        if is_finished:
            self._on_region()

    @guarded
    def _on_region(self) -> None:
        if self._has_region:
            self.chosen.emit(self.cells_in_region())

    @guarded
    def _on_theme(self, event: Any = None) -> None:
        theme = get_theme(self._viewer.theme)
        text, line, mark = (
            color.as_hex() for color in (theme.text, theme.icon, theme.warning)
        )
        self.graph.setBackground(theme.background.as_hex())
        for side in ("left", "bottom"):
            axis = self.graph.getAxis(side)
            axis.setPen(line)
            axis.setTextPen(text)
        point = QColor(text)
        point.setAlphaF(_OPACITY)
        self.points.setBrush(point)
        self.marks.setBrush(mark)
        self.marks.setPen(theme.background.as_hex())
        self.region.setPen(mark, width=2)
        for handle in self.region.getHandles():
            handle.pen = handle.currentPen = pg.mkPen(mark, width=2)


def _likeliest(names: list[str], starts: tuple[str, ...]) -> str:
    """Return the first name that starts like one of those, or else the first one."""
    for start in starts:
        for name in names:
            if name.startswith(start):
                return name
    return names[0] if names else ""
