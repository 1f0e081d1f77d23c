"""Dock widget: apply a model to an image and show its cells, or its values."""

from __future__ import annotations

import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QVBoxLayout, QWidget

from napari_unet.config import PredictConfig
from napari_unet.errors import ImageError, ModelError
from napari_unet.events import Event, TileDone
from napari_unet.files.model_summaries import summarise
from napari_unet.widgets._choices import ImageChoice, ModelChoice
from napari_unet.widgets._contrast import limits_of
from napari_unet.widgets._controls import describe, rows, scrollable
from napari_unet.widgets._device_line import DeviceLine
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._layers import (
    full_resolution,
    show_image,
    show_labels,
    size_text,
    unwrapped,
)
from napari_unet.widgets._prediction import (
    PROBABILITIES,
    AttentionMapped,
    Predicted,
    TilesFollow,
    names_of,
    output_name,
    segmentation,
)
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._training_line import TrainingLine
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

_DRAW_EVERY_S = 0.3
_WITH_ATTENTION = "attention_unet"
_STYLE = {
    "colormap": "magma",
    "contrast_limits": (0, 1),
    "blending": "additive",
    "opacity": 0.7,
}


class PredictWidget(QWidget):
    """Choose a model and an image; tiles show as they finish, then the cells.

    A model of values, from images to images, has image layers for its outputs.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._target: weakref.ref[Layer] | None = None
        self._shape: tuple[int, ...] = ()
        self._roles: tuple[str, ...] = ()
        self._preview: weakref.ref[Layer] | None = None
        self._drawn_at = 0.0
        self._build()
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
        self.settings = ConfigForm(PredictConfig, fields=())
        self.device = DeviceLine()
        self.panel = RunPanel("Prediction", start_text="Predict")
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addWidget(rows(("Model", self.model), ("Image", self.images)))
        for widget in (
            self.probabilities,
            self.attention,
            self.settings,
            self.device,
            TrainingLine(),
            self.panel,
        ):
            layout.addWidget(widget)
        layout.addStretch()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrollable(content))

    def _connect(self) -> None:
        self.model.changed.connect(self._on_model)
        self.settings.valueChanged.connect(self._on_settings)
        self.panel.start_asked.connect(self._start)
        self.panel.happened.connect(self._on_events)
        self.panel.ended.connect(self._on_ended)
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
        self._target = weakref.ref(target)
        self._shape = tuple(full_resolution(target).shape)
        self._preview = None
        self._drawn_at = 0.0
        attention = self.attention.isEnabled() and self.attention.isChecked()
        self.panel.run(
            lambda: segmentation(model, image, config, notes, attention=attention)
        )

    @guarded
    def _on_removed(self, event: Any) -> None:
        target = None if self._target is None else self._target()
        if target is None or event.value is target:
            self.panel.abort()

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        target = None if self._target is None else self._target()
        if target is None:
            return
        # A new layer becomes the active one: the user may be painting in another.
        active = self._viewer.layers.selection.active
        shape = tuple(full_resolution(target).shape)
        for event in events:
            if isinstance(event, TilesFollow):
                self._roles = event.roles
            elif isinstance(event, Predicted):
                if shape != self._shape:
                    raise ImageError(
                        "NU-I11",
                        f'image "{target.name}" was {size_text(self._shape)} when '
                        f"prediction began and is {size_text(shape)} now: its result "
                        "is not shown, predict again",
                    )
                self._show_result(target, event)
            elif isinstance(event, AttentionMapped) and shape == self._shape:
                self._show_attention(target, event.maps)
            elif isinstance(event, TileDone) and shape == self._shape:
                self._show_preview(target, event.outputs)
        self._viewer.layers.selection.active = active

    @guarded
    def _on_ended(self) -> None:
        preview = None if self._preview is None else self._preview()
        if preview is not None:
            preview.visible = self.probabilities.isChecked()

    def _may_draw(self) -> bool:
        now = time.monotonic()
        if now - self._drawn_at < _DRAW_EVERY_S:
            return False
        self._drawn_at = now
        return True

    def _show_preview(self, target: Layer, outputs: NDArray[np.float32]) -> None:
        channels = _probabilities(self._roles)
        shown = None if self._preview is None else self._preview()
        was_deleted = self._preview is not None and shown not in self._viewer.layers
        if not channels or was_deleted or not self._may_draw():
            return
        name = f"{target.name} probability"
        if not self.probabilities.isChecked():
            # It stays, hidden: taking layers out of a viewer can crash OpenGL.
            name += " (preview)"
        first = outputs[channels[0]]
        layer = show_image(self._viewer, name, first, like=target, **_STYLE)
        layer.visible = True
        self._preview = weakref.ref(layer)

    def _show_result(self, target: Layer, result: Predicted) -> None:
        if result.labels is None or self.probabilities.isChecked():
            self._show_outputs(target, result)
        if result.labels is not None:
            show_labels(
                self._viewer, f"{target.name} prediction", result.labels, like=target
            )

    def _show_outputs(self, target: Layer, result: Predicted) -> None:
        channels = _probabilities(result.roles)
        for i, k in enumerate(channels, 1):
            name = f"{target.name} probability{f' {i}' if i > 1 else ''}"
            show_image(self._viewer, name, result.outputs[k], like=target, **_STYLE)
        show_values(self._viewer, target, result.outputs, names_of(result.roles))

    def _show_attention(self, target: Layer, maps: NDArray[np.float32]) -> None:
        for i, each in enumerate(maps, 1):
            name = f"{target.name} attention {i}"
            # One at a time: their colours would add up.
            style = {**_STYLE, "visible": i == 1}
            show_image(self._viewer, name, each, like=target, **style)


def show_values(
    viewer: ViewerModel,
    target: Layer,
    outputs: NDArray[Any],
    names: Mapping[int, str],
) -> list[Layer]:
    """Show some of the outputs (K, [T,] [Z,] Y, X) as images on top of a layer."""
    first = min(names, default=0)
    shown: list[Layer] = []
    for k, name in names.items():
        layer = show_image(
            viewer,
            f"{target.name} {name}",
            outputs[k],
            like=target,
            visible=k == first,  # the others would only cover it
        )
        # Values have no range of their own; another model's may be far off.
        layer.reset_contrast_limits_range()
        layer.contrast_limits = limits_of(outputs[k])
        shown.append(layer)
    return shown


def _probabilities(roles: Sequence[str]) -> list[int]:
    """Return the channels that are probabilities, but of the background."""
    return [
        k
        for k, role in enumerate(roles)
        if role.startswith(PROBABILITIES) and output_name(role) != "background"
    ]


def _has_attention(choice: ModelChoice) -> bool:
    """Return whether the chosen model has attention gates; reads a header at most."""
    try:
        model = choice.model()
        if isinstance(model, Path):
            return summarise(model).network == _WITH_ATTENTION
    except ModelError:
        return False
    return getattr(model.network, "architecture", "") == _WITH_ATTENTION
