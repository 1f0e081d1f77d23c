"""Dock widget: the models there are, what is known of them, what to do with them."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qtpy.QtCore import QFile, QTemporaryDir
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import SaveError
from napari_unet.events import Note
from napari_unet.files.model_places import forget_model, remember_model
from napari_unet.widgets import _model_work as work
from napari_unet.widgets._choices import TRAINED
from napari_unet.widgets._controls import button, plain_label, scrollable
from napari_unet.widgets._layers import unwrapped
from napari_unet.widgets._model_card import CardDialog
from napari_unet.widgets._model_list import Listed, ModelList, list_models
from napari_unet.widgets._model_work import CardWritten, ExportTarget, Naming
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtGui import QShowEvent

    from napari_unet.events import Event
    from napari_unet.widgets._worker import MakeEvents

_PLUGIN = "napari-unet-loop"
_MODEL_FILES = "U-Net models (*.unet)"
_EXPORTS: dict[str, tuple[ExportTarget, str]] = {
    "bioimage.io package (*.zip)": ("bioimageio", ".zip"),
    "ONNX (*.onnx)": ("onnx", ".onnx"),
}
Deletion = Literal["file", "entry", "nothing"]


class ModelsWidget(QWidget):
    """Browse models: card, verification, export, deletion, and use.

    Parameters
    ----------
    napari_viewer : napari viewer
        Given by napari.
    """

    def __init__(self, napari_viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(napari_viewer)
        self._lister = Runner(self)
        self._found: list[Listed] = []
        self._is_list_old = False
        self.is_busy = False
        self._after: Path | None = None
        self._card: Path | None = None
        self._pictures = QTemporaryDir()  # which goes with the widget
        self._build()
        self._connect()
        self._on_theme()
        self._render()

    def show_failure(self, failure: Failure) -> None:
        """Show what went wrong in a slot."""
        self.panel.show_failure(failure)

    def showEvent(self, event: QShowEvent | None) -> None:
        """List what there is by now."""
        super().showEvent(event)
        self.refresh()

    def refresh(self) -> None:
        """Read the list of models anew, in the background."""
        self._found = []
        self._is_list_old = not self._lister.run(list_models)

    # -- building ----------------------------------------------------------------

    def _build(self) -> None:
        self.list = ModelList()
        self.about = plain_label("About the chosen model")
        self.open = button("Open file …", "Put a model file on the list")
        self.card = button("Card", "Show what is known of the model")
        self.verify = button("Verify", "Check that it still computes what it did")
        self.export = button("Export …", "For other programs: bioimage.io or ONNX")
        self.delete = button("Delete …", "Move the file to the trash; asks before")
        self.use = button("Use in Predict", "Open Predict with this model")
        self.tune = button("Fine-tune in Train", "Open Train to go on from this model")
        self.panel = RunPanel("Work", start_text="Start")
        self.panel.start.hide()
        self.dialog = CardDialog(self)
        self._lay_out()

    def _lay_out(self) -> None:
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.addWidget(self.list, 1)
        layout.addWidget(self.about)
        grid = QGridLayout()
        buttons = (
            (self.use, self.tune),
            (self.card, self.verify),
            (self.export, self.delete),
        )
        for row, both in enumerate(buttons):
            for column, one in enumerate(both):
                grid.addWidget(one, row, column)
        grid.addWidget(self.open, len(buttons), 0, 1, 2)
        layout.addLayout(grid)
        layout.addWidget(self.panel)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scrollable(content))

    def _connect(self) -> None:
        self._lister.happened.connect(self._on_listed)
        self._lister.failed.connect(self.show_failure)
        self._lister.finished.connect(self._on_list_done)
        TRAINED.changed.connect(self._on_trained)
        self._viewer.events.theme.connect(self._on_theme)
        self.list.chosen_changed.connect(self._render)
        self.open.clicked.connect(self._ask_for_file)
        self.card.clicked.connect(self._show_card)
        self.verify.clicked.connect(self._verify)
        self.export.clicked.connect(self._export)
        self.delete.clicked.connect(self._delete)
        self.use.clicked.connect(self._use_in_predict)
        self.tune.clicked.connect(self._fine_tune)
        self.panel.happened.connect(self._on_events)
        self.panel.ended.connect(self._on_ended)
        self.dialog.store_asked.connect(self._store_names)
        self.dialog.save_asked.connect(self._save_card)

    # -- drawing -----------------------------------------------------------------

    @guarded
    def _render(self) -> None:
        chosen = self.list.chosen()
        is_idle = not self.is_busy
        is_model = chosen is not None and chosen.summary is not None
        self.about.setText("" if chosen is None else chosen.in_words)
        for one in (self.use, self.tune):
            one.setEnabled(is_model)
        for one in (self.card, self.export):
            one.setEnabled(is_model and is_idle)
        is_there = chosen is not None and not chosen.is_missing
        self.verify.setEnabled(is_there and is_idle)
        self.delete.setEnabled(
            chosen is not None and chosen.kind != "shipped" and is_idle
        )
        self.dialog.store.setEnabled(is_idle)
        self.dialog.save.setEnabled(is_idle)
        self.dialog.told.setText(self._result())

    def _result(self) -> str:
        failure = self.panel.state.failure
        return self.panel.state.message if failure is None else failure.summary

    @guarded
    def _on_listed(self, events: list[Event]) -> None:
        self._found += [event for event in events if isinstance(event, Listed)]
        for event in events:
            if isinstance(event, Note):
                self.panel.tell(event.message, is_warning=event.is_warning)

    @guarded
    def _on_list_done(self) -> None:
        if self._is_list_old:
            self.refresh()
            return
        self.list.show_models(self._found)
        if self._after is not None:
            self.list.choose(self._after)
            self._after = None

    def _on_theme(self, event: Any = None) -> None:
        with suppress(RuntimeError):  # the widget is gone, its slot not yet
            self.list.set_theme(self._viewer.theme)

    @guarded
    def _on_trained(self) -> None:
        if self.isVisible():
            self.refresh()

    @guarded
    def _on_ended(self) -> None:
        self.is_busy = False
        self._render()

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, CardWritten):
                self._show_written(event)
        self._render()

    def _show_written(self, event: CardWritten) -> None:
        self._card = event.model
        chosen = self.list.chosen()
        name = event.model.stem if chosen is None else chosen.name
        self.dialog.show_card(
            event.card,
            title=name,
            authors=event.authors,
            license_id=event.license_id,
            about=event.about,
            may_change=chosen is not None and chosen.kind != "shipped",
        )
        self.dialog.show()

    # -- slots -------------------------------------------------------------------

    @guarded
    def _ask_for_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Open model", "", _MODEL_FILES)
        if chosen:
            self.open_file(Path(chosen))

    def open_file(self, path: Path) -> None:
        """Put a file on the list, and choose it.

        Raises
        ------
        SaveError, ConfigError
            The list can't be written or read.
        """
        remember_model(path)
        self._after = path.absolute()
        self.refresh()

    @guarded
    def _show_card(self) -> None:
        path, folder = self._path(), self._new_folder()
        self._run(lambda: work.make_card(path, folder), what="The card")

    @guarded
    def _store_names(self) -> None:
        if self._card is None:
            return
        path, folder = self._card, self._new_folder()
        naming = Naming(
            self.dialog.authors_given(),
            self.dialog.license.text().strip(),
            self.dialog.about.toPlainText().strip(),
        )
        self._run(lambda: work.make_card(path, folder, naming), what="The card")

    @guarded
    def _save_card(self) -> None:
        path = self._card
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the card")
        if path is not None and chosen:
            folder = Path(chosen)
            self._run(lambda: work.save_card(path, folder), what="The card")

    @guarded
    def _verify(self) -> None:
        path = self._path()
        self._run(lambda: work.verify(path), what="Verifying")

    @guarded
    def _export(self) -> None:
        path = self._path()
        text, chosen = QFileDialog.getSaveFileName(
            self, "Export model", f"{path.stem}.zip", ";;".join(_EXPORTS)
        )
        if not text:
            return
        to, ending = _EXPORTS[chosen]
        target = Path(text).with_suffix(ending)
        if target == Path(text) or self._may_replace(target):
            self._run(lambda: work.export(path, target, to), what="Export")

    def _may_replace(self, target: Path) -> bool:
        # The dialogue asked about the name as it was typed only.
        if not target.exists():
            return True
        answer = QMessageBox.question(
            self, "Export model", f"{target} is there already. Replace it?"
        )
        return answer == QMessageBox.StandardButton.Yes

    @guarded
    def _delete(self) -> None:
        chosen = self.list.chosen()
        if chosen is None or chosen.kind == "shipped":
            return
        deletion: Deletion = "entry" if chosen.is_missing else self.ask_deletion(chosen)
        if deletion == "nothing":
            return
        if deletion == "file" and not QFile(str(chosen.path)).moveToTrash():
            raise SaveError(
                "NU-S01",
                f"{chosen.path} could not be moved to the trash: check its "
                "permissions, or delete it in the file manager",
            )
        if chosen.kind == "opened":
            forget_model(chosen.path)
        self.refresh()

    def ask_deletion(self, model: Listed) -> Deletion:
        """Ask whether to delete the file, or only to take it from the list."""
        box = QMessageBox(self)
        box.setWindowTitle("Delete model")
        box.setText(f"Move {model.path} to the trash?")
        role = QMessageBox.ButtonRole
        trash = box.addButton("Move to trash", role.DestructiveRole)
        entry = None
        if model.kind == "opened":
            entry = box.addButton("Only take off the list", role.AcceptRole)
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        box.exec()
        pressed = box.clickedButton()
        if pressed is trash:
            return "file"
        return "entry" if entry is not None and pressed is entry else "nothing"

    @guarded
    def _use_in_predict(self) -> None:
        self._dock("Predict").model.choose_file(self._path())

    @guarded
    def _fine_tune(self) -> None:
        self._dock("Train").start_from.choose_file(self._path())

    def _dock(self, name: str) -> Any:
        # Any: of a viewer without a window there is no type, and napari opens docks by
        # their names.
        window: Any = getattr(self._viewer, "window", None)
        dock, widget = window.add_plugin_dock_widget(_PLUGIN, name, tabify=True)
        dock.raise_()
        return widget

    def _run(self, make_events: MakeEvents, *, what: str) -> None:
        # Until it has ended, whatever its last event says, no other work can begin.
        self.is_busy = True
        self.panel.run(make_events, what=what)
        self._render()

    def _path(self) -> Path:
        chosen = self.list.chosen()
        if chosen is None:  # pragma: no cover - the buttons are disabled then
            raise LookupError("no model is chosen")
        return chosen.path

    def _new_folder(self) -> Path:
        # The pictures of the card on screen must stay until the new one is there.
        return Path(tempfile.mkdtemp(dir=self._pictures.path()))
