"""All that a training begins with: data, settings, network and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.widgets._choices import ModelChoice
from napari_unet.widgets._controls import Fold, describe, plain_label, rows
from napari_unet.widgets._device_line import DeviceLine
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._interrupted import Beginning
from napari_unet.widgets._layers import about, note_about
from napari_unet.widgets._network_form import NetworkForm
from napari_unet.widgets._taken import taken_folders
from napari_unet.widgets._training_data import TrainingData
from napari_unet.widgets._weight_form import WeightForm
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel

    from napari_unet.events import Choice
    from napari_unet.widgets._taken import Taken

_IN_FRONT = ("max_steps", "max_minutes", "patch_size", "batch_size")
# What the dock asks for in another place, or not at all.
_ELSEWHERE = ("task", "keep_learning")
# What says something for one task only.
_OF_CELLS, _OF_IMAGES = ("target", "working_scale", "loss"), ("regression_loss",)
_PLANNED = ("max_steps", "patch_size", "batch_size", "learning_rate")
_NOT_PLANNED = (
    "Where “auto” is ticked, the value is chosen when training starts, from your "
    "images and this computer; its reason is told here. Untick it to choose yourself."
)


class TrainingForm(QWidget):
    """Choose what to learn from, and how.

    Signals
    -------
    failed(Failure)
        Something went wrong in a slot.
    """

    failed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._build(viewer)
        self._lay_out()
        self.data.failed.connect(self.failed.emit)
        self.data.task.currentIndexChanged.connect(self._on_task)
        self.start_from.changed.connect(self._on_start_from)
        self.settings.valueChanged.connect(self._on_settings)
        self.data.labels.layer_changed.connect(self.take_weights)
        self.weights.valueChanged.connect(self._on_weights)
        self._on_task()
        self._on_start_from()
        self._on_settings(self.settings.value())

    def begin(self, *, keep_learning: bool) -> tuple[Beginning, Taken]:
        """Return what training begins with, and how to read it.

        Parameters
        ----------
        keep_learning : bool
            Whether training on layers goes on after its last step.

        Raises
        ------
        UNetError
            Something is missing, or does not fit together.
        """
        is_new = self.start_from.is_nothing
        start = None if is_new else self.start_from.model()
        taken = self.data.take()
        layers = taken.layers
        makes_images = self.data.makes_images
        is_painted = layers is not None and not makes_images
        keep = {"keep_learning": keep_learning and is_painted}
        config = _of_task(self.settings.value(), makes_images=makes_images)
        beginning = Beginning(
            config=config.model_copy(update=keep),
            # A model goes on with its own network.
            network=self.network.value() if is_new else None,
            weights=self.weights.value(),
            start_from=start,
            image="" if layers is None else layers.name,
            painted=None if layers is None else layers.painted,
            target=taken.target,
            folders=taken.folders,
        )
        return beginning, taken

    def begin_again(self, beginning: Beginning) -> Taken:
        """Show the settings that a training began with; return how to read it.

        Raises
        ------
        UNetError
            Its image is not open.
        """
        makes_images = beginning.config.task == "regress"
        self.data.choose_task(makes_images=makes_images)
        if beginning.folders is not None:
            taken = taken_folders(*beginning.folders, are_targets=makes_images)
        else:
            taken = self.data.take_again(
                beginning.image, beginning.painted, beginning.target
            )
        self.settings.setValue(beginning.config)
        self.weights.setValue(beginning.weights)
        if beginning.network is not None:
            self.network.setValue(beginning.network)
        return taken

    def show_choices(self, choices: Sequence[Choice]) -> None:
        """Show what was planned for settings that nobody gave, and why."""
        by_name = {choice.name: (choice.value, choice.why) for choice in choices}
        self.settings.show_choices(by_name)
        self.network.show_choices(by_name)
        if choices:
            self.reasons.setText("\n".join(_in_words(choice) for choice in choices))

    def show_failure(self, failure: Failure) -> None:
        """Pass on what went wrong in a slot."""
        self.failed.emit(failure)

    @guarded
    def take_weights(self) -> None:
        """Take over what was set for this annotation in Weight map."""
        labels = self.data.labels.layer()
        stored = None if labels is None else about(labels).get("weights")
        if stored is not None and stored != self.weights.value():
            self.weights.setValue(stored)

    def _build(self, viewer: ViewerModel) -> None:
        self.data = TrainingData(viewer)
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
        self.network = NetworkForm()
        self.own_network = plain_label(
            "Network", "The network is the model's own, which goes on learning."
        )
        self.weights = WeightForm(fields=(), more="Border weights")
        self.reasons = plain_label("Reasons", _NOT_PLANNED)
        self.why = Fold("Why these settings", self.reasons)
        self.device = DeviceLine(warms_up=True)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        parts: tuple[QWidget, ...] = (
            self.data,
            rows(("Begin", self.start_from)),
            self.settings,
            self.weights,
            self.network,
            self.own_network,
            self.why,
            self.device,
        )
        for part in parts:
            layout.addWidget(part)

    @guarded
    def _on_task(self) -> None:
        makes_images = self.data.makes_images
        self.weights.setVisible(not makes_images)
        for name in _OF_CELLS:
            self.settings.set_row_visible(name, not makes_images)
        for name in _OF_IMAGES:
            self.settings.set_row_visible(name, makes_images)

    @guarded
    def _on_start_from(self) -> None:
        is_new = self.start_from.is_nothing
        self.network.setVisible(is_new)
        self.own_network.setVisible(not is_new)
        self.settings.set_row_visible("start_with", not is_new)

    @guarded
    def _on_settings(self, config: TrainConfig) -> None:
        self.device.want(config.device)
        self.settings.set_row_visible("momentum", config.optimizer == "sgd")

    @guarded
    def _on_weights(self) -> None:
        labels = self.data.labels.layer()
        if labels is not None and about(labels).get("weights") != self.weights.value():
            note_about(labels, weights=self.weights.value())


def _of_task(config: TrainConfig, *, makes_images: bool) -> TrainConfig:
    """Return settings with the task, and without those that are hidden for it."""
    task, others = ("regress", _OF_CELLS) if makes_images else ("segment", _OF_IMAGES)
    given = config.model_dump(exclude_unset=True)
    kept = {name: value for name, value in given.items() if name not in others}
    return TrainConfig(**{**kept, "task": task})


def _in_words(choice: Choice) -> str:
    """Return a choice of planning with its reason, in a line that begins with a dot."""
    titles = {
        name: field.title
        for fields in (NetworkConfig.model_fields, TrainConfig.model_fields)
        for name, field in fields.items()
    }
    title = titles.get(choice.name) or choice.name
    # Most reasons say by themselves what they are for: "Batch 4: …", "600 steps: …".
    head = choice.why.partition(":")[0].casefold().split()
    is_named = not set(head).isdisjoint(title.casefold().split())
    return f"• {choice.why}" if is_named else f"• {title}: {choice.why}"
