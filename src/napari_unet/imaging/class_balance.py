"""How many pixels of each class are known, over the planes of a stack."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.targets import cut_annotation
from napari_unet.imaging.windows import box_of, grow

if TYPE_CHECKING:
    from napari_unet.imaging.arrays import Annotation


def count_classes(annotation: Annotation, *, n_dims: int = 2) -> tuple[int, ...]:
    """Return how many pixels of each class training knows.

    Touching cells are cut apart first, so their gaps count as background.

    Parameters
    ----------
    annotation : Annotation
        What is painted, ([T,] [Z,] Y, X).
    n_dims : int
        2 takes each plane of a stack by itself, 3 takes volumes.

    Returns
    -------
    tuple of int
        In the order of ``annotation.class_names``.

    Examples
    --------
    >>> from napari_unet.imaging.arrays import Annotation
    >>> labels = np.array([[1, 1, 1, 2, 2, 2, 0, 0]])
    >>> count_classes(Annotation.complete(labels))
    (4, 4)
    """
    counts = np.zeros(len(annotation.class_names), np.int64)
    counts[0] = np.count_nonzero(annotation.is_known & (annotation.labels == 0))
    # Most planes of a stack are empty, or nearly.
    box = box_of(annotation.labels > 0)
    if box is not None:
        shape = annotation.labels.shape
        box = grow(box, (1,) * len(shape), shape)
        labels, known = annotation.labels[box], annotation.is_known[box]
        part = replace(annotation, labels=labels, known=known)
        kinds = cut_annotation(part, n_dims=n_dims).class_map()[labels > 0]
        counts += np.bincount(kinds, minlength=len(counts))
    return tuple(counts.tolist())


def share_of(counts: tuple[int, ...]) -> tuple[float, ...]:
    """Return each class's share of the known pixels; 0 where nothing is known.

    Examples
    --------
    >>> share_of((3, 1))
    (0.75, 0.25)
    >>> share_of((0, 0))
    (0.0, 0.0)
    """
    n = sum(counts)
    return tuple(count / n if n else 0.0 for count in counts)
