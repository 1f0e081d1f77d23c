"""In which units images are made: those of the image they are made from, or their own.

A network sees intensities from 0 to 1, whatever the camera. What it makes of them has
to become intensities again, and there are two ways. Of an image without its noise, or
with finer pixels, the image itself says how bright it is: what was recorded twice as
bright comes out twice as bright. Of another stain or contrast it says nothing, and the
images that were learned from do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.intensity import IntensityRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.data.summaries import PairSummary
    from napari_unet.learning.model import Model

# Real images without and with noise correlate by 0.96 and more, other stains of the
# same cells by 0.75 and less.
_ALIKE = 0.9
# Noise makes the range of an image wider than that of what is behind it.
_SAME_SCALE = 3.0
_BLOCK_PX = 8
_MOST_PX = 1024


def likeness(image: Image, made: Image) -> float:
    """Return how alike two images are but for noise and sharpness, -1 to 1.

    The correlation of means over 8 x 8 pixels, in the middle plane, of the channel in
    which it is lowest.

    Parameters
    ----------
    image, made : Image
        The second one as fine, or 2 or 4 times finer.

    Returns
    -------
    float
        -1 where they have not as many channels, or one of them no contrast.
    """
    if image.n_channels != made.n_channels:
        return -1.0
    finer = made.shape[-1] // image.shape[-1]
    index = tuple(n // 2 for n in image.stack_shape)
    sides = [min(n, _MOST_PX) for n in image.plane_shape]
    block = max(1, min(_BLOCK_PX, min(sides) // 4))
    found = []
    for channel in range(image.n_channels):
        first, second = (
            _means(picture, (channel, *index), [u * n for n in sides], u * block)
            for picture, u in ((image, 1), (made, finer))
        )
        known = np.isfinite(first) & np.isfinite(second)
        a, b = first[known], second[known]
        has_contrast = a.size > 1 and min(a.std(), b.std()) > 0
        found.append(np.corrcoef(a, b)[0, 1] if has_contrast else -1.0)
    return float(min(found))


def _means(
    image: Image, index: tuple[int, ...], sides: Sequence[int], block: int
) -> NDArray[np.float64]:
    """Return the means over blocks of the middle of a plane, shape (n,)."""
    window = []
    for n, side in zip(image.plane_shape, sides, strict=True):
        start, whole = (n - side) // 2, side // block * block
        window.append(slice(start, start + whole))
    plane = np.asarray(image.data[(*index, *window)]).astype(np.float64)
    height, width = (n // block for n in plane.shape)
    squares = plane.reshape(height, block, width, block)
    return np.asarray(squares.mean(axis=(1, 3)).ravel())


def follow_the_image(pairs: Sequence[PairSummary]) -> bool:
    """Whether images are made that show the same as those they are made from."""
    return bool(pairs) and float(np.median([p.likeness for p in pairs])) > _ALIKE


def units_for(
    start: Model | None, pairs: Sequence[PairSummary], spans: Sequence[IntensityRange]
) -> tuple[IntensityRange, bool]:
    """Return what 0 and 1 of what a network makes stand for.

    Parameters
    ----------
    start : Model, optional
        The model to start from, whose units stay.
    pairs : sequence of PairSummary
        What is learned from.
    spans : sequence of IntensityRange
        What becomes 0 and 1 of each image.

    Returns
    -------
    range : IntensityRange
        Medians over the pairs: of the ranges of what is to be made, or, where that
        follows the image, of these in shares of the image's own range; 0 and 1 where
        both are about as bright.
    follows : bool
        Whether what is made follows the brightness of the image.
    """
    if start is not None and start.value_range is not None:
        return start.value_range, start.values_follow_image
    made = [pair.value_span for pair in pairs if pair.value_span is not None]
    if not follow_the_image(pairs):
        low = np.median([span.low for span in made], axis=0)
        high = np.median([span.high for span in made], axis=0)
        return IntensityRange(tuple(low.tolist()), tuple(high.tolist())), False
    low, high = _in_shares(made, spans)
    if are_of_one_scale(pairs):
        low, high = np.zeros_like(low), np.ones_like(high)
    return IntensityRange(tuple(low.tolist()), tuple(high.tolist())), True


def are_of_one_scale(pairs: Sequence[PairSummary]) -> bool:
    """Whether what is made is about as bright as what it is made from."""
    made = [pair.value_span for pair in pairs if pair.value_span is not None]
    low, high = _in_shares(made, [pair.span for pair in pairs])
    extent = high - low
    is_alike = (extent >= 1 / _SAME_SCALE) & (extent <= _SAME_SCALE) & (low < 1)
    return bool((is_alike & (high > 0)).all())


def _in_shares(
    made: Sequence[IntensityRange], spans: Sequence[IntensityRange]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median ends of what is made, in shares of the images' ranges."""
    shares = []
    for own, image in zip(made, spans, strict=True):
        low, high = np.array(image.low), np.array(image.high)
        extent = np.where(high > low, high - low, 1.0)
        shares.append((np.array([own.low, own.high]) - low) / extent)
    low, high = np.median(shares, axis=0)
    return low, np.where(high > low, high, low + 1.0)


def span_of_values(
    values: IntensityRange, follows: bool, image: IntensityRange
) -> IntensityRange:
    """Return the intensities that 0 and 1 of what a network makes stand for.

    Parameters
    ----------
    values, follows
        As `units_for` returned them, one channel a value.
    image : IntensityRange
        What became 0 and 1 of the image that it is made from.

    Examples
    --------
    >>> half, seen = IntensityRange((0.0,), (0.5,)), IntensityRange((100.0,), (300.0,))
    >>> span_of_values(half, True, seen)
    IntensityRange(low=(100.0,), high=(200.0,))
    """
    if not follows:
        return values
    ends = []
    for share in (values.low, values.high):
        each = zip(share, image.low, image.high, strict=True)
        ends.append(tuple(low + s * (high - low) for s, low, high in each))
    return IntensityRange(ends[0], ends[1])
