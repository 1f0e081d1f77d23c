"""A slider for a number, beside the box to type it in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QSizePolicy, QSlider

if TYPE_CHECKING:
    from qtpy.QtGui import QWheelEvent

_LEAST_STEPS = 200
_WIDTH_PX = 50


class NumberSlider(QSlider):
    """A slider over a range of numbers, in round steps.

    Parameters
    ----------
    low, high : float
        Its ends. A number beyond them shows at the end and is left as it is.

    Signals
    -------
    number_changed(float)
        The user moved it.
    """

    number_changed = Signal(float)

    def __init__(self, low: float, high: float) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        exponent = math.floor(math.log10((high - low) / _LEAST_STEPS))
        self._low, self._step = low, 10.0**exponent
        self._n_decimals = max(0, -exponent)
        self.setRange(0, round((high - low) / self._step))
        self.setPageStep(max(1, self.maximum() // 10))
        self.setMinimumWidth(_WIDTH_PX)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.valueChanged.connect(self._on_moved)

    def number(self) -> float:
        """Return the number that the handle stands at."""
        return round(self._low + self.value() * self._step, self._n_decimals)

    def show_number(self, number: float) -> None:
        """Move the handle to a number, or to the end that is next to it."""
        steps = (number - self._low) / self._step
        with QSignalBlocker(self):
            self.setValue(round(min(max(steps, 0), self.maximum())))

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Leave the wheel to what scrolls the form."""
        if event is not None:
            event.ignore()

    def _on_moved(self) -> None:
        self.number_changed.emit(self.number())
