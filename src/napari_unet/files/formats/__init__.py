"""The formats of annotations: how each is called, recognised, read and written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from napari_unet.errors import FolderError, SaveError
from napari_unet.files.annotations import (
    StoredAnnotation,
    load_annotation,
    path_of_json,
    save_annotation,
)
from napari_unet.files.fitting import fit_to_shape
from napari_unet.files.folders import stem_of
from napari_unet.files.formats.cellpose import read_cellpose
from napari_unet.files.formats.coco import read_coco, write_coco
from napari_unet.files.formats.ctc import read_ctc, write_ctc
from napari_unet.files.formats.geojson import read_geojson, write_geojson
from napari_unet.files.formats.imagej import read_imagej, write_imagej
from napari_unet.files.formats.recognition import kind_of
from napari_unet.files.images import read_label_image
from napari_unet.files.kinds import not_readable
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Shape = tuple[int, ...]

_NOT_IN_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*]')


@dataclass(frozen=True)
class Format:
    """One format of annotations.

    Parameters
    ----------
    name : str
        As on the command line.
    title : str
        As people call it.
    suffixes : tuple of str
        What files end with that are read and written; new ones get the first.
    also_reads : tuple of str
        What files end with that are only read.
    holds_many : bool
        Whether one file holds the annotations of many images.
    is_folder : bool
        Whether it is a folder of files that belong together.
    """

    name: str
    title: str
    suffixes: tuple[str, ...] = ()
    also_reads: tuple[str, ...] = ()
    holds_many: bool = False
    is_folder: bool = False

    @property
    def writes(self) -> bool:
        """Whether it is written, too: all are read."""
        return self.is_folder or bool(self.suffixes)

    def is_for(self, name: str) -> bool:
        """Return whether a file of that name may be written in this format."""
        return name.lower().endswith(self.suffixes)


FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format("tiff", "Label TIFF and JSON", (".tif", ".tiff"), (".png",)),
        Format("coco", "COCO", (".json",), holds_many=True),
        Format("imagej", "ImageJ ROIs", (".zip",), (".roi",)),
        Format("geojson", "QuPath GeoJSON", (".geojson",), (".json",)),
        Format("ctc", "Cell Tracking Challenge", is_folder=True),
        Format("cellpose", "Cellpose", also_reads=("_seg.npy",)),
    )
}


def format_of(path: str | Path) -> Format | None:
    """Return the format of a file or folder: by its content, if it is there.

    A folder that holds one file for each image is in no format itself: see
    `formats_in`.

    Parameters
    ----------
    path : path
        A file or folder to read, or the name of one to write.

    Examples
    --------
    >>> format_of("cells.geojson").title
    'QuPath GeoJSON'
    """
    path = Path(path)
    if path.exists():
        kind = kind_of(path)
        return None if kind is None else FORMATS[kind]
    return written_format_of(path)


def written_format_of(path: Path) -> Format | None:
    """Return the format that a name to write stands for, or None.

    Examples
    --------
    >>> written_format_of(Path("cells.zip")).title
    'ImageJ ROIs'
    """
    return next((one for one in FORMATS.values() if one.is_for(path.name)), None)


def formats_in(folder: Path) -> dict[str, list[Path]]:
    """Return the annotation files in a folder by their format, sorted by name.

    Parameters
    ----------
    folder : Path
        Folder to look into, not its subfolders. Hidden files are left out, and the
        JSON beside a label TIFF is part of that.

    Raises
    ------
    FolderError
        Not readable (NU-F04).
    """
    try:
        paths = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise not_readable(folder, error) from error
    found: dict[str, list[Path]] = {}
    for path in paths:
        kind = kind_of(path)
        if kind is not None and not (kind == "tiff" and path.suffix == ".json"):
            found.setdefault(kind, []).append(path)
    return found


def image_stem(path: Path) -> str:
    """Return the stem of the image that an annotation file belongs to.

    Examples
    --------
    >>> image_stem(Path("field 1_seg.npy")), image_stem(Path("field 1.ome.tif"))
    ('field 1', 'field 1')
    """
    name = path.name
    ending = "_seg.npy"
    return name[: -len(ending)] if name.lower().endswith(ending) else stem_of(path)


def file_stem(name: str) -> str:
    r"""Return the stem for the file of an image that another file names.

    Examples
    --------
    >>> file_stem("images/a.ome.tif"), file_stem(r"C:\data\b.png")
    ('a', 'b')
    """
    stem = stem_of(Path(PureWindowsPath(name).name))
    return _NOT_IN_NAMES.sub("_", stem).strip(". ") or "image"


def read_annotations(
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - its name on the command line
    shapes: Mapping[str, Shape] | None = None,
    notes: list[str] | None = None,
) -> dict[str, StoredAnnotation]:
    """Read the annotations in a file or folder.

    Parameters
    ----------
    path : path
        A file, the folder of a movie (Cell Tracking Challenge), or a folder with one
        file for each image.
    format : str, optional
        A key of `FORMATS`; by the content where it is not given.
    shapes : mapping of str to tuple of int, optional
        Shape ([T,] [Z,] Y, X) of each image, by its stem, for formats that don't say
        it.
    notes : list of str, optional
        What got lost or was assumed is added here.

    Returns
    -------
    dict of str to StoredAnnotation
        By the stem of their image; from COCO by the image's file name as it is there.

    Raises
    ------
    FolderError
        No such file (NU-F01), or one whose format is not clear (NU-F10).
    UNetError
        A file that can't be read.
    """
    path, shapes = Path(path), shapes or {}
    notes = [] if notes is None else notes
    if not path.exists():
        raise FolderError("NU-F01", f"there is no file or folder {path}: check it")
    if path.is_dir() and format != "ctc" and kind_of(path) is None:
        found: dict[str, StoredAnnotation] = {}
        for file in _files_of_one_format(path, format):
            found |= read_annotations(file, format=format, shapes=shapes, notes=notes)
        return found
    chosen = FORMATS[format] if format else format_of(path)
    if chosen is None:
        raise _not_known(path)
    if chosen.name == "coco":
        return read_coco(path, notes=notes)
    stem = image_stem(path)
    return {stem: _read_one(chosen.name, path, shapes.get(stem), notes)}


def paths_to_write(path: Path, names: Iterable[str], chosen: Format) -> dict[str, Path]:
    """Return where `write_annotations` would write each annotation.

    Parameters
    ----------
    path : Path
        A file, if its name ends as the format's files do; else a folder.
    names : iterable of str
        Stems or file names of the images.
    chosen : Format
        What to write.

    Raises
    ------
    FolderError
        Two annotations for one file (NU-F05), or several for the name of one
        (NU-F02).
    """
    stems = {name: file_stem(name) for name in names}
    is_file = not path.is_dir() and chosen.is_for(path.name)
    if chosen.holds_many:
        target = path if is_file else path / f"annotations{chosen.suffixes[0]}"
        return dict.fromkeys(stems, target)
    if len(stems) == 1 and (is_file or chosen.is_folder):
        return dict.fromkeys(stems, path)
    if is_file:
        raise FolderError(
            "NU-F02",
            f"{path} is the name of one file but there are {len(stems)} annotations: "
            "give a folder",
        )
    ending = "" if chosen.is_folder else chosen.suffixes[0]
    targets = {name: path / f"{stem}{ending}" for name, stem in stems.items()}
    first: dict[Path, str] = {}
    for name, target in targets.items():
        other = first.setdefault(target, name)
        if other != name:
            raise FolderError(
                "NU-F05",
                f"{other} and {name} would both be written to {target}: rename one "
                "of them, or convert them separately",
            )
    return targets


def write_annotations(
    path: str | Path,
    annotations: Mapping[str, StoredAnnotation],
    *,
    format: str | None = None,  # noqa: A002 - as in `read_annotations`
    notes: list[str] | None = None,
) -> list[Path]:
    """Write annotations: one file, one file for each image, or a movie's folder.

    Parameters
    ----------
    path : path
        A file or a folder, as `paths_to_write` understands it; its folder exists.
        What is there already is replaced.
    annotations : mapping of str to StoredAnnotation
        By the stem or the file name of their image; for COCO by the path that the
        file shall name.
    format : str, optional
        A key of `FORMATS`; by the name where it is not given.
    notes : list of str, optional
        What the format can't hold is added here.

    Returns
    -------
    list of Path
        The files (and folders of movies) that were written.

    Raises
    ------
    FolderError
        A format that is not clear or not written (NU-F10); see `paths_to_write`.
    SaveError
        A file can't be written (NU-S01), or belongs to something else (NU-S03).
    """
    path, notes = Path(path), [] if notes is None else notes
    chosen = FORMATS[format] if format else written_format_of(path)
    if chosen is None:
        raise _not_known(path)
    if not chosen.writes:
        raise FolderError(
            "NU-F10", f"{chosen.title} files are read but not written: choose another"
        )
    targets = paths_to_write(path, annotations, chosen)
    if chosen.holds_many:
        target = next(iter(targets.values()), path)
        _check_not_ours(target)
        write_coco(target, annotations, notes=notes)
        return [target]
    written: list[Path] = []
    for name, target in targets.items():
        written += _write_one(chosen.name, target, annotations[name], notes)
    return written


def _check_not_ours(path: Path) -> None:
    """Keep the JSON of a label TIFF: without it the TIFF would lose its meaning."""
    if path.exists() and kind_of(path) == "tiff":
        raise SaveError(
            "NU-S03",
            f"{path} belongs to the label TIFF beside it: save under another name",
        )


def _files_of_one_format(folder: Path, name: str | None) -> list[Path]:
    found = formats_in(folder)
    if name is not None:
        found = {name: found[name]} if name in found else {}
    if len(found) != 1:
        kinds = " and ".join(FORMATS[name].title for name in found)
        raise FolderError(
            "NU-F10",
            f"{folder} holds {kinds or 'no annotation'}: give the format, or a folder "
            "of one",
        )
    return next(iter(found.values()))


def _not_known(path: Path) -> FolderError:
    known = ", ".join(f"{name} ({one.title})" for name, one in FORMATS.items())
    return FolderError(
        "NU-F10", f"{path} is in no format of annotations that is known: {known}"
    )


def _read_one(
    name: str, path: Path, shape: Shape | None, notes: list[str]
) -> StoredAnnotation:
    match name:
        case "imagej":
            return read_imagej(path, shape=shape, notes=notes)
        case "geojson":
            return read_geojson(path, shape=shape, notes=notes)
        case "ctc":
            return read_ctc(path, shape=shape, notes=notes)
        case "cellpose":
            return read_cellpose(path, shape=shape, notes=notes)
    return _read_tiff(path, shape, notes)


def _write_one(
    name: str, path: Path, stored: StoredAnnotation, notes: list[str]
) -> list[Path]:
    match name:
        case "imagej":
            write_imagej(path, stored, notes=notes)
        case "geojson":
            write_geojson(path, stored, notes=notes)
        case "ctc":
            write_ctc(path, stored, notes=notes)
        case _:
            save_annotation(
                path,
                stored.annotation,
                stored.regions,
                stored.unpainted,
                axes=stored.axes or None,
                pixel_size_um=stored.pixel_size_um,
            )
            return [path, path_of_json(path)]
    return [path]


def _read_tiff(path: Path, shape: Shape | None, notes: list[str]) -> StoredAnnotation:
    if path.suffix.lower() == ".json" or path_of_json(path).is_file():
        stored = load_annotation(path)
        notes.extend(stored.notes)
        return stored if shape is None else fit_to_shape(stored, shape)
    read = read_label_image(path, shape=shape, notes=notes)
    return StoredAnnotation(
        Annotation(labels=read.labels, source=str(path)),
        axes=read.axes,
        pixel_size_um=read.pixel_size_um,
    )
