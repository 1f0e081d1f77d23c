"""Which images and masks a folder holds."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.errors import FolderError
from napari_unet.files.kinds import not_readable

if TYPE_CHECKING:
    from collections.abc import Sequence

_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".png")


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


def find_images(folder: str | Path, pattern: str | None = None) -> list[Path]:
    """Return the TIFF and PNG files of a folder, sorted by name.

    Parameters
    ----------
    folder : path
        Folder to look into, not its subfolders. Hidden files are left out.
    pattern : str, optional
        Which names to take, such as ``"train_*"``.

    Raises
    ------
    FolderError
        No such folder (NU-F01), not a folder (NU-F02), no such image (NU-F03), not
        readable (NU-F04).
    """
    folder = Path(folder)
    if not folder.exists():
        raise FolderError("NU-F01", f"there is no folder {folder}: check the path")
    if not folder.is_dir():
        raise FolderError("NU-F02", f"{folder} is a file: give the folder it is in")
    try:
        found = sorted(path for path in folder.iterdir() if _is_image_name(path))
    except OSError as error:
        raise not_readable(folder, error) from error
    paths = [p for p in found if pattern is None or fnmatchcase(p.name, pattern)]
    if not paths:
        count = "1 image" if len(found) == 1 else f"{len(found)} images"
        what = f"{count} but none like {pattern!r}" if found else "no image"
        raise FolderError(
            "NU-F03",
            f"{folder} holds {what}: give a folder of .tif, .tiff or .png files"
            f"{' or another pattern' if found else ''}",
        )
    return paths


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


def _is_image_name(path: Path) -> bool:
    is_hidden = path.name.startswith(".")
    return (
        not is_hidden
        and path.suffix.lower() in {".tif", ".tiff", ".png"}
        and not path.is_dir()
    )
