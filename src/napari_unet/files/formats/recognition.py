"""Which format an annotation is in, by its name and a look at its first bytes."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
            return "ctc" if any(map(_is_of_ctc, path.iterdir())) else None
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    name = path.name.lower()
    if name.endswith((".tif", ".tiff", ".png")):
        return "tiff"
    if name.endswith((".zip", ".roi")):
        is_set = head.startswith(b"Iout") or _is_zip_of_rois(path, head)
        return "imagej" if is_set else None
    if name.endswith("_seg.npy"):
        return "cellpose" if head.startswith(b"\x93NUMPY") else None
    if name.endswith((".json", ".geojson")):
        return _kind_of_json(head)
    return None


def _is_of_ctc(path: Path) -> bool:
    return _OF_CTC.fullmatch(path.name) is not None


def _is_zip_of_rois(path: Path, head: bytes) -> bool:
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/")]
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False
    return bool(names) and all(name.lower().endswith(".roi") for name in names)


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
