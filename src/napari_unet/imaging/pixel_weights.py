"""How the weight of one pixel comes about, for those who click on the map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_unet.imaging.weight_formulas import combine
from napari_unet.imaging.windows import grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.imaging.weight_formulas import Formula


@dataclass(frozen=True)
class PixelWeight:
    """How the weight of one pixel comes about.

    Parameters
    ----------
    is_known : bool
        Whether something is known there; if not, the weight is 0.
    class_index, class_weight : int, float
        Class of the pixel (0 = background) and its factor w_c.
    border : float
        The border term; 0 inside cells and areas, and where nothing is known.
    weight : float
        What the pixel counts in training: the value of the map.
    d1, d2 : float or None
        Distances to the nearest and the second nearest cell, in the config's unit;
        None where there is no cell within the formula's reach. Inside a cell d1 is 0.
    first, second : int or None
        Ids of these cells.
    first_at, second_at : tuple of int or None
        The pixel of each that is nearest, as an index in the field.
    """

    is_known: bool
    class_index: int
    class_weight: float
    border: float
    weight: float
    d1: float | None = None
    d2: float | None = None
    first: int | None = None
    second: int | None = None
    first_at: tuple[int, ...] | None = None
    second_at: tuple[int, ...] | None = None


class _Neighbour(NamedTuple):
    cell: int
    distance: float
    place: tuple[int, ...]


def explain(
    cells: NDArray[np.int32],
    position: tuple[int, ...],
    formula: Formula,
    *,
    class_index: int,
    is_known: bool,
    factors: NDArray[Any],
) -> PixelWeight:
    """Return how the weight of a pixel comes about.

    Parameters
    ----------
    cells : ndarray of int32
        Ids of the cells of one field, touching ones cut apart; 0 is none.
    position : tuple of int
        Index of the pixel in the field.
    formula : Formula
        What to compute.
    class_index, is_known
        Class of the pixel, and whether anything is known there.
    factors : ndarray of float32
        w_c of each class.
    """
    near = _nearest_cells(cells, position, formula)
    distances = np.array([n.distance for n in near] + [np.inf, np.inf])[:2]
    sums = distances.sum(keepdims=True)
    classes, known = np.array([class_index], np.int16), np.array([is_known])
    if class_index or not is_known:
        sums[0] = np.inf
    border = formula.border_term(sums)
    base = formula.base(classes, distances[:1])
    weight = combine(classes, known, factors, base, border)
    first, second = [*near, None, None][:2]
    return PixelWeight(
        is_known=is_known,
        class_index=class_index,
        class_weight=float(factors[class_index]),
        border=float(border[0]),
        weight=float(weight[0]),
        d1=first and first.distance,
        d2=second and second.distance,
        first=first and first.cell,
        second=second and second.cell,
        first_at=first and first.place,
        second_at=second and second.place,
    )


def _nearest_cells(
    cells: NDArray[np.int32], position: tuple[int, ...], formula: Formula
) -> list[_Neighbour]:
    """Return the nearest two cells within reach, the nearest first."""
    grid, reach = formula.grid, max(formula.search_reach, formula.far_search_reach)
    pixel = tuple(slice(p, p + 1) for p in position)
    crop = grow(pixel, grid.margins(reach), cells.shape)
    inside = np.nonzero(cells[crop])
    ids = cells[crop][inside]
    offsets = [
        places + (c.start - p)
        for places, c, p in zip(inside, crop, position, strict=True)
    ]
    distances = grid.lengths(grid.squared(offsets, grid.dtype_for(cells.shape)))
    found: list[_Neighbour] = []
    for _ in range(2):
        left = np.flatnonzero(
            (distances <= reach) & ~np.isin(ids, [n.cell for n in found])
        )
        if not len(left):
            break
        i = left[distances[left].argmin()]
        place = tuple(int(p + o[i]) for p, o in zip(position, offsets, strict=True))
        found.append(_Neighbour(int(ids[i]), float(distances[i]), place))
    return found
