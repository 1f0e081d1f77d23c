"""Small pictures as JPEG, with a text that says what they are of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    import numpy as np
    from numpy.typing import NDArray

_QUALITY = 85


def jpeg_writer(pixels: NDArray[np.uint8], text: str) -> Callable[[BinaryIO], None]:
    """Return what writes a picture into a file; the same pixels give the same bytes.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (Y, X, 3)
        Red, green and blue.
    text : str
        To be kept in the file; 65,000 bytes of UTF-8 at most.
    """
    picture = Image.fromarray(pixels)

    def write(file: BinaryIO) -> None:
        # All colours are kept: lines of one pixel would fade otherwise.
        picture.save(
            file,
            "JPEG",
            quality=_QUALITY,
            subsampling=0,
            optimize=True,
            comment=text.encode(),
        )

    return write


def read_text(path: Path) -> str:
    """Return the text that a JPEG keeps; empty where there is none, or no JPEG."""
    try:
        with path.open("rb") as file, JpegImageFile(file) as picture:
            comment = picture.info.get("comment", b"")
    except (OSError, SyntaxError, ValueError):
        return ""
    return bytes(comment).decode("utf-8", "replace")
