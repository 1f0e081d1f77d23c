"""The files of a folder run: what became of each, and why some could not be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_unet.events import FileDone, FolderStarted, counted
from napari_unet.widgets._batch_table import FileTable
from napari_unet.widgets._controls import button, describe, plain_label
from napari_unet.widgets._run import wrapping

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.events import Event

_LISTS_HEIGHT_PX = 220
_ROW = Qt.ItemDataRole.UserRole


class ProblemList(QListWidget):
    """The files that failed or were passed over, each with the whole reason."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setTextElideMode(Qt.TextElideMode.ElideNone)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        # napari's own style leaves no room between two of them.
        self.setStyleSheet("QListWidget::item { padding: 4px 2px; }")
        describe(self, "Problems", "Files that failed or are no images, and the reason")
        self.n_failed = 0

    def add(self, event: FileDone, name: str) -> None:
        """Add a file that has failed, or was passed over for a reason."""
        self.n_failed += event.state == "failed"
        reason = event.message or "no reason is known"
        item = QListWidgetItem(wrapping(f"{name}: {event.state}\n{reason}"))
        item.setData(_ROW, event.index)
        self.addItem(item)

    def texts(self) -> list[str]:
        """Return all entries as they are shown."""
        items = (self.item(i) for i in range(self.count()))
        return [item.text() for item in items if item is not None]

    def clear_problems(self) -> None:
        """Forget all."""
        self.clear()
        self.n_failed = 0


class FileLists(QWidget):
    """All files in one tab, and those with problems in another one.

    Signals
    -------
    open_asked(int)
        The user wants to see this file and its result.
    again_asked()
        The user wants failed files to be run again.
    """

    open_asked = Signal(int)
    again_asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.table, self.problems = FileTable(), ProblemList()
        self.message = plain_label("Message of the chosen file")
        self.open = button("Open image and result", "Show the chosen file as layers")
        self.sheet = button(
            "Open preview sheet",
            "Show preview.html of the last run in a browser; to be asked for above",
        )
        self.sheet.setEnabled(False)
        self.again = button(
            "Run failed files again",
            "Run with the same settings; files that are done are passed over",
        )
        self.tabs = QTabWidget()
        self.tabs.addTab(
            _page(self.table, self.message, _beside(self.open, self.sheet)), "Files"
        )
        self.tabs.addTab(_page(self.problems, self.again), "Problems")
        self.tabs.setMinimumHeight(_LISTS_HEIGHT_PX)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.tabs)
        self._is_busy = False
        self._connect()
        self._refresh()

    def _connect(self) -> None:
        self.table.currentCellChanged.connect(self._on_chosen)
        self.table.cellDoubleClicked.connect(self._ask_to_open)
        self.open.clicked.connect(lambda: self._ask_to_open(self.table.currentRow()))
        self.again.clicked.connect(self.again_asked.emit)
        self.problems.itemDoubleClicked.connect(self._show_row)

    def begin(self, root: Path) -> None:
        """Forget the files of the run before; those of the next are within `root`."""
        if root != self.table.root:
            self.table.clear_files(root)
        self.problems.clear_problems()
        self._refresh()

    def set_busy(self, is_busy: bool) -> None:
        """Say whether work goes on: then failed files can't be run again."""
        self._is_busy = is_busy
        self._refresh()

    def to_preview(self, root: Path) -> Path | None:
        """Return the file that is chosen, of those in `root`; None if none is listed.

        The first one that has a result if none is chosen.
        """
        table = self.table
        if table.root != root or not table.paths:
            return None
        row = table.currentRow()
        return table.paths[row if row >= 0 else min(table.outputs, default=0)]

    def add(self, events: Sequence[Event]) -> None:
        """Draw what the events tell."""
        self.table.add(events)
        for event in events:
            if isinstance(event, FolderStarted):
                self.problems.clear_problems()
            # What was done before is skipped as well, and has an output.
            elif isinstance(event, FileDone) and event.output is None:
                self.problems.add(event, self.table.name_of(event.path))
        self._refresh()

    def _refresh(self) -> None:
        n_files, n_problems = self.table.rowCount(), self.problems.count()
        self.tabs.setTabText(0, f"Files ({n_files})" if n_files else "Files")
        # A sign, as for other warnings: who looks at the files sees it as well.
        title = f"⚠ Problems ({n_problems})" if n_problems else "Problems"
        self.tabs.setTabText(1, title)
        n_failed = self.problems.n_failed
        self.again.setText(
            f"Run {counted(n_failed, 'failed file')} again"
            if n_failed
            else "Run failed files again"
        )
        self.again.setEnabled(bool(n_failed) and not self._is_busy)
        self._on_chosen(self.table.currentRow())

    def _on_chosen(self, row: int) -> None:
        self.message.setText(wrapping(self.table.messages.get(row, "")))
        self.open.setEnabled(row in self.table.outputs)

    def _ask_to_open(self, row: int) -> None:
        if row in self.table.outputs:
            self.open_asked.emit(row)

    def _show_row(self, item: QListWidgetItem) -> None:
        """Go to the row of a problem."""
        self.tabs.setCurrentIndex(0)
        self.table.selectRow(int(item.data(_ROW)))


def _beside(*controls: QWidget) -> QWidget:
    """Return controls in a row."""
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for control in controls:
        layout.addWidget(control)
    return row


def _page(*content: QWidget) -> QWidget:
    page = QWidget()
    layout = QVBoxLayout(page)
    layout.setContentsMargins(0, 4, 0, 0)
    for widget in content:
        layout.addWidget(widget)
    return page
