"""Dock widget: train a U-Net on layers of the viewer, or on two folders."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QWidget

from napari_unet.events import (
    Compared,
    Finished,
    Improved,
    Mailbox,
    Note,
    Paused,
    Planned,
    TrainingStarted,
)
from napari_unet.files.model_places import runs_folder
from napari_unet.widgets._autosave import autosave_all
from napari_unet.widgets._check_list import go_to
from napari_unet.widgets._choices import TRAINED
from napari_unet.widgets._comparison import ComparisonBox
from napari_unet.widgets._controls import fill_dock
from napari_unet.widgets._interrupted import (
    Beginning,
    InterruptedBox,
    forget,
    read_beginning,
)
from napari_unet.widgets._layers import unwrapped
from napari_unet.widgets._live_controls import LiveControls
from napari_unet.widgets._live_layer import drawn
from napari_unet.widgets._live_training import LiveTraining
from napari_unet.widgets._loss_plot import LossPlot
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._trained_model import TrainedModel, name_of_now, offer
from napari_unet.widgets._training_form import TrainingForm
from napari_unet.widgets._training_line import AT_WORK
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

    from napari.components import ViewerModel
    from qtpy.QtGui import QShowEvent

    from napari_unet.events import Event, WorseCell
    from napari_unet.learning.checkpoint import Model
    from napari_unet.widgets._taken import Taken

# Closed docks whose training is ending; nothing else may hold them any more.
_ENDING: set[TrainWidget] = set()

# Of a run folder, the time at which it began.
_NAME = "%Y%m%d-%H%M%S"


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
        self._mailbox: Mailbox | None = None
        self._folder = runs_folder()
        self._rate = 0.0
        self._build()
        self._connect()
        self._on_source()
        self._on_task()

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
        self.form.take_weights()

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
        self.form = TrainingForm(self._viewer)
        self.controls = LiveControls()
        self.interrupted = InterruptedBox()
        self.panel = RunPanel(
            "Training", start_text="Train", stop_text="Stop", can_pause=True
        )
        self.plot = LossPlot(self._viewer)
        self.comparison = ComparisonBox()
        self.result = TrainedModel(self._viewer)
        self.live = LiveTraining(self._viewer, self)
        fill_dock(
            self,
            self.form,
            self.controls,
            self.interrupted,
            self.panel,
            self.controls.running,
            self.plot,
            self.comparison,
            self.result,
        )

    def _connect(self) -> None:
        for part in (self.form, self.result, self.live):
            part.failed.connect(self.show_failure)
        for part in (self.result, self.live):
            part.told.connect(self.panel.tell)
        self.form.data.source.currentIndexChanged.connect(self._on_source)
        self.form.data.task.currentIndexChanged.connect(self._on_task)
        self.interrupted.go_on.connect(self._go_on)
        self.panel.start_asked.connect(self._start)
        self.panel.happened.connect(self._on_events)
        self.panel.ended.connect(self._on_ended)
        self.comparison.chosen.connect(self._on_worse_cell)
        self.comparison.taken_anyway.connect(self._take_anyway)
        boxes = self.controls
        self.live.preview_removed.connect(lambda: boxes.preview.setChecked(False))
        boxes.keep_learning.toggled.connect(self._on_keep_learning)
        boxes.preview.toggled.connect(self.live.set_previewing)
        boxes.split.toggled.connect(self.live.show_split)
        boxes.learning_rate_changed.connect(self._on_learning_rate)

    # -- slots -------------------------------------------------------------------

    @guarded
    def _start(self) -> None:
        keep = self.controls.keep_learning.isChecked()
        beginning, taken = self.form.begin(keep_learning=keep)
        self._run(beginning, taken, new_run_folder())

    @guarded
    def _go_on(self, folder: Path) -> None:
        beginning = read_beginning(folder)
        taken = self.form.begin_again(beginning)
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
                [learned for _, learned in pairs],
                beginning.config,
                network=beginning.network,
                weights=beginning.weights,
                start_from=beginning.start_from,
                run_dir=folder,
                mailbox=mailbox,
                resume=resume,
            )
            yield from with_learning_curve(drawn(events))

        if taken.layers is not None:
            self.live.begin(taken.layers, mailbox)
        self._mailbox = mailbox
        self.interrupted.hide()
        self.panel.run(work, mailbox=mailbox)
        AT_WORK.note(self, is_at_work=True)

    @guarded
    def _on_source(self) -> None:
        # What comes from files is not on screen.
        self.controls.boxes.setVisible(not self.form.data.is_folders)

    @guarded
    def _on_task(self) -> None:
        # Nobody paints in an image that is to be made.
        self.controls.keep_learning.setVisible(not self.form.data.makes_images)

    @guarded
    def _on_keep_learning(self, is_wanted: bool) -> None:
        self.live.set_learning(is_wanted)
        if self._mailbox is not None:
            self._mailbox.keep_learning(is_wanted)

    @guarded
    def _on_learning_rate(self, rate: float) -> None:
        if self._mailbox is not None:
            self._mailbox.set_learning_rate(rate)
            self.plot.mark_rate(rate)

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            # Not before: a start that is refused leaves curves and model alone.
            if isinstance(event, Planned):
                self._on_planned(event)
            if isinstance(event, TrainingStarted):
                self.plot.clear()
                self.comparison.hide()
                self.controls.begin(self._rate)
            if isinstance(event, Compared):
                self.comparison.show_comparison(event)
            if isinstance(event, (Improved, Finished)):
                self.result.model = self._best = event.model
            if isinstance(event, Paused):
                AT_WORK.note(self, is_at_work=not event.is_paused)
            if isinstance(event, Finished):
                forget(self._folder)
                TRAINED.add(name_of_now(), event.model)
        self.controls.take(events)
        self.plot.add(events)
        self.live.take(events)

    def _on_planned(self, event: Planned) -> None:
        self.form.show_choices(event.choices)
        for choice in event.choices:
            if choice.name == "learning_rate":
                self._rate = choice.value

    @guarded
    def _on_worse_cell(self, cell: WorseCell) -> None:
        labels = self.live.grid()
        if labels is not None:
            y, x = (round(value) for value in cell.middle)
            place = (*cell.region.plane, y, x)
            is_there = int(labels.data[place]) == cell.label
            shown = cell.label if is_there else None
            go_to(self._viewer, labels, place, cell=shown)

    @guarded
    def _take_anyway(self) -> None:
        from napari_unet.learning.checkpoint import load_model

        self.result.model = load_model(self._folder / "not_kept.unet")
        name = offer(self.result.model)
        self.panel.tell(f"The new model is offered as {name!r}")
        self.comparison.take.hide()

    @guarded
    def _on_ended(self) -> None:
        self._mailbox = None
        AT_WORK.note(self, is_at_work=False)
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


def with_learning_curve(events: Iterable[Event]) -> Iterator[Event]:
    """Say in the end what the last annotations brought, where there were any before."""
    from napari_unet.learning.quality.learning_curve import in_words

    for event in events:
        yield event
        if isinstance(event, Finished) and len(event.model.rounds) > 1:
            yield Note(in_words(event.model.rounds))


def new_run_folder() -> Path:
    """Return a folder for a run that begins now, among the user's data."""
    runs, begun = runs_folder(), time.time()
    # Within a second of the last run: that one may be gone on with.
    while (folder := runs / time.strftime(_NAME, time.localtime(begun))).exists():
        begun += 1
    return folder
