"""One number for a set of training data, to tell whether two models saw the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.imaging.arrays import Annotation, Image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_unet.learning.data.pairs import LazyPair


def of_digests(digests: Iterable[bytes]) -> str:
    """Return the fingerprint of pairs from the digest of each, in hex, in any order.

    It depends on pixels, dtypes, shapes, labels, what is known, and the classes; not
    on names of files, colours or pixel sizes.
    """
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


class PairDigest:
    """A sha256 over one pair, which is handed in block by block.

    Its blocks have to come in the same order each time (`summaries.summarize`).

    Parameters
    ----------
    pair : LazyPair
        Of which dtype, shape and classes are taken.
    """

    def __init__(self, pair: LazyPair) -> None:
        image, made = pair.image, pair.annotation
        head = f"{np.dtype(image.data.dtype).str} {image.axes} {image.data.shape}"
        self._pixels = hashlib.sha256(head.encode())
        self._labels = hashlib.sha256()
        if isinstance(made, Image):
            self._labels.update(f"{np.dtype(made.data.dtype).str}".encode())
            return
        label_class, areas = sorted(made.label_class.items()), sorted(made.area_classes)
        self._labels.update(f"{(made.class_names, label_class, areas)}".encode())

    def add(self, pixels: NDArray[Any], painted: Annotation | NDArray[Any]) -> None:
        """Add a block: its pixels (C, Y, X), and what is painted or to be made."""
        self._pixels.update(_bytes(pixels))
        if isinstance(painted, Annotation):
            self._labels.update(_bytes(painted.labels.astype("<i4", copy=False)))
            self._labels.update(_bytes(np.packbits(painted.is_known)))
        else:
            self._labels.update(_bytes(painted))

    def pixels(self) -> bytes:
        """Return the digest of the image alone."""
        return self._pixels.digest()

    def whole(self) -> bytes:
        """Return the digest of the pair."""
        return hashlib.sha256(self._pixels.digest() + self._labels.digest()).digest()


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
