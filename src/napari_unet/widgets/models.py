"""Dock widget: the models there are, what is known of them, what to do with them."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from qtpy.QtCore import QEvent, QTemporaryDir
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QVBoxLayout,
    QWidget,
)

from napari_unet.events import Note
from napari_unet.files.model_places import remember_model
from napari_unet.widgets import _model_work as work
from napari_unet.widgets._choices import TRAINED
from napari_unet.widgets._controls import button, fill_dock, plain_label, scrollable
from napari_unet.widgets._layers import unwrapped
from napari_unet.widgets._model_card import CardDialog
from napari_unet.widgets._model_files import (
    ask_export_target,
    delete,
)
from napari_unet.widgets._model_limits import ACTIONS, why_not
from napari_unet.widgets._model_list import Listed, ModelList, list_models
from napari_unet.widgets._model_work import CardWritten, Naming
from napari_unet.widgets._run import RunPanel, wrapping
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from qtpy.QtGui import QShowEvent

    from napari_unet.events import Event
    from napari_unet.widgets._worker import MakeEvents

_PLUGIN = "napari-unet-loop"
_MODEL_FILES = "U-Net models (*.unet)"
# Closed docks whose work goes on; nothing else may hold them any more.
_ENDING: set[ModelsWidget] = set()
_LEAST_BENEATH_PX = 120


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
        # The model whose card is asked for, and that whose card is on screen.
        self._asked: Listed | None = None
        self._card: Listed | None = None
        self._rendered: Path | None = None
        self._list_notes: list[Note] = []
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

    def changeEvent(self, event: QEvent | None) -> None:
        """Stay until the work is done when the dock is closed, which unparents it.

        Half of an export, or of a file that is changed, would help nobody.
        """
        super().changeEvent(event)
        is_moved = event is not None and event.type() == QEvent.Type.ParentChange
        if not is_moved or self.parentWidget() is not None:
            return
        if self._card is not None and self.dialog.remember(self._card.path):
            show_info(f"The card of {self._card.name} will show again what you typed")
        if self.is_busy:
            _ENDING.add(self)
            self.dialog.hide()

    def refresh(self) -> None:
        """Read the list of models anew, in the background."""
        self._found, self._list_notes = [], []
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
        # Nothing that is done here can end half-way.
        self.panel.stop.hide()
        self.dialog = CardDialog(self)
        self._actions = {
            name: (getattr(self, name), getattr(self, name).toolTip())
            for name in ACTIONS
        }
        self._lay_out()

    def _lay_out(self) -> None:
        grid = QGridLayout()
        for i, (one, _) in enumerate(self._actions.values()):
            grid.addWidget(one, i // 2, i % 2)
        grid.addWidget(self.open, len(ACTIONS) // 2, 0, 1, 2)
        beneath = QWidget()
        told = QVBoxLayout(beneath)
        told.setContentsMargins(0, 0, 0, 0)
        told.addWidget(self.about)
        told.addWidget(self.panel)
        told.addStretch()
        # Whatever it says, list and buttons stay where they are.
        area = scrollable(beneath)
        area.setMinimumHeight(_LEAST_BENEATH_PX)
        area.setMinimumWidth(0)  # the dock is as wide as it needs to be
        fill_dock(self, self.list, grid, area, growing=(self.list, area))

    def _connect(self) -> None:
        self._lister.happened.connect(self._on_listed)
        self._lister.failed.connect(self.show_failure)
        self._lister.finished.connect(self._on_list_done)
        TRAINED.changed.connect(self._on_trained)
        self._viewer.events.theme.connect(self._on_theme)
        self.list.chosen_changed.connect(self._on_chosen)
        self.list.itemDoubleClicked.connect(self.card.click)
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
    def _on_chosen(self) -> None:
        chosen = self.list.chosen()
        path = None if chosen is None else chosen.path
        # What was told of one model would be taken for another's.
        if path != self._rendered and not self.is_busy:
            self.panel.clear()
            for note in self._list_notes:
                self.panel.tell(note.message, is_warning=note.is_warning)
        self._rendered = path
        self._render()

    @guarded
    def _render(self) -> None:
        chosen = self.list.chosen()
        self.about.setText("" if chosen is None else wrapping(chosen.in_words))
        reasons = why_not(chosen, is_busy=self.is_busy)
        for name, (one, tip) in self._actions.items():
            one.setEnabled(not reasons[name])
            one.setToolTip(reasons[name] or tip)
        self.dialog.set_busy(self.is_busy)

    def _result(self) -> str:
        failure = self.panel.state.failure
        return self.panel.state.message if failure is None else failure.summary

    @guarded
    def _on_listed(self, events: list[Event]) -> None:
        self._found += [event for event in events if isinstance(event, Listed)]
        for event in events:
            if isinstance(event, Note):
                self._list_notes.append(event)
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
        self.dialog.told.setText(self._result())
        if self in _ENDING:
            _ENDING.discard(self)
            show_info(f"Models was closed while it worked. {self._result()}")
            return
        self._render()
        # The work may have changed a file, or found one missing.
        self.refresh()

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, CardWritten):
                self._show_written(event)
        self._render()

    def _show_written(self, event: CardWritten) -> None:
        asked = self._asked
        if asked is None or self in _ENDING:
            return
        # Not the chosen model, which may be another one by now.
        self._card = asked
        self.dialog.show_card(
            event.card,
            title=asked.name,
            authors=event.authors,
            license_id=event.license_id,
            about=event.about,
            may_change=asked.may_change,
        )
        self.dialog.show()
        self.dialog.recall(asked.path)

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
        asked, folder = self._chosen(), self._new_folder()
        if not self.dialog.may_lose():
            return

        def make() -> Generator[Event, None, None]:
            return work.make_card(asked.path, folder, asked.title)

        if self._run(make, "The card", asked.path):
            self._asked = asked

    @guarded
    def _store_names(self) -> None:
        card, folder = self._card, self._new_folder()
        if card is None or not card.may_change:
            return
        naming = Naming(
            self.dialog.authors_given(),
            self.dialog.license.text().strip(),
            self.dialog.about.toPlainText().strip(),
        )

        def make() -> Generator[Event, None, None]:
            return work.make_card(card.path, folder, card.title, naming)

        if self._run(make, "The card", card.path):
            self._asked = card

    @guarded
    def _save_card(self) -> None:
        card = self._card
        text = QFileDialog.getExistingDirectory(self, "Folder for the card")
        if card is not None and text:
            path, title, folder = card.path, card.title, Path(text)
            self._run(lambda: work.save_card(path, folder, title), "The card", path)

    @guarded
    def _verify(self) -> None:
        path = self._chosen().path
        self._run(lambda: work.verify(path), "Verifying", path)

    @guarded
    def _export(self) -> None:
        chosen = self._chosen()
        target, to = ask_export_target(self, chosen.stem)
        if target is not None and to is not None:
            path, title = chosen.path, chosen.title
            self._run(
                lambda: work.export(path, target, to, title), "Export", path, target
            )

    @guarded
    def _delete(self) -> None:
        chosen = self._chosen()
        path = chosen.path
        if chosen.kind == "shipped" or self._is_in_use(path):
            return
        if not delete(self, chosen):
            return
        self._after = self.list.neighbour(path)
        self.refresh()

    @guarded
    def _use_in_predict(self) -> None:
        self._dock("Predict").model.choose_file(self._chosen().path)

    @guarded
    def _fine_tune(self) -> None:
        self._dock("Train").start_from.choose_file(self._chosen().path)

    def _dock(self, name: str) -> Any:
        # Any: of a viewer without a window there is no type, and napari opens docks by
        # their names.
        window: Any = getattr(self._viewer, "window", None)
        dock, widget = window.add_plugin_dock_widget(_PLUGIN, name, tabify=True)
        dock.raise_()
        return widget

    def _run(self, make_events: MakeEvents, what: str, *files: Path) -> bool:
        """Do work on files in the background; False where other work is on them."""
        if self._is_in_use(*files):
            return False

        # Until it has ended, whatever its last event says, no other work can begin.
        self.is_busy = True
        self.dialog.told.clear()
        self.panel.run(work.holding(files, make_events), what=what)
        self._render()
        return True

    def _is_in_use(self, *files: Path) -> bool:
        """Tell, and return, whether this or another dock works on one of the files."""
        in_use = work.first_in_use(files)
        if in_use is None:
            return False
        message = f"{in_use} is worked on already: wait until that has ended"
        self.panel.tell(message, is_warning=True)
        self.dialog.told.setText(message)
        return True

    def _chosen(self) -> Listed:
        chosen = self.list.chosen()
        if chosen is None:  # pragma: no cover - the buttons are disabled then
            raise LookupError("no model is chosen")
        return chosen

    def _new_folder(self) -> Path:
        # The pictures of the card on screen must stay until the new one is there.
        return Path(tempfile.mkdtemp(dir=self._pictures.path()))
