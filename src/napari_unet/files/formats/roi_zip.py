"""The members of a zip of ImageJ ROIs, read in memory and within limits.

Nothing is extracted, so that names that lead elsewhere lead nowhere.
"""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from napari_unet.errors import FolderError, LabelError
from napari_unet.files.atomic import write_bytes
from napari_unet.files.kinds import check_is_file, not_readable
from napari_unet.files.stored import name_of
from napari_unet.files.zips import RAISED_ON_DAMAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_ROIS = 100_000
_MAX_FILE_BYTES = 256 * 2**20
_MAX_MEMBER_BYTES = 10 * 2**20
_MAX_TOTAL_BYTES = 500 * 2**20
_MAX_RATIO = 200
_MAX_UNCHECKED_BYTES = 2**20
_ENTRY = b"PK\x01\x02"
_ENCRYPTED = 1


def refused(name: str, why: str) -> LabelError:
    """Return the error for a file that is no sound set of ROIs."""
    return LabelError(
        "NU-L11",
        f"{name} is not a sound set of ImageJ ROIs ({why}): save it again from "
        "ImageJ's ROI Manager",
    )


def read_members(path: Path, notes: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name (without ``.roi``) and the content of each ROI in a file.

    Parameters
    ----------
    path : Path
        A ``.zip`` or a single ``.roi``, known by its content.
    notes : list of str
        What the user should know about the way the file was read is added here.

    Raises
    ------
    FolderError
        No such file (NU-F01), not readable (NU-F04).
    LabelError
        Not a zip of ROIs, a damaged or encrypted one, or beyond the limits (NU-L11).
    """
    name = name_of(path)
    content = _read(path, name)
    if content.startswith(b"Iout"):
        if len(content) > _MAX_MEMBER_BYTES:
            raise refused(name, f"it has {len(content):,} bytes, more than any ROI")
        yield path.stem, content
        return
    if not content.startswith(b"PK"):
        raise refused(name, "it is neither a zip nor a ROI")
    # Counted before zipfile makes an object of each.
    if content.count(_ENTRY) > 2 * MAX_ROIS:
        raise refused(name, f"it has more than {MAX_ROIS:,} members")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = _rois(archive, name, notes)
            for member in members:
                yield PurePosixPath(member.filename).name[:-4], archive.read(member)
    except RAISED_ON_DAMAGE as error:
        raise refused(name, "it is damaged or cut off") from error


def _read(path: Path, name: str) -> bytes:
    try:
        check_is_file(path)
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise refused(name, f"it has {path.stat().st_size:,} bytes")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FolderError(
            "NU-F01", f"there is no file {path}: check the path"
        ) from error
    except OSError as error:
        raise not_readable(path, error) from error


def _rois(
    archive: zipfile.ZipFile, name: str, notes: list[str]
) -> list[zipfile.ZipInfo]:
    """Return the members that are ROIs, once they are sure to be within limits."""
    files = [member for member in archive.infolist() if not member.is_dir()]
    rois = [member for member in files if _is_roi(member.filename)]
    n_others = sum(not (_is_roi(m.filename) or _is_of_mac(m.filename)) for m in files)
    if len(rois) > MAX_ROIS:
        raise refused(name, f"it has {len(rois):,} ROIs, more than {MAX_ROIS:,}")
    if n_others and not rois:
        raise refused(name, "no member's name ends in .roi")
    if any(member.flag_bits & _ENCRYPTED for member in rois):
        raise refused(name, "it is encrypted")
    for member in rois:
        is_dense = member.file_size > _MAX_RATIO * max(member.compress_size, 1)
        if member.file_size > _MAX_MEMBER_BYTES or (
            is_dense and member.file_size > _MAX_UNCHECKED_BYTES
        ):
            raise refused(name, f"a ROI claims {member.file_size:,} bytes")
    total = sum(member.file_size for member in rois)
    if total > _MAX_TOTAL_BYTES:
        raise refused(name, f"its ROIs claim {total:,} bytes")
    if n_others:
        notes.append(f"{name}: {n_others} of its files are no ROIs and were left out")
    return rois


def _is_roi(filename: str) -> bool:
    return filename.lower().endswith(".roi") and not _is_of_mac(filename)


def _is_of_mac(filename: str) -> bool:
    return "__MACOSX/" in filename or PurePosixPath(filename).name.startswith("._")


def write_members(path: str | Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a zip of ROIs, atomically; the same members give the same bytes.

    Parameters
    ----------
    path : path
        File to write.
    members : iterable of (str, bytes)
        Name (without ``.roi``) and content of each.

    Raises
    ------
    SaveError
        The file can't be written (NU-S01).
    """
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            member = zipfile.ZipInfo(f"{name}.roi")  # dated 1980
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    write_bytes(path, buffer.getvalue())
