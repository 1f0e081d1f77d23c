"""Dock widget: apply a model to a folder of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLineEdit, QWidget

from napari_unet.config import PredictConfig
from napari_unet.errors import FolderError
from napari_unet.events import Mailbox
from napari_unet.widgets._batch_files import FileLists
from napari_unet.widgets._batch_open import Opened, OpenedLayers, read_result
from napari_unet.widgets._batch_work import Asked
from napari_unet.widgets._choices import ModelChoice
from napari_unet.widgets._controls import (
    PathRow,
    button,
    describe,
    fill_dock,
    rows,
)
from napari_unet.widgets._device_line import DeviceLine
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._layers import unwrapped
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._training_line import TrainingLine
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from pathlib import Path

    from napari.components import ViewerModel

    from napari_unet.events import Event

# Arguments of `segment_folder` that are yes or no: text, tooltip, and at first.
_OPTIONS = {
    "measure": (
        "Measure the cells",
        "Write a table of the cells of each file, and measurements.csv of all",
        False,
    ),
    "preview": (
        "Make a preview sheet",
        "Write preview.html: all files at a glance, with outlines and what stands out",
        False,
    ),
    "probabilities": (
        "Write probabilities",
        "Write the network's outputs as <name>_probabilities.tif",
        False,
    ),
    "uncertainty": (
        "Write uncertainty",
        "Write where the network is unsure as <name>_uncertainty.tif",
        False,
    ),
    "link": (
        "Link cells over time",
        "Give a cell of a movie the same number in all frames",
        False,
    ),
    "recursive": (
        "Take subfolders",
        "Also the images in folders within the input folder",
        True,
    ),
    "resume": (
        "Pass over what is done",
        "Go on with an earlier run: files that were done before with the same model "
        "and settings, and have not changed since, are not done again",
        True,
    ),
}


class Options(QWidget):
    """A box for each of the options of a folder run."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes: dict[str, QCheckBox] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        for i, (name, (text, tooltip, is_on)) in enumerate(_OPTIONS.items()):
            box = self.boxes[name] = QCheckBox(text)
            box.setChecked(is_on)
            describe(box, text, tooltip)
            grid.addWidget(box, i // 2, i % 2)

    def values(self) -> dict[str, bool]:
        """Return the options as arguments of `segment_folder`."""
        return {name: box.isChecked() for name, box in self.boxes.items()}


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
        self._opened = OpenedLayers(self._viewer)
        self._opener = Runner(self)
        # What the last run was asked for: failed files are run again by the same.
        self._asked: Asked | None = None
        self._build()
        self._connect()

    def show_failure(self, failure: Failure) -> None:
        """Show what went wrong in a slot."""
        self.panel.show_failure(failure)

    def _build(self) -> None:
        self.model = ModelChoice()
        self.input = PathRow(
            "Input folder", "Folder of images: TIFF, OME-TIFF, PNG or OME-Zarr"
        )
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
        self.options = Options()
        self.settings = ConfigForm(PredictConfig, fields=())
        self.device = DeviceLine()
        self.preview = button(
            "Preview one file",
            "Show what comes out for the file that is chosen below, or for the first "
            "one; nothing is written",
        )
        self.panel = RunPanel(
            "Batch", start_text="Run", stop_text="Stop", can_pause=True
        )
        # Its own words are those of training.
        describe(self.panel.start, "Run", "Do all files of the folder")
        describe(self.panel.pause, "Pause", "Wait after this file, or go on")
        describe(
            self.panel.stop, "Stop", "End after this file; Run goes on with the rest"
        )
        self.files = FileLists()
        self._lay_out()

    def _lay_out(self) -> None:
        places = rows(
            ("Model", self.model),
            ("Input", self.input),
            ("Pattern", self.pattern),
            ("Axes", self.axes),
            ("Output", self.output),
        )
        fill_dock(
            self,
            places,
            self.options,
            self.settings,
            self.device,
            TrainingLine(),
            self.preview,
            self.panel,
            self.files,
            growing=(self.files,),
        )

    def _connect(self) -> None:
        self.settings.valueChanged.connect(self._on_settings)
        self.preview.clicked.connect(self._preview)
        self.panel.start_asked.connect(self._start)
        self.panel.happened.connect(self._on_events)
        self.panel.ended.connect(self._on_ended)
        self.files.open_asked.connect(self._open)
        self.files.sheet.clicked.connect(self._open_sheet)
        self.files.again_asked.connect(self._run_again)
        self._opener.happened.connect(self._show_opened)
        self._opener.failed.connect(self.show_failure)

    @guarded
    def _on_settings(self, config: PredictConfig) -> None:
        self.device.want(config.device)

    def _as_asked(self) -> Asked:
        """Return what the controls say."""
        model, source = self.model.model(), self.input.path()
        if source is None:
            raise FolderError("NU-F01", "an input folder is needed: choose one")
        return Asked(
            model,
            source,
            self.output.path(),
            self.settings.value(),
            pattern=self.pattern.text().strip() or None,
            axes=self.axes.text().strip() or None,
            settings=self.options.values(),
        )

    @guarded
    def _start(self) -> None:
        self._run(self._as_asked())

    @guarded
    def _run_again(self) -> None:
        if self._asked is not None:
            self._run(self._asked.again())

    def _run(self, asked: Asked) -> None:
        asked.check_output()
        self._asked = asked
        self.files.begin(asked.source)
        self._set_busy(True)
        mailbox = Mailbox()
        self.panel.run(lambda: asked.run(mailbox), mailbox=mailbox)

    @guarded
    def _preview(self) -> None:
        asked = self._as_asked()
        path = self.files.to_preview(asked.source)
        if path is None:
            self.files.begin(asked.source)
        self._set_busy(True)
        self.panel.run(lambda: asked.preview(path), what="Preview")

    def _set_busy(self, is_busy: bool) -> None:
        self.preview.setEnabled(not is_busy)
        self.files.set_busy(is_busy)

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        self.files.add(events)
        self._show_opened(events)

    @guarded
    def _on_ended(self) -> None:
        self._set_busy(False)
        sheet = self._sheet()
        self.files.sheet.setEnabled(sheet is not None and sheet.is_file())
        self.files.table.mark_unfinished("not done")

    @guarded
    def _open(self, row: int) -> None:
        table = self.files.table
        path, output = table.paths[row], table.outputs[row]
        axes = None if self._asked is None else self._asked.axes
        self._opener.run(lambda: read_result(path, output, axes))

    def _sheet(self) -> Path | None:
        """Return where the last run has written its preview sheet, if it was to."""
        asked = self._asked
        if asked is None or asked.output is None or not asked.settings["preview"]:
            return None
        # Here and not above: it imports torch, which a run has done.
        from napari_unet.batch.sheet import SHEET

        return asked.output / SHEET

    @guarded
    def _open_sheet(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._sheet())))

    @guarded
    def _show_opened(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Opened):
                self._opened.show(event)
