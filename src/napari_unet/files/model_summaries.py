"""What a model file says of itself in its header; needs neither torch nor its weights.

A list of many models is read so. It says little about damage: loading a model, and
verifying it, checks all of it.
"""

from __future__ import annotations

import errno
import json
import stat
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ModelError

if TYPE_CHECKING:
    import os
    from pathlib import Path

_KEY = "napari_unet"
_MAX_HEADER_BYTES = 16 * 2**20
_N_LENGTH_BYTES = 8


@dataclass(frozen=True)
class ModelSummary:
    """A model file as a list of models shows it.

    Parameters
    ----------
    path : Path
        The file.
    written : datetime
        When it was written, with time zone.
    n_bytes : int
        Its size.
    network : str
        Architecture, such as ``"unet"``.
    classes : tuple of str
        Names of the classes, without background.
    f1 : float, optional
        F1 of cells at IoU 0.5 on held-back pixels, where known.
    n_train_images : int
        How many images it learned from.
    about : str
        What it is for.
    roles : tuple of str
        What each output means, such as ``"softmax:cell"``.
    n_dims : int
        2 for planes, 3 for volumes.
    upscale : int
        How many times finer than the image its output is.
    """

    path: Path
    written: datetime
    n_bytes: int
    network: str
    classes: tuple[str, ...]
    f1: float | None
    n_train_images: int
    about: str
    roles: tuple[str, ...] = ()
    n_dims: int = 2
    upscale: int = 1


def summarise(path: Path) -> ModelSummary:
    """Read what a model file says of itself.

    Raises
    ------
    ModelError
        The file is missing or can't be read (NU-M00), is no model of this program
        (NU-M01), or is damaged or cut off (NU-M02).
    """
    try:
        status = path.stat()
        _check_is_file(status)
        header, n_expected = _read_header(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(
            "NU-M00", f"{path} can't be read ({reason}): choose another model file"
        ) from error
    try:
        text = header["__metadata__"][_KEY]
    except (KeyError, TypeError) as error:
        raise _foreign(path) from error
    if status.st_size != n_expected:
        raise _damaged(path)
    try:
        return _summary(path, json.loads(text), status.st_mtime, status.st_size)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _damaged(path) from error


def _check_is_file(status: os.stat_result) -> None:
    # Opening a pipe would wait for whoever writes into it.
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no file")


def _read_header(path: Path) -> tuple[Any, int]:
    """Return the header of a safetensors file, and how long the file should be."""
    with path.open("rb") as file:
        start = file.read(_N_LENGTH_BYTES)
        if len(start) < _N_LENGTH_BYTES:
            raise _foreign(path)
        (n_bytes,) = struct.unpack("<Q", start)
        if not 2 <= n_bytes <= _MAX_HEADER_BYTES:
            raise _foreign(path)
        content = file.read(n_bytes)
    try:
        header = json.loads(content)
        ends = [t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"]
        return header, _N_LENGTH_BYTES + n_bytes + max(ends, default=0)
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
    ) as error:
        raise _foreign(path) from error


def _summary(path: Path, raw: Any, written_s: float, n_bytes: int) -> ModelSummary:
    f1, network = raw["scores"].get("f1"), raw["network"]
    return ModelSummary(
        path=path,
        written=datetime.fromtimestamp(written_s, UTC),
        n_bytes=n_bytes,
        network=str(network.get("architecture", "")),
        classes=tuple(str(name) for name in raw["class_names"][1:]),
        f1=None if f1 is None else float(f1),
        n_train_images=int(raw["n_train_images"]),
        about=str(raw.get("about", "")),
        roles=tuple(str(role) for role in raw.get("roles", ())),
        n_dims=int(network.get("n_dims", 2)),
        upscale=int(network.get("upscale", 1)),
    )


def _foreign(path: Path) -> ModelError:
    return ModelError(
        "NU-M01",
        f"{path} is not a napari-unet model: give a .unet file that napari-unet wrote",
    )


def _damaged(path: Path) -> ModelError:
    return ModelError(
        "NU-M02", f"{path} is a damaged model file: copy it again, or train it again"
    )
