"""Where models are: those that come with the package, and the user's own."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from platformdirs import user_data_path

from napari_unet.errors import ConfigError, FolderError, ModelError
from napari_unet.files.atomic import write_text
from napari_unet.files.json_files import read_json

SHIPPED_FOLDER = Path(__file__).parent.parent / "models"


def shipped_models() -> list[Path]:
    """Return the models that come with the package, by name."""
    return sorted(SHIPPED_FOLDER.glob("*.unet"))


def shipped_model(name: str) -> Path:
    """Return the file of a model that comes with the package.

    Raises
    ------
    ModelError
        There is none of this name (NU-M00).
    """
    models = {path.stem: path for path in shipped_models()}
    if name not in models:
        known = f"choose one of {', '.join(models)}, or " if models else ""
        raise ModelError(
            "NU-M00",
            f"no model {name!r} comes with napari-unet: {known}give a file",
        )
    return models[name]


def is_shipped(path: Path) -> bool:
    """Return whether a file lies where the package's models are."""
    return Path(os.path.realpath(path)).parent == SHIPPED_FOLDER.resolve()


def runs_folder() -> Path:
    """Return the folder of the trainings in napari, among the user's data."""
    return user_data_path("napari-unet", appauthor=False) / "runs"


def trained_models() -> list[Path]:
    """Return the best models of the trainings in napari, the newest first.

    Raises
    ------
    FolderError
        Their folder can't be read (NU-F04).
    """
    folder = runs_folder()
    if not _may_be_there(folder):
        return []
    try:
        runs = sorted(folder.iterdir(), reverse=True)
    except OSError as error:
        raise FolderError(
            "NU-F04",
            f"{folder} can't be read ({error.strerror or error}): check its "
            "permissions, or models that were trained in napari are not listed",
        ) from error
    return [run / "best.unet" for run in runs if _may_be_there(run / "best.unet")]


def opened_models() -> list[Path]:
    """Return the model files that the user opened, as remembered; some may be gone.

    Raises
    ------
    ConfigError, FolderError
        The list can't be read.
    """
    path = _list_file()
    if not _may_be_there(path):
        return []
    content = read_json(path)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, list) or not all(isinstance(f, str) for f in files):
        raise ConfigError(
            "NU-C01",
            f"{path} is not the list of models that was expected: delete it, and open "
            "the models again",
        )
    return [Path(file) for file in files]


def remember_model(path: Path) -> None:
    """Put a file on the list of opened ones, unless it is there.

    Raises
    ------
    SaveError, ConfigError
        The list can't be written or read.
    """
    path, files = Path(path).absolute(), opened_models()
    if path not in files:
        _write_list([*files, path])


def forget_model(path: Path) -> None:
    """Take a file from the list of opened ones; the file itself stays.

    Raises
    ------
    SaveError, ConfigError
        The list can't be written or read.
    """
    files = opened_models()
    if path in files:
        _write_list([file for file in files if file != path])


def _may_be_there(path: Path) -> bool:
    """Return whether there is such a file or folder, or nobody may know."""
    # Not `exists`: it raises where a folder may not be looked into.
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _list_file() -> Path:
    return user_data_path("napari-unet", appauthor=False) / "models.json"


def _write_list(files: list[Path]) -> None:
    path = _list_file()
    with suppress(OSError):  # writing says what is wrong with the folder
        path.parent.mkdir(parents=True, exist_ok=True)
    content = {"files": [str(file) for file in files]}
    write_text(path, json.dumps(content, indent=2) + "\n")
