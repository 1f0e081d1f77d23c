"""What kind of file it is, by its first bytes, and the reader for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.errors import FolderError, ImageError
from napari_unet.files.png import read_png
from napari_unet.files.stored import name_of
from napari_unet.files.tiff import read_tiff

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.files.stored import Stored

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_OTHER_STARTS = {
    b"version https://git-lfs": "Git LFS left a pointer: fetch the real file",
    b"\xff\xd8\xff": "a JPEG: save it as a TIFF",
    b"GIF8": "a GIF: save it as a TIFF",
    b"BM": "a BMP: save it as a TIFF",
    b"\x89HDF": "an HDF5 file: save it as a TIFF",
    b"PK": "a zip archive: unpack it",
    b"%PDF": "a PDF: save the image as a TIFF",
}


def read_stored(
    path: Path,
    *,
    palette_as_ids: bool = False,
    keep_planes: bool = False,
    in_parts: bool = False,
) -> Stored:
    """Read a TIFF or PNG, known by its content, whatever its name ends with.

    Parameters
    ----------
    path : Path
        File to read.
    palette_as_ids : bool
        Return the numbers of a PNG's palette, not its colours.
    keep_planes, in_parts : bool
        As for `read_tiff`.

    Raises
    ------
    FolderError
        No such file (NU-F01), a folder (NU-F02), not readable (NU-F04).
    ImageError
        Empty, not a TIFF or PNG (NU-I01), or see `read_tiff` and `read_png`.
    """
    start = _first_bytes(path)
    if not start:
        raise ImageError(
            "NU-I01",
            f"{name_of(path)} is an empty file (0 bytes): get it again from its source",
        )
    is_png = start.startswith(_PNG_START)
    if not is_png and not start.startswith(_TIFF_STARTS):
        raise ImageError(
            "NU-I01",
            f"{name_of(path)} is not a TIFF or PNG, it {_looks_like(start)}",
        )
    if is_png:
        stored = read_png(path, palette_as_ids=palette_as_ids)
    else:
        stored = read_tiff(path, keep_planes=keep_planes, in_parts=in_parts)
    if is_png != (path.suffix.lower() == ".png"):
        note = f"{name_of(path)} is a {'PNG' if is_png else 'TIFF'} by its content"
        stored = replace(stored, notes=(note, *stored.notes))
    return stored


def _first_bytes(path: Path) -> bytes:
    if not path.is_dir():
        check_is_file(path)
    try:
        with path.open("rb") as file:
            return file.read(512)
    except FileNotFoundError as error:
        raise FolderError(
            "NU-F01", f"there is no file {path}: check the path"
        ) from error
    except OSError as error:
        if path.is_dir():
            raise FolderError(
                "NU-F02", f"{path} is a folder: give an image file"
            ) from error
        raise not_readable(path, error) from error


def _looks_like(start: bytes) -> str:
    for magic, what in _OTHER_STARTS.items():
        if start.startswith(magic):
            return f"looks like {what}"
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "looks like HTML, the page of a failed download: get the file again"
    if not set(start) & set(range(9)):
        return "looks like text: get the image again from its source"
    return "is of an unknown kind: save it as a TIFF"


def check_is_file(path: Path) -> None:
    """Refuse what is there but no file: a pipe would be waited for, without end.

    Raises
    ------
    FolderError
        A pipe, a device or the like (NU-F04).
    """
    if path.exists() and not path.is_file():
        raise FolderError(
            "NU-F04", f"{path} is no file but a pipe or a device: save it as a file"
        )


def not_readable(path: Path, error: OSError) -> FolderError:
    """Return the error for a file or folder that the system refuses to read."""
    return FolderError(
        "NU-F04",
        f"{path} can't be read ({error.strerror or error}): check its permissions",
    )
