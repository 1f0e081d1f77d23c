"""Reading PNG: 8 and 16 bits, grey, colour and palettes."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
from PIL.PngImagePlugin import PngImageFile

from napari_unet.errors import ImageError
from napari_unet.files.stored import (
    Stored,
    check_claimed_size,
    check_read_whole,
    name_of,
)

if TYPE_CHECKING:
    from pathlib import Path

_RAISED_ON_DAMAGE = (
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_GREY, _COLOUR, _PALETTE, _GREY_ALPHA, _COLOUR_ALPHA = 0, 2, 3, 4, 6
_N_SAMPLES = {_GREY: 1, _COLOUR: 3, _PALETTE: 1, _GREY_ALPHA: 2, _COLOUR_ALPHA: 4}


def read_png(path: Path, *, palette_as_ids: bool = False) -> Stored:
    """Read a PNG.

    Parameters
    ----------
    path : Path
        A file that starts with a PNG's magic number.
    palette_as_ids : bool
        Return the numbers of a palette, as label images use them, not its colours.

    Raises
    ------
    ImageError
        Truncated or damaged (NU-I02), or claims more than it can hold (NU-I03).
    """
    content = path.read_bytes()
    try:
        width, height, depth, kind = struct.unpack_from(">IIBB", content, 16)
        shape = (height, width, _N_SAMPLES[kind])
        check_claimed_size(name_of(path), shape, max(depth // 8, 1), len(content))
        check_read_whole(name_of(path), shape)
        array = _decode(path, content, depth, kind, palette_as_ids)
    except _RAISED_ON_DAMAGE as error:
        raise ImageError(
            "NU-I02",
            f"{name_of(path)} is damaged or truncated: get it again from its source "
            f"({error})",
        ) from error
    if array.ndim == 2:
        return Stored(array=array, axes="YX")
    notes: tuple[str, ...] = ()
    if array.shape[2] in {2, 4}:
        array = array[..., :-1]
        notes = (f"{name_of(path)} has an alpha channel, which was dropped",)
    if array.shape[2] == 1:
        return Stored(array=array[..., 0], axes="YX", notes=notes)
    names = ("red", "green", "blue")
    return Stored(array=array, axes="YXS", channel_names=names, notes=notes)


def _decode(
    path: Path, content: bytes, depth: int, kind: int, palette_as_ids: bool
) -> np.ndarray:
    if depth == 16:  # Pillow would cut colours to 8 bits
        return np.asarray(imagecodecs.png_decode(content))
    # Not Image.open: it warns about large pictures, whose size is checked here.
    with path.open("rb") as file, PngImageFile(file) as picture:
        picture.load()
        if kind == _PALETTE and not palette_as_ids:
            return np.asarray(picture.convert("RGB"))
        return np.asarray(picture)
