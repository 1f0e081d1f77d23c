"""What can be switched while training runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_unet.config import TrainConfig
from napari_unet.events import LearningRateChanged, StrokesTaken, TrainingStarted
from napari_unet.widgets._controls import describe, plain_label, rows
from napari_unet.widgets._field_row import FieldRow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_unet.events import Event


class LiveControls(QWidget):
    """Tick boxes of the live loop, and the learning rate while training runs.

    `running`, which is there while training runs only, is placed by its owner: above
    the buttons it would move them away from under the mouse.

    Signals
    -------
    learning_rate_changed(float)
        The user wants another peak learning rate, from now on.
    """

    learning_rate_changed = Signal(float)

    def __init__(self) -> None:
        super().__init__()
        self.keep_learning = _box(
            "Keep learning while I paint",
            "What is painted while training runs is learned from within seconds, and "
            "training goes on until you stop it; without, it ends after its last step",
        )
        self.preview = _box(
            "Live preview",
            "Show what the network makes now of the part of the image that is on "
            "screen: the outlines of cells, or the image",
        )
        self.split = _box(
            "Show what is held back",
            "Outline the areas that the model is checked on, and never learns from",
        )
        self.learning_rate = FieldRow(TrainConfig.model_fields["learning_rate"])
        self.learning_rate.setToolTip("Peak learning rate from now on")
        self._rate_row = rows(("Learning rate", self.learning_rate))
        self.strokes = plain_label("Fresh strokes")
        self.boxes = QWidget()
        inner = QVBoxLayout(self.boxes)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(2)
        for box in (self.keep_learning, self.preview, self.split):
            inner.addWidget(box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.boxes)
        self.running = QWidget()
        beneath = QVBoxLayout(self.running)
        beneath.setContentsMargins(0, 0, 0, 0)
        for part in (self._rate_row, self.strokes):
            beneath.addWidget(part)
        self.strokes.hide()
        self.n_strokes = 0
        self._rate = 0.0
        self.learning_rate.changed.connect(self._on_rate)
        self.end()

    def begin(self, learning_rate: float) -> None:
        """Training has begun, with this peak learning rate."""
        # Showing it is no wish; on the way its decimals change as well.
        self.learning_rate.blockSignals(True)
        self.learning_rate.set_value(learning_rate)
        self.learning_rate.blockSignals(False)
        self._rate = self.learning_rate.value()
        self.running.show()

    def end(self) -> None:
        """Training has ended."""
        self.running.hide()
        self.strokes.hide()

    def take(self, events: Iterable[Event]) -> None:
        """Count the strokes that training took."""
        for event in events:
            if isinstance(event, TrainingStarted):
                self.n_strokes = 0
            elif isinstance(event, LearningRateChanged):
                self.begin(event.learning_rate)
            elif isinstance(event, StrokesTaken):
                self.n_strokes += event.n_strokes
                self.strokes.setText(
                    "What you painted meanwhile is learned from since step "
                    f"{event.step}"
                )
                self.strokes.show()

    def _on_rate(self) -> None:
        rate = self.learning_rate.value()
        if rate != self._rate:
            self._rate = rate
            self.learning_rate_changed.emit(rate)


def _box(text: str, tooltip: str) -> QCheckBox:
    box = QCheckBox(text)
    box.setChecked(True)
    describe(box, text, tooltip)
    return box
