"""How the weight of a pixel comes about, in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_unet.widgets._controls import plain_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import WeightConfig
    from napari_unet.imaging.pixel_weights import PixelWeight

LINE_COLORS = ("#3db8ff", "#59e07a")
"""Colours of the lines to the nearest and the second nearest cell."""

NOTHING_CLICKED = (
    "Click on a pixel to see how its weight comes about. With a brush in hand, press "
    "“Explain pixels” first."
)

_SWATCH_PX = (10, 10)


@dataclass(frozen=True)
class Row:
    """A title and its text; `color` is that of the line on the canvas."""

    title: str
    text: str
    color: str | None = None


def heading_of(axes: str, position: Sequence[int], pixel: PixelWeight) -> str:
    """Return the first line: where, and how much.

    Parameters
    ----------
    axes : str
        One letter an index, such as "ZYX".
    position : sequence of int
        Index of the pixel in the stack.
    pixel : PixelWeight
        What is known about it.
    """
    where = ", ".join(
        f"{letter.lower()} {i}" for letter, i in zip(axes, position, strict=True)
    )
    if not pixel.is_known:
        return f"Pixel ({where}): ignored, nothing is known here"
    return f"Pixel ({where}): w = {pixel.weight:.2f}"


def rows_of(
    pixel: PixelWeight, config: WeightConfig, class_names: Sequence[str]
) -> list[Row]:
    """Return the terms of a pixel's weight; none where it is ignored."""
    if not pixel.is_known:
        return []
    name = class_names[pixel.class_index]
    rows = [Row("Class factor w_c", f"{pixel.class_weight:.2f} ({name})")]
    if pixel.class_index:
        rows.append(Row("Border term", f"0: this is {_inside(pixel, name)}"))
        return [*rows, Row("Weight", f"{pixel.class_weight:.2f}")]
    rows += _distance_rows(pixel, config)
    if config.formula == "falk2019":
        rows.append(Row("Far term", _far_term(pixel, config)))
    rows.append(Row("Border term", _border_term(pixel, config)))
    return [*rows, Row("Weight", _sum(pixel, config))]


def _inside(pixel: PixelWeight, name: str) -> str:
    if pixel.d1 == 0:
        return f"cell {pixel.first}, no gap"
    return f"{name}, no gap"


def _distance_rows(pixel: PixelWeight, config: WeightConfig) -> list[Row]:
    unit = "µm" if config.unit == "um" else "px"
    rows = []
    for title, d, cell, color in (
        ("d1", pixel.d1, pixel.first, LINE_COLORS[0]),
        ("d2", pixel.d2, pixel.second, LINE_COLORS[1]),
    ):
        if d is None:
            other = "" if title == "d1" else "second "
            rows.append(Row(title, f"no {other}cell near"))
            break
        rows.append(Row(title, f"{_length(d)} {unit} to cell {cell}", color))
    return rows


def _length(d: float) -> str:
    return f"{d:.1f}" if d >= 1 else f"{d:.2f}"


def _far_base(pixel: PixelWeight) -> float:
    return (pixel.weight - pixel.border) / pixel.class_weight


def _far_term(pixel: PixelWeight, config: WeightConfig) -> str:
    value = f"{_far_base(pixel):.2f}"
    if pixel.d1 is None:
        return f"{value}: far from all cells"
    return (
        f"{config.v_bal:g} + {1 - config.v_bal:g}·exp(−{_length(pixel.d1)}² / "
        f"(2·{config.sigma1:g}²)) = {value}"
    )


def _border_term(pixel: PixelWeight, config: WeightConfig) -> str:
    if pixel.d1 is None or pixel.d2 is None:
        return "0: only between two cells"
    return (
        f"{config.w0:g}·exp(−({_length(pixel.d1)} + {_length(pixel.d2)})² / "
        f"(2·{config.sigma:g}²)) = {pixel.border:.2f}"
    )


def _sum(pixel: PixelWeight, config: WeightConfig) -> str:
    base = f"{pixel.class_weight:.2f}"
    if config.formula == "falk2019":
        base += f" · {_far_base(pixel):.2f}"
    return f"{base} + {pixel.border:.2f} = {pixel.weight:.2f}"


class PixelReadout(QWidget):
    """The panel that explains a pixel; its rows are made once and filled anew."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.heading = plain_label("Explained pixel")
        font = self.heading.font()
        font.setBold(True)
        self.heading.setFont(font)
        self._layout = QGridLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setHorizontalSpacing(8)
        self._layout.setVerticalSpacing(2)
        self._layout.setColumnStretch(2, 1)
        self._layout.addWidget(self.heading, 0, 0, 1, 3)
        self._lines: list[tuple[QLabel, QLabel, QLabel]] = []
        self.clear()

    def clear(self) -> None:
        """Ask for a click."""
        self.show_pixel(NOTHING_CLICKED, [])

    def show_pixel(self, heading: str, rows: Sequence[Row]) -> None:
        """Show what `heading_of` and `rows_of` say."""
        font = self.heading.font()
        font.setBold(heading != NOTHING_CLICKED)
        self.heading.setFont(font)
        self.heading.setText(heading)
        while len(self._lines) < len(rows):
            self._add_line()
        for i, line in enumerate(self._lines):
            for label in line:
                label.setVisible(i < len(rows))
            if i < len(rows):
                _fill(line, rows[i])

    def text(self) -> str:
        """Return all that is shown, line by line."""
        lines = [
            f"{title.text()}: {text.text()}"
            for _, title, text in self._lines
            if not text.isHidden()
        ]
        return "\n".join([self.heading.text(), *lines])

    def _add_line(self) -> None:
        row = self._layout.rowCount()
        swatch, title = QLabel(), QLabel()
        text = plain_label("Term of the weight")
        text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        line = (swatch, title, text)
        swatch.setFixedWidth(_SWATCH_PX[0])
        self._layout.addWidget(swatch, row, 0, Qt.AlignmentFlag.AlignVCenter)
        self._layout.addWidget(title, row, 1, Qt.AlignmentFlag.AlignTop)
        self._layout.addWidget(text, row, 2)
        self._lines.append(line)


def _fill(line: tuple[QLabel, QLabel, QLabel], row: Row) -> None:
    swatch, title, text = line
    pixmap = QPixmap(*_SWATCH_PX)
    pixmap.fill(QColor(row.color) if row.color else QColor(0, 0, 0, 0))
    swatch.setPixmap(pixmap)
    title.setText(row.title)
    text.setText(row.text)
