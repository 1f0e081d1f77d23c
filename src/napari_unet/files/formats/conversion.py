"""From one format of annotations to another: what to read, and what to call it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from napari_unet.errors import FolderError, LabelError, SaveError
from napari_unet.files.annotations import known_pixels, path_of_json
from napari_unet.files.folders import find_images, stem_of
from napari_unet.files.formats import file_stem, image_stem, read_annotations
from napari_unet.files.images import read_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_unet.files.annotations import StoredAnnotation, Unpainted
    from napari_unet.files.formats import Format
    from napari_unet.imaging.arrays import Image


@dataclass(frozen=True, eq=False)
class Item:
    """One annotation to convert.

    Parameters
    ----------
    stem : str
        Stem of its image, after which files are named.
    source : str
        What messages call it.
    path : Path
        The file that it is in.
    image : Path, optional
        The file of its image.
    stored : StoredAnnotation, optional
        What was read already, together with others.
    """

    stem: str
    source: str
    path: Path
    image: Path | None = None
    stored: StoredAnnotation | None = None


def images_by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by the stems of their names.

    Raises
    ------
    FolderError
        As `find_images`; or two files of one stem (NU-F05).
    """
    images: dict[str, Path] = {}
    for path in find_images(folder):
        other = images.setdefault(stem_of(path), path)
        if other != path:
            raise FolderError(
                "NU-F05",
                f"{other} and {path.name} stand for the same image: keep one of them "
                "in the folder",
            )
    return images


def items_of(files: Sequence[Path], images: Mapping[str, Path]) -> list[Item]:
    """Return one item for each file, paired with its image by name.

    A file belongs to the image of its name or, as the results of `predict` do, of
    its name without ``_labels``.
    """
    return [_item(image_stem(path), str(path), path, images) for path in files]


def items_in(
    file: Path,
    read_as: Format,
    images: Mapping[str, Path],
    *,
    pattern: str | None = None,
    notes: list[str] | None = None,
) -> list[Item]:
    """Return one item for each image that a file of many images (COCO) names.

    Raises
    ------
    FolderError
        No image whose name is like the pattern (NU-F03).
    UNetError
        The file can't be read.
    """
    found = read_annotations(file, format=read_as.name, notes=notes)
    items = [
        replace(_item(file_stem(name), name, file, images), stored=stored)
        for name, stored in found.items()
        if pattern is None or fnmatchcase(PureWindowsPath(name).name, pattern)
    ]
    if not items:
        like = "" if pattern is None else f" like {pattern!r}"
        raise FolderError(
            "NU-F03", f"{file} names no image{like}: give another file or pattern"
        )
    return items


def _item(stem: str, source: str, path: Path, images: Mapping[str, Path]) -> Item:
    if stem not in images and stem.removesuffix("_labels") in images:
        stem = stem.removesuffix("_labels")
    return Item(stem, source, path, images.get(stem))


def by_name(items: Iterable[Item], chosen: Format, folder: Path) -> dict[str, Item]:
    """Return the items by what they are called: in COCO the path of the image.

    Parameters
    ----------
    items : iterable of Item
        The annotations.
    chosen : Format
        What is written.
    folder : Path
        Where it is written: paths start there.

    Raises
    ------
    FolderError
        Two annotations of one image (NU-F05).
    """
    named: dict[str, Item] = {}
    for item in items:
        name = _path_in_coco(item, folder) if chosen.holds_many else item.stem
        other = named.setdefault(name, item)
        if other is not item:
            raise FolderError(
                "NU-F05",
                f"{other.source} and {item.source} stand for the same image {name}: "
                "convert one of them",
            )
    return named


def _path_in_coco(item: Item, folder: Path) -> str:
    if item.image is None:
        return item.source if item.stored is not None else f"{item.stem}.tif"
    return path_within(item.image, folder)


def path_within(path: Path, folder: Path) -> str:
    """Return a path from a folder on, with forward slashes; its name if it is outside.

    COCO names images from their folder on, and never by ``..``.

    Examples
    --------
    >>> path_within(Path("day 1/images/a.tif"), Path("day 1"))
    'images/a.tif'
    >>> path_within(Path("images/a.tif"), Path("day 1"))
    'a.tif'
    """
    inside = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    try:
        return inside[0].relative_to(inside[1]).as_posix()
    except ValueError:
        return path.name


