"""Dock widget: train a U-Net on what was painted, or on two folders."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.events import Finished, Improved, Mailbox, Planned, TrainingStarted
from napari_unet.files.model_places import runs_folder
from napari_unet.widgets._autosave import autosave_all
from napari_unet.widgets._choices import TRAINED, ModelChoice
from napari_unet.widgets._controls import Fold, describe, plain_label, rows, scrollable
from napari_unet.widgets._device_line import DeviceLine
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._interrupted import (
    Beginning,
    InterruptedBox,
    forget,
    read_beginning,
)
from napari_unet.widgets._layers import about, note_about, unwrapped
from napari_unet.widgets._live_controls import LiveControls
from napari_unet.widgets._live_layer import drawn
from napari_unet.widgets._live_training import LiveTraining
from napari_unet.widgets._loss_plot import LossPlot
from napari_unet.widgets._network_form import NetworkForm
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._trained_model import TrainedModel, name_of_now, offer
from napari_unet.widgets._training_data import Taken, TrainingData, taken_folders
from napari_unet.widgets._weight_form import WeightForm
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari.components import ViewerModel
    from qtpy.QtGui import QShowEvent

    from napari_unet.events import Choice, Event
    from napari_unet.learning.checkpoint import Model

# Closed docks whose training is ending; nothing else may hold them any more.
_ENDING: set[TrainWidget] = set()
_IN_FRONT = ("max_steps", "max_minutes", "patch_size", "batch_size")
# What the dock asks for in another place, or not at all.
_ELSEWHERE = ("task", "regression_loss", "keep_learning")
_PLANNED = ("max_steps", "patch_size", "batch_size", "learning_rate")


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
        # That of the newest training only, where `model` may be of one before.
        self._best: Model | None = None
        self._build()
        self._connect()
        self._on_start_from()
        self._on_settings(self.settings.value())
        self._on_source()

    @property
    def model(self) -> Model | None:
        """The best model so far."""
        return self.result.model

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

    # -- building ----------------------------------------------------------------

    def _build(self) -> None:
        self.data = TrainingData(self._viewer)
        self.images, self.labels = self.data.images, self.data.labels
        self.start_from = ModelChoice(nothing="from scratch")
        self.settings = ConfigForm(
            TrainConfig,
            fields=_IN_FRONT,
            hidden=_ELSEWHERE,
            more="Training",
            planned=_PLANNED,
        )
        limit = self.settings.rows["max_minutes"]
        limit.open_box.setText("no limit")
        describe(limit.open_box, f"{limit.title}: no limit", limit.tooltip)
        self.reasons = plain_label("Why these settings")
        self.why = Fold("Why these settings", self.reasons)
        self.why.hide()
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
        self.result = TrainedModel(self._viewer)
        self.controls = LiveControls()
        self.live = LiveTraining(self._viewer, self)
        self._mailbox: Mailbox | None = None
        self._rate = 0.0
        self._folder = runs_folder()
        self.interrupted = InterruptedBox()
        self._lay_out()

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        parts: tuple[QWidget, ...] = (
            self.data,
            rows(("Begin", self.start_from)),
            self.settings,
            self.network,
            self.weights,
            self.why,
            self.own_network,
            self.device,
            self.controls,
            self.interrupted,
            self.panel,
            self.plot,
            self.result,
        )
        for part in parts:
            layout.addWidget(part)
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
        self.data.source.currentIndexChanged.connect(self._on_source)
        self.interrupted.go_on.connect(self._go_on)
        self.result.failed.connect(self.show_failure)
        self.result.told.connect(self.panel.tell)
        self.live.failed.connect(self.show_failure)
        self.live.told.connect(self.panel.tell)
        boxes = self.controls
        self.live.preview_removed.connect(lambda: boxes.preview.setChecked(False))
        boxes.keep_learning.toggled.connect(self.live.set_learning)
        boxes.preview.toggled.connect(self.live.set_previewing)
        boxes.split.toggled.connect(self.live.show_split)
        boxes.learning_rate_changed.connect(self._on_learning_rate)

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
        taken = self.data.take()
        layers = taken.layers
        beginning = Beginning(
            config=self._config(),
            # A model goes on with its own network.
            network=self.network.value() if is_new else None,
            weights=self.weights.value(),
            start_from=start,
            image="" if layers is None else layers.name,
            painted=None if layers is None else layers.painted,
            folders=taken.folders,
        )
        self._run(beginning, taken, new_run_folder())

    @guarded
    def _go_on(self, folder: Path) -> None:
        beginning = read_beginning(folder)
        if beginning.folders is not None:
            taken = taken_folders(*beginning.folders)
        elif beginning.painted is not None:
            taken = self.data.take_again(beginning.image, beginning.painted)
        else:
            return
        self.settings.setValue(beginning.config)
        self._run(beginning, taken, folder, resume=True)

    def _run(
        self, beginning: Beginning, taken: Taken, folder: Path, *, resume: bool = False
    ) -> None:
        mailbox = Mailbox()
        self._rate, self._folder = beginning.config.learning_rate, folder
        autosave_all(self._viewer)
        self._best = None

        def work() -> Generator[Event, None, None]:
            # Here and not above: importing torch takes seconds.
            from napari_unet.learning.device import spare_one_core
            from napari_unet.learning.training import train

            spare_one_core()
            pairs = yield from taken.read()
            if not resume:
                beginning.keep(folder)
            events = train(
                [image for image, _ in pairs],
                [annotation for _, annotation in pairs],
                beginning.config,
                network=beginning.network,
                weights=beginning.weights,
                start_from=beginning.start_from,
                run_dir=folder,
                mailbox=mailbox,
                resume=resume,
            )
            yield from drawn(events)

        if taken.layers is not None:
            self.live.begin(taken.layers, mailbox)
        self._mailbox = mailbox
        self.interrupted.hide()
        self.panel.run(work, mailbox=mailbox)

    @guarded
    def _on_source(self) -> None:
        # What comes from files is not on screen.
        self.controls.boxes.setVisible(not self.data.is_folders)

    @guarded
    def _on_learning_rate(self, rate: float) -> None:
        if self._mailbox is not None:
            self._mailbox.set_learning_rate(rate)
            self.plot.mark_rate(rate)

    def _config(self) -> TrainConfig:
        boxes = self.controls
        keep = boxes.keep_learning.isChecked() and not self.data.is_folders
        return self.settings.value().model_copy(update={"keep_learning": keep})

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            # Not before: a start that is refused leaves curves and model alone.
            if isinstance(event, Planned):
                self._show_choices(event.choices)
            if isinstance(event, TrainingStarted):
                self.plot.clear()
                self.controls.begin(self._rate)
            if isinstance(event, (Improved, Finished)):
                self.result.model = self._best = event.model
            if isinstance(event, Finished):
                forget(self._folder)
                TRAINED.add(name_of_now(), event.model)
        self.controls.take(events)
        self.plot.add(events)
        self.live.take(events)

    def _show_choices(self, choices: Sequence[Choice]) -> None:
        by_name = {choice.name: (choice.value, choice.why) for choice in choices}
        self.settings.show_choices(by_name)
        self.network.show_choices(by_name)
        self._rate = by_name.get("learning_rate", (self._rate, ""))[0]
        self.why.setVisible(bool(choices))
        self.reasons.setText("\n".join(_in_words(choice) for choice in choices))

    @guarded
    def _on_ended(self) -> None:
        self._mailbox = None
        self.live.end()
        self.controls.end()
        self.interrupted.refresh()
        if self in _ENDING:
            _ENDING.discard(self)
            show_info(self._farewell())

    def _farewell(self) -> str:
        """Offer what a closed dock's training leaves, and return what to say of it."""
        if self._best is None:
            return "Train was closed: training was stopped before it had a model."
        offer(self._best)
        return "Train was closed: training was stopped. Predict offers its best model."


def _in_words(choice: Choice) -> str:
    """Return a choice of planning with its reason."""
    fields = {**TrainConfig.model_fields, **NetworkConfig.model_fields}
    # "scale" is both the plan's and an augmentation's: it is the plan's here.
    own = {"scale": "Working scale"}
    field = fields.get(choice.name)
    title = own.get(choice.name) or (field.title if field else None) or choice.name
    value = f"{choice.value:g}" if isinstance(choice.value, float) else choice.value
    return f"{title} {value}: {choice.why}"


def new_run_folder() -> Path:
    """Return a folder for a run that begins now, among the user's data."""
    return runs_folder() / time.strftime("%Y%m%d-%H%M%S")
