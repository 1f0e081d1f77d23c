"""What one file holds, before its axes are put in order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_MAX_PIXELS = 4_000_000_000
_MAX_UNCHECKED_BYTES = 256 * 2**20
# Deflate, the densest codec in wide use, reaches 1032 : 1.
_MAX_RATIO = 1100


@dataclass(frozen=True, eq=False)
class Stored:
    """An array as a file holds it, with what the file says about it.

    Parameters
    ----------
    array : ndarray
        The pixels; of a large file what reads them when it is sliced
        (`napari_unet.files.lazy_array.LazyArray`).
    axes : str
        One letter an axis: T, C, Z, Y, X, S for the samples of a colour picture;
        any other letter is an axis that nothing names.
    pixel_size_um : mapping of str to float
        Size of a pixel along Z, Y and X in micrometres, where the file says so.
    channel_names : tuple of str
        Names of the channels, or empty.
    notes : tuple of str
        What the user should know about the way the file was read.
    """

    array: NDArray[Any]
    axes: str
    pixel_size_um: Mapping[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def name_of(path: Path) -> str:
    """Return what messages call a file: its folder and its name.

    The name alone would not tell an image from its mask.

    Examples
    --------
    >>> Path(name_of(Path("day 1", "masks", "a.tif"))).as_posix()
    'masks/a.tif'
    """
    return str(Path(*path.parts[-2:]))


def check_claimed_size(
    name: str, shape: tuple[int, ...], itemsize: int, file_size: int
) -> None:
    """Raise before anything is read that the file can't hold.

    Parameters
    ----------
    name : str
        Named in the message.
    shape : tuple of int
        Shape that the file claims.
    itemsize : int
        Bytes of one value.
    file_size : int
        Size of the file in bytes.

    Raises
    ------
    ImageError
        More than any compression could have put into the file (NU-I03).
    """
    n_bytes = math.prod(shape) * itemsize
    if n_bytes > max(_MAX_UNCHECKED_BYTES, _MAX_RATIO * file_size):
        raise ImageError(
            "NU-I03",
            f"{name} claims {n_bytes / 1e9:,.2f} GB but the file has {file_size:,} "
            "bytes: it is damaged, get it again from its source",
        )


def check_read_whole(name: str, shape: tuple[int, ...]) -> None:
    """Raise before more is allocated than is read at once.

    Parameters
    ----------
    name : str
        Named in the message.
    shape : tuple of int
        Shape of what is read.

    Raises
    ------
    ImageError
        Too many pixels (NU-I03).
    """
    n_pixels = math.prod(shape)
    if n_pixels > _MAX_PIXELS:
        raise ImageError(
            "NU-I03",
            f"{name} claims {n_pixels:,} pixels but at most {_MAX_PIXELS:,} are read "
            "at once: split or crop it",
        )
