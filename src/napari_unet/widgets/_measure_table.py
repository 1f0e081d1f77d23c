"""The table of measured cells: columns of numpy, so that 70,000 rows are quick."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelection,
    QItemSelectionModel,
    QItemSelectionRange,
    QModelIndex,
    QObject,
    Qt,
    Signal,
)
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from napari_unet.widgets._controls import describe
from napari_unet.widgets._layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari.components import ViewerModel
    from numpy.typing import NDArray

_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
_HEIGHT_PX = 170
_PRECISION = 50
# Many ranges in one selection cost Qt the square of their number.
_MOST_RANGES = 1000
_TINT = 0.25
_MEANINGS = {
    "label": "Id of the cell in the labels",
    "class": "Class of the cell in the annotation",
    "frame": "Frame of the movie, the first is 0",
    "plane": "Slice of the stack, the first is 0",
    "z": "Centre of the cell, from the centre of the first pixel",
    "y": "Centre of the cell, from the centre of the first pixel",
    "x": "Centre of the cell, from the centre of the first pixel",
    "area": "Area of the cell",
    "volume": "Volume of the cell",
    "diameter": "Diameter of the disc, or ball, of the cell's size",
    "major_axis": "Length of the ellipse with the cell's second moments",
    "minor_axis": "Width of the ellipse with the cell's second moments",
    "eccentricity": "Of that ellipse: 0 is a circle, 1 a line",
    "orientation": "Angle between the image's vertical and the ellipse's length",
    "solidity": "Share of its convex hull that the cell fills",
    "neighbours": "With how many other cells it touches",
    "at_border": "Whether the image's border may cut it",
    "mean": "Mean of the intensity within the cell",
    "sd": "Standard deviation of the intensity within the cell",
    "min": "Lowest intensity within the cell",
    "max": "Highest intensity within the cell",
}
_UNITS = ("_um", "_um2", "_um3", "_px", "_deg")


def meaning_of(name: str) -> str:
    """Return what a column says; its name where nobody knows.

    Examples
    --------
    >>> meaning_of("area_um2"), meaning_of("mean_DAPI")
    ('Area of the cell', 'Mean of the intensity within the cell: DAPI')
    """
    for unit in _UNITS:
        name = name.removesuffix(unit)
    if name in _MEANINGS:
        return _MEANINGS[name]
    start, _, channel = name.partition("_")
    return f"{_MEANINGS[start]}: {channel}" if start in _MEANINGS else name


def order_of(
    values: NDArray[Any], *, descending: bool, first: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return the order of rows by a column; equal ones keep theirs, NaN goes last.

    Those that are `first` go before all others.
    """
    _, ranks = np.unique(values, return_inverse=True)
    is_missing = values != values  # NaN, the only one that is not itself
    return np.lexsort((-ranks if descending else ranks, is_missing, ~first))


