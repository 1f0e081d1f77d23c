"""The list of classes: key, colour, name, what they are, and how many are painted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QComboBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QStyledItemDelegate,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import LabelError
from napari_unet.widgets._classes import LONGEST_NAME, Classes
from napari_unet.widgets._controls import describe
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtCore import QModelIndex
    from qtpy.QtGui import QKeyEvent, QWheelEvent
    from qtpy.QtWidgets import QStyleOptionViewItem

    from napari_unet.imaging.checks import ClassCount

KEY, COLOR, NAME, KIND, COUNT = range(5)
BACKGROUND_KEY = "G"

_N_KEYS = 9
_MOST_ROWS = 6
_SWATCH_PX = 14
_KINDS = {"cells": False, "area": True}
_KIND_TIP = (
    "cells: each object has an id of its own, touching ones are cut apart.\n"
    "area: tissue, a membrane and the like: one id for all of it, never cut apart, "
    "without border weights"
)


class ClassList(QWidget):
    """Show the classes of an annotation, and edit them.

    Signals
    -------
    chosen(int)
        A class was clicked: paint with it.
    edited(Classes)
        Names, colours or kinds are other ones, or a class was added.
    removal_wanted(int)
        A class is to be removed.
    coloring_chosen(str)
        Colour by "cell" or by "class".
    failed(Failure)
        An edit was refused.
    """

    chosen = Signal(int)
    edited = Signal(object)
    removal_wanted = Signal(int)
    coloring_chosen = Signal(str)
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes = Classes(names=())
        self._is_drawing = False
        self._build()
        self._connect()

    def show_classes(self, classes: Classes, current: int, *, by_class: bool) -> None:
        """Show classes, which of them is painted, and how cells are coloured."""
        if classes != self._classes:
            self._classes = classes
            self._rebuild()
        self.table.setCurrentCell(current, NAME)
        self.coloring_box.setCurrentIndex(int(by_class))
        self._render_buttons()

    def show_counts(self, counts: Sequence[ClassCount]) -> None:
        """Show how many cells of each class are painted, background first.

        Background and areas, which are one thing each, show a dot where painted.
        """
        for i, count in enumerate(counts[: len(self._classes)]):
            text = f"{count.n_cells:,}" if count.n_cells else ""
            is_one = count.painted_px > 0 and not self._classes.is_cell(i)
            self._item(i, COUNT).setText("•" if is_one else text)

    def show_failure(self, failure: Failure) -> None:
        """Tell of a failure of one of our slots."""
        self.failed.emit(failure)

    # -- layout -----------------------------------------------------------------

    def _build(self) -> None:
        self.table = _Table(0, COUNT + 1)
        describe(
            self.table,
            "Classes",
            "Click a class to paint it, or press its key. Double click its name to "
            "rename it, click its colour to change it",
        )
        self.add_button = _small_button("+", "Add class", "Add a class")
        self.remove_button = _small_button(
            "−",
            "Remove class",
            "Remove the chosen class; what is painted stays, as the first class",
        )
        self.coloring_box = QComboBox()
        for by in ("cell", "class"):
            self.coloring_box.addItem(by, by)
        describe(
            self.coloring_box,
            "Colour by",
            "cell: each cell in a colour of its own. class: in shades of the colour "
            "of its class",
        )
        row = QHBoxLayout()
        row.addWidget(QLabel("Classes"))
        row.addWidget(self.add_button)
        row.addWidget(self.remove_button)
        row.addStretch()
        row.addWidget(QLabel("Colour by"))
        row.addWidget(self.coloring_box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.table)

    def _connect(self) -> None:
        self.table.cellClicked.connect(self._on_clicked)
        self.table.itemChanged.connect(self._on_renamed)
        self.add_button.clicked.connect(self._add)
        self.remove_button.clicked.connect(self._remove)
        self.coloring_box.activated.connect(self._on_coloring)

    # -- drawing ----------------------------------------------------------------

    def _rebuild(self) -> None:
        self._is_drawing = True
        try:
            self.table.setRowCount(0)
            self.table.setRowCount(len(self._classes))
            for i in range(len(self._classes)):
                self._build_row(i)
        finally:
            self._is_drawing = False
        self.table.fit(_MOST_ROWS)

    def _build_row(self, i: int) -> None:
        key = BACKGROUND_KEY if i == 0 else str(i) if i <= _N_KEYS else ""
        self._set_item(i, KEY, key, f"Key to paint it: {key}" if key else "")
        color = self._set_item(i, COLOR, "", "Click to change the colour")
        color.setIcon(_swatch(self._classes.colors[i]))
        name = self._set_item(i, NAME, self._classes.names[i], "Double click to rename")
        name.setFlags(name.flags() | Qt.ItemFlag.ItemIsEditable)
        count = self._set_item(i, COUNT, "", "How many are painted")
        count.setTextAlignment(
            Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        )
        if i == 0:
            self._set_item(i, KIND, "", "What is surely no cell")
            return
        self._set_item(i, KIND, "", _KIND_TIP)
        kind = _KindBox()
        kind.addItems(list(_KINDS))
        kind.setCurrentIndex(int(not self._classes.is_cell(i)))
        describe(kind, f"What class {i} is", _KIND_TIP)
        kind.activated.connect(lambda index, i=i: self._on_kind(i, index))
        self.table.setCellWidget(i, KIND, kind)

    def _set_item(self, i: int, column: int, text: str, tip: str) -> QTableWidgetItem:
        item = QTableWidgetItem(text)
        item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable)
        item.setToolTip(tip)
        self.table.setItem(i, column, item)
        return item

    def _item(self, i: int, column: int) -> QTableWidgetItem:
        item = self.table.item(i, column)
        if item is None:  # pragma: no cover - each row is filled
            raise IndexError(i, column)
        return item

    def _render_buttons(self) -> None:
        # Background, and one more.
        is_needed = len(self._classes) <= 2 or self.table.currentRow() < 1
        self.remove_button.setEnabled(not is_needed)

    # -- slots ------------------------------------------------------------------

    @guarded
    def _on_clicked(self, i: int, column: int) -> None:
        if column == COLOR:
            color = QColorDialog.getColor(
                QColor(self._classes.colors[i]), self, "Colour of the class"
            )
            if color.isValid():
                self.edited.emit(self._classes.recolored(i, color.name()))
            return
        self.chosen.emit(i)
        self._render_buttons()

    @guarded
    def _on_renamed(self, item: QTableWidgetItem) -> None:
        if self._is_drawing or item.column() != NAME:
            return
        i, text = item.row(), item.text()
        if text == self._classes.names[i]:
            return
        try:
            renamed = self._classes.renamed(i, text)
        except LabelError:
            self._rebuild()
            self.table.setCurrentCell(i, NAME)
            raise
        self.edited.emit(renamed)

    @guarded
    def _on_kind(self, i: int, index: int) -> None:
        is_area = list(_KINDS.values())[index]
        self.edited.emit(self._classes.as_area(i, is_area=is_area))

    @guarded
    def _add(self) -> None:
        self.edited.emit(self._classes.added())
        i = len(self._classes) - 1
        self.chosen.emit(i)
        self.table.editItem(self._item(i, NAME))

    @guarded
    def _remove(self) -> None:
        self.removal_wanted.emit(self.table.currentRow())

    @guarded
    def _on_coloring(self) -> None:
        self.coloring_chosen.emit(self.coloring_box.currentData())


class _Table(QTableWidget):
    """A table without headers, as high as its rows."""

    def __init__(self, n_rows: int, n_columns: int) -> None:
        super().__init__(n_rows, n_columns)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setIconSize(QSize(_SWATCH_PX, _SWATCH_PX))
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setItemDelegate(_Names(self))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._set_columns()

    def _set_columns(self) -> None:
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        if rows is None or columns is None:  # pragma: no cover - Qt's stubs only
            return
        rows.hide()
        columns.hide()
        letter = self.fontMetrics().averageCharWidth()
        rows.setDefaultSectionSize(self.fontMetrics().height() + 12)
        columns.setMinimumSectionSize(1)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        columns.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in (
            (KEY, 4 * letter),
            (COLOR, _SWATCH_PX + 12),
            (KIND, 13 * letter),
            (COUNT, 8 * letter),
        ):
            self.setColumnWidth(column, width)

    def fit(self, most_rows: int) -> None:
        """Take the height of the rows, up to so many."""
        n_rows = min(self.rowCount(), most_rows)
        self.setFixedHeight(n_rows * self.rowHeight(0) + 2 * self.frameWidth())

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Leave letters and digits to napari: they choose what is painted."""
        if event is not None and event.text().isprintable() and event.text():
            event.ignore()
            return
        super().keyPressEvent(event)


class _Names(QStyledItemDelegate):
    """Editors that take a name's length."""

    def createEditor(
        self,
        parent: QWidget | None,
        option: QStyleOptionViewItem,
        index: QModelIndex,
    ) -> QWidget | None:
        editor = super().createEditor(parent, option, index)
        if isinstance(editor, QLineEdit):
            editor.setMaxLength(LONGEST_NAME)
            describe(editor, "Name of the class", "Enter to keep it, Esc to leave it")
        return editor


class _KindBox(QComboBox):
    """A box that scrolling passes by."""

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        if event is not None:
            event.ignore()


def _small_button(text: str, name: str, tooltip: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    describe(button, name, tooltip)
    return button


def _swatch(color: str) -> QIcon:
    pixmap = QPixmap(_SWATCH_PX, _SWATCH_PX)
    pixmap.fill(QColor(color))
    painter = QPainter(pixmap)
    painter.setPen(QColor(128, 128, 128))
    painter.drawRect(0, 0, _SWATCH_PX - 1, _SWATCH_PX - 1)
    painter.end()
    icon = QIcon()
    # Selected rows would tint it.
    for mode in (QIcon.Mode.Normal, QIcon.Mode.Selected):
        icon.addPixmap(pixmap, mode)
    return icon
