"""Dock widget: train a U-Net on what was painted, or on two folders."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from platformdirs import user_data_path
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.config import NetworkConfig, TrainConfig, WeightConfig
from napari_unet.errors import FolderError, LabelError, UNetError
from napari_unet.events import Finished, Improved, Mailbox, Note
from napari_unet.files.annotations import load_annotation
from napari_unet.files.images import (
    find_images,
    pair_by_stem,
    read_image,
    read_labels,
)
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets._choices import TRAINED, DeviceLine, ImageChoice, ModelChoice
from napari_unet.widgets._controls import (
    PathRow,
    describe,
    plain_label,
    rows,
    scrollable,
)
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import unwrapped
from napari_unet.widgets._loss_plot import LossPlot
from napari_unet.widgets._painted import read_annotation_of
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._worker import Failure, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.components import ViewerModel

    from napari_unet.events import Event
    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.checkpoint import Model

    Pairs = list[tuple[Image, Annotation]]
    ReadPairs = Callable[[], Generator[Event, None, Pairs]]

_PLUGIN = "napari-unet-loop"
_LAYERS, _FOLDERS = "layers of the viewer", "two folders"
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
        self._build()
        self._connect()
        self._on_source()
        self._on_start_from()
        self._render_model()

    def show_failure(self, failure: Failure) -> None:
        """Show what went wrong in a slot."""
        self.panel.show_failure(failure)

    def save_to(self, path: Path | str) -> None:
        """Write the trained model.

        Raises
        ------
        SaveError
            The file can't be written.
        """
        from napari_unet.learning.checkpoint import save_model

        if self.model is not None:
            saved = save_model(Path(path).with_suffix(".unet"), self.model)
            self.panel.tell(f"Model saved: {saved}")

    # -- building ----------------------------------------------------------------

    def _build(self) -> None:
        self._build_sources()
        self.start_from = ModelChoice(nothing="from scratch")
        self.settings = ConfigForm(TrainConfig, fields=_IN_FRONT, more="Training")
        self.weights = ConfigForm(WeightConfig, fields=(), more="Border weights")
        self.network = ConfigForm(
            NetworkConfig,
            fields=(),
            hidden=("in_channels", "out_channels", "n_dims"),
            more="Network",
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

    def _build_sources(self) -> None:
        self.source = QComboBox()
        self.source.addItems([_LAYERS, _FOLDERS])
        describe(self.source, "Learn from", "Where images and annotations come from")
        self.images = ImageChoice(self._viewer)
        self.labels = LayerBox(
            self._viewer, "labels", "Annotation", "The layer that you painted cells in"
        )
        self.slices = plain_label("Annotated slices")
        self.image_folder = PathRow("Image folder", "Folder of images: TIFF or PNG")
        self.mask_folder = PathRow(
            "Mask folder", "Folder of their masks, each of the same name as its image"
        )
        self.pattern = QLineEdit()
        self.pattern.setPlaceholderText("all images")
        describe(
            self.pattern, "Pattern", "Take only files whose name fits, as in train_*"
        )
        self.axes = QLineEdit()
        self.axes.setPlaceholderText("as the files say")
        describe(
            self.axes, "Axes", "Axes of the images where the files don't say: ZYX, CYX"
        )

    def _lay_out(self) -> None:
        self._layer_rows = rows(("Image", self.images), ("Annotation", self.labels))
        self._folder_rows = rows(
            ("Images", self.image_folder),
            ("Masks", self.mask_folder),
            ("Pattern", self.pattern),
            ("Axes", self.axes),
        )
        results = QHBoxLayout()
        results.addWidget(self.save)
        results.addWidget(self.use)
        content = QWidget()
        layout = QVBoxLayout(content)
        parts: tuple[QWidget, ...] = (
            rows(("Learn from", self.source)),
            self._layer_rows,
            self.slices,
            self._folder_rows,
            rows(("Begin", self.start_from)),
            self.settings,
            self.weights,
            self.network,
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
        self.source.currentIndexChanged.connect(self._on_source)
        self.images.changed.connect(self._on_layers)
        self.labels.layer_changed.connect(self._on_layers)
        self.start_from.changed.connect(self._on_start_from)
        self.settings.valueChanged.connect(self._on_settings)
        self.panel.start_asked.connect(self._start)
        self.panel.happened.connect(self._on_events)
        self.panel.ended.connect(self._render_model)
        self.save.clicked.connect(self._ask_where_to_save)
        self.use.clicked.connect(self._use_in_predict)

    # -- slots -------------------------------------------------------------------

    @guarded
    def _on_source(self) -> None:
        is_layers = self.source.currentText() == _LAYERS
        self._layer_rows.setVisible(is_layers)
        self._folder_rows.setVisible(not is_layers)
        self._on_layers()

    @guarded
    def _on_layers(self) -> None:
        text = ""
        # What can't be used yet is told when training starts.
        with suppress(UNetError):
            if self.source.currentText() == _LAYERS:
                text = count_slices(self._read_layers()[1])
        self.slices.setText(text)
        self.slices.setVisible(bool(text))

    @guarded
    def _on_start_from(self) -> None:
        self.network.setEnabled(self.start_from.is_nothing)

    @guarded
    def _on_settings(self, config: TrainConfig) -> None:
        self.device.want(config.device)

    @guarded
    def _start(self) -> None:
        is_new = self.start_from.is_nothing
        start = None if is_new else self.start_from.model()
        read = self._reader()
        config, weights = self.settings.value(), self.weights.value()
        # A model goes on with its own network.
        network = self.network.value() if is_new else None
        mailbox = Mailbox()
        self.plot.clear()
        self.model = None

        def work() -> Generator[Event, None, None]:
            # Here and not above: importing torch takes seconds.
            from napari_unet.learning.training import train

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
        self.plot.add(events)
        for event in events:
            if isinstance(event, (Improved, Finished)):
                self.model = event.model
            if isinstance(event, Finished):
                name = f"trained just now ({time.strftime('%H:%M:%S')})"
                TRAINED.add(name, event.model)

    @guarded
    def _render_model(self) -> None:
        for button in (self.save, self.use):
            button.setEnabled(self.model is not None)

    @guarded
    def _ask_where_to_save(self) -> None:
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save model", "cells.unet", "U-Net models (*.unet)"
        )
        if chosen:
            self.save_to(chosen)

    @guarded
    def _use_in_predict(self) -> None:
        window = getattr(self._viewer, "window", None)
        if window is not None:
            dock, _ = window.add_plugin_dock_widget(_PLUGIN, "Predict", tabify=True)
            dock.raise_()

    # -- input -------------------------------------------------------------------

    def _reader(self) -> ReadPairs:
        if self.source.currentText() == _FOLDERS:
            return self._folder_reader()
        image, annotation = self._read_layers()
        notes = [*self.images.notes(), count_slices(annotation)]

        def read() -> Generator[Event, None, Pairs]:
            for note in filter(None, notes):
                yield Note(note)
            return [(image, annotation)]

        return read

    def _read_layers(self) -> tuple[Image, Annotation]:
        image = self.images.image()
        layer = self.labels.layer()
        if layer is None:
            raise LabelError(
                "NU-L04",
                f"{image.source} has no annotation: make a labels layer with Annotate "
                "and paint a few cells",
            )
        # A copy: painting goes on while training runs.
        return image, read_annotation_of(layer, image)

    def _folder_reader(self) -> ReadPairs:
        images, masks = self.image_folder.path(), self.mask_folder.path()
        if images is None or masks is None:
            raise FolderError(
                "NU-F01", "images and masks are needed: choose a folder for each"
            )
        pattern, axes = self.pattern.text().strip(), self.axes.text().strip()
        return lambda: read_folders(images, masks, pattern or None, axes or None)


def new_run_folder() -> Path:
    """Return a folder for a run that begins now, among the user's data."""
    runs = user_data_path("napari-unet", appauthor=False) / "runs"
    return runs / time.strftime("%Y%m%d-%H%M%S")


