"""One number for a set of training data, to tell whether two models saw the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.files.lazy import part_of
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.imaging.windows import blocks
from napari_unet.learning.data.pairs import Pair

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_unet.learning.data.pairs import LazyPair

_BLOCK_PX = 1024**2


def fingerprint(pairs: Iterable[tuple[Image, Annotation]]) -> str:
    """Return a sha256 over images and their annotations as they were given, in hex.

    It depends on pixels, dtypes, shapes, labels, what is known, and the classes; not
    on the order of the pairs, nor on names of files, colours or pixel sizes.

    Parameters
    ----------
    pairs : iterable of (Image, Annotation)
        What is learned from.

    Examples
    --------
    >>> from napari_unet.imaging.arrays import Annotation, Image
    >>> image = Image(np.zeros((1, 2, 2), np.uint8))
    >>> a = (image, Annotation.complete(np.array([[0, 1], [0, 1]])))
    >>> b = (image, Annotation.complete(np.array([[0, 1], [1, 1]])))
    >>> fingerprint([a, b]) == fingerprint([b, a]) != fingerprint([a, a])
    True
    """
    return of_digests(_of_pair(image, annotation) for image, annotation in pairs)


def of_digests(digests: Iterable[bytes]) -> str:
    """Return the fingerprint of pairs from the digest of each, in any order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


class PairDigest:
    """A sha256 over one pair, which is handed in block by block.

    Blocks are those of about 1024 x 1024 px of `imaging.windows.blocks`, plane by
    plane: a plane of that size at most is hashed as a whole.

    Parameters
    ----------
    pair : Pair or LazyPair
        Of which dtype, shape and classes are taken.
    """

    def __init__(self, pair: Pair | LazyPair) -> None:
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


def _of_pair(image: Image, annotation: Annotation) -> bytes:
    digest = PairDigest(Pair(image, annotation))
    for index in np.ndindex(image.stack_shape):
        for window in blocks(image.plane_shape, _BLOCK_PX):
            pixels = np.asarray(image.data[(slice(None), *index, *window)])
            digest.add(pixels, part_of(annotation, index, window))
    return digest.whole()


def _bytes(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
