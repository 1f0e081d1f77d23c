"""How large the cells of an image are, by a first look with the model itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.config import NormalizationConfig
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.cell_size import next_scale, typical_diameter
from napari_unet.imaging.instances import find_instances
from napari_unet.learning.scale import LARGEST_SCALE, given_scale, on_own_grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_unet.config import PredictConfig
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.model import Model

    # Outputs (K, Y, X) of a model for an image at these factors.
    Run = Callable[[Model, Image, Sequence[float]], NDArray[np.float32]]

# What one look may cost: about a second on a CPU.
_LOOKED_AT_PX = 768
_MOST_LOOKS = 3
# Of fewer cells the size may be chance.
_ENOUGH_CELLS = 3
_NEAR = 0.15


def wants_measuring(model: Model, config: PredictConfig | None) -> bool:
    """Whether a model learned cells at one size, and the user does not say theirs."""
    is_planar = model.network.n_dims == 2 and model.network.upscale == 1
    return model.scales_by_cells and is_planar and given_scale(model, config) is None


def measured_factors(
    model: Model,
    image: Image,
    factors: Sequence[float],
    *,
    span: IntensityRange,
    run: Run,
) -> tuple[float, ...]:
    """Return factors at which an image's cells are as large as the model knows them.

    The middle of the image (of a stack its middle plane) is segmented; what is found
    there tells a better factor, and so on until it changes little, three times at most.

    Parameters
    ----------
    model : Model
        One that knows how large its cells are.
    image : Image
        The image.
    factors : sequence of float
        Where to begin: pixels that the network sees for each of the image.
    span : IntensityRange
        What the whole image is normalised with.
    run : callable
        Applies a model to an image at given factors.
    """
    fixed = replace(
        model,
        normalization=NormalizationConfig(policy="dataset"),
        dataset_range=span,
    )
    wanted = model.working_cell_px or 0.0
    factors = tuple(factors)
    for _ in range(_MOST_LOOKS):
        part = _middle(image, factors)
        outputs = run(fixed, part, factors)
        settings = on_own_grid(model.instances, factors)
        areas = np.bincount(find_instances(outputs, model.roles, settings).ravel())[1:]
        if len(areas) < _ENOUGH_CELLS:
            break
        seen = typical_diameter(areas * np.prod(factors))
        change = next_scale(1.0, seen, wanted)
        if abs(change - 1) <= _NEAR:
            break
        factors = tuple(
            min(max(f * change, 1 / LARGEST_SCALE), LARGEST_SCALE) for f in factors
        )
    return factors


def _middle(image: Image, factors: Sequence[float]) -> Image:
    """Return the middle of an image's middle plane, as much as is looked at."""
    window = []
    for n, factor in zip(image.plane_shape, factors, strict=True):
        side = min(n, max(1, round(_LOOKED_AT_PX / factor)))
        window.append(slice((n - side) // 2, (n - side) // 2 + side))
    plane = tuple(n // 2 for n in image.stack_shape)
    part = np.asarray(image.data[(slice(None), *plane, *window)])
    return Image(part, source=image.source)
