"""Where a layer lies whose pixels divide those of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import Affine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def divided(
    place: Mapping[str, Any], coarse: Sequence[int], fine: Sequence[int]
) -> dict[str, Any]:
    """Return the place of pixels that divide those of a layer.

    Parameters
    ----------
    place : mapping
        Scale, translate and, where the layer has them, rotate and shear of the coarse
        pixels; whatever else is in it is kept.
    coarse, fine : sequence of int
        Shapes of the layer, whose last axes count, and of what divides it.

    Returns
    -------
    dict
        The place of both where `fine` is not a whole number of times `coarse`.
    """
    times, rest = np.divmod(fine, np.maximum(coarse[-len(fine) :], 1))
    if rest.any() or (times < 1).any() or (times == 1).all():
        return dict(place)
    turned = {k: place[k] for k in ("rotate", "shear") if k in place}
    grid = Affine(scale=place["scale"], translate=place["translate"], **turned)
    # Translate is where the centre of the first pixel lies: the outer edges coincide.
    centre = grid((1 / times - 1) / 2)
    return dict(place) | {"scale": place["scale"] / times, "translate": centre}
