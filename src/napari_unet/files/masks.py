"""A mask: labels that are complete, unless a JSON file beside them says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.files.annotations import (
    StoredAnnotation,
    load_annotation,
    path_of_json,
)
from napari_unet.files.fitting import fit_to_shape
from napari_unet.files.images import read_label_image
from napari_unet.files.label_checks import n_pieces_of_one_id
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from napari_unet.imaging.arrays import Image

_MIN_PIECES = 3


def read_mask(
    path: str | Path,
    *,
    image: Image | None = None,
    axes: str | None = None,
    notes: list[str] | None = None,
) -> StoredAnnotation:
    """Read a label image as a complete annotation, or the annotation that it is.

    Parameters
    ----------
    path : path
        A label image. With a JSON file of its name beside it, as `save_annotation`
        writes one, it is an annotation, and that file says what is known. Otherwise
        all that is not painted is background.
    image : Image, optional
        The image that it annotates: its labels are put into the same order.
    axes : str, optional
        What the user says that the axes of `image` are.
    notes : list of str, optional
        What the user should know about the way the files were read is added here.

    Raises
    ------
    FolderError, ImageError, LabelError
        As `read_labels`.
    ConfigError
        The JSON file is not an annotation's (NU-C01) or of a newer version (NU-C02).
    """
    path = Path(path)
    notes = [] if notes is None else notes
    if path_of_json(path).is_file():
        stored = load_annotation(path)
        notes.extend(stored.notes)
        if image is not None:
            stored = fit_to_shape(stored, image.shape, image.axes[1:])
    else:
        stored = _complete(path, image, axes, notes)
    n_pieces = n_pieces_of_one_id(stored.annotation.labels)
    if n_pieces >= _MIN_PIECES:
        notes.append(
            f"{path} has one id in {n_pieces} pieces: if it is a black-and-white mask, "
            "give each cell its own number (for example with scikit-image's label)"
        )
    return stored


def _complete(
    path: Path, image: Image | None, axes: str | None, notes: list[str]
) -> StoredAnnotation:
    if image is not None and axes is not None:
        axes = "".join(axis for axis in axes.upper() if axis in image.axes[1:])
    shape = None if image is None else image.shape
    read = read_label_image(path, axes=axes, shape=shape, notes=notes)
    return StoredAnnotation(
        Annotation.complete(read.labels, source=str(path)),
        unpainted="background",
        axes=read.axes,
        pixel_size_um=read.pixel_size_um,
    )
