"""Dock widget: train a U-Net on what was painted, or on two folders."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.config import TrainConfig
from napari_unet.events import Finished, Improved, Mailbox, TrainingStarted
from napari_unet.files.model_places import runs_folder
from napari_unet.widgets._autosave import autosave_all
from napari_unet.widgets._choices import TRAINED, ModelChoice
from napari_unet.widgets._controls import (
    describe,
    plain_label,
    rows,
    scrollable,
)
from napari_unet.widgets._device_line import DeviceLine
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._layers import about, note_about, unwrapped
from napari_unet.widgets._loss_plot import LossPlot
from napari_unet.widgets._network_form import NetworkForm
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._training_data import TrainingData
from napari_unet.widgets._weight_form import WeightForm
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from qtpy.QtGui import QShowEvent

    from napari_unet.events import Event
    from napari_unet.learning.checkpoint import Model

_PLUGIN = "napari-unet-loop"
# Closed docks whose training is ending; nothing else may hold them any more.
_ENDING: set[TrainWidget] = set()
_IN_FRONT = ("max_steps", "max_minutes", "patch_size", "batch_size")


class TrainWidget(QWidget):
    """Choose what to learn from, train in the background and watch.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self.model: Model | None = None
        # That of the newest training only, where `model` may be of one before.
        self._best: Model | None = None
        self._build()
        self._connect()
        self._on_start_from()
        self._on_settings(self.settings.value())
        self._render_model()

    def show_failure(self, failure: Failure) -> None:
        """Show what went wrong in a slot."""
        self.panel.show_failure(failure)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take over what was set in Weight map."""
        super().showEvent(event)
        self._take_weights()

    def changeEvent(self, event: QEvent | None) -> None:
        """End training in order when the dock is closed, which unparents its widget.

        Nobody would see it go on, and a dock that is opened again is a new one.
        """
        super().changeEvent(event)
        is_moved = event is not None and event.type() == QEvent.Type.ParentChange
        if is_moved and self.parentWidget() is None and self.panel.state.is_running:
            _ENDING.add(self)
            self.panel.ask_stop()

    def save_to(self, path: Path | str) -> None:
        """Write the trained model; a name without ".unet" gets it appended.

        Raises
        ------
        SaveError
            The file can't be written.
        """
        from napari_unet.learning.checkpoint import save_model

        if self.model is not None:
            saved = save_model(_with_suffix(Path(path)), self.model)
            self.panel.tell(f"Model saved: {saved}")

    # -- building ----------------------------------------------------------------

    def _build(self) -> None:
        self.data = TrainingData(self._viewer)
        self.images, self.labels = self.data.images, self.data.labels
        self.start_from = ModelChoice(nothing="from scratch")
        self.settings = ConfigForm(TrainConfig, fields=_IN_FRONT, more="Training")
        limit = self.settings.rows["max_minutes"]
        limit.open_box.setText("no limit")
        describe(limit.open_box, f"{limit.title}: no limit", limit.tooltip)
        self.weights = WeightForm(fields=(), more="Border weights")
        self.network = NetworkForm()
        self.own_network = plain_label(
            "Network", "The network is the model's own, which goes on learning."
        )
        self.device = DeviceLine()
        self.panel = RunPanel(
            "Training", start_text="Train", stop_text="Stop", can_pause=True
        )
        self.plot = LossPlot(self._viewer)
        self.save = QPushButton("Save model …")
        self.use = QPushButton("Use in Predict")
        describe(self.save, "Save model", "Write the best model to a file")
        describe(self.use, "Use in Predict", "Open Predict with this model")
        self._lay_out()

    def _lay_out(self) -> None:
        results = QHBoxLayout()
        results.addWidget(self.save)
        results.addWidget(self.use)
        content = QWidget()
        layout = QVBoxLayout(content)
        parts: tuple[QWidget, ...] = (
            self.data,
            rows(("Begin", self.start_from)),
            self.settings,
            self.weights,
            self.network,
            self.own_network,
            self.device,
            self.panel,
            self.plot,
        )
        for part in parts:
            layout.addWidget(part)
        layout.addLayout(results)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrollable(content))

    def _connect(self) -> None:
        self.data.failed.connect(self.show_failure)
        self.start_from.changed.connect(self._on_start_from)
        self.settings.valueChanged.connect(self._on_settings)
        self.labels.layer_changed.connect(self._take_weights)
        self.weights.valueChanged.connect(self._on_weights)
        self.panel.start_asked.connect(self._start)
        self.panel.happened.connect(self._on_events)
        self.panel.ended.connect(self._on_ended)
        self.save.clicked.connect(self._ask_where_to_save)
        self.use.clicked.connect(self._use_in_predict)

    # -- slots -------------------------------------------------------------------

    @guarded
    def _on_start_from(self) -> None:
        is_new = self.start_from.is_nothing
        self.network.setVisible(is_new)
        self.own_network.setVisible(not is_new)

    @guarded
    def _on_settings(self, config: TrainConfig) -> None:
        self.device.want(config.device)
        self.settings.set_row_visible("momentum", config.optimizer == "sgd")

    @guarded
    def _take_weights(self) -> None:
        labels = self.labels.layer()
        stored = None if labels is None else about(labels).get("weights")
        if stored is not None and stored != self.weights.value():
            self.weights.setValue(stored)

    @guarded
    def _on_weights(self) -> None:
        labels = self.labels.layer()
        if labels is not None and about(labels).get("weights") != self.weights.value():
            note_about(labels, weights=self.weights.value())

    @guarded
    def _start(self) -> None:
        is_new = self.start_from.is_nothing
        start = None if is_new else self.start_from.model()
        read = self.data.reader()
        config, weights = self.settings.value(), self.weights.value()
        # A model goes on with its own network.
        network = self.network.value() if is_new else None
        mailbox = Mailbox()
        autosave_all(self._viewer)
        self._best = None

        def work() -> Generator[Event, None, None]:
            # Here and not above: importing torch takes seconds.
            from napari_unet.learning.device import spare_one_core
            from napari_unet.learning.training import train

            spare_one_core()
            pairs = yield from read()
            yield from train(
                [image for image, _ in pairs],
                [annotation for _, annotation in pairs],
                config,
                network=network,
                weights=weights,
                start_from=start,
                run_dir=new_run_folder(),
                mailbox=mailbox,
            )

        self.panel.run(work, mailbox=mailbox)

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            # Not before: a start that is refused leaves curves and model alone.
            if isinstance(event, TrainingStarted):
                self.plot.clear()
            if isinstance(event, (Improved, Finished)):
                self.model = self._best = event.model
                self._render_model()
            if isinstance(event, Finished):
                TRAINED.add(_name_of_now(), event.model)
        self.plot.add(events)

    @guarded
    def _on_ended(self) -> None:
        self._render_model()
        if self in _ENDING:
            _ENDING.discard(self)
            show_info(self._farewell())

    def _farewell(self) -> str:
        """Offer what a closed dock's training leaves, and return what to say of it."""
        if self._best is None:
            return "Train was closed: training was stopped before it had a model."
        if not any(model is self._best for model in TRAINED.models.values()):
            TRAINED.add(_name_of_now(), self._best)
        return "Train was closed: training was stopped. Predict offers its best model."

    @guarded
    def _render_model(self) -> None:
        for button in (self.save, self.use):
            button.setEnabled(self.model is not None)

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
        names = [k for k, model in TRAINED.models.items() if model is self.model]
        if self.model is not None and not names:
            names = [_name_of_now()]
            TRAINED.add(names[0], self.model)
        window = getattr(self._viewer, "window", None)
        if window is not None:
            dock, _ = window.add_plugin_dock_widget(_PLUGIN, "Predict", tabify=True)
            dock.raise_()
        # After the dock is there: it is told as well.
        TRAINED.offered.emit(names[0])


def _with_suffix(path: Path) -> Path:
    """Return the path with ".unet" appended, unless it ends so."""
    # Not `with_suffix`: in "model_0.5" it would replace the ".5".
    is_done = path.suffix.lower() == ".unet"
    return path if is_done else path.with_name(f"{path.name}.unet")


def _name_of_now() -> str:
    return f"trained just now ({time.strftime('%H:%M:%S')})"


def new_run_folder() -> Path:
    """Return a folder for a run that begins now, among the user's data."""
    return runs_folder() / time.strftime("%Y%m%d-%H%M%S")
