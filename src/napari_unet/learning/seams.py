"""Whether tiles leave a trace: a prediction beside one whose seams lie elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.config import PredictConfig
from napari_unet.events import TileDone
from napari_unet.files.inputs import as_image
from napari_unet.imaging.instances import has_cells
from napari_unet.learning.applying.blocks import cells_of
from napari_unet.learning.applying.predictor import Predictor
from napari_unet.learning.checkpoint import Model, load_model
from napari_unet.learning.data.pairs import check_channels
from napari_unet.learning.prediction import working_factors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.data.pairs import ImageLike

# Cells that agree less are not the same.
_SAME_IOU = 0.99
_LARGEST_PX = 4096


@dataclass(frozen=True)
class SeamReport:
    """What the places of the seams between tiles change.

    Parameters
    ----------
    tile_size : int
        Side of the tiles, in pixels that the network sees.
    largest_difference : float
        Of any output anywhere: of probabilities, or in the units of what is made.
    n_cells : int
        Cells that were found.
    n_changed : int
        Those that no cell of the other prediction equals at an IoU of 0.99 or more.
    """

    tile_size: int
    largest_difference: float
    n_cells: int
    n_changed: int

    def __str__(self) -> str:
        cells = f", and {self.n_changed} of {self.n_cells} cells change"
        return (
            f"with tiles of {self.tile_size} px in other places outputs change by up "
            f"to {self.largest_difference:.2g}{cells if self.n_cells else ''}"
        )


def seam_report(
    model: Model | Path | str, image: ImageLike, config: PredictConfig | None = None
) -> SeamReport:
    """Predict an image twice, with the seams of tiles in other places, and compare.

    Of planes that are wider or higher than 4,096 px, their middle is predicted.

    Parameters
    ----------
    model : Model or path
        The model to apply.
    image : Image, ndarray (Y, X) or path
        Image of the channels that the model takes.
    config : PredictConfig, optional
        Tile size and halo; a local network with the halo "exact" leaves no trace but
        rounding.

    Raises
    ------
    UNetError
        As `napari_unet.predict`.
    """
    config = config or PredictConfig()
    model = model if isinstance(model, Model) else load_model(model)
    image = _middle(as_image(image))
    check_channels(model, image)
    factors = working_factors(model, image, config)
    first = Predictor(model, image, config, factors)
    second = Predictor(model, image, config, factors, shift=first.tile_size // 2)
    outputs = [_whole(predictor) for predictor in (first, second)]
    largest = float(np.abs(outputs[0] - outputs[1]).max())
    if not has_cells(model.roles):
        return SeamReport(first.tile_size, largest, 0, 0)
    a, b = (cells_of(model, each, factors) for each in outputs)
    return SeamReport(first.tile_size, largest, int(a.max()), _n_changed(a, b))


def _middle(image: Image) -> Image:
    """Return the middle of an image that is too large to be predicted in memory."""
    if max(image.plane_shape) <= _LARGEST_PX:
        return image
    starts = [max(0, n - _LARGEST_PX) // 2 for n in image.plane_shape]
    window = [slice(start, start + _LARGEST_PX) for start in starts]
    before = [slice(None)] * (len(image.shape) - 1)
    return replace(image, data=image.data[(*before, *window)])


def _whole(predictor: Predictor) -> NDArray[np.float32]:
    *_, last = predictor.tiles()
    if not isinstance(last, TileDone):  # pragma: no cover - see Predictor.tiles
        raise TypeError(f"prediction ended with {last!r}")
    return last.outputs


def _n_changed(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """Return how many cells of the one have no equal in the other."""
    both = (a > 0) & (b > 0)
    pairs, common = np.unique(
        np.stack([a[both], b[both]], 1), axis=0, return_counts=True
    )
    sizes = np.bincount(a.ravel()), np.bincount(b.ravel())
    either = sizes[0][pairs[:, 0]] + sizes[1][pairs[:, 1]] - common
    n_same = int((common >= _SAME_IOU * either).sum())
    return int(a.max(initial=0)) - n_same
