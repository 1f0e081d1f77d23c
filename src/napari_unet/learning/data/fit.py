"""Whether images are of one kind: pixel sizes, and something to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.intensity import intensity_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.imaging.arrays import Image

_PIXEL_SIZE_TOLERANCE = 0.2


def size_difference(
    own: Sequence[float] | None, other: Sequence[float] | None
) -> tuple[float, float] | None:
    """Return the pixel sizes along Y or X that differ by more than 20 %.

    Parameters
    ----------
    own, other : sequence of float, optional
        Pixel sizes ([Z,] Y, X) in micrometres; None where unknown.

    Returns
    -------
    (float, float) or None
        The two sizes along the axis that differs most; None where none does, or
        where one is not known.
    """
    if not own or not other:
        return None
    pairs = list(zip(own[-2:], other[-2:], strict=True))
    a, b = max(pairs, key=lambda pair: abs(pair[0] / pair[1] - 1))
    return (a, b) if abs(a / b - 1) > _PIXEL_SIZE_TOLERANCE else None


def is_constant(image: Image) -> bool:
    """Return whether no channel has two pixels that differ."""
    # Of nearly all images one row tells it.
    first = (slice(None), *(0 for _ in image.stack_shape), image.plane_shape[0] // 2)
    row = np.asarray(image.data[first])
    if ((row != row[:, :1]) & np.isfinite(row) & np.isfinite(row[:, :1])).any():
        return False
    limits = intensity_range(image)
    return limits.low == limits.high
