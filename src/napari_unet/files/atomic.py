"""The one way to write a file: whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from napari_unet.errors import SaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_DISK_IS_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_STRAY_NAME = re.compile(r"\..*\.(?P<pid>\d+)\.[0-9a-f]{8}\.unettmp", re.DOTALL)
_N_REPLACE_TRIES = 6
# Files synced at the same time share what the disk does for it: 8 of them take a tenth
# of the time of 8 one by one.
_N_SYNCS = 8


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
    temporary = hidden_name(target)
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
        raise save_error(path, error) from error
    sync_folder(target.parent)


@dataclass(frozen=True)
class Apart:
    """A file or folder that is written, and not yet to be found under its name.

    Parameters
    ----------
    temporary, target : Path
        Where it is, and where it shall be.
    sha256 : str
        Of its content, in hex (see `digest`).
    """

    temporary: Path
    target: Path
    sha256: str

    def discard(self) -> None:
        """Delete it, if it is not in place."""
        _delete(self.temporary)


def write_apart(path: str | Path, write: Callable[[BinaryIO], None]) -> Apart:
    """Write a file that `put_in_place` gives its name, with others at once.

    Parameters and errors are those of `write_atomically`, but a symbolic link is not
    followed: the file takes its place.
    """
    target = Path(path)
    temporary = hidden_name(target)
    try:
        mode = _mode_to_keep(target)
        with _deleted_on_errors(temporary), temporary.open("x+b") as file:
            write(file)
            file.flush()
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if mode is not None:
                temporary.chmod(mode)
    except OSError as error:
        raise save_error(target, error) from error
    return Apart(temporary, target, sha256)


def put_in_place(files: Sequence[Apart]) -> dict[Path, SaveError]:
    """Bring files and folders to the disk, and only then to their names, durably.

    All at once, because a disk syncs many files in little more time than one. A folder
    takes the place of an older one in two steps: a kill between them leaves neither.

    Parameters
    ----------
    files : sequence of Apart
        What was written.

    Returns
    -------
    dict of Path to SaveError
        Targets that could not be written (NU-S01), with the reason; these are as they
        were, and all others are in place.
    """
    errors: dict[Path, SaveError] = {}

    def bring(step: Callable[[Apart], None], file: Apart) -> None:
        try:
            step(file)
        except OSError as error:
            file.discard()
            errors[file.target] = save_error(file.target, error)

    with ThreadPoolExecutor(_N_SYNCS) as pool:
        list(pool.map(lambda file: bring(_sync_file, file), files))
    for file in files:
        if file.target not in errors:
            bring(lambda f: _replace(f.temporary, f.target), file)
    for folder in dict.fromkeys(file.target.parent for file in files):
        sync_folder(folder)
    return errors


def make_folder(path: Path) -> None:
    """Make a folder with all above it, durably; it may be there.

    Raises
    ------
    SaveError
        It can't be made (NU-S02).
    """
    missing = [p for p in (path, *path.parents) if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            "NU-S02",
            f"the folder {path} can't be written ({error.strerror}): choose another "
            "folder",
        ) from error
    for folder in missing:
        sync_folder(folder.parent)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes atomically; see `write_atomically`."""

    def write(file: BinaryIO) -> None:
        file.write(content)

    write_atomically(path, write)


def write_text(path: str | Path, text: str) -> None:
    """Write text atomically as UTF-8 with its line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def hidden_name(path: Path) -> Path:
    """Return a name beside that of a file or folder, for as long as it is not whole.

    `sweep_strays` deletes what bears such a name and is nobody's any more.
    """
    # Shortened: with its additions it may pass the 255 bytes of a name.
    stem = os.fsencode(path.name)[:180].decode("utf-8", "ignore")
    pid, random = os.getpid(), secrets.token_hex(4)
    return path.with_name(f".{stem}.{pid}.{random}.unettmp")


def sweep_strays(folder: str | Path, *, min_age_s: float = 3600.0) -> list[Path]:
    """Delete temporary files and folders that a killed process left in a folder.

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
                    is_folder = path.is_dir() and not path.is_symlink()
                    shutil.rmtree(path) if is_folder else path.unlink()
                    swept.append(path)
    return swept


@contextlib.contextmanager
def _deleted_on_errors(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


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


def _sync_file(file: Apart) -> None:
    if file.temporary.is_dir():
        sync_tree(file.temporary)
    else:
        _sync(file.temporary)


def _sync(path: Path) -> None:
    # Windows syncs only what may be written.
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(temporary: Path, target: Path) -> None:
    if temporary.is_dir():
        _replace_folder(temporary, target)
        return
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


def _replace_folder(temporary: Path, target: Path) -> None:
    """Put a folder in the place of an older one, or of whatever has its name."""
    old = hidden_name(target)
    if os.path.lexists(target):
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if os.path.lexists(old):
            old.rename(target)
        raise
    _delete(old)


def _delete(path: Path) -> None:
    """Delete a file, a link or a folder with all that is in it, as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def digest(path: Path) -> str:
    """Return the sha256 of a file, in hex; of a folder over all files within.

    Of these it is that of lines in the order of the names: sha256, two spaces, path
    within the folder with slashes; what ``sha256sum`` prints.

    Raises
    ------
    OSError
        It is not there, or can't be read.
    """
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    lines = "".join(f"{digest(path / name)}  {name}\n" for name in sorted(names))
    return hashlib.sha256(lines.encode()).hexdigest()


def sync_tree(folder: Path) -> None:
    """See to it that all that a folder holds is on the disk.

    Raises
    ------
    OSError
        The disk is full, or the like.
    """
    found = list(os.walk(folder))
    files = [Path(place) / name for place, _, names in found for name in names]
    with ThreadPoolExecutor(_N_SYNCS) as pool:
        list(pool.map(_sync, files))
    for place, _, _ in found:
        sync_folder(Path(place))


def sync_folder(folder: Path) -> None:
    """See to it that the names in a folder are on the disk, where a system can."""
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


def save_error(path: Path, error: OSError) -> SaveError:
    """Return the error for what can't be written: why, and what to do (NU-S01)."""
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
