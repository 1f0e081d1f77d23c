"""The new model beside the one it started from, and the cells that got worse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_unet.events import counted
from napari_unet.widgets._controls import button, describe, plain_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.events import Compared, WorseCell

_N_ROWS = 5
_WORDS = {"f1": "F1", "ap": "AP", "iou": "IoU", "psnr": "PSNR", "ssim": "SSIM"}
_FORMS = {"psnr": ".1f"}
_VERDICTS = {
    "better": "Better than the model before",
    "same": "As good as the model before",
    "worse": "Worse than the model before, which is kept",
}


class ComparisonBox(QWidget):
    """Says how fine-tuning went; a click on a cell that got worse goes there.

    Signals
    -------
    chosen(WorseCell)
        The user wants to see this cell.
    taken_anyway()
        The user wants the new model although it is worse.
    """

    chosen = Signal(object)
    taken_anyway = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.verdict = plain_label("Compared with the model before")
        self.hint = plain_label("Cells that got worse")
        self.cells = QListWidget()
        describe(self.cells, "Worse cells", "Click a cell to go there")
        self.take = button(
            "Use the new model anyway", "Offer the new model, which scores worse"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.verdict, self.hint, self.cells, self.take):
            layout.addWidget(part)
        self.cells.itemClicked.connect(self._on_cell)
        self.cells.itemActivated.connect(self._on_cell)
        self.take.clicked.connect(self.taken_anyway.emit)
        self.hide()

    def show_comparison(self, compared: Compared) -> None:
        """Show what came out."""
        self.verdict.setText(in_words(compared))
        cells = compared.worse_cells
        self.hint.setText(
            f"{counted(len(cells), 'cell')} got worse; click one to see it:"
        )
        self.cells.clear()
        for cell in sorted(cells, key=lambda cell: cell.iou_now - cell.iou_before):
            item = QListWidgetItem(_line(cell))
            item.setData(Qt.ItemDataRole.UserRole, cell)
            self.cells.addItem(item)
        row = max(self.cells.sizeHintForRow(0), self.fontMetrics().height())
        n_rows = min(len(cells), _N_ROWS)
        self.cells.setFixedHeight(n_rows * row + 2 * self.cells.frameWidth() + 4)
        for part in (self.hint, self.cells):
            part.setVisible(bool(cells))
        self.take.setVisible(compared.verdict == "worse")
        self.show()

    def _on_cell(self, item: QListWidgetItem) -> None:
        self.chosen.emit(item.data(Qt.ItemDataRole.UserRole))


def in_words(compared: Compared) -> str:
    """Return a comparison in one sentence, with its numbers and what they rest on.

    Examples
    --------
    >>> from napari_unet.events import Compared
    >>> in_words(Compared("better", {"f1": 0.7, "n_cells": 9}, {"f1": 0.8}))
    'Better than the model before: F1 0.70 → 0.80 on 9 held-back cells'
    """
    before, now = compared.before, compared.now
    parts = [
        f"{word} {before[name]:{_FORMS.get(name, '.2f')}} → "
        f"{now[name]:{_FORMS.get(name, '.2f')}}{' dB' if name == 'psnr' else ''}"
        for name, word in _WORDS.items()
        if name in before and name in now
    ]
    return f"{_VERDICTS[compared.verdict]}: {', '.join(parts)}{_rest_on(before)}"


def _rest_on(scores: Mapping[str, float]) -> str:
    for name, what in (("n_cells", "cell"), ("n_images", "image")):
        if name in scores:
            return f" on {counted(scores[name], f'held-back {what}')}"
    return ""


def _line(cell: WorseCell) -> str:
    y, x = cell.middle
    return (
        f"cell {cell.label} at row {y:.0f}, column {x:.0f}: "
        f"IoU {cell.iou_before:.2f} → {cell.iou_now:.2f}"
    )
