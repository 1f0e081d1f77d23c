"""Annotation layers <-> the formats that annotations are kept in; no Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import FolderError, SaveError, UNetError
from napari_unet.events import Event
from napari_unet.files.annotations import path_of_json
from napari_unet.files.formats import (
    file_stem,
    image_stem,
    read_annotations,
    write_annotations,
)
from napari_unet.files.formats.conversion import path_within
from napari_unet.files.formats.recognition import kind_of
from napari_unet.widgets._autosave_files import digest_of_labels, fingerprint
from napari_unet.widgets._file_filters import as_written
from napari_unet.widgets._layers import (
    about,
    full_resolution,
    image_from_layers,
    pixel_size_um_of,
)
from napari_unet.widgets._painted import painted_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Labels

    from napari_unet.files.annotations import StoredAnnotation
    from napari_unet.files.formats import Format
    from napari_unet.widgets._painted import Painted


_MOST_SHOWN = 5


@dataclass(frozen=True)
class Saved(Event):
    """An annotation is in a file of the user's.

    `fingerprint` is empty where the file can't hold everything.
    """

    path: Path
    fingerprint: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Loaded(Event):
    """An annotation was read; `labels_digest` is empty where it is not a pair of ours.

    Only such a pair holds all that an annotation can be.
    """

    path: Path
    stored: StoredAnnotation
    labels_digest: str
    notes: tuple[str, ...]


# -- from layers ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ToSave:
    """What is in the layers of an annotation; quick to make, on the GUI thread.

    `image_path` is the file of the image, or what stands for one.
    """

    painted: Painted
    axes: str
    pixel_size_um: tuple[float, ...] | None
    image_path: Path

    def stored(self) -> StoredAnnotation:
        """Return what a file should hold; takes time, and may run in a thread."""
        return replace(
            self.painted.stored(), axes=self.axes, pixel_size_um=self.pixel_size_um
        )

    def name_in(self, chosen: Format, path: Path) -> str:
        """Return what the annotation is called in a file: after its image."""
        if not chosen.holds_many:
            return image_stem(path)
        if not self.image_path.is_absolute():
            return self.image_path.name
        return path_within(self.image_path, path.parent)


def to_save(labels: Labels, image: ImageLayer | None = None) -> ToSave:
    """Return what is in an annotation, for the image that it lies on."""
    reference = about(labels).get("image")
    image = image or (None if reference is None else reference())
    axes = _axes_of(labels, image)
    path = None if image is None else image.source.path
    name = labels.name if image is None else image.name
    return ToSave(
        painted_of(labels),
        axes,
        pixel_size_um_of(labels, axes),
        Path(path).resolve() if path else Path(f"{file_stem(str(name))}.tif"),
    )


def _axes_of(labels: Labels, image: ImageLayer | None) -> str:
    plain = "TZYX"[-labels.ndim :]
    try:
        axes = "" if image is None else image_from_layers([image]).axes[1:]
    except UNetError:  # axes that nobody named
        return plain
    return axes if len(axes) == labels.ndim else plain


def saving(
    path: Path, chosen: Format, annotation: ToSave
) -> Generator[Event, None, None]:
    """Write an annotation; yields `Saved`."""
    stored, notes = annotation.stored(), _left_out(annotation.painted)
    write_annotations(
        path,
        {annotation.name_in(chosen, path): stored},
        format=chosen.name,
        notes=notes,
    )
    # Another format may lose something: the autosave keeps it.
    is_whole = chosen.name == "tiff"
    yield Saved(path, fingerprint(stored) if is_whole else "", tuple(notes))


def _left_out(painted: Painted) -> list[str]:
    ids = painted.negative_ids()
    if not ids:
        return []
    shown = ", ".join(map(str, ids[:_MOST_SHOWN])) + (
        ", …" if len(ids) > _MOST_SHOWN else ""
    )
    return [
        f"{painted.source} has negative ids ({shown}), which are not in the file: "
        "there their pixels are not painted. Check gives them positive ids"
    ]


# -- from files ----------------------------------------------------------------


def shape_if_clear(image: ImageLayer) -> tuple[int, ...] | None:
    """Return the shape ([T,] [Z,] Y, X) of an annotation of an image.

    None where nobody named the axes: most files make up for that.
    """
    if image.ndim == 2:
        return tuple(int(n) for n in full_resolution(image).shape[:2])
    try:
        return image_from_layers([image]).shape
    except UNetError:
        return None


def names_of(image: ImageLayer) -> set[str]:
    """Return the stems that an image may have in a file of many images."""
    path = image.source.path
    return {file_stem(str(name)) for name in (image.name, path) if name}


def read_for(
    path: Path,
    shape: tuple[int, ...] | None,
    names: set[str],
    *,
    format: str | None = None,  # noqa: A002 - as in `read_annotations`
    notes: list[str] | None = None,
) -> StoredAnnotation:
    """Read the annotation of one image; may run in a thread.

    Parameters
    ----------
    path : Path
        A file, or one of the folder of a movie.
    shape : tuple of int, optional
        Shape of the image.
    names : set of str
        Its stems, by which it is found in a file of many images.
    format : str, optional
        A key of `FORMATS`; by the content where it is not given.
    notes : list of str, optional
        What got lost or was assumed is added here.

    Raises
    ------
    FolderError
        A file of several images, but not of this one (NU-F08).
    UNetError
        The file can't be read.
    """
    if path.name.endswith("_track.txt") or (format == "ctc" and path.is_file()):
        path = path.parent
    shapes = {} if shape is None else {image_stem(path): shape}
    found: dict[str, Any] = read_annotations(
        path, format=format, shapes=shapes, notes=notes
    )
    if len(found) > 1:
        found = {key: one for key, one in found.items() if file_stem(key) in names}
    if len(found) != 1:
        names_text = " or ".join(sorted(names))
        raise FolderError(
            "NU-F08",
            f"{path} holds several images, and {len(found) or 'none'} of them is "
            f"called {names_text}: give the image layer the name that it has there",
        )
    stored: StoredAnnotation = next(iter(found.values()))
    return stored


def loading(
    path: Path, chosen: Format | None, shape: tuple[int, ...] | None, names: set[str]
) -> Generator[Event, None, None]:
    """Read the annotation of an image; yields `Loaded`."""
    notes: list[str] = []
    # By its content, except for what looks like a TIFF but is part of a movie.
    is_movie = chosen is not None and chosen.is_folder
    stored = read_for(
        path, shape, names, format="ctc" if is_movie else None, notes=notes
    )
    is_pair = not is_movie and kind_of(path) == "tiff"
    digest = digest_of_labels(stored.annotation.labels) if is_pair else ""
    yield Loaded(path, stored, digest, tuple(notes))


def check_free(
    viewer: ViewerModel, path: Path, labels: Labels, *, may_replace: bool
) -> None:
    """Refuse to save over what is no annotation of ours.

    Parameters
    ----------
    viewer : napari viewer
        The files of its layers are kept in any case.
    path : Path
        Where the annotation `labels` is to be saved.
    may_replace : bool
        The user wants a file that is there to be replaced.

    Raises
    ------
    SaveError
        The file is something else (NU-S03).
    """
    for layer in viewer.layers:
        source = layer.source.path
        if source and layer is not labels and _is_same(Path(source), path):
            raise SaveError(
                "NU-S03",
                f'{path} is the file of the open layer "{layer.name}": save the '
                "annotation under another name",
            )
    is_pair = as_written(path)[1].name == "tiff"
    is_ours = is_pair and path_of_json(path).exists()
    if path.exists() and not is_ours and not may_replace:
        raise SaveError(
            "NU-S03",
            f"{path} is there already and is no annotation of ours: save under "
            "another name",
        )


def _is_same(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one file, by links or in other letters."""
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False
