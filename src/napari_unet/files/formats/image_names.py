"""Names of images in the files of others: relative, and never outside a folder."""

from __future__ import annotations

import re

from napari_unet.errors import LabelError

_DRIVE_OR_URL = re.compile(r"[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*:/")
_MAX_LENGTH = 1000


def image_name(text: str, source: str) -> str:
    r"""Return the relative name of an image as a file gives it, with / between parts.

    Nothing that leaves the image folder passes, whatever the system.

    Parameters
    ----------
    text : str
        As the file has it; backslashes separate parts, too.
    source : str
        The file; named in the message.

    Raises
    ------
    LabelError
        An absolute path, a drive, a share, an address, ``..``, a character that is
        not printed, or no name at all (NU-A01).

    Examples
    --------
    >>> image_name(r".\day 1\a.tif", "cells.json")
    'day 1/a.tif'
    """
    name = text.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    # Windows takes dots and spaces off the end of a name: ".. " is "..".
    climbs = any(not part.strip(" .") for part in parts)
    is_elsewhere = name.startswith("/") or _DRIVE_OR_URL.match(name) is not None
    if climbs or is_elsewhere:
        raise LabelError(
            "NU-A01",
            f"{source} names the image {text[:100]!r}, which escapes the image folder: "
            "give its path relative to that folder",
        )
    if wrong := _what_is_wrong(name, parts):
        raise LabelError(
            "NU-A01",
            f"{source} names the image {text[:100]!r}, which {wrong}: rename the image",
        )
    return "/".join(parts)


def _what_is_wrong(name: str, parts: list[str]) -> str:
    if not parts:
        return "is no name of a file"
    if len(name) > _MAX_LENGTH:
        return f"has more than {_MAX_LENGTH:,} characters"
    odd = next((c for c in name if not c.isprintable()), "")
    what = {"\n": "a line break", "\t": "a tab"}.get(odd, "a character")
    return f"has {what} in it that is not printed ({odd!r})" if odd else ""
