"""How large cells are, and at which scale to look at them.

A network of fixed depth sees cells of one size best, and cells in microscopy differ by
a factor of ten. So images are resampled: in training each by what its annotated cells
measure, in prediction by what was found in them at first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A scale changes by no more than this at once: what was found may be debris.
_LARGEST_STEP = 2.5


def diameters(sizes: NDArray[Any], *, n_dims: int = 2) -> NDArray[np.float64]:
    """Return the diameters of discs, or balls, of these sizes.

    Parameters
    ----------
    sizes : ndarray of int or float, shape (n,)
        Number of pixels of each cell.
    n_dims : int
        2 for areas, 3 for volumes.

    Returns
    -------
    ndarray of float64, shape (n,)
        In pixels.

    Examples
    --------
    >>> diameters(np.array([79, 314])).round(1)
    array([10., 20.])
    """
    if n_dims == 3:
        return np.asarray(np.cbrt(6 * sizes / np.pi))
    return np.asarray(np.sqrt(4 * sizes / np.pi))


def typical_diameter(sizes: NDArray[Any], *, n_dims: int = 2) -> float | None:
    """Return the diameter of the cell that a cell pixel typically belongs to.

    The (lower) median over pixels, not over cells: a few crumbs beside the cells, or
    pieces of cells that were cut up, hardly change it.

    Parameters
    ----------
    sizes : ndarray of int or float, shape (n,)
        Number of pixels of each cell.
    n_dims : int
        2 for areas, 3 for volumes.

    Returns
    -------
    float or None
        In pixels; None where there is no cell.

    Examples
    --------
    >>> round(typical_diameter(np.array([3, 3, 3, 3, 3, 100])), 2)
    11.28
    """
    ordered = np.sort(sizes[sizes > 0])
    if not ordered.size:
        return None
    so_far = np.cumsum(ordered)
    middle = ordered[np.searchsorted(so_far, so_far[-1] / 2)]
    return float(diameters(middle, n_dims=n_dims))


def next_scale(scale: float, seen_px: float | None, wanted_px: float) -> float:
    """Return the scale at which to look at an image again, by what was found in it.

    Where cells are cut up because they are too large for the network, or merged
    because they are too small, their measured size is wrong but on the right side: so
    the step is bounded, and repeated two or three times it comes to rest.

    Parameters
    ----------
    scale : float
        At which the image was looked at: pixels seen for each pixel of the image.
    seen_px : float, optional
        `typical_diameter` of what was found, in pixels that the network saw; None
        where nothing was found.
    wanted_px : float
        The diameter that the network knows best.

    Returns
    -------
    float
        `scale` itself where nothing was found.

    Examples
    --------
    >>> next_scale(1.0, 13.0, 26.0), next_scale(1.0, 2.0, 26.0)
    (2.0, 2.5)
    """
    if not seen_px:
        return scale
    step = wanted_px / seen_px
    return scale * min(max(step, 1 / _LARGEST_STEP), _LARGEST_STEP)
