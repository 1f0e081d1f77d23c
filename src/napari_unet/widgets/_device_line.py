"""On which device the work will run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.events import Note
from napari_unet.widgets._controls import plain_label
from napari_unet.widgets._worker import Failure, Runner

if TYPE_CHECKING:
    from collections.abc import Generator

    from qtpy.QtGui import QShowEvent

    from napari_unet.events import Event


class DeviceLine(QWidget):
    """Tells which device will compute and, if it is the CPU, why.

    Finding that out imports torch, so it happens in the background, and not before
    the dock is on screen.

    Parameters
    ----------
    warms_up : bool
        Whether to import what training needs as well, while the user still looks for
        the settings: the compiler that comes with every optimiser of torch takes
        seconds.
    """

    def __init__(self, *, warms_up: bool = False) -> None:
        super().__init__()
        self._warms_up = warms_up
        self.label = plain_label("Device", "Device: …")
        self.label.setToolTip("The device that computes; see napari-unet doctor")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label)
        self._wanted = "auto"
        self._told = ""
        self._runner = Runner(self)
        self._runner.happened.connect(self._tell)
        self._runner.failed.connect(self._tell_failure)
        self._runner.finished.connect(self._look)

    def want(self, name: str) -> None:
        """Tell about the device that the user asks for."""
        self._wanted = name
        if self.isVisible():
            self._look()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Look for the device the first time that it can be read."""
        super().showEvent(event)
        self._look()

    def _look(self) -> None:
        if self._told != self._wanted and not self._runner.is_running:
            self._told = wanted = self._wanted
            warms_up = self._warms_up
            self._runner.run(lambda: _found(wanted, warms_up=warms_up))

    def _tell(self, events: list[Note]) -> None:
        self.label.setText(f"Device: {events[-1].message}")

    def _tell_failure(self, failure: Failure) -> None:
        self.label.setText(f"Device: {failure.summary}")


def _found(name: str, *, warms_up: bool) -> Generator[Event, None, None]:
    yield from find_device(name)
    if warms_up:
        import torch

        import napari_unet.learning.training  # noqa: F401

        torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])


def find_device(name: str) -> Generator[Event, None, None]:
    """Yield a note that names the device."""
    from napari_unet.learning.device import choose_device, spare_one_core

    spare_one_core()
    yield Note(str(choose_device(name)))
