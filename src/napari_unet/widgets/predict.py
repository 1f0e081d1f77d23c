"""Dock widget: apply a model to an image and show its cells, or its values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QWidget

from napari_unet.config import PredictConfig
from napari_unet.errors import ModelError
from napari_unet.events import Event, Mailbox
from napari_unet.files.model_summaries import summarise
from napari_unet.widgets._choices import ImageChoice, ModelChoice
from napari_unet.widgets._controls import describe, fill_dock, rows
from napari_unet.widgets._device_line import DeviceLine
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._layers import unwrapped
from napari_unet.widgets._live_view import visible_region
from napari_unet.widgets._predicted_layers import PredictedLayers
from napari_unet.widgets._prediction import segmentation
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._training_line import TrainingLine
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from napari.components import ViewerModel

# The next tile is where the user looks now: one takes a second at most.
_LOOK_EVERY_MS = 100
_WITH_ATTENTION = "attention_unet"


class PredictWidget(QWidget):
    """Choose a model and an image; tiles show as they finish, then the cells.

    What is on screen comes first, wherever the user goes meanwhile.

    A model of values, from images to images, has image layers for its outputs.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._mailbox = Mailbox()
        self._n_more_axes = 0
        self._timer = QTimer(self)
        self._timer.setInterval(_LOOK_EVERY_MS)
        self._build()
        self.layers = PredictedLayers(self._viewer, self.probabilities.isChecked)
        self._connect()
        self._on_model()

    def show_failure(self, failure: Failure) -> None:
        """Show what went wrong in a slot."""
        self.panel.show_failure(failure)

    def _build(self) -> None:
        self.model = ModelChoice()
        self.images = ImageChoice(self._viewer)
        self.probabilities = QCheckBox("Keep the probabilities as image layers")
        describe(
            self.probabilities,
            "Keep probabilities",
            "Show the network's outputs beside the cells",
        )
        self.attention = QCheckBox("Attention maps as image layers")
        describe(
            self.attention,
            "Attention maps",
            "Show what each gate of an Attention U-Net lets through, between 0 and 1",
        )
        self.uncertainty = QCheckBox("Uncertainty as an image layer")
        describe(
            self.uncertainty,
            "Uncertainty",
            "Show where the network is unsure: the entropy of its classes, from 0 to "
            "1. With test-time augmentation (More settings) also how much its answers "
            "to the mirror images differ",
        )
        self.settings = ConfigForm(PredictConfig, fields=())
        self.device = DeviceLine()
        self.panel = RunPanel("Prediction", start_text="Predict")
        fill_dock(
            self,
            rows(("Model", self.model), ("Image", self.images)),
            self.probabilities,
            self.uncertainty,
            self.attention,
            self.settings,
            self.device,
            TrainingLine(),
            self.panel,
        )

    def _connect(self) -> None:
        self.model.changed.connect(self._on_model)
        self.settings.valueChanged.connect(self._on_settings)
        self.panel.start_asked.connect(self._start)
        self.panel.happened.connect(self._on_events)
        self.panel.ended.connect(self._on_ended)
        self._timer.timeout.connect(self._look)
        self._viewer.layers.events.removed.connect(self._on_removed)

    @guarded
    def _on_settings(self, config: PredictConfig) -> None:
        self.device.want(config.device)

    @guarded
    def _on_model(self) -> None:
        self.attention.setEnabled(_has_attention(self.model))

    @guarded
    def _start(self) -> None:
        model = self.model.model()
        image, notes = self.images.image(), self.images.notes()
        config = self.settings.value()
        target = self.images.layers()[0]
        self.layers.begin(target)
        attention = self.attention.isEnabled() and self.attention.isChecked()
        uncertainty = self.uncertainty.isChecked()
        # The panel aborts without it: this one is for the view only.
        self._mailbox = mailbox = Mailbox()
        # Channels are no axis of the outputs.
        self._n_more_axes = target.ndim - len(image.shape)
        self._look()
        self._timer.start()
        self.panel.run(
            lambda: segmentation(
                model,
                image,
                config,
                notes,
                attention=attention,
                uncertainty=uncertainty,
                mailbox=mailbox,
            )
        )

    @guarded
    def _look(self) -> None:
        """Tell the work what is on screen by now."""
        target = self.layers.target
        if target is None:
            return
        view = visible_region(self._viewer, target, target.name)
        if view is not None:
            view = replace(view, plane=view.plane[self._n_more_axes :])
        self._mailbox.look_at(view)

    @guarded
    def _on_removed(self) -> None:
        if self.layers.target is None:
            self.panel.abort()

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        self.layers.show(events)

    @guarded
    def _on_ended(self) -> None:
        self._timer.stop()
        self.layers.end()


def _has_attention(choice: ModelChoice) -> bool:
    """Return whether the chosen model has attention gates; reads a header at most."""
    try:
        model = choice.model()
        if isinstance(model, Path):
            return summarise(model).network == _WITH_ATTENTION
    except ModelError:
        return False
    return getattr(model.network, "architecture", "") == _WITH_ATTENTION
