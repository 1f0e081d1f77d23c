"""Cells that a model had found and another one misses."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_unet.events import Region, WorseCell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.learning.data.planes import Plane
    from napari_unet.learning.quality.uncertainty import Both

_CLEARLY = 0.1


def worse_cells(pairs: Sequence[Both]) -> tuple[WorseCell, ...]:
    """Return what the one model had found and the other misses, the worst first.

    A cell is missed where it was matched at IoU 0.5 and is not any more, or where its
    IoU fell by more than 0.1.

    Parameters
    ----------
    pairs : sequence of (Piece, (Seen, Seen), (outputs, outputs))
        What the one and the other model gave for each piece.

    Returns
    -------
    tuple of WorseCell
        Regions and middles in pixels of the image, at its own scale; the region is
        the box around the cell.
    """
    found = []
    for k, (piece, (old, new), _) in enumerate(pairs):
        if old.cells is None or new.cells is None or piece.cells is None:
            continue
        drop = old.cells.best_iou - new.cells.best_iou
        is_lost = (new.cells.matched_iou == 0) | (drop > _CLEARLY)
        boxes = ndimage.find_objects(piece.cells.labels)
        for row in np.flatnonzero((old.cells.matched_iou > 0) & is_lost):
            label = int(old.cells.label[row])
            region = _region(piece.plane, k)
            scale = [
                n / m for n, m in zip(region.shape, piece.plane.shape, strict=True)
            ]
            found.append(
                WorseCell(
                    _box_in_image(region, boxes[label - 1], scale),
                    label,
                    _in_image(region, old.cells.middle[row], scale),
                    float(old.cells.best_iou[row]),
                    float(new.cells.best_iou[row]),
                )
            )
    return tuple(sorted(found, key=lambda cell: cell.iou_now - cell.iou_before))


def _region(plane: Plane, k: int) -> Region:
    return plane.region or Region(k, (), (0, 0), plane.shape)


def _in_image(
    region: Region, at: NDArray[np.float64], scale: Sequence[float]
) -> tuple[float, float]:
    """Return where a point of a plane lies in the image; pixels have centres."""
    y, x = (
        start + (float(p) + 0.5) * s - 0.5
        for start, p, s in zip(region.start, at, scale, strict=True)
    )
    return y, x


def _box_in_image(
    region: Region, box: tuple[slice, slice], scale: Sequence[float]
) -> Region:
    starts = [math.floor(b.start * s) for b, s in zip(box, scale, strict=True)]
    stops = [math.ceil(b.stop * s) for b, s in zip(box, scale, strict=True)]
    y, x = (a + n for a, n in zip(region.start, starts, strict=True))
    height, width = (b - a for a, b in zip(starts, stops, strict=True))
    return replace(region, start=(y, x), shape=(height, width))
