"""The masks of Cellpose: `<image>_seg.npy`. Read only.

numpy stores Cellpose's dict as a pickle, whose loading would run whatever the file
asks for; `read_pickle` runs nothing.
"""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import FolderError, LabelError
from napari_unet.files.annotations import StoredAnnotation
from napari_unet.files.formats.pickled import Made, PickleError, read_pickle
from napari_unet.files.kinds import check_is_file, not_readable
from napari_unet.files.stored import name_of
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_BYTES = 2 * 2**30
# numpy's header of one object: `numpy.lib.format` would hand a hostile description to
# its dtype parser, and there is only this one to accept.
_HEADER = re.compile(
    rb"\x93NUMPY[\x01-\x03]\x00.{2}(?:\x00\x00)?"
    rb"\{'descr': '\|O', 'fortran_order': (?:True|False), 'shape': \(\), \} *\n",
    re.DOTALL,
)
_WHOLE_NUMBERS = re.compile(r"[iu][1248]|b1")
_SUFFIX = "_seg"


def read_cellpose(
    path: str | Path,
    *,
    shape: tuple[int, ...] | None = None,
    notes: list[str] | None = None,
) -> StoredAnnotation:
    """Read the masks of a `_seg.npy` that Cellpose wrote.

    Its outlines, colours, flows and settings are left out. Nothing in the file is
    executed. What unpainted pixels are is left open (`unpainted` is None).

    Parameters
    ----------
    path : path
        File to read.
    shape : tuple of int, optional
        Shape ([T,] [Z,] Y, X) of the image that is labelled; the masks must have it.
    notes : list of str, optional
        What the user should know about the way the file was read is added here.

    Raises
    ------
    FolderError
        No such file (NU-F01), not readable (NU-F04).
    LabelError
        Not a file of Cellpose, or a damaged one (NU-L11), masks of another shape
        (NU-L02), or no whole numbers up to 2**31 - 1 (NU-L01).
    """
    path = Path(path)
    name = name_of(path)
    content = _read(path)
    header = _HEADER.match(content)
    if header is None:
        raise _refused(name, "it does not start as numpy writes a dict")
    try:
        held = _dict_in(read_pickle(content[header.end() :]))
        masks = _array(held.get("masks"))
    except PickleError as error:
        raise _refused(name, str(error)) from error
    if shape is not None and masks.shape != tuple(shape):
        raise LabelError(
            "NU-L02",
            f"{name} has masks of shape {masks.shape} but the image has {shape}: "
            "open it on the image that it was made for",
        )
    if notes is not None:
        notes.extend(_notes_on_image(held.get("filename"), path))
    annotation = Annotation(labels=masks, source=str(path))
    return StoredAnnotation(annotation, axes={2: "YX", 3: "ZYX"}.get(masks.ndim, ""))


def _read(path: Path) -> bytes:
    try:
        check_is_file(path)
        if path.stat().st_size > _MAX_BYTES:
            raise LabelError(
                "NU-L11",
                f"{name_of(path)} has {path.stat().st_size:,} bytes, but at most "
                f"{_MAX_BYTES:,} are read: save the masks as a TIFF in Cellpose",
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FolderError(
            "NU-F01", f"there is no file {path}: check the path"
        ) from error
    except OSError as error:
        raise not_readable(path, error) from error


def _refused(name: str, why: str) -> LabelError:
    return LabelError(
        "NU-L11",
        f"{name} is not a sound _seg.npy of Cellpose ({why}): save it again in "
        "Cellpose, or save the masks as a TIFF",
    )


def _dict_in(outer: Any) -> dict[str, Any]:
    """Return the dict that numpy wrapped into an array of one object."""
    match outer:
        case Made(state=(_, (), _, _, [dict() as held])) if "masks" in held:
            return held
    raise PickleError("it holds no masks")


def _array(made: Any) -> NDArray[Any]:
    """Return the array that a pickle describes, once it is sure to be sound."""
    match made:
        case Made(state=(_, tuple() as shape, dtype, is_fortran, data)):
            order = "F" if is_fortran is True else "C"
        case Made(args=(data, dtype, tuple() as shape, "C" | "F" as order)):
            pass  # as protocol 5 writes it
        case _:
            raise PickleError("its masks are no array")
    kind = _dtype(dtype)
    sizes_ok = all(type(n) is int and 0 < n < 2**31 for n in shape)
    if not (sizes_ok and len(shape) in (2, 3)):
        raise PickleError("its masks are neither (Y, X) nor (Z, Y, X)")
    n_bytes = math.prod(shape) * kind.itemsize
    if not isinstance(data, bytes | bytearray) or len(data) != n_bytes:
        raise PickleError("its masks are cut off")
    array = np.frombuffer(data, kind)
    return array.reshape(shape, order="F" if order == "F" else "C")


def _dtype(made: Any) -> np.dtype[Any]:
    match made:
        case Made(args=(str() as kind, *_), state=(_, "<" | ">" | "|" as order, *_)):
            if _WHOLE_NUMBERS.fullmatch(kind):
                found: np.dtype[Any] = np.dtype(order + kind)
                return found
    raise PickleError("its masks are no whole numbers")


def _notes_on_image(filename: Any, path: Path) -> list[str]:
    if isinstance(filename, Made) and all(isinstance(p, str) for p in filename.args):
        filename = "/".join(filename.args)  # a path, not a text
    if not isinstance(filename, str):
        return []
    # The file may come from a computer of another kind.
    image = PurePosixPath(PureWindowsPath(filename).as_posix())
    if image.stem == path.stem.removesuffix(_SUFFIX):
        return []
    shown = "".join(c for c in image.name[:100] if c.isprintable())
    return [f"{name_of(path)} was made for the image {shown}"]
