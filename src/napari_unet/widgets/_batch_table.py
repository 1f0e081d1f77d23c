"""One row for each file of a folder run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHeaderView, QTableWidget, QTableWidgetItem

from napari_unet.events import FileDone, FileProgress, FileStarted, FolderStarted
from napari_unet.widgets._batch_open import is_of_values
from napari_unet.widgets._batch_work import Listed
from napari_unet.widgets._controls import describe

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from napari_unet.events import Event

_COLUMNS = ("File", "State", "Cells", "Seconds")
_FILE, _STATE, _CELLS, _SECONDS = range(4)


class FileTable(QTableWidget):
    """One row for each file of a batch, drawn from its events.

    Attributes
    ----------
    paths : tuple of Path
        The file of each row.
    outputs : dict of int to Path
        The result of each row that has one.
    messages : dict of int to str
        What there is to say of some rows.
    """

    def __init__(self) -> None:
        super().__init__(0, len(_COLUMNS))
        self.clear_files()
        self.setHorizontalHeaderLabels(list(_COLUMNS))
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.setSelectionMode(QTableWidget.SelectionMode.SingleSelection)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setWordWrap(False)
        describe(
            self, "Files", "Double click a file that is done to open it and its result"
        )
        numbers = self.verticalHeader()
        if numbers is not None:
            numbers.hide()
        header = self.horizontalHeader()
        if header is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
            header.setSectionResizeMode(_FILE, QHeaderView.ResizeMode.Stretch)
        for column, width in ((_STATE, 85), (_CELLS, 50), (_SECONDS, 65)):
            self.setColumnWidth(column, width)

    def add(self, events: Iterable[Event]) -> None:
        """Draw what the events tell."""
        for event in events:
            match event:
                case FolderStarted():
                    self._fill(event.paths, "waiting")
                    self._is_run = True
                case Listed():
                    self._fill(event.paths, "")
                    self.selectRow(event.chosen)
                case FileStarted():
                    self._follow(event.index)
                    self._set(event.index, _STATE, "working")
                case FileProgress():
                    share = event.n_done / event.n_tiles
                    state = f"{share:.0%}" if share < 1 else "writing"
                    self._set(event.index, _STATE, state)
                case FileDone():
                    self._finish(event)

    def clear_files(self, root: Path | None = None) -> None:
        """Forget all files; the next ones are named as they lie within `root`."""
        self.setRowCount(0)
        self.root = root
        self.paths: tuple[Path, ...] = ()
        self.outputs: dict[int, Path] = {}
        self.messages: dict[int, str] = {}
        self._finished: set[int] = set()
        self._followed = 0
        self._is_run = False

    def mark_unfinished(self, state: str) -> None:
        """Give files that were to be done, and are not, their last state."""
        for row in range(self.rowCount()):
            if self._is_run and row not in self._finished:
                self._set(row, _STATE, state)

    def name_of(self, path: Path) -> str:
        """Return what a file is called here: its path within the folder."""
        # An image that was given itself is the root.
        if self.root is None or path == self.root or not path.is_relative_to(self.root):
            return path.name
        return path.relative_to(self.root).as_posix()

    def _fill(self, paths: tuple[Path, ...], state: str) -> None:
        # The file that is looked at stays chosen, where the files are the same.
        chosen = self.currentRow() if paths == self.paths else -1
        self.clear_files(self.root)
        self.paths = paths
        self.setRowCount(len(paths))
        for row, path in enumerate(paths):
            self._set(row, _FILE, self.name_of(path), tooltip=str(path))
            self._set(row, _STATE, state)
        if chosen >= 0:
            self.selectRow(chosen)

    def _finish(self, event: FileDone) -> None:
        row = event.index
        is_before = event.state == "skipped" and event.output is not None
        has_cells = event.output is not None and not is_of_values(event.output)
        state = "done before" if is_before else event.state
        self._set(row, _STATE, state, tooltip=event.message)
        self._set(row, _CELLS, str(event.n_cells) if has_cells else "")
        self._set(row, _SECONDS, "" if is_before else f"{event.elapsed_s:.1f}")
        self._finished.add(row)
        if event.message and not is_before:
            self.messages[row] = event.message
        if event.output is not None:
            self.outputs[row] = event.output

    def _follow(self, row: int) -> None:
        """Scroll to a file, unless the user has scrolled away from the last one."""
        before = self.item(self._followed, _FILE)
        viewport = self.viewport()
        if before is None or viewport is None:
            return
        if viewport.rect().intersects(self.visualItemRect(before)):
            self.scrollToItem(self.item(row, _FILE))
            self._followed = row

    def _set(self, row: int, column: int, text: str, *, tooltip: str = "") -> None:
        item = QTableWidgetItem(text)
        item.setToolTip(tooltip or text)
        if column in (_CELLS, _SECONDS):
            item.setTextAlignment(
                Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )
        self.setItem(row, column, item)
