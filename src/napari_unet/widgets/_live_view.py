"""The part of the annotation that is on screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.events import Region
from napari_unet.widgets._layer_edits import on_screen
from napari_unet.widgets._layers import full_resolution

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

_MOST_PX = 1024


def visible_region(viewer: ViewerModel, grid: Layer, source: str) -> Region | None:
    """Return the window of a layer that the user sees, at most 1024 px a side.

    Parameters
    ----------
    viewer : napari viewer
        Whose canvas and slice count.
    grid : napari layer
        Has the pixels of the image: the annotation, or the image itself. A larger part
        of it is cut to its middle.
    source : str
        Name of the image.

    Returns
    -------
    Region or None
        None where nothing of it is on screen, or no slice of Y and X.
    """
    try:
        plane = on_screen(viewer, grid)
    except LabelError:
        return None
    shape = np.array(full_resolution(grid).shape[: grid.ndim][-2:])
    corners = np.asarray(grid.corner_pixels)
    if getattr(grid, "multiscale", False):
        # They are in pixels of the level that is drawn.
        corners = np.round(corners * grid.downsample_factors[grid.data_level])
    low, high = corners[:, -2:].astype(int)
    low, high = np.clip(low, 0, shape), np.clip(high + 1, 0, shape)
    if viewer.dims.ndisplay != 2 or (high - low <= 1).any():
        return None
    size = np.minimum(high - low, _MOST_PX)
    start = low + (high - low - size) // 2
    return Region(
        image=0,
        plane=plane,
        start=(int(start[0]), int(start[1])),
        shape=(int(size[0]), int(size[1])),
        source=source,
    )
