"""What the preview sheet shows of each file: a thumbnail, and its cells' size."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.files.jpeg import jpeg_writer, read_text
from napari_unet.imaging.instances import has_cells
from napari_unet.imaging.thumbnails import caption, sizes_of, thumbnail
from napari_unet.learning.applying.blocks import pixel_size_of_outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.model import Model


@dataclass(frozen=True)
class Facts:
    """What a thumbnail keeps about the file that it shows.

    Parameters
    ----------
    caption : str
        What of the image is drawn; empty if all.
    median_px : float, optional
        Median size of a cell: area, or volume, in pixels.
    pixel_um : float, optional
        Size of such a pixel in square (or cubic) micrometres.
    """

    caption: str = ""
    median_px: float | None = None
    pixel_um: float | None = None

    @classmethod
    def of(cls, path: Path) -> Facts:
        """Return what a thumbnail keeps; nothing where it can't be read."""
        try:
            return cls(**json.loads(read_text(path)))
        except (ValueError, TypeError, RecursionError):
            return cls()


def preview_writer(
    model: Model, image: Image, made: Any, *, is_labels: bool
) -> Callable[[BinaryIO], None]:
    """Return what writes the thumbnail of a file.

    Parameters
    ----------
    model : Model
        The model that was applied.
    image : Image
        What it was applied to; may be lazy.
    made : array
        What it found: labels of int ([T,] [Z,] Y, X), may be lazy; else the outputs
        (K, [T,] [Z,] Y, X), whose first one is drawn.
    is_labels : bool
        Which of these.
    """
    if not is_labels:
        shown = replace(image, data=made[:1], channel_names=())
        return jpeg_writer(thumbnail(shown), json.dumps(asdict(Facts(caption(shown)))))
    n_dims = model.network.n_dims
    median = None
    if has_cells(model.roles):
        sizes = sizes_of(made, list(np.ndindex(tuple(made.shape[:-n_dims]))))
        median = float(np.median(sizes)) if len(sizes) else None
    pixel_size = pixel_size_of_outputs(model, image)
    facts = Facts(
        caption(image),
        median,
        None if pixel_size is None else math.prod(pixel_size[-n_dims:]),
    )
    cell_px = None if median is None else _diameter(median, n_dims)
    pixels = thumbnail(image, made, cell_px=cell_px)
    return jpeg_writer(pixels, json.dumps(asdict(facts)))


def _diameter(size: float, n_dims: int) -> float:
    """Return the diameter of a disk of an area, or of a ball of a volume."""
    if n_dims == 2:
        return math.sqrt(4 * size / math.pi)
    return math.cbrt(6 * size / math.pi)
