"""`napari-unet convert`: annotations from one format to another."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from cyclopts import Parameter

from napari_unet.cli import console
from napari_unet.cli.flags import (
    FILES,
    Axes,
    OptionalInputFolder,
    Output,
    Pattern,
    Switch,
)
from napari_unet.cli.folders import prepare_folder
from napari_unet.cli.settings import UsageError
from napari_unet.errors import FolderError, UNetError
from napari_unet.files.annotations import StoredAnnotation
from napari_unet.files.formats import (
    FORMATS,
    Format,
    format_of,
    formats_in,
    paths_to_write,
    write_annotations,
    written_format_of,
)
from napari_unet.files.formats.common_classes import (
    ClassList,
    CommonClasses,
    class_list,
)
from napari_unet.files.formats.conversion import (
    Item,
    by_name,
    check_free,
    check_is_plane,
    images_by_stem,
    items_in,
    items_of,
    read_item,
)

_From = Literal["tiff", "coco", "imagej", "geojson", "ctc", "cellpose"]
_To = Literal["tiff", "coco", "imagej", "geojson", "ctc"]
_Unpainted = Annotated[Literal["background", "unknown"] | None, Parameter(group=FILES)]
_Read = Callable[[Item, list[str]], StoredAnnotation]


class _Found(NamedTuple):
    """An annotation that could be read; again later, if it was not kept."""

    item: Item
    classes: ClassList
    stored: StoredAnnotation | None


_MAX_PIXELS_KEPT = 2**27  # of labels that are not read a second time
_FRAME = re.compile(r"mask\d{3,9}\.tiff?", re.IGNORECASE)


def convert(  # noqa: PLR0913 - one parameter a flag
    *,
    source: Annotated[Path, Parameter(name="--input", group=FILES)],
    output: Output,
    from_format: Annotated[_From | None, Parameter(name="--from", group=FILES)] = None,
    to_format: Annotated[_To | None, Parameter(name="--to", group=FILES)] = None,
    images: OptionalInputFolder = None,
    pattern: Pattern = None,
    unpainted: _Unpainted = None,
    force: Switch = False,
    axes: Axes = None,
) -> int:
    """Bring annotations from one format to another, such as COCO to label TIFFs.

    Reads label TIFFs (with their JSON, if they have one), COCO JSON, ImageJ ROIs,
    QuPath GeoJSON, movies of the Cell Tracking Challenge and Cellpose's _seg.npy;
    writes all but the last. What the new format can't hold is said. All that is
    written at once gets one list of classes. To train on any of them, convert it to
    tiff: `napari-unet train --masks` takes that.

    ```
    napari-unet convert --input cells.json --images images --output masks --to tiff
    ```

    Parameters
    ----------
    source
        A file, a folder with one file for each image, or the folder of a movie (Cell
        Tracking Challenge).
    output
        A folder for one file for each image, a file, or the folder of a movie.
    from_format
        Format of the input; found out by its content where that is clear.
    to_format
        Format of the output; not needed where its name says it, such as cells.json.
    images
        Folder of the images, of the same names: for their shape and pixel size, and
        for the paths in a COCO file.
    pattern
        Take only the files (of COCO: the images) whose name fits, such as 'train_*'.
    unpainted
        What unpainted pixels are, where the input doesn't say it: background, unless
        this says unknown, as for images where only some cells are annotated.
    force
        Replace files that are there already; never symbolic links.
    """
    read_as, files = _inputs(source, from_format, pattern)
    chosen = _format_to_write(output, to_format)
    pictures = {} if images is None else images_by_stem(images)
    items = items_of(files, pictures)
    if read_as.holds_many:
        notes: list[str] = []
        items = items_in(files[0], read_as, pictures, pattern=pattern, notes=notes)
        _show(notes, files[0].name)
    if images is not None:
        _warn_of_missing(items, images)
    folder = output.parent if chosen.is_for(output.name) else output
    named = by_name(items, chosen, folder)
    targets = paths_to_write(output, named, chosen)
    check_free(targets.values(), [*files, *pictures.values()], may_replace=force)
    assumed: list[str] = []

    def read(item: Item, notes: list[str]) -> StoredAnnotation:
        stored = read_item(
            item,
            read_as,
            axes=axes,
            unpainted=unpainted,
            notes=notes,
            assumed=assumed,
        )
        check_is_plane(stored, item, chosen)
        return stored

    may_fail = len(named) > 1 or (source.is_dir() and source not in files)
    found = _read_all(named, read, may_fail=may_fail)
    _warn_of_assumed(assumed)
    n_written = 0
    if found:
        with _folders_of(targets.values()):
            n_written = _write_all(found, targets, read, chosen, may_fail=may_fail)
    n_failed = len(named) - n_written
    console.say(f"{n_written} converted, {n_failed} failed: {output}")
    return 3 if n_failed else 0


def _inputs(
    source: Path, name: str | None, pattern: str | None
) -> tuple[Format, list[Path]]:
    """Return the format of the input and its files."""
    if not source.exists():
        raise FolderError("NU-F01", f"there is no file or folder {source}: check it")
    whole = FORMATS[name] if name else format_of(source)
    if not source.is_dir() or (whole is not None and whole.is_folder):
        if whole is None:
            raise UsageError(
                f"{source} is in no format that is known: check it, or say what it is "
                f"with --from ({', '.join(FORMATS)})"
            )
        return whole, [source]
    found = formats_in(source)
    if name is None and len(found) > 1:
        raise UsageError(
            f"{source} holds files of several formats: choose one with --from "
            f"({' or '.join(found)})"
        )
    if name is None:
        _warn_of_frames(source, found.get("tiff", []))
    name = name or next(iter(found), "")
    return FORMATS.get(name, FORMATS["tiff"]), _files(
        source, name, found.get(name, []), pattern
    )


def _warn_of_frames(folder: Path, paths: list[Path]) -> None:
    if paths and all(_FRAME.fullmatch(path.name) for path in paths):
        console.warn(
            f"{folder} has no res_track.txt: its {len(paths)} files were taken as "
            "separate label TIFFs; if this is a movie: --from ctc"
        )


def _files(
    folder: Path, name: str, paths: list[Path], pattern: str | None
) -> list[Path]:
    """Return the files of a folder to read, one at least."""
    if name == "coco" and len(paths) > 1:
        raise UsageError(f"{folder} holds {len(paths)} COCO files: give one of them")
    if name != "coco" and pattern is not None:
        paths = [path for path in paths if fnmatchcase(path.name, pattern)]
    if not paths:
        what = f"{FORMATS[name].title} file" if name else "annotation"
        like = f" like {pattern!r}" if pattern else ""
        raise FolderError(
            "NU-F03", f"{folder} holds no {what}{like}: give another folder"
        )
    return paths


def _format_to_write(output: Path, name: str | None) -> Format:
    by_suffix = None if output.is_dir() else written_format_of(output)
    if name is None and by_suffix is None:
        known = ", ".join(one.name for one in FORMATS.values() if one.writes)
        raise UsageError(f"{output} could be of any format: choose with --to ({known})")
    if name and by_suffix and by_suffix.name != name:
        raise UsageError(
            f"--to {name} does not fit {output}, a name for {by_suffix.title}: change "
            "one of them"
        )
    return FORMATS[name] if name else by_suffix or FORMATS["tiff"]


def _warn_of_missing(items: list[Item], images: Path) -> None:
    missing = [item.stem for item in items if item.image is None]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        console.warn(f"no image in {images} for {', '.join(missing[:5])}{more}")


def _warn_of_assumed(sources: list[str]) -> None:
    if sources:
        more = f" and {len(sources) - 1} more don't" if len(sources) > 1 else " doesn't"
        console.warn(
            f"{sources[0]}{more} say what unpainted pixels are: taken as background; "
            "--unpainted unknown if only some cells are annotated"
        )


def _read_all(
    named: dict[str, Item], read: _Read, *, may_fail: bool
) -> dict[str, _Found]:
    """Read one after the other; name those that fail, where they may."""
    found: dict[str, _Found] = {}
    n_pixels = 0
    for name in console.track(list(named), "Reading"):
        item, notes = named[name], list[str]()
        try:
            stored = read(item, notes)
        except UNetError as error:
            _say_failed(item, error, may_fail=may_fail)
            continue
        _show(notes, item.source)
        n_pixels += stored.annotation.labels.size
        is_kept = n_pixels <= _MAX_PIXELS_KEPT
        classes = class_list(stored.annotation)
        found[name] = _Found(item, classes, stored if is_kept else None)
    return found


def _write_all(
    found: dict[str, _Found],
    targets: dict[str, Path],
    read: _Read,
    chosen: Format,
    *,
    may_fail: bool,
) -> int:
    """Write one after the other, or all into one file; return how many."""
    common = CommonClasses({name: one.classes for name, one in found.items()})
    if common.is_new:
        console.warn(
            "the annotations name different classes: all get the same list "
            f"({', '.join(common.names)})"
        )
    written: dict[str, StoredAnnotation] = {}
    n_written = 0
    for name, (item, _, kept) in console.track(list(found.items()), "Converting"):
        notes: list[str] = []
        try:
            stored = kept or read(item, [])
            classed = common.applied(name, stored.annotation)
            stored = replace(stored, annotation=classed)
            if chosen.holds_many:
                written[name] = stored
            else:
                _write(targets[name], {name: stored}, chosen, notes)
        except UNetError as error:
            _say_failed(item, error, may_fail=may_fail)
            continue
        n_written += 1
        _show(notes, item.source, targets[name].name)
        console.say(f"{item.source}: {console.counted(_n_objects(stored), 'object')}")
    if written:
        notes = []
        target = targets[next(iter(written))]
        _write(target, written, chosen, notes)
        _show(notes, target.name, *written)
    return n_written


def _say_failed(item: Item, error: UNetError, *, may_fail: bool) -> None:
    if not may_fail:
        raise error
    console.say_error(f"failed: {item.source}: {error}")


def _n_objects(stored: StoredAnnotation) -> int:
    return len(np.setdiff1d(stored.annotation.labels, [0]))


@contextmanager
def _folders_of(targets: Iterable[Path]) -> Iterator[None]:
    """Make the folders of files, and remove those that stay empty."""
    folders = dict.fromkeys(target.parent for target in targets)
    new = {p for one in folders for p in (one, *one.parents) if not p.exists()}
    try:
        for folder in folders:
            prepare_folder(folder)
        yield
    finally:
        for folder in sorted(new, key=lambda one: -len(one.parts)):
            with suppress(OSError):
                folder.rmdir()


def _write(
    path: Path,
    annotations: dict[str, StoredAnnotation],
    chosen: Format,
    notes: list[str],
) -> None:
    write_annotations(path, annotations, format=chosen.name, notes=notes)


def _show(notes: list[str], source: str, *others: str) -> None:
    """Print notes as warnings that say what they are about."""
    names = [Path(source).name, *others]
    for note in dict.fromkeys(notes):
        is_clear = any(name in note for name in names)
        console.warn(note if is_clear else f"{names[0]}: {note}")