def check_free(
    targets: Iterable[Path], inputs: Iterable[Path], *, may_replace: bool = False
) -> None:
    """Refuse to replace what is read, and other files unless told to.

    Raises
    ------
    FolderError
        A file to write is one to read (NU-F09).
    SaveError
        A file to write is there already, or is a symbolic link (NU-S03).
    """
    taken = {part.resolve() for path in inputs for part in _parts(path)}
    there = []
    for part in dict.fromkeys(part for target in targets for part in _parts(target)):
        _check_no_link(part)
        if part.resolve() in taken:
            raise FolderError(
                "NU-F09", f"{part} is one of the files to read: give another output"
            )
        is_empty = part.is_dir() and not any(part.iterdir())
        if part.exists() and not is_empty:
            there.append(part)
    if there and not may_replace:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise SaveError(
            "NU-S03",
            f"{there[0]} is there already{more}: give another output, or --force to "
            "replace it",
        )


def _check_no_link(path: Path) -> None:
    """Refuse links: what they lead to may be a file that is not meant, or none yet."""
    inside = sorted(path.iterdir()) if path.is_dir() else [path]
    links = [one for one in inside if one.is_symlink()]
    if links:
        raise SaveError(
            "NU-S03",
            f"{links[0]} is a link to {os.readlink(links[0])}, which would be written "
            "to: delete the link, or give another output",
        )


def _parts(path: Path) -> tuple[Path, ...]:
    is_tiff = path.suffix.lower() in (".tif", ".tiff", ".png")
    return (path, path_of_json(path)) if is_tiff else (path,)


def read_item(
    item: Item,
    read_as: Format,
    *,
    axes: str | None = None,
    unpainted: Unpainted | None = None,
    notes: list[str] | None = None,
    assumed: list[str] | None = None,
) -> StoredAnnotation:
    """Read an annotation, fit for its image.

    Parameters
    ----------
    item : Item
        What to read.
    read_as : Format
        Its format.
    axes : str, optional
        What the axes of the image are.
    unpainted : {"background", "unknown"}, optional
        What unpainted pixels are where the file doesn't say it. By default it is
        assumed: background, but unknown around the markers of a movie.
    notes : list of str, optional
        What got lost or was assumed is added here.
    assumed : list of str, optional
        What messages call the file is added here, where that was assumed.

    Raises
    ------
    LabelError
        Of another shape than its image (NU-L02).
    UNetError
        A file that can't be read.
    """
    notes = [] if notes is None else notes
    image = None if item.image is None else read_image(item.image, axes=axes)
    stored = item.stored
    if stored is None:
        stem = image_stem(item.path)
        shapes = {} if image is None else {stem: image.shape}
        found = read_annotations(
            item.path, format=read_as.name, shapes=shapes, notes=notes
        )
        stored = found[stem]
    if image is not None:
        stored = _like_its_image(stored, image, item)
    if stored.unpainted:
        return stored
    has_markers = read_as.name == "ctc"
    if unpainted is None and assumed is not None and not has_markers:
        assumed.append(item.source)
    if unpainted is None and has_markers:
        notes.append(
            f"{item.source}: what is not painted around the markers was taken as "
            "unknown; --unpainted background if they are whole cells"
        )
    return _decided(stored, unpainted or ("unknown" if has_markers else "background"))


def check_is_plane(stored: StoredAnnotation, item: Item, chosen: Format) -> None:
    """Refuse a stack for a file of many planes, before the others are lost with it.

    Raises
    ------
    LabelError
        NU-A04: it is a stack.
    """
    shape = stored.annotation.labels.shape
    if chosen.holds_many and len(shape) > 2:
        raise LabelError(
            "NU-A04",
            f"{item.source} is a stack ({_times(shape)}), and {chosen.title} holds "
            "planes: convert it to tiff, imagej or geojson, or its planes one by one",
        )


def _like_its_image(
    stored: StoredAnnotation, image: Image, item: Item
) -> StoredAnnotation:
    shape = stored.annotation.labels.shape
    if shape != image.shape:
        raise LabelError(
            "NU-L02",
            f"{item.source} is {_times(shape)} but its image {item.image} is "
            f"{_times(image.shape)}: give the image that was annotated",
        )
    return replace(
        stored,
        axes=image.axes[1:],
        pixel_size_um=stored.pixel_size_um or image.pixel_size_um,
    )


def _decided(stored: StoredAnnotation, unpainted: Unpainted) -> StoredAnnotation:
    """Say what unpainted pixels are, where the file didn't."""
    annotation = stored.annotation
    known = known_pixels(annotation.labels, stored.regions, unpainted)
    return replace(
        stored, annotation=replace(annotation, known=known), unpainted=unpainted
    )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
