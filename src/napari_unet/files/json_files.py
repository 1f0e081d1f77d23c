"""Reading JSON that may come from anywhere, within limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ConfigError
from napari_unet.files.kinds import not_readable

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 16 * 2**20
_MAX_DEPTH = 64


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : Path
        A file of UTF-8 text.

    Raises
    ------
    FolderError
        Missing or not readable (NU-F04).
    ConfigError
        Not JSON, over 16 MB, nested deeper than 64, with a key given twice or a
        number that is none (NU-C01).
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(
                "NU-C01",
                f"{path} has {path.stat().st_size:,} bytes, but at most "
                f"{_MAX_BYTES:,} are read: check that it is the right file",
            )
        content = path.read_bytes()
    except OSError as error:
        raise not_readable(path, error) from error
    try:
        value = json.loads(
            content, object_pairs_hook=_unique_keys, parse_constant=_refuse
        )
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            "NU-C01",
            f"{path} is not the JSON file that was expected ({error}): restore "
            "it, or delete it and set its content again",
        ) from error
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("a key is given twice")
    return unique


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


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
