"""Whether a training is at work, told where it makes other work slower."""

from __future__ import annotations

from weakref import WeakSet

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.widgets._controls import plain_label

_AT_WORK = (
    "A training is running: until it ends, this and the training take longer. Pause it "
    "in Train if this is to be done soon."
)


class TrainingsAtWork(QObject):
    """The docks whose training computes right now; a paused one does not.

    Signals
    -------
    changed()
        One began or ended.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        # Weak: a dock that goes away ends its training.
        self._docks: WeakSet[QWidget] = WeakSet()

    def __bool__(self) -> bool:
        return bool(self._docks)

    def note(self, dock: QWidget, *, is_at_work: bool) -> None:
        """Note whether the training of a dock computes."""
        if is_at_work != (dock in self._docks):
            (self._docks.add if is_at_work else self._docks.discard)(dock)
            self.changed.emit()


AT_WORK = TrainingsAtWork()


class TrainingLine(QWidget):
    """Says that a training is running, as long as one is."""

    def __init__(self) -> None:
        super().__init__()
        self.label = plain_label("Training meanwhile", _AT_WORK)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label)
        AT_WORK.changed.connect(self._render)
        self._render()

    def _render(self) -> None:
        self.label.setVisible(bool(AT_WORK))
