"""Which programs inside of models this user trusts, on this computer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platformdirs import user_data_path

from napari_unet.files.atomic import write_text
from napari_unet.files.kinds import not_readable

if TYPE_CHECKING:
    from pathlib import Path


def trust_file() -> Path:
    """Return the file that remembers trusted programs; it need not exist."""
    return user_data_path("napari-unet", appauthor=False) / "trusted-programs.txt"


def is_trusted(sha256: str) -> bool:
    """Return whether the user trusts the program of this checksum.

    Parameters
    ----------
    sha256 : str
        Of the program's bytes, in hex.

    Raises
    ------
    FolderError
        The file that remembers it can't be read (NU-F04).
    """
    return sha256 in _read()


def trust(sha256: str) -> None:
    """Remember that the user trusts the program of this checksum.

    Raises
    ------
    SaveError
        The file that remembers it can't be written.
    """
    known = _read()
    if sha256 not in known:
        path = trust_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "\n".join([*known, sha256]) + "\n")


def _read() -> list[str]:
    path = trust_file()
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise not_readable(path, error) from error