def count_slices(annotation: Annotation) -> str:
    """Return how many slices of a stack count in training; "" for a plane."""
    if annotation.labels.ndim == 2:
        return ""
    counts = annotation.is_known.any(axis=(-2, -1))
    return (
        f"{np.count_nonzero(counts)} of {counts.size} slices count: those with a "
        "painted pixel or a finished region"
    )


def read_folders(
    images: Path, masks: Path, pattern: str | None, axes: str | None
) -> Generator[Event, None, Pairs]:
    """Read images and the masks of the same name; yield notes, return the pairs.

    Raises
    ------
    UNetError
        A folder is missing, nothing fits together, or a file can't be read.
    """
    paths = find_images(images, pattern)
    pairs, missing = pair_by_stem(paths, masks)
    if not pairs:
        raise FolderError(
            "NU-F08",
            f"none of the {len(paths)} images in {images} has a mask of the same name "
            f"in {masks}: name each mask as its image",
        )
    if missing:
        names = ", ".join(path.name for path in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        yield Note(
            f"{names}{more} have no mask in {masks} and are left out", is_warning=True
        )
    found: Pairs = []
    for image_path, mask_path in pairs:
        image = read_image(image_path, axes=axes)
        found.append((image, _read_mask(mask_path)))
        # Something to stop at between two files.
        yield Note(f"{len(pairs)} images with masks")
    return found


def _read_mask(path: Path) -> Annotation:
    """Read an annotation pair, or a label image, which counts as complete."""
    if path.with_suffix(".json").is_file():
        return load_annotation(path).annotation
    return Annotation.complete(read_labels(path), source=str(path))
