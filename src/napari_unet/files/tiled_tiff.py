"""Large labels as a tiled OME-TIFF, written tile by tile."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_unet.files.ome_tiff import size_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from napari_unet.files.ome_zarr import LabelStore

# Offsets in a TIFF are 32 bits, those in a BigTIFF 64; some are for what describes it.
_LARGEST_TIFF_BYTES = 2**32 - 2**25


def tiled_labels_writer(
    store: LabelStore, *, axes: str, pixel_size_um: Sequence[float] | None = None
) -> Callable[[BinaryIO], None]:
    """Return what writes labels into a file as a tiled OME-TIFF, or BigTIFF over 4 GB.

    The same labels give the same bytes. One tile is in memory at a time.

    Parameters
    ----------
    store : LabelStore
        Holds the labels ([T,] [Z,] Y, X), in chunks of one plane each. Written as
        uint16, or uint32 where an id is above 65,535.
    axes : str
        One letter an axis, such as ``"ZYX"``.
    pixel_size_um : sequence of float, optional
        Along ([Z,] Y, X), in micrometres.
    """
    shape = tuple(int(n) for n in store.array.shape)
    # Chunk by chunk in the order of the pages, which is that of the chunks.
    content = hashlib.sha256(repr((shape, axes, pixel_size_um)).encode())
    largest = 0
    for where in store.chunks():
        labels = store.read(where)
        content.update(np.ascontiguousarray(labels).data)
        largest = max(largest, int(labels.max()))
    dtype = np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32
    identity = uuid.UUID(bytes=content.digest()[:16], version=4)
    side_y, side_x = (-(-n // 16) * 16 for n in store.array.chunks[-2:])
    n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize

    def tiles() -> Iterator[NDArray[Any]]:
        for where in store.chunks():
            labels = store.read(where).astype(dtype)
            yield labels.reshape(labels.shape[-2:])

    def write(file: BinaryIO) -> None:
        tifffile.imwrite(
            file,
            tiles(),
            shape=shape,
            dtype=dtype,
            tile=(side_y, side_x),
            bigtiff=n_bytes > _LARGEST_TIFF_BYTES,
            ome=True,
            photometric="minisblack",
            compression="zlib",
            software="napari-unet",
            maxworkers=1,
            metadata={
                "axes": axes,
                "UUID": f"urn:uuid:{identity}",
                **size_metadata(axes, pixel_size_um),
            },
        )

    return write
