"""How large blocks are for a model's cells, and the pixels of what it makes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_unet.imaging.blockwise import Cutting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.model import Model


def cutting_for(model: Model, factors: Sequence[float]) -> Cutting:
    """Return how to cut what a model makes of an image, to find its cells.

    Parameters
    ----------
    model : Model
        How large its cells are counts, where it knows.
    factors : sequence of float
        Pixels that the network sees for each of the image, one an axis ([Z,] Y, X).
    """
    cell_px = model.working_cell_px
    if cell_px is not None:
        cell_px *= model.network.upscale / math.prod(factors) ** (1 / len(factors))
    return Cutting.of(cell_px, model.network.n_dims)


def pixel_size_of_outputs(model: Model, image: Image) -> tuple[float, ...] | None:
    """Return the pixel size of what a model makes of an image, in micrometres.

    Parameters
    ----------
    model : Model
        One with ``upscale`` above 1 makes finer pixels.
    image : Image
        Its pixel size ([Z,] Y, X) counts.
    """
    if image.pixel_size_um is None or model.network.upscale == 1:
        return image.pixel_size_um
    n_coarse = len(image.pixel_size_um) - model.network.n_dims
    return tuple(
        size if axis < n_coarse else size / model.network.upscale
        for axis, size in enumerate(image.pixel_size_um)
    )
