"""What the commands ask of folders before any work starts."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from napari_unet.cli.console import say_error, track
from napari_unet.errors import FolderError, LabelError
from napari_unet.files.annotations import load_annotation
from napari_unet.files.images import read_image, read_labels
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_unet.imaging.arrays import Image


def prepare_folder(folder: Path) -> None:
    """Make a folder for results and try to write there, before hours of work.

    Raises
    ------
    FolderError
        NU-F06: it is a file, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise FolderError(
            "NU-F06",
            f"nothing can be written to {folder} ({reason}): check its permissions, "
            "or choose another folder",
        ) from error


def prepare_model_file(path: Path) -> None:
    """Refuse a name that is no model's, or a folder that can't be written to.

    Raises
    ------
    FolderError
        NU-F07: not a .unet file; NU-F06: the folder.
    """
    if path.suffix != ".unet" or path.is_dir():
        raise FolderError(
            "NU-F07",
            f"{path} is no name for a model: choose a file that ends in .unet",
        )
    prepare_folder(path.parent)


def read_pairs(
    pairs: Sequence[tuple[Path, Path]],
    *,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
) -> tuple[list[Image], list[Annotation]]:
    """Read images and their masks, and compare their shapes.

    Raises
    ------
    LabelError
        NU-L02: a mask that does not fit its image.
    ImageError
        A file that can't be read.
    """
    images, annotations = [], []
    notes: list[str] = []
    for image_path, mask_path in track(pairs, "Reading images"):
        image = read_image(image_path, axes=axes, channels=channels, notes=notes)
        annotation = _read_mask(mask_path, notes)
        if annotation.labels.shape != image.shape:
            raise LabelError(
                "NU-L02",
                f"{mask_path} is {_times(annotation.labels.shape)} but its image "
                f"{image_path} is {_times(image.shape)}: annotate the full image, or "
                "crop both the same way",
            )
        images.append(image)
        annotations.append(annotation)
    for note in notes:
        say_error(f"note: {note}")
    return images, annotations


def _read_mask(path: Path, notes: list[str]) -> Annotation:
    """Read an annotation pair, or a label image, which counts as complete."""
    if path.with_suffix(".json").is_file():
        return load_annotation(path).annotation
    return Annotation.complete(read_labels(path, notes=notes), source=str(path))


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
