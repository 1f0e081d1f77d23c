"""Intensities from any camera to numbers of about 0 to 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import NormalizationConfig
from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image

_MAX_VALUES = 2**22
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class IntensityRange:
    """What becomes 0 and what becomes 1, for each channel.

    Parameters
    ----------
    low, high : tuple of float
        Intensities, one a channel; equal for a constant channel.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]


def intensity_range(
    image: Image, config: NormalizationConfig | None = None
) -> IntensityRange:
    """Measure an image once, as a whole, whatever part of it is looked at later.

    Percentiles over all planes and frames; of a large image, over a fixed grid of
    at most 2**22 pixels a channel. NaN and infinities do not count. Where the two
    percentiles coincide (few bright pixels on a flat ground) the smallest and the
    largest value stand in. With the policy "standardize" the mean becomes 0, and what
    is one standard deviation above it 1.

    Parameters
    ----------
    image : Image
        Intensities (C, [T,] [Z,] Y, X); lazy data is read sparsely, plane by plane.
    config : NormalizationConfig, optional
        What to measure; without it the percentiles 1 and 99.8.

    Returns
    -------
    IntensityRange
        One low and one high a channel.

    Raises
    ------
    ImageError
        A channel without any finite pixel (NU-I08).

    Examples
    --------
    >>> import numpy as np
    >>> from napari_unet.imaging.arrays import Image
    >>> intensity_range(Image(np.arange(1001.0).reshape(1, 7, 143)))
    IntensityRange(low=(10.0,), high=(998.0,))
    """
    config = NormalizationConfig() if config is None else config
    sample = _sample(image)
    low, high = [], []
    for channel in range(image.n_channels):
        values = sample[channel].astype(np.float64)
        values = values[np.isfinite(values)]
        if values.size == 0:
            raise ImageError(
                "NU-I08",
                f"{image.source} has no finite pixel in channel {channel + 1}: it "
                "holds nothing but NaN or infinity; check how it was saved",
            )
        ends = _ends(values, config)
        low.append(ends[0])
        high.append(ends[1])
    return IntensityRange(tuple(low), tuple(high))


def _ends(
    values: NDArray[np.float64], config: NormalizationConfig
) -> tuple[float, float]:
    """Return what of these values becomes 0 and what becomes 1."""
    if config.policy == "standardize":
        with np.errstate(over="ignore", invalid="ignore"):  # of the largest floats
            mean = values.mean()
            return float(mean), float(mean + values.std())
    ends = np.percentile(values, [config.low_percentile, config.high_percentile])
    if ends[0] == ends[1]:
        ends = np.array([values.min(), values.max()])
    return float(ends[0]), float(ends[1])


def _sample(image: Image) -> NDArray[Any]:
    """Return values on a fixed grid over the whole image, shape (C, n)."""
    n_planes = math.prod(image.stack_shape)
    counts = np.array(image.plane_shape)
    steps = np.ones(2, int)
    while n_planes * counts.prod() > _MAX_VALUES and counts.max() > 1:
        steps[counts.argmax()] += 1
        counts = -(-np.array(image.plane_shape) // steps)
    grid = (slice(None, None, int(steps[0])), slice(None, None, int(steps[1])))
    parts = [
        np.asarray(image.data[(slice(None), *index, *grid)])
        for index in np.ndindex(image.stack_shape)
    ]
    return np.concatenate([p.reshape(image.n_channels, -1) for p in parts], axis=1)


def normalize(data: NDArray[Any], limits: IntensityRange) -> NDArray[np.float32]:
    """Scale intensities so that `low` becomes 0 and `high` becomes 1.

    What is brighter than `high` is above 1, as far as float32 goes. NaN and infinities
    become 0.5; a channel whose `low` and `high` are equal becomes 0.

    Parameters
    ----------
    data : ndarray of a real dtype, shape (C, ...)
        Intensities.
    limits : IntensityRange
        As measured on the whole image.

    Returns
    -------
    ndarray of float32, shape of `data`
        Finite everywhere.

    Raises
    ------
    ImageError
        The channels are not as many as in `limits` (NU-I10).

    Examples
    --------
    >>> import numpy as np
    >>> data = np.array([[100, 150, 200, 300]], np.uint16)
    >>> normalize(data, IntensityRange((100.0,), (200.0,)))
    array([[0. , 0.5, 1. , 2. ]], dtype=float32)
    """
    if len(data) != len(limits.low):
        raise ImageError(
            "NU-I10",
            f"the image has {len(data)} channels but the intensity range "
            f"{len(limits.low)}: give as many channels as were measured",
        )
    scaled = np.zeros(data.shape, np.float32)
    for channel, low in enumerate(limits.low):
        high = limits.high[channel]
        # float64: large offsets would lose the signal in float32.
        values = data[channel].astype(np.float64)
        finite = np.isfinite(values)
        # Halved first: the distance of two huge numbers may not be one.
        span = high / 2 - low / 2
        if span > 0:
            with np.errstate(over="ignore"):  # what overflows is clipped
                values = (values / 2 - low / 2) / span
            scaled[channel] = np.clip(values, -_LARGEST, _LARGEST)
        scaled[channel][~finite] = 0.5
    return scaled
