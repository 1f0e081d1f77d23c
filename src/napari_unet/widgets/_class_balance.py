"""The shares of the classes, and the factors that would balance them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_unet.imaging.class_balance import share_of
from napari_unet.imaging.weight_formulas import class_factors
from napari_unet.widgets._controls import plain_label

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAME_PX = 80
_COLUMNS = (
    ("Class", "Classes of the annotation, touching cells cut apart"),
    ("Pixels", "Pixels of the class that training knows, on all slices"),
    ("Share", "Part of all known pixels"),
    ("w_c", "Factor of the class in this map"),
    ("balanced", "What the factor is with “Balance classes”"),
)


class ClassBalance(QWidget):
    """A table: a class each row."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layout = QGridLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setHorizontalSpacing(6)
        self._layout.setVerticalSpacing(2)
        self._layout.setColumnStretch(0, 1)
        self._rows: list[list[QLabel]] = []
        self._show_row(0, [title for title, _ in _COLUMNS])
        for label, (_, tooltip) in zip(self._rows[0], _COLUMNS, strict=True):
            label.setToolTip(tooltip)
        self.setAccessibleName("Class balance")
        self.hide()

    def show_counts(
        self, names: Sequence[str], counts: Sequence[int], *, is_balanced: bool
    ) -> None:
        """Show how often each class is known.

        Parameters
        ----------
        names : sequence of str
            Of the classes, background first.
        counts : sequence of int
            Known pixels of each, missing ones are 0.
        is_balanced : bool
            Whether the map is balanced by them.
        """
        every = tuple(counts[: len(names)]) + (0,) * (len(names) - len(counts))
        factors = class_factors(every)
        for i, (name, n, share, factor) in enumerate(
            zip(names, every, share_of(every), factors, strict=True), start=1
        ):
            now = factor if is_balanced else 1.0
            numbers = [_count(n), _percent(share), f"{now:.2f}", f"{factor:.2f}"]
            self._show_row(i, [name, *numbers])
            self._rows[i][1].setToolTip(f"{n:,} pixels")
        for row in self._rows[len(names) + 1 :]:
            for label in row:
                label.hide()
        self.setVisible(sum(every) > 0)

    def texts(self) -> list[list[str]]:
        """Return what the table shows, without its head."""
        return [
            [label.text() for label in row]
            for row in self._rows[1:]
            if not row[0].isHidden()
        ]

    def _show_row(self, i: int, texts: Sequence[str]) -> None:
        if i == len(self._rows):
            self._rows.append(self._add_row(i))
        for label, text in zip(self._rows[i], texts, strict=True):
            label.setText(text)
            label.show()

    def _add_row(self, i: int) -> list[QLabel]:
        row = [plain_label("Class")]
        row[0].setMinimumWidth(_NAME_PX)
        row += [QLabel() for _ in _COLUMNS[1:]]
        for column, label in enumerate(row):
            if column:
                label.setAlignment(Qt.AlignmentFlag.AlignRight)
            self._layout.addWidget(label, i, column)
        return row


def _count(n: int) -> str:
    return f"{n:,}" if n < 10**6 else f"{n / 10**6:.2f} M"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
