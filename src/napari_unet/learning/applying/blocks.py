"""The cells and the pixels of what a model makes, and how large blocks are for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.blockwise import Cutting, find_all
from napari_unet.imaging.linking import link_frames
from napari_unet.learning.applying.scale import on_own_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig
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


def cells_of(
    model: Model,
    outputs: NDArray[np.float32],
    factors: Sequence[float],
    instances: InstanceConfig | None = None,
    *,
    link: bool = False,
) -> NDArray[np.int32]:
    """Return the cells, plane by plane or volume by volume, ids unique over all.

    Parameters
    ----------
    model : Model
        The one that gave the outputs.
    outputs : ndarray of float32, shape (K, [T,] [Z,] Y, X)
        What it gives for an image.
    factors : sequence of float
        Pixels that the network saw for each of the image, one an axis.
    instances : InstanceConfig, optional
        In pixels of the image; the settings tuned with the model if omitted.
    link : bool
        The first axis is time: a cell has the same id in all frames.

    Returns
    -------
    ndarray of int32, shape ([T,] [Z,] Y, X)
    """
    settings = instances or on_own_grid(model.instances, factors)
    cutting = cutting_for(model, factors)
    labels = np.zeros(outputs.shape[1:], np.int32)
    n_cells = 0
    for index in np.ndindex(labels.shape[: -model.network.n_dims]):
        plane = outputs[(slice(None), *index)]
        found = find_all(plane, model.roles, settings, cutting=cutting)
        labels[index] = np.where(found > 0, found + n_cells, 0)
        n_cells += int(found.max(initial=0))
    return link_frames(labels) if link else labels
