"""What goes wrong while a TIFF is read, as errors of our own."""

from __future__ import annotations

import logging
import re
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_unet.errors import ImageError, UNetError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What tifffile and its codecs raise on damaged files, seen with mutated ones.
_RAISED_ON_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
_TAG_IN_RECORD = re.compile(r"<(?:tifffile\.)?TiffTag (\d+)")
_LIES_OUTSIDE = re.compile(r"invalid value ?offset")
# Tags that say where the pixels are and how to read them; the others only describe.
_PIXEL_TAGS = {*range(254, 267), *range(273, 286), 317, 320, *range(322, 326), 330}
_PIXEL_TAGS |= {338, 339, 347, 512, 513, 514, 530, 531, 532, 32997, 32998}
_FIRST_PRIVATE_TAG = 32768


class Findings(logging.Filter):
    """Take this thread's records out of tifffile's log and keep them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record goes on to the log."""
        if record.thread != self._thread:
            return True
        if record.levelno >= logging.WARNING:
            self.records.append(record)
        return False

    def harmful(self) -> str:
        """Return the first record that puts the pixels in doubt, or nothing."""
        for record in self.records:
            message = record.getMessage()
            tag = _TAG_IN_RECORD.search(message)
            code = int(tag[1]) if tag else 0
            only_describes = code and code not in _PIXEL_TAGS
            if code < _FIRST_PRIVATE_TAG and _LIES_OUTSIDE.search(message):
                only_describes = False  # it lies beyond the end: the file is cut
            if not (only_describes or message.startswith("<tifffile.read_")):
                return message
        return ""


@contextmanager
def reading(name: str) -> Iterator[Findings]:
    """Turn what tifffile raises into errors of our own, and keep what it logs.

    Parameters
    ----------
    name : str
        Of the file, for messages.

    Raises
    ------
    ImageError
        Damaged or truncated (NU-I02), or too large for the memory (NU-I03).
    """
    findings = Findings()
    logger = logging.getLogger("tifffile")
    logger.addFilter(findings)
    try:
        yield findings
    except UNetError:
        raise
    except MemoryError as error:
        raise ImageError(
            "NU-I03", f"{name} does not fit into the memory: split or crop it"
        ) from error
    except _RAISED_ON_DAMAGE as error:
        raise damaged(name, str(error) or type(error).__name__) from error
    finally:
        logger.removeFilter(findings)


def damaged(name: str, why: str) -> ImageError:
    """Return the error for a file whose pixels can't be trusted (NU-I02)."""
    why = " ".join(why.split())[:200]
    return ImageError(
        "NU-I02",
        f"{name} is damaged or truncated: get it again from its source ({why})",
    )
