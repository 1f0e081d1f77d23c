"""The model that training has made so far: save it, or use it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QWidget,
)

from napari_unet.widgets._choices import TRAINED
from napari_unet.widgets._controls import describe
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_unet.learning.model import Model

_PLUGIN = "napari-unet-loop"


class TrainedModel(QWidget):
    """Two buttons for the best model so far.

    Signals
    -------
    told(str)
        Something that the user should see.
    failed(Failure)
        Something went wrong.
    """

    told = Signal(str)
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = viewer
        self._model: Model | None = None
        self.save = QPushButton("Save model …")
        self.use = QPushButton("Use in Predict")
        describe(self.save, "Save model", "Write the best model to a file")
        describe(self.use, "Use in Predict", "Open Predict with this model")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.save)
        layout.addWidget(self.use)
        self.save.clicked.connect(self._ask_where_to_save)
        self.use.clicked.connect(self._use_in_predict)
        self.model = None

    @property
    def model(self) -> Model | None:
        """The model; None as long as there is none."""
        return self._model

    @model.setter
    def model(self, model: Model | None) -> None:
        self._model = model
        for button in (self.save, self.use):
            button.setEnabled(model is not None)

    def save_to(self, path: Path | str) -> None:
        """Write the model; a name without ".unet" gets it appended.

        Raises
        ------
        SaveError
            The file can't be written.
        """
        from napari_unet.learning.checkpoint import save_model

        if self._model is not None:
            saved = save_model(_with_suffix(Path(path)), self._model)
            self.told.emit(f"Model saved: {saved}")

    def show_failure(self, failure: Failure) -> None:
        """Pass on what went wrong in a slot."""
        self.failed.emit(failure)

    @guarded
    def _ask_where_to_save(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save model", "cells.unet", "U-Net models (*.unet)"
        )
        if chosen and self._may_write(Path(chosen)):
            self.save_to(chosen)

    def _may_write(self, chosen: Path) -> bool:
        place = _with_suffix(chosen)
        if place == chosen or not place.exists():
            return True
        # The dialogue asked about the name as it was typed only.
        answer = QMessageBox.question(
            self, "Save model", f"{place} is there already. Replace it?"
        )
        return answer == QMessageBox.StandardButton.Yes

    @guarded
    def _use_in_predict(self) -> None:
        if self._model is None:
            return
        name = offer(self._model)
        window = getattr(self._viewer, "window", None)
        if window is not None:
            dock, _ = window.add_plugin_dock_widget(_PLUGIN, "Predict", tabify=True)
            dock.raise_()
        # After the dock is there: it is told as well.
        TRAINED.offered.emit(name)


def offer(model: Model) -> str:
    """Offer a model in all docks, unless it is offered; return its name there."""
    for name, offered in TRAINED.models.items():
        if offered is model:
            return name
    name = name_of_now()
    TRAINED.add(name, model)
    return name


def name_of_now() -> str:
    """Return the name of a model that was trained now."""
    return f"trained just now ({time.strftime('%H:%M:%S')})"


def _with_suffix(path: Path) -> Path:
    """Return the path with ".unet" appended, unless it ends so."""
    # Not `with_suffix`: in "model_0.5" it would replace the ".5".
    is_done = path.suffix.lower() == ".unet"
    return path if is_done else path.with_name(f"{path.name}.unet")
