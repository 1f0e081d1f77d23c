"""Writing OME-TIFF: the same pixels always give the same bytes."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray


def size_metadata(axes: str, pixel_size_um: Sequence[float] | None) -> dict[str, Any]:
    """Return the pixel size along ([Z,] Y, X) as tifffile's OME metadata."""
    metadata: dict[str, Any] = {}
    spatial = [axis for axis in axes if axis in "ZYX"]
    for axis, size in zip(spatial[::-1], reversed(pixel_size_um or ()), strict=False):
        metadata[f"PhysicalSize{axis}"] = float(size)
        metadata[f"PhysicalSize{axis}Unit"] = "µm"
    return metadata


def ome_tiff(
    array: NDArray[Any], axes: str, metadata: dict[str, Any], *, path: str | Path
) -> Callable[[BinaryIO], None]:
    """Return what writes an array into a file; axes that don't fit it are NU-I09.

    `path` is named in the error.
    """
    if len(axes) != array.ndim or not axes.endswith("YX"):
        raise ImageError(
            "NU-I09",
            f"an array of shape {array.shape} can't be saved to {path} with the axes "
            f"{axes!r}: give one letter for each axis, Y and X last",
        )
    content = hashlib.sha256(repr((array.shape, str(array.dtype), axes)).encode())
    content.update(repr(sorted(metadata.items())).encode())
    content.update(np.ascontiguousarray(array).data)
    # Without a given UUID, two writes of the same pixels differ.
    identity = uuid.UUID(bytes=content.digest()[:16], version=4)

    def write(file: BinaryIO) -> None:
        tifffile.imwrite(
            file,
            array,
            ome=True,
            photometric="minisblack",
            compression="zlib",
            software="napari-unet",
            metadata={"axes": axes, "UUID": f"urn:uuid:{identity}", **metadata},
        )

    return write