class CellRows(QAbstractTableModel):
    """Columns of one length as a model of Qt; rows show cells in any order.

    A cell is known by its place in the columns, a row by its place in the table.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.tint = QBrush()
        self._by = (-1, False)
        self._fill({})

    def _fill(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self.names = list(columns)
        self._columns = list(columns.values())
        self.n_cells = len(self._columns[0]) if columns else 0
        self.is_first = np.zeros(self.n_cells, bool)
        self._reorder()

    def set_columns(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Show other columns, in the order that they are in."""
        self.beginResetModel()
        self._by = (-1, False)
        self._fill(columns)
        self.endResetModel()

    def set_first(self, cells: NDArray[np.intp]) -> None:
        """Put cells at the top, and tint their rows."""
        self.beginResetModel()
        self.is_first[:] = False
        self.is_first[cells] = True
        self._reorder()
        self.endResetModel()

    def cells_at(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the cells that rows show."""
        return self._order[rows]

    def rows_of(self, cells: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the rows that show cells, from top to bottom."""
        return np.sort(self._rows[cells])

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of cells."""
        return 0 if parent is not None and parent.isValid() else self.n_cells

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(self.names)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return text, place or tint of a field."""
        if not index.isValid():
            return None
        column = self._columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return text_of(column[self._order[index.row()]])
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _LEFT if column.dtype.kind in "OUb" else _RIGHT
        if role == Qt.ItemDataRole.BackgroundRole:
            return self.tint if self.is_first[self._order[index.row()]] else None
        return None

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return the name of a column, with its unit as in the file; or its meaning."""
        if orientation != Qt.Orientation.Horizontal or section >= len(self.names):
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.names[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            return meaning_of(self.names[section])
        return None

    def sort(
        self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder
    ) -> None:
        """Order rows by a column; -1 is the order of the columns themselves.

        It is a reset: Qt would ask for each selected field where it has gone.
        """
        self.beginResetModel()
        self._by = (column, order == Qt.SortOrder.DescendingOrder)
        self._reorder()
        self.endResetModel()

    def _reorder(self) -> None:
        by, descending = self._by
        values = self._columns[by] if by >= 0 else np.arange(self.n_cells)
        self._order = order_of(values, descending=descending, first=self.is_first)
        self._rows = np.empty(self.n_cells, np.intp)
        self._rows[self._order] = np.arange(self.n_cells)


def text_of(value: Any) -> str:
    """Return how a value is shown, with 4 digits; nothing for what is no number.

    Examples
    --------
    >>> text_of(np.float64(1234.567)), text_of(np.int64(70123)), text_of(np.nan)
    ('1235', '70123', '')
    """
    if isinstance(value, np.floating | float):
        number = float(value)
        if math.isnan(number):
            return ""
        is_large = 1e3 <= abs(number) < 1e9
        return f"{number:.0f}" if is_large else f"{number:.4g}"
    if isinstance(value, np.bool_ | bool):
        return "true" if value else "false"
    return str(value)


class CellTable(QTableView):
    """Table of cells to sort, and to choose from.

    Signals
    -------
    chosen()
        The user chose other cells: `chosen_cells`.
    """

    chosen = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self.rows = CellRows(self)
        self.setModel(self.rows)
        self._is_told = True
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setWordWrap(False)
        self.setMinimumHeight(_HEIGHT_PX)
        describe(
            self,
            "Measured cells",
            "A click shows the cell in the image; a click on a heading sorts",
        )
        self._set_headers()
        model = self.selectionModel()
        if model is not None:
            model.selectionChanged.connect(self._on_selection)
        self._viewer.events.theme.connect(self._on_theme)
        self._on_theme()

    def show_columns(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Show other cells, none of them chosen."""
        with self._untold():
            header = self.horizontalHeader()
            if header is not None:
                header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
            self.rows.set_columns(columns)
            self.resizeColumnsToContents()

    def chosen_cells(self) -> NDArray[np.intp]:
        """Return the chosen cells, in the order of their rows."""
        model: Any = self.selectionModel()
        spans: Any = () if model is None else model.selection()
        rows = [np.arange(span.top(), span.bottom() + 1) for span in spans]
        return self.rows.cells_at(np.unique(np.concatenate([[], *rows]).astype(int)))

    def choose(self, cells: NDArray[np.intp]) -> None:
        """Choose cells and scroll to the first; `chosen` tells of the user's only."""
        with self._untold():
            self._choose(cells)
            if len(cells):
                row = int(self.rows.rows_of(cells)[0])
                self.scrollTo(self.rows.index(row, 0))

    def put_first(self, cells: NDArray[np.intp]) -> None:
        """Put cells at the top, tinted, and choose them."""
        with self._untold():
            self.rows.set_first(cells)
            self._choose(cells)
            self.scrollToTop()

    def sort_by(self, column: int, order: Qt.SortOrder) -> None:
        """Sort; what was chosen stays so."""
        cells = self.chosen_cells()
        with self._untold():
            self.rows.sort(column, order)
            self._choose(cells)

    def _choose(self, cells: NDArray[np.intp]) -> None:
        rows = self.rows.rows_of(cells)
        breaks = np.flatnonzero(np.diff(rows) > 1) + 1
        selection = QItemSelection()
        last = self.rows.columnCount() - 1
        runs = (
            np.split(rows, breaks) if len(rows) and len(breaks) < _MOST_RANGES else []
        )
        for run in runs:
            top = self.rows.index(int(run[0]), 0)
            bottom = self.rows.index(int(run[-1]), last)
            selection.append(QItemSelectionRange(top, bottom))
        model = self.selectionModel()
        if model is None:
            return
        flags = QItemSelectionModel.SelectionFlag
        if runs:
            # From there the arrow keys go on.
            first = self.rows.index(int(rows[0]), 0)
            model.setCurrentIndex(first, flags.NoUpdate)
        model.select(selection, flags.ClearAndSelect)

    @contextmanager
    def _untold(self) -> Iterator[None]:
        before, self._is_told = self._is_told, False
        try:
            yield
        finally:
            self._is_told = before

    def _on_selection(self) -> None:
        if self._is_told:
            self.chosen.emit()

    def _set_headers(self) -> None:
        numbers, header = self.verticalHeader(), self.horizontalHeader()
        if numbers is None or header is None:
            return
        numbers.hide()
        numbers.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        numbers.setDefaultSectionSize(int(1.5 * self.fontMetrics().height()))
        header.setResizeContentsPrecision(_PRECISION)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setSectionsClickable(True)
        header.setSortIndicatorShown(True)
        header.sortIndicatorChanged.connect(self.sort_by)
        header.setHighlightSections(False)
        header.setAccessibleName("Columns")
        header.setToolTip("Sort by this column")

    def _on_theme(self, event: Any = None) -> None:
        theme = get_theme(self._viewer.theme)
        color = QColor(theme.current.as_hex())
        color.setAlphaF(_TINT)
        self.rows.tint = QBrush(color)
