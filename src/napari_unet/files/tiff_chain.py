"""The chain of pages in a TIFF, walked without trusting it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_MAX_TAGS = 4096
_MAX_PAGES = 1_000_000


@dataclass(frozen=True)
class PageChain:
    """How far the chain of pages in a TIFF can be followed.

    Parameters
    ----------
    n_pages : int
        Distinct pages found.
    broken_at : int, optional
        Byte at which a further page should be but is not.
    is_circular : bool
        Whether the last page points back to an earlier one.
    """

    n_pages: int
    broken_at: int | None = None
    is_circular: bool = False


def walk_pages(file: BinaryIO, file_size: int) -> PageChain:
    """Follow the chain of pages (IFDs) of a TIFF or BigTIFF.

    Parameters
    ----------
    file : binary file
        Open for reading; starts with a TIFF's magic number.
    file_size : int
        Size of the file in bytes.

    Returns
    -------
    PageChain
        With `n_pages` 0 where not even the first page can be read.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = head[2:4] in (b"+\0", b"\0+")
    tag_size, at, count, offset = (20, 8, "Q", "Q") if is_big else (12, 4, "H", "I")
    n_bytes = struct.calcsize(offset)
    if len(head) < at + n_bytes:
        return PageChain(0, broken_at=len(head))
    where = struct.unpack_from(order + offset, head, at)[0]
    seen: set[int] = set()
    while where:
        if where in seen:
            return PageChain(len(seen), is_circular=True)
        file.seek(where) if where < file_size else None
        size = struct.calcsize(order + count)
        found = file.read(size) if where < file_size else b""
        n_tags = struct.unpack(order + count, found)[0] if len(found) == size else 0
        link = where + size + n_tags * tag_size
        if not 0 < n_tags <= _MAX_TAGS or link + n_bytes > file_size:
            return PageChain(len(seen), broken_at=where)
        seen.add(where)
        if len(seen) > _MAX_PAGES:
            return PageChain(len(seen), broken_at=where)
        file.seek(link)
        where = struct.unpack(order + offset, file.read(n_bytes))[0]
    return PageChain(len(seen))
