"""What the commands ask of folders before any work starts."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from napari_unet.cli.console import track, warn
from napari_unet.errors import FolderError, SaveError
from napari_unet.files.pairs import read_pair

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.imaging.arrays import Annotation, Image


def prepare_folder(folder: Path) -> None:
    """Make a folder for results and try to write there, before hours of work.

    Raises
    ------
    SaveError
        NU-S02: it is a file, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise SaveError(
            "NU-S02",
            f"nothing can be written to {folder} ({reason}): check its permissions, "
            "or choose another folder",
        ) from error


def prepare_file(path: Path) -> None:
    """Make the folder of a file for results, and try to write there.

    Raises
    ------
    SaveError
        NU-S02: it is a folder, or nothing can be written to its folder.
    """
    if path.is_dir():
        raise SaveError("NU-S02", f"{path} is a folder: give the name of a file")
    prepare_folder(path.parent)


def prepare_model_file(path: Path) -> None:
    """Refuse a name that is no model's, or a folder that can't be written to.

    Raises
    ------
    FolderError
        NU-F06: not a name for a model.
    SaveError
        NU-S02: the folder can't be written to.
    """
    if path.suffix != ".unet" or path.is_dir():
        raise FolderError(
            "NU-F06",
            f"{path} is no name for a model: choose a file that ends in .unet",
        )
    prepare_folder(path.parent)


def read_pairs(
    pairs: Sequence[tuple[Path, Path]],
    *,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
) -> tuple[list[Image], list[Annotation]]:
    """Read images and their masks while a progress bar counts them.

    Raises
    ------
    UNetError
        As `napari_unet.files.pairs.read_pair`.
    """
    notes: list[str] = []
    found = [
        read_pair(*pair, axes=axes, channels=channels, notes=notes)
        for pair in track(pairs, "Reading images")
    ]
    for note in dict.fromkeys(notes):
        warn(note)
    images, annotations = zip(*found, strict=True)
    return list(images), list(annotations)
