"""One number for a set of training data, to tell whether two models saw the same."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_unet.imaging.arrays import Annotation, Image


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
    parts = sorted(_of_pair(image, annotation) for image, annotation in pairs)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _of_pair(image: Image, annotation: Annotation) -> bytes:
    digest = hashlib.sha256()
    label_class = sorted(annotation.label_class.items())
    areas = sorted(annotation.area_classes)
    classes = (annotation.class_names, label_class, areas)
    head = f"{np.dtype(image.data.dtype).str} {image.axes} {image.data.shape} {classes}"
    digest.update(head.encode())
    for _, plane in image.planes():  # one by one: a stack may not fit into memory
        digest.update(_bytes(plane))
    digest.update(_bytes(annotation.labels.astype("<i4", copy=False)))
    digest.update(_bytes(np.packbits(annotation.is_known)))
    return digest.digest()


def _bytes(array: np.ndarray[Any, Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
