"""Dock widget: apply a model to a folder of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QHeaderView,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_unet.config import PredictConfig
from napari_unet.errors import FolderError
from napari_unet.events import (
    Event,
    FileDone,
    FileProgress,
    FileStarted,
    FolderStarted,
)
from napari_unet.files.images import read_image, read_labels
from napari_unet.widgets._choices import ModelChoice
from napari_unet.widgets._controls import (
    PathRow,
    describe,
    plain_label,
    rows,
    scrollable,
)
from napari_unet.widgets._device_line import DeviceLine
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._layers import (
    about,
    full_resolution,
    layer_choices,
    note_about,
    show_labels,
    unwrapped,
)
from napari_unet.widgets._prediction import names_of
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._training_line import TrainingLine
from napari_unet.widgets._worker import Failure, Runner, guarded
from napari_unet.widgets.predict import show_values

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image

_COLUMNS = ("File", "State", "Cells", "Seconds", "Message")
_FILE, _STATE, _CELLS, _SECONDS, _MESSAGE = range(5)
_TABLE_HEIGHT_PX = 220
# How the result of a model that finds no cells is called.
_OF_VALUES = "_predicted.tif"


@dataclass(frozen=True, eq=False)
class Opened(Event):
    """A file of the table and its result were read: cells, or values as an image."""

    path: Path
    image: Image
    labels: NDArray[np.int32] | None = None
    values: Image | None = None


class FileTable(QTableWidget):
    """One row for each file of a batch, drawn from its events."""

    def __init__(self) -> None:
        super().__init__(0, len(_COLUMNS))
        self.outputs: dict[int, tuple[Path, Path]] = {}
        self._finished: set[int] = set()
        self.setHorizontalHeaderLabels(list(_COLUMNS))
        self.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QTableWidget.SelectionBehavior.SelectRows)
        self.setMinimumHeight(_TABLE_HEIGHT_PX)
        describe(
            self, "Files", "Double click a file that is done to open it and its result"
        )
        numbers = self.verticalHeader()
        if numbers is not None:
            numbers.hide()
        header = self.horizontalHeader()
        if header is not None:
            header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
            header.setSectionResizeMode(_FILE, QHeaderView.ResizeMode.Stretch)
        for column, width in ((_STATE, 70), (_CELLS, 50), (_SECONDS, 65)):
            self.setColumnWidth(column, width)
        # A sentence needs more room than a dock has: it is shown as the tooltip of
        # its row, and beneath the table.
        self.setColumnHidden(_MESSAGE, True)

    def add(self, events: Iterable[Event]) -> None:
        """Draw what the events tell."""
        for event in events:
            match event:
                case FolderStarted():
                    self._fill(event.paths)
                case FileStarted():
                    self._set(event.index, _STATE, "working")
                    self.scrollToItem(self.item(event.index, _FILE))
                case FileProgress():
                    share = event.n_done / event.n_tiles
                    self._set(event.index, _STATE, f"{share:.0%}")
                case FileDone():
                    self._finish(event)

    def clear_files(self) -> None:
        """Forget all files."""
        self.setRowCount(0)
        self.outputs = {}
        self._finished = set()

    def mark_unfinished(self, state: str) -> None:
        """Give files that are not finished their last state."""
        for row in range(self.rowCount()):
            if row not in self._finished:
                self._set(row, _STATE, state)

    def _fill(self, paths: tuple[Path, ...]) -> None:
        self.setRowCount(len(paths))
        for row, path in enumerate(paths):
            self._set(row, _FILE, path.name)
            self._set(row, _STATE, "waiting")

    def _finish(self, event: FileDone) -> None:
        has_cells = event.state == "done" and not _is_of_values(event.output)
        self._set(event.index, _FILE, event.path.name, tooltip=event.message)
        self._set(event.index, _STATE, event.state, tooltip=event.message)
        self._set(event.index, _CELLS, str(event.n_cells) if has_cells else "")
        self._set(event.index, _SECONDS, f"{event.elapsed_s:.1f}")
        self._set(event.index, _MESSAGE, event.message)
        self._finished.add(event.index)
        if event.output is not None:
            self.outputs[event.index] = (event.path, event.output)

    def _set(self, row: int, column: int, text: str, *, tooltip: str = "") -> None:
        item = QTableWidgetItem(text)
        item.setToolTip(tooltip or text)
        if column in (_CELLS, _SECONDS):
            item.setTextAlignment(
                Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )
        self.setItem(row, column, item)


class BatchWidget(QWidget):
    """Apply a model to all images of a folder, into another folder.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._opener = Runner(self)
        self._build()
        self._connect()

    def show_failure(self, failure: Failure) -> None:
        """Show what went wrong in a slot."""
        self.panel.show_failure(failure)

    def _build(self) -> None:
        self.model = ModelChoice()
        self.input = PathRow("Input folder", "Folder of images: TIFF or PNG")
        self.output = PathRow(
            "Output folder", "Folder for the results, made if it is not there"
        )
        self.pattern = QLineEdit()
        self.pattern.setPlaceholderText("all images")
        describe(
            self.pattern, "Pattern", "Take only files whose name fits, as in val_*"
        )
        self.axes = QLineEdit()
        self.axes.setPlaceholderText("as the files say")
        describe(
            self.axes, "Axes", "Axes of the images where the files don't say: ZYX, CYX"
        )
        self.probabilities = QCheckBox("Also write the probabilities")
        describe(
            self.probabilities,
            "Write probabilities",
            "Write the network's outputs as <name>_probabilities.tif",
        )
        self.settings = ConfigForm(PredictConfig, fields=())
        self.device = DeviceLine()
        self.panel = RunPanel("Batch", start_text="Predict folder")
        self.table = FileTable()
        self.message = plain_label("Message of the chosen file")
        self._lay_out()

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        places = rows(
            ("Model", self.model),
            ("Input", self.input),
            ("Pattern", self.pattern),
            ("Axes", self.axes),
            ("Output", self.output),
        )
        layout.addWidget(places)
        for wide in (
            self.probabilities,
            self.settings,
            self.device,
            TrainingLine(),
            self.panel,
        ):
            layout.addWidget(wide)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.message)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrollable(content))

    def _connect(self) -> None:
        self.settings.valueChanged.connect(self._on_settings)
        self.panel.start_asked.connect(self._start)
        self.panel.happened.connect(self._on_events)
        self.panel.ended.connect(self._on_ended)
        self.table.currentCellChanged.connect(self._show_message)
        self.table.cellDoubleClicked.connect(self._open)
        self._opener.happened.connect(self._show_opened)
        self._opener.failed.connect(self.show_failure)

    @guarded
    def _on_settings(self, config: PredictConfig) -> None:
        self.device.want(config.device)

    @guarded
    def _start(self) -> None:
        model = self.model.model()
        source, output = self.input.path(), self.output.path()
        if source is None or output is None:
            raise FolderError(
                "NU-F01",
                "an input and an output folder are needed: choose a folder for each",
            )
        config, probabilities = self.settings.value(), self.probabilities.isChecked()
        pattern, axes = self.pattern.text().strip(), self.axes.text().strip()
        self.table.clear_files()

        def work() -> Generator[Event, None, None]:
            # Here and not above: importing torch takes seconds.
            from napari_unet.batch import segment_folder
            from napari_unet.learning.device import spare_one_core

            spare_one_core()
            yield from segment_folder(
                model,
                source,
                output,
                pattern=pattern or None,
                config=config,
                axes=axes or None,
                probabilities=probabilities,
            )

        self.panel.run(work)

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        self.table.add(events)

    @guarded
    def _on_ended(self) -> None:
        is_cancelled = self.panel.state.phase == "stopped"
        self.table.mark_unfinished("cancelled" if is_cancelled else "not done")

    @guarded
    def _open(self, row: int) -> None:
        if row in self.table.outputs:
            path, output = self.table.outputs[row]
            axes = self.axes.text().strip() or None
            self._opener.run(lambda: read_result(path, output, axes))

    @guarded
    def _show_message(self, row: int) -> None:
        item = self.table.item(row, _MESSAGE)
        self.message.setText("" if item is None else item.text())

    @guarded
    def _show_opened(self, events: list[Opened]) -> None:
        for event in events:
            layer = _image_layer(self._viewer, event.path, event.image)
            if event.labels is not None:
                name = f"{layer.name} cells"
                show_labels(self._viewer, name, event.labels, like=layer)
            if event.values is not None:
                _show_values(self._viewer, layer, event.values)


