"""Model files: where an export goes, and how a file is moved to the trash."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qtpy.QtCore import QFile
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_unet.errors import SaveError
from napari_unet.files.model_places import forget_model

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_unet.widgets._model_list import Listed
    from napari_unet.widgets._model_work import ExportTarget

Deletion = Literal["file", "entry", "nothing"]
_ENDINGS: dict[str, ExportTarget] = {".zip": "bioimageio", ".onnx": "onnx"}
_FILTERS = {"bioimage.io package (*.zip)": ".zip", "ONNX (*.onnx)": ".onnx"}


def ask_export_target(
    parent: QWidget, stem: str
) -> tuple[Path, ExportTarget] | tuple[None, None]:
    """Ask which file an export is to be, and of which kind; None: none of them."""
    # Without an ending: what the user types, or else chooses, says what it is to be.
    text, chosen = QFileDialog.getSaveFileName(
        parent, "Export model", stem, ";;".join(_FILTERS)
    )
    if not text:
        return None, None
    target, to = export_target(Path(text), chosen)
    # The dialogue asked about the name as it was typed only.
    if target != Path(text) and os.path.lexists(target):
        answer = QMessageBox.question(
            parent, "Export model", f"{target} is there already. Replace it?"
        )
        if answer != QMessageBox.StandardButton.Yes:
            return None, None
    return target, to


def export_target(typed: Path, chosen: str) -> tuple[Path, ExportTarget]:
    """Return the file and its kind: an ending that was typed wins over the filter."""
    ending = typed.suffix.lower()
    if ending in _ENDINGS:
        return typed, _ENDINGS[ending]
    # Not `with_suffix`: in "model_0.5" it would replace the ".5".
    ending = _FILTERS.get(chosen, ".zip")
    return typed.with_name(f"{typed.name}{ending}"), _ENDINGS[ending]


def delete(parent: QWidget, model: Listed) -> bool:
    """Ask what to delete of a model, and do so; return whether anything went.

    Raises
    ------
    SaveError
        The file is still where it was (NU-S01), or the list can't be written.
    ConfigError
        The list can't be read.
    """
    path = model.path
    # A folder of such a name may hold anything; a model that comes with the package
    # may have been opened as a file.
    may_go = model.may_change and os.path.isfile(path)
    answer: Deletion = "entry"
    if may_go:
        answer = ask_deletion(parent, path, may_forget=model.kind == "opened")
    if answer == "file":
        move_to_trash(path)
    if answer != "nothing":
        forget_model(path)
    if answer == "file" and model.kind == "trained":
        with suppress(OSError):  # the run's folder holds something else
            path.parent.rmdir()
    return answer != "nothing"


def ask_deletion(parent: QWidget, path: Path, *, may_forget: bool) -> Deletion:
    """Ask whether to delete the file, or only to take it from the list."""
    box = QMessageBox(parent)
    box.setWindowTitle("Delete model")
    box.setText(f"Move {path} to the trash?")
    role = QMessageBox.ButtonRole
    trash = box.addButton("Move to trash", role.DestructiveRole)
    entry = None
    if may_forget:
        entry = box.addButton("Only take off the list", role.AcceptRole)
    box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
    box.exec()
    pressed = box.clickedButton()
    if pressed is trash:
        return "file"
    return "entry" if entry is not None and pressed is entry else "nothing"


def move_to_trash(path: Path) -> None:
    """Move a file to the trash.

    Raises
    ------
    SaveError
        It is still where it was (NU-S01).
    """
    # In a folder that can't be written Qt copies the file, and says that it moved it.
    may_go = os.access(path.parent, os.W_OK)
    if not (may_go and QFile(str(path)).moveToTrash()) or os.path.lexists(path):
        raise SaveError(
            "NU-S01",
            f"{path} could not be moved to the trash: check its permissions and its "
            "folder's, or delete it in the file manager",
        )
