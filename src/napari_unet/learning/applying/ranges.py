"""Between the numbers of an image and those that a network sees and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.imaging.intensity import intensity_range
from napari_unet.learning.data.value_units import span_of_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.model import Model


def image_range(model: Model, image: Image) -> IntensityRange:
    """Return the range that an image is normalised with for a model."""
    if model.normalization.policy == "dataset" and model.dataset_range is not None:
        return model.dataset_range
    return intensity_range(image, model.normalization)


def values_span(model: Model, span: IntensityRange) -> IntensityRange | None:
    """Return what 0 and 1 of the values made of an image stand for; None if unknown.

    Parameters
    ----------
    model : Model
        Of any kind.
    span : IntensityRange
        What the image was normalised with.
    """
    if model.value_range is None:
        return None
    return span_of_values(model.value_range, model.values_follow_image, span)


def in_units(
    found: NDArray[np.float32], roles: Sequence[str], span: IntensityRange | None
) -> NDArray[np.float32]:
    """Return outputs with values in the units of the images that were learned from.

    Parameters
    ----------
    found : ndarray of float32, shape (K, [Z,] Y, X)
        What a network gives.
    roles : sequence of str
        What each output means; all but values stay as they are.
    span : IntensityRange, optional
        What 0 and 1 of the values stand for (see `values_span`).
    """
    values = [i for i, role in enumerate(roles) if role.startswith("value:")]
    if span is None or not values:
        return found
    found = found.copy()
    for i, low, high in zip(values, span.low, span.high, strict=True):
        found[i] = low + found[i] * (high - low)
    return found
