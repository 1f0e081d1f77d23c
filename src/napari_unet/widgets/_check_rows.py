"""The rows of the list of problems; several problems may share one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListWidget, QSizePolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtGui import QResizeEvent

    from napari_unet.imaging.checks import Problem

_HEIGHT_PX = 160


class Rows(QListWidget):
    """Rows that wrap; as high as those that fit, and no row cut in half at first."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setFixedHeight(_HEIGHT_PX)  # it scrolls
        # Else it asks for room that goes to the heading above it.
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setSpacing(1)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def fit(self) -> None:
        """Take the height of whole rows."""
        self.scheduleDelayedItemsLayout()
        self.executeDelayedItemsLayout()
        bar = self.verticalScrollBar()
        if bar is not None and bar.value():
            return  # rows are measured from the first one that is seen
        items = (self.item(row) for row in range(self.count()))
        rects = (self.visualItemRect(item) for item in items if item is not None)
        edges = (rect.bottom() + 2 * self.spacing() + 1 for rect in rects)
        heights = [edge + 2 * self.frameWidth() for edge in edges]
        fitting = [height for height in heights if height <= _HEIGHT_PX]
        height = max(fitting, default=_HEIGHT_PX)
        if heights and height != self.height():
            self.setFixedHeight(height)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Wrap anew."""
        super().resizeEvent(event)
        self.fit()


def folded(problems: Sequence[Problem]) -> list[list[Problem]]:
    """Return the problems of each row: cells that the border cuts share one."""
    cut = [problem for problem in problems if problem.kind == "cut"]
    others = [[problem] for problem in problems if problem.kind != "cut"]
    return [*others, cut] if cut else others


def row_text(problems: Sequence[Problem]) -> str:
    """Return what a row says of its problems."""
    if len(problems) == 1:
        return problems[0].message
    return (
        f"{len(problems)} cells are cut by the image border: they count, but their "
        "sizes are not whole. Each click goes to the next"
    )
