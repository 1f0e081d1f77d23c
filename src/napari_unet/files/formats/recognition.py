"""Which format an annotation is in, by its name and a look at its first bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HEAD_BYTES = 64 * 2**10
# Not mask000.tif alone: other people call the mask of a single image so.
_OF_CTC = re.compile(
    r"(man|res)_track\.txt|man_(track|seg)_?\d{3,}(_\d{3,})?\.tiff?", re.IGNORECASE
)
_OURS = re.compile(r'"format"\s*:\s*"napari-unet annotation"')
_COCO_LIST = re.compile(r'"(images|annotations|categories)"\s*:\s*\[')
_COCO_ENTRY = re.compile(r'"(file_name|image_id|category_id|supercategory)"\s*:')
_GEOJSON = re.compile(
    r'"type"\s*:\s*"(Feature|FeatureCollection|GeometryCollection|(Multi)?Polygon)"'
)


def kind_of(path: Path) -> str | None:
    """Return the name of the format that a file or folder is in.

    Quick, whatever the file's size: it looks at the name and the first bytes. What
    is no annotation at all may still fail to be read.

    Parameters
    ----------
    path : Path
        A file or a folder.

    Returns
    -------
    str or None
        A key of `FORMATS`; None where it is in none of them, or can't be read.
    """
    try:
        if path.is_dir():
            return "ctc" if _is_of_ctc(path) else None
        if not path.is_file():  # a pipe would be waited for
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    name = path.name.lower()
    if name.endswith((".tif", ".tiff", ".png")):
        return "tiff"
    if name.endswith((".zip", ".roi")):
        is_set = head.startswith(b"Iout") or _is_zip_of_rois(head)
        return "imagej" if is_set else None
    if name.endswith("_seg.npy"):
        return "cellpose" if head.startswith(b"\x93NUMPY") else None
    if name.endswith((".json", ".geojson")):
        return _kind_of_json(head)
    return None


def _is_of_ctc(folder: Path) -> bool:
    """Return whether a folder, or that of its truth, has the challenge's files."""
    places = [p for p in (folder, folder / "SEG", folder / "TRA") if p.is_dir()]
    return any(
        _OF_CTC.fullmatch(path.name) for place in places for path in place.iterdir()
    )


def _is_zip_of_rois(head: bytes) -> bool:
    """Return whether the first bytes of a zip name a ROI.

    The list of all names stands at its end, and a hostile one would take memory.
    """
    return any(
        name.endswith(b".roi") and not name.startswith(b"__macosx")
        for name in map(bytes.lower, _names_in(head))
    )


def _names_in(head: bytes) -> Iterator[bytes]:
    """Yield the names in the local headers of a zip (APPNOTE 4.3.7)."""
    for found in re.finditer(rb"PK\x03\x04.{22}(..)..", head, re.DOTALL):
        length = int.from_bytes(found[1], "little")
        yield head[found.end() : found.end() + length]


def _kind_of_json(head: bytes) -> str | None:
    text = head.decode("utf-8-sig", "replace").lstrip()
    if not text.startswith(("{", "[")):
        return None
    if _OURS.search(text):
        return "tiff"
    if _GEOJSON.search(text):
        return "geojson"
    is_coco = _COCO_LIST.search(text) and _COCO_ENTRY.search(text)
    return "coco" if is_coco else None
