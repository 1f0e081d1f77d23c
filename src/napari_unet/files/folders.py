"""Which images and masks a folder holds."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from napari_unet.errors import FolderError
from napari_unet.files.kinds import not_readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SUFFIXES = (
    ".ome.tif",
    ".ome.tiff",
    ".ome.zarr",
    ".tif",
    ".tiff",
    ".png",
    ".zarr",
)


def stem_of(path: Path) -> str:
    """Return a file's name without the suffixes of an image.

    Examples
    --------
    >>> stem_of(Path("field 1.ome.tif"))
    'field 1'
    """
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


class Found(NamedTuple):
    """What a folder holds.

    Parameters
    ----------
    images : list of Path
        TIFF and PNG files and OME-Zarr folders.
    others : list of Path
        All other files.
    problems : list of FolderError
        Of subfolders that can't be read (NU-F04).
    """

    images: list[Path]
    others: list[Path]
    problems: list[FolderError]


def look_through(
    folder: str | Path,
    pattern: str | None = None,
    *,
    recursive: bool = False,
    without: Path | None = None,
) -> Found:
    """Return which images a folder holds, and what else is in it.

    Parameters
    ----------
    folder, pattern, recursive
        As for `find_images`.
    without : Path, optional
        A subfolder that is not looked into, such as that of the results.

    Raises
    ------
    FolderError
        As `find_images`.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FolderError("NU-F01", f"there is no folder {folder}: check the path")
    if not folder.is_dir():
        raise FolderError("NU-F02", f"{folder} is a file: give the folder it is in")
    problems: list[FolderError] = []
    every = _entries(folder, problems, recursive=recursive, without=without)
    kinds: tuple[list[Path], list[Path]] = ([], [])
    for path, is_image in every:
        kinds[not is_image].append(path)
    fits = partial(_fits, folder=folder, pattern=pattern)
    images, others = (sorted(filter(fits, paths)) for paths in kinds)
    if not images:
        raise _no_images(folder, len(kinds[0]), pattern)
    return Found(images, others, problems)


def _entries(
    folder: Path,
    problems: list[FolderError],
    *,
    recursive: bool,
    without: Path | None,
) -> Iterator[tuple[Path, bool]]:
    """Yield each file that is not hidden, and whether its name is that of an image."""
    left_out = None if without is None else os.path.realpath(without)
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            entries = [e for e in os.scandir(place) if not e.name.startswith(".")]
        except OSError as error:
            if place == folder:
                raise not_readable(folder, error) from error
            problems.append(not_readable(place, error))
            continue
        for entry in entries:
            path = place / entry.name
            if not entry.is_dir() or _is_zarr_name(entry.name):
                yield path, _is_image(entry)
                continue
            # A link may lead back to where it is.
            is_wanted = recursive and not entry.is_symlink()
            if is_wanted and os.path.realpath(path) != left_out:
                waiting.append(path)


def find_images(
    folder: str | Path, pattern: str | None = None, *, recursive: bool = False
) -> list[Path]:
    """Return the images of a folder, sorted by name: TIFF and PNG files, and .zarr.

    Parameters
    ----------
    folder : path
        Folder to look into. Hidden files are left out.
    pattern : str, optional
        Which names to take, such as ``"train_*"``; with a slash which paths within the
        folder, such as ``"day 1/*.tif"``.
    recursive : bool
        Also look into its subfolders, but not into links to folders. A folder whose
        name ends with .zarr is one image.

    Raises
    ------
    FolderError
        No such folder (NU-F01), not a folder (NU-F02), no such image (NU-F03), not
        readable (NU-F04).
    """
    return look_through(folder, pattern, recursive=recursive).images


def _fits(path: Path, *, folder: Path, pattern: str | None) -> bool:
    if pattern is None:
        return True
    name = path.relative_to(folder).as_posix() if "/" in pattern else path.name
    return fnmatchcase(name, pattern)


def _no_images(folder: Path, n_found: int, pattern: str | None) -> FolderError:
    count = "1 image" if n_found == 1 else f"{n_found} images"
    what = f"{count} but none like {pattern!r}" if n_found else "no image"
    return FolderError(
        "NU-F03",
        f"{folder} holds {what}: give a folder of .tif, .tiff, .png or .zarr images"
        f"{' or another pattern' if n_found else ''}",
    )


def pair_by_stem(
    images: Sequence[Path],
    folder: str | Path,
    *,
    endings: Sequence[str] = ("",),
) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pair each image with the file of the same stem in another folder.

    Parameters
    ----------
    images : sequence of Path
        Images, such as `find_images` returns them.
    folder : path
        Folder of the masks.
    endings : sequence of str
        What a mask's stem may have after the image's, such as ``("", "_labels")``.

    Returns
    -------
    pairs : list of (Path, Path)
        Image and mask, in the order of `images`.
    missing : list of Path
        Images without a mask.

    Raises
    ------
    FolderError
        As `find_images`; or two files of one stem (NU-F05).
    """
    masks = _by_stem(find_images(folder))
    pairs, missing = [], []
    for stem, image in _by_stem(images).items():
        found = [masks[stem + end] for end in endings if stem + end in masks]
        if len(found) > 1:
            raise _two_of_one_stem(*found[:2])
        if found:
            pairs.append((image, found[0]))
        else:
            missing.append(image)
    return pairs, missing


def _by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    by_stem: dict[str, Path] = {}
    for path in paths:
        other = by_stem.setdefault(stem_of(path), path)
        if other != path:
            raise _two_of_one_stem(other, path)
    return by_stem


def _two_of_one_stem(first: Path, second: Path) -> FolderError:
    return FolderError(
        "NU-F05",
        f"{first} and {second.name} stand for the same image: keep one of them in the "
        "folder",
    )


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether a file, or a folder that is not looked into, is an image by its name."""
    if _is_zarr_name(entry.name):
        return entry.is_dir()
    return entry.name.lower().endswith((".tif", ".tiff", ".png"))


def _is_zarr_name(name: str) -> bool:
    return name.lower().endswith(".zarr")