def read_result(
    path: Path, output: Path, axes: str | None
) -> Generator[Event, None, None]:
    """Read an image of a batch and its result; yield them."""
    image = read_image(path, axes=axes)
    if _is_of_values(output):
        yield Opened(path, image, values=read_image(output, axes=image.axes))
    else:
        yield Opened(path, image, read_labels(output))


def _is_of_values(output: Path | None) -> bool:
    return output is not None and output.name.endswith(_OF_VALUES)


def _show_values(viewer: ViewerModel, layer: Layer, values: Image) -> None:
    names = values.channel_names or tuple(map(str, range(1, values.n_channels + 1)))
    # As Predict calls them.
    shown = names_of([f"value:{name}" for name in names])
    show_values(viewer, layer, np.asarray(values.data), shown)


def _image_layer(viewer: ViewerModel, path: Path, image: Image) -> Layer:
    """Return the layer of that file, or a new one with all channels as layers."""
    path = path.resolve()
    for layer in layer_choices(viewer, "image"):
        shape = full_resolution(layer).shape[: layer.ndim]
        if path in _paths_of(layer) and tuple(shape) == image.shape:
            return layer
    size = image.pixel_size_um or ()
    n_plain = len(image.shape) - len(size)
    name = path.name
    layers = viewer.add_image(
        image.data,
        channel_axis=0,
        name=[name, *(f"{name} {c}" for c in range(2, image.n_channels + 1))],
        scale=(*(1.0 for _ in range(n_plain)), *size),
        units=(*("pixel" for _ in range(n_plain)), *("um" for _ in size)),
        axis_labels=tuple(image.axes[1:].lower()),
    )
    note_about(layers[0], path=str(path))
    return layers[0]


def _paths_of(layer: Layer) -> list[Path]:
    """Return the files that a layer shows, as far as it is known."""
    paths = (about(layer).get("path"), layer.source.path)
    return [Path(path).resolve() for path in paths if path]
