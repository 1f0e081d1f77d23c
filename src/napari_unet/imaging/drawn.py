"""Drawn cells with known truth, for tests, examples and self-tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEMI_AXES_PX = (5.0, 9.0)
_GAP_PX = 3
_SMALLEST_CELL_PX = 20
_TRIES_PER_CELL = 100


def draw_cells(
    shape: tuple[int, int],
    *,
    n_cells: int,
    rng: np.random.Generator,
    touching: bool = False,
    noise: float = 0.05,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw bright ellipses on a dark ground, as fluorescent nuclei look.

    Semi-axes are 5 to 9 px. Each cell has its own brightness (0.6 to 1) and is half
    as bright at its rim; the ground is 0.1. All is blurred by 1 px, then the noise is
    added. Cells may be cut off by the image border; they lie 3 px or more apart, but
    for touching ones, which come in pairs.

    Parameters
    ----------
    shape : (int, int)
        Size (Y, X) in pixels.
    n_cells : int
        How many; fewer are drawn where no more fit.
    rng : numpy.random.Generator
        Where chance comes from: the same state draws the same picture.
    touching : bool
        Draw pairs of cells that touch.
    noise : float
        Standard deviation of the Gaussian noise.

    Returns
    -------
    image : ndarray of float32, shape (Y, X)
        The picture.
    labels : ndarray of int32, shape (Y, X)
        The truth: 1, 2, ... in the order of drawing, 0 = ground.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> image, labels = draw_cells((64, 64), n_cells=4, rng=rng)
    >>> image.shape, labels.max()
    ((64, 64), np.int32(4))
    """
    labels = np.zeros(shape, np.int32)
    light = np.full(shape, 0.1)
    n_drawn = 0
    for _ in range(_TRIES_PER_CELL * n_cells):
        n_wanted = min(2 if touching else 1, n_cells - n_drawn)
        window, owner, radius = _draw_group(shape, n_wanted, rng)
        sizes = np.bincount(owner.ravel(), minlength=n_wanted + 1)[1:]
        around = ndimage.distance_transform_edt(owner == 0) <= _GAP_PX
        if (sizes < _SMALLEST_CELL_PX).any() or labels[window][around].any():
            continue
        inside = owner > 0
        brightness = rng.uniform(0.6, 1, n_wanted)[owner[inside] - 1]
        light[window][inside] = brightness * (1 - radius[inside] ** 2 / 2)
        labels[window][inside] = owner[inside] + n_drawn
        n_drawn += n_wanted
        if n_drawn == n_cells:
            break
    image = ndimage.gaussian_filter(light, 1) + rng.normal(0, noise, shape)
    return image.astype(np.float32), labels


def _draw_group(
    shape: tuple[int, int], n_cells: int, rng: np.random.Generator
) -> tuple[tuple[slice, ...], NDArray[np.intp], NDArray[np.float64]]:
    """Return a window, whose cell each of its pixels is (0 = none), and its radius.

    The radius is 0 in the middle of a cell and 1 at its rim. Where the ellipses of a
    group overlap, a pixel goes to the one whose middle is nearer by that measure.
    """
    centre = rng.uniform(0, shape)
    reach = int(4 * _SEMI_AXES_PX[1])
    window = tuple(
        slice(max(int(c) - reach, 0), min(int(c) + reach, n))
        for c, n in zip(centre, shape, strict=True)
    )
    places = np.moveaxis(np.mgrid[window], 0, -1)
    radii = []
    for _ in range(n_cells):
        axes, angle = rng.uniform(*_SEMI_AXES_PX, 2), rng.uniform(0, np.pi)
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        radii.append(np.linalg.norm((places - centre) @ turn / axes, axis=-1))
        # Near enough for any two ellipses of these sizes to overlap.
        away = rng.uniform(0, 2 * np.pi)
        step = 1.8 * _SEMI_AXES_PX[0]
        centre = centre + step * np.array([np.sin(away), np.cos(away)])
    radius = np.min(radii, axis=0)
    owner = np.where(radius <= 1, np.argmin(radii, axis=0) + 1, 0)
    return window, owner, radius
