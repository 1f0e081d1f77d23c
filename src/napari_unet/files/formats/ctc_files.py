"""Which files of a folder are frames of the Cell Tracking Challenge."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from napari_unet.errors import FolderError
from napari_unet.files.kinds import not_readable

if TYPE_CHECKING:
    from pathlib import Path

_FRAME = re.compile(
    r"(mask|man_seg|man_track)_?(\d{3,9})(?:_(\d{3,9}))?\.tiff?", re.IGNORECASE
)
_KINDS = ("mask", "man_seg", "man_track")


class Frame(NamedTuple):
    """One file: a frame, or one slice of it."""

    t: int
    z: int | None
    path: Path


class FrameSequence(NamedTuple):
    """The frames of a folder, in order."""

    folder: Path
    kind: str
    frames: list[Frame]


def find_sequence(folder: Path, notes: list[str]) -> FrameSequence:
    """Return the frames in a folder, or in the folder SEG or TRA in it.

    Results go before the truth, and that before its markers.

    Raises
    ------
    FolderError
        No such folder (NU-F01, NU-F02, NU-F04), no such files in it (NU-F03), two
        files for one frame (NU-F05).
    """
    if not folder.exists():
        raise FolderError("NU-F01", f"there is no folder {folder}: check the path")
    if not folder.is_dir():
        raise FolderError("NU-F02", f"{folder} is a file: give the folder it is in")
    found: dict[str, list[Frame]] = {}
    for place in (folder, folder / "SEG", folder / "TRA"):
        for kind, frames in frames_in(place).items():
            found.setdefault(kind, frames)
    for kind in _KINDS:
        if kind in found:
            others = sorted(set(found) - {kind})
            if others:
                notes.append(
                    f"{folder} also holds {' and '.join(others)} files, which were "
                    f"left out: only {kind} was read"
                )
            return FrameSequence(found[kind][0].path.parent, kind, found[kind])
    raise FolderError(
        "NU-F03",
        f"{folder} has no mask000.tif, man_seg000.tif or man_track000.tif: give a "
        "folder of the Cell Tracking Challenge such as 01_RES, 01_GT or 01_GT/SEG",
    )


def frames_in(folder: Path) -> dict[str, list[Frame]]:
    """Return the frames in a folder by kind, sorted.

    Raises
    ------
    FolderError
        Not readable (NU-F04), two files for one frame (NU-F05).
    """
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise not_readable(folder, error) from error
    found: dict[str, dict[tuple[int, int | None], Frame]] = {}
    for path in paths:
        if match := _FRAME.fullmatch(path.name):
            z = None if match[3] is None else int(match[3])
            frame = Frame(int(match[2]), z, path)
            of_kind = found.setdefault(match[1].lower(), {})
            other = of_kind.setdefault((frame.t, z), frame)
            if other is not frame:
                raise FolderError(
                    "NU-F05",
                    f"{other.path} and {path.name} are the same frame: keep one",
                )
    return {
        kind: sorted(frames.values(), key=lambda frame: (frame.t, frame.z or 0))
        for kind, frames in found.items()
    }
