"""Reading JSON that may come from anywhere, within limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ConfigError, LabelError
from napari_unet.files.kinds import check_is_file, not_readable

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 16 * 2**20
_MAX_FOREIGN_BYTES = 256 * 2**20
_MAX_DEPTH = 64


def read_json(
    path: Path, *, remedy: str = "restore it, or delete it and set its content again"
) -> Any:
    """Read a JSON file of ours.

    Parameters
    ----------
    path : Path
        A file of UTF-8 text.
    remedy : str
        What to do where it is none, for the sentence.

    Raises
    ------
    FolderError
        Missing or not readable (NU-F04).
    ConfigError
        Not JSON, over 16 MB, nested deeper than 64, with a key given twice or a
        number that is none (NU-C01).
    """
    content = _read(path, _MAX_BYTES)
    try:
        value = json.loads(
            content, object_pairs_hook=_unique_keys, parse_constant=_refuse
        )
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            "NU-C01",
            f"{path} is not the JSON file that was expected ({error}): {remedy}",
        ) from error
    return value


def read_foreign_json(path: Path) -> Any:
    """Read a JSON file of another program, which may be large and loosely written.

    A number that is none (NaN, as QuPath writes for what it could not measure) is
    None, and of a key that is given twice the last one counts.

    Parameters
    ----------
    path : Path
        A file of UTF-8 text.

    Raises
    ------
    FolderError
        Missing or not readable (NU-F04).
    ConfigError
        Over 256 MB (NU-C01).
    LabelError
        Not JSON, or nested too deeply to be read (NU-A02).
    """
    content = _read(path, _MAX_FOREIGN_BYTES)
    try:
        return json.loads(content, parse_constant=_none)
    except (ValueError, RecursionError) as error:
        raise LabelError(
            "NU-A02",
            f"{path} is no JSON file that can be read ({error}): export it again",
        ) from error


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        check_is_file(path)
        if path.stat().st_size > max_bytes:
            raise ConfigError(
                "NU-C01",
                f"{path} has {path.stat().st_size:,} bytes, but at most "
                f"{max_bytes:,} are read: check that it is the right file",
            )
        return path.read_bytes()
    except OSError as error:
        raise not_readable(path, error) from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a key is given twice")
    return unique


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _none(_: str) -> None:
    return None


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {_MAX_DEPTH}")
