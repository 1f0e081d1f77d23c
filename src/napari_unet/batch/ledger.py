"""The ledger of a folder run: what became of each file, one line each."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from napari_unet.errors import SaveError
from napari_unet.files.atomic import digest, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Literal

    State = Literal["done", "failed", "skipped"]

NAME = "ledger.jsonl"
# Of shards: each has its own.
_NAMES = "ledger*.jsonl"


@dataclass(frozen=True)
class Record:
    """What became of one file.

    Parameters
    ----------
    input : str
        Relative to the source folder, with slashes.
    fingerprint : str
        ``size-mtime_ns`` when it was read; empty if it was not.
    model, settings : str
        sha256 of the weights, and of all else that the result depends on.
    state : {"done", "failed", "skipped"}
        Skipped is what is no image.
    output : str, optional
        Its result, relative to the output folder.
    sha256 : mapping of str to str
        Of each file or .zarr folder that was written, relative to the output folder;
        see `napari_unet.files.atomic.digest`.
    n_cells : int, optional
        None where images are made.
    message : str
        Empty, notes and warnings, or the reason.
    seconds : float
        Spent on it, without waiting.
    finished : str
        When, in UTC.
    device, precision, halo : str or int
        What it was computed with.
    """

    input: str
    fingerprint: str
    model: str
    settings: str
    state: State
    output: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)
    n_cells: int | None = None
    message: str = ""
    seconds: float = 0.0
    finished: str = ""
    device: str = ""
    precision: str = ""
    halo: str | int = ""

    def to_line(self) -> str:
        """Return the record as its line of the ledger."""
        # In ASCII: the name of a file may be no UTF-8.
        return json.dumps(vars(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Record | None:
        """Return the record of a line; None where it is none, or half of one."""
        try:
            record = cls(**json.loads(line))
        except (ValueError, TypeError, RecursionError):
            return None
        is_sound = isinstance(record.input, str) and isinstance(record.sha256, dict)
        return record if is_sound else None


class Ledger:
    """The ledger of a run while it goes on: lines are added, and durable at once.

    Half a line at its end, which a killed run left, is dropped.

    Parameters
    ----------
    path : Path
        File of the ledger, made if missing.

    Raises
    ------
    SaveError
        It can't be written (NU-S01).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("a+b")
            self._file.truncate(_end_of_last_line(path))
        except OSError as error:
            raise self._error(error) from error

    def add(self, records: Iterable[Record]) -> None:
        """Write records through to the disk (NU-S01 if it can't be)."""
        try:
            self._file.write(b"".join(r.to_line().encode() for r in records))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _error(self, error: OSError) -> SaveError:
        return SaveError("NU-S01", f"{self.path} can't be written: {error.strerror}")


def _end_of_last_line(path: Path) -> int:
    with path.open("rb") as file:
        content = file.read()
    return content.rfind(b"\n") + 1


def read_lines(folder: Path) -> dict[str, str]:
    """Return the last line of each input, from all ledgers of an output folder.

    Of two ledgers, such as a shard's and that of the whole, the later line counts.

    Returns
    -------
    dict of str to str
        By input, in input order. Lines that are none are left out.
    """
    lines: dict[str, tuple[str, str]] = {}
    for path in sorted(folder.glob(_NAMES)):
        for name, found in _lines_of(path).items():
            if name not in lines or found >= lines[name]:
                lines[name] = found
    return {name: lines[name][1] for name in sorted(lines, key=in_order)}


def _lines_of(path: Path) -> dict[str, tuple[str, str]]:
    """Return when the last record of each input was written, and its line."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = {}
    for line in text.split("\n"):  # splitlines knows others, which names may have
        record = Record.from_line(line)
        if record is not None:
            lines[record.input] = (str(record.finished), line)
    return lines


def in_order(name: str) -> tuple[str, ...]:
    """Return what relative paths are sorted by: as files are found in a folder."""
    return PurePosixPath(name).parts


def rewrite(path: Path, lines: Iterable[str]) -> None:
    """Replace a ledger by these lines, atomically.

    Raises
    ------
    SaveError
        It can't be written (NU-S01); the old one is untouched.
    """
    write_text(path, "".join(f"{line}\n" for line in lines))


def fingerprint(path: Path) -> str:
    """Return ``size-mtime_ns`` of a file; of a folder over all files within."""
    status = path.stat()
    if not path.is_dir():
        return f"{status.st_size}-{status.st_mtime_ns}"
    within = [p.stat() for p in path.rglob("*") if p.is_file()]
    newest = max((s.st_mtime_ns for s in within), default=status.st_mtime_ns)
    return f"{sum(s.st_size for s in within)}-{newest}"


def sha256_of(value: Any) -> str:
    """Return the sha256 of a value of plain types, in hex."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def are_as_written(folder: Path, record: Record) -> bool:
    """Return whether all that a record says was written is there, unchanged."""
    try:
        return all(
            digest(folder / name) == sha256 for name, sha256 in record.sha256.items()
        )
    except OSError:
        return False
