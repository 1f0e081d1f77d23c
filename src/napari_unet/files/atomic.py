"""The one way to write a file: whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from napari_unet.errors import SaveError

if TYPE_CHECKING:
    from collections.abc import Callable

_DISK_IS_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_STRAY_NAME = re.compile(r"\..*\.(?P<pid>\d+)\.[0-9a-f]{8}\.unettmp", re.DOTALL)
_N_REPLACE_TRIES = 6


def write_atomically(path: str | Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that its name always holds the old or the new content, whole.

    The content goes to a temporary file in the same folder, to the disk, and only
    then to its name. A symbolic link is followed. A new file gets the mode that the
    umask allows, an old one keeps its own.

    Parameters
    ----------
    path : path
        File to write; its folder exists.
    write : callable
        Is given the open binary file, which can seek, and writes the content.

    Raises
    ------
    SaveError
        The file can't be written (NU-S01); what was there before is untouched and
        nothing is left behind. Whatever else `write` raises is passed on, with the
        same promise.
    """
    path = Path(path)
    target = Path(os.path.realpath(path))
    # The name is shortened: with its additions it may pass the 255 bytes of a name.
    stem = os.fsencode(target.name)[:180].decode("utf-8", "ignore")
    pid, random = os.getpid(), secrets.token_hex(4)
    temporary = target.with_name(f".{stem}.{pid}.{random}.unettmp")
    try:
        mode = _mode_to_keep(target)
        try:
            _write_through(temporary, write, mode)
            _replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise _save_error(path, error) from error
    _sync_folder(target.parent)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes atomically; see `write_atomically`."""

    def write(file: BinaryIO) -> None:
        file.write(content)

    write_atomically(path, write)


def write_text(path: str | Path, text: str) -> None:
    """Write text atomically as UTF-8 with its line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def sweep_strays(folder: str | Path, *, min_age_s: float = 3600.0) -> list[Path]:
    """Delete temporary files that a killed process left in a folder.

    Parameters
    ----------
    folder : path
        Folder to look into, not its subfolders.
    min_age_s : float
        Younger files are left alone, in seconds: they may be in use.

    Returns
    -------
    list of Path
        What was deleted.
    """
    swept = []
    with contextlib.suppress(OSError):
        for path in sorted(Path(folder).iterdir()):
            match = _STRAY_NAME.fullmatch(path.name)
            if match is None or _is_running(int(match["pid"])):
                continue
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime >= min_age_s:
                    path.unlink()
                    swept.append(path)
    return swept


def _mode_to_keep(target: Path) -> int | None:
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected")
    return stat.S_IMODE(mode)


def _write_through(
    temporary: Path, write: Callable[[BinaryIO], None], mode: int | None
) -> None:
    with temporary.open("xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    if mode is not None:
        temporary.chmod(mode)


def _replace(temporary: Path, target: Path) -> None:
    # On Windows a virus scanner or a viewer may hold the old file for a moment.
    for i in range(_N_REPLACE_TRIES):
        try:
            os.replace(temporary, target)
        except PermissionError:
            if i == _N_REPLACE_TRIES - 1:
                raise
            time.sleep(0.01 * 2**i)
        else:
            return


def _sync_folder(folder: Path) -> None:
    # The file is in place by now; not every system and share can sync a folder.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # there os.kill(pid, 0) would send Ctrl-C
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _save_error(path: Path, error: OSError) -> SaveError:
    reason = error.strerror or str(error)
    advice = "check the folder and its permissions, or save elsewhere"
    if error.errno in _DISK_IS_FULL:
        reason = "the disk is full (or a quota is used up)"
        advice = "free some space, or save to another disk"
    elif not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
        advice = "create it, or save elsewhere"
    return SaveError(
        "NU-S01",
        f"{path} was not saved, because {reason[:1].lower()}{reason[1:]}: {advice}",
    )
