"""The two published formulas, term by term.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox: U-Net: Convolutional Networks for
   Biomedical Image Segmentation. MICCAI 2015, eq. 2.
.. [2] T. Falk et al.: U-Net: deep learning for cell counting, detection, and
   morphometry. Nature Methods 16, 67 (2019), Online Methods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError
from napari_unet.imaging.distances import Grid, distance_sums, nearest_distances
from napari_unet.imaging.given import as_sizes, is_list, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.imaging.windows import Window

    Floats = NDArray[np.floating[Any]]

# A class that is hardly painted must not drown all others.
_MAX_CLASS_WEIGHT = 10.0


def smallest_term(dtype: Any) -> float:
    """Return the size below which a term is 0.

    float32 could not tell 1e-8 from 0 next to a weight of 1; the rest is margin for
    those who look at the term alone.
    """
    return 1e-17 if np.dtype(dtype) == np.float64 else 1e-12


@dataclass(frozen=True)
class Formula:
    """A weight config on a grid of pixels: reaches and terms.

    Parameters
    ----------
    config : WeightConfig
        Which formula, and its numbers.
    grid : Grid
        Pixels in the unit of the sigmas.
    dtype : dtype
        float32, or float64 to check against.
    """

    config: WeightConfig
    grid: Grid
    dtype: Any = np.float32

    @property
    def reach(self) -> float:
        """Return the d1 + d2 beyond which the border term is 0."""
        return _reach(self.config.w0, self.config.sigma, self.dtype)

    @property
    def far_reach(self) -> float:
        """Return the d1 beyond which background weighs `v_bal`; 0 for 2015."""
        if self.config.formula != "falk2019":
            return 0.0
        return _reach(1 - self.config.v_bal, self.config.sigma1, self.dtype)

    @property
    def search_reach(self) -> float:
        """Return how far to look for cells, so that a higher w0 finds them too."""
        return _reach(max(self.config.w0, 1.0), self.config.sigma, self.dtype)

    @property
    def far_search_reach(self) -> float:
        """Return how far to look for d1, so that a lower v_bal finds it too."""
        if self.config.formula != "falk2019":
            return 0.0
        return _reach(1.0, self.config.sigma1, self.dtype)

    def border_term(self, sums: NDArray[np.float64]) -> Floats:
        """Return ``w0 * exp(-(d1 + d2)**2 / (2 * sigma**2))`` ([1]_, eq. 2)."""
        term = np.zeros(sums.shape, self.dtype)
        near = sums <= self.reach
        term[near] = self.config.w0 * _bell(sums[near], self.config.sigma)
        return term

    def base(
        self, classes: NDArray[np.int16], d1: NDArray[np.float64] | None
    ) -> Floats:
        """Return the weight without class factor and border term.

        1, but with falk2019 on background ([2]_): ``v_bal + (1 - v_bal) * exp(-d1**2
        / (2 * sigma1**2))``.
        """
        base = np.ones(classes.shape, self.dtype)
        if d1 is None or self.config.formula != "falk2019":
            return base
        v_bal = self.config.v_bal
        background = classes == 0
        d1 = d1[background]
        falling = np.zeros(d1.shape)
        near = d1 <= self.far_reach
        falling[near] = _bell(d1[near], self.config.sigma1)
        base[background] = v_bal + (1 - v_bal) * falling
        return base

    def far_distances(
        self, cells: NDArray[np.int32], window: Window
    ) -> NDArray[np.float64] | None:
        """Return d1 where the formula has a term of it alone."""
        if self.config.formula != "falk2019":
            return None
        return nearest_distances(cells, window, self.far_reach, self.grid)

    def border(
        self, cells: NDArray[np.int32], on: NDArray[np.bool_], window: Window
    ) -> Floats:
        """Return the border term of a window of a field, on the pixels `on`."""
        sums = distance_sums(cells, window, self.reach, self.grid)
        sums[~on] = np.inf
        return self.border_term(sums)


def combine(
    classes: NDArray[np.int16],
    known: NDArray[np.bool_],
    factors: Floats,
    base: Floats,
    border: Floats,
) -> Floats:
    """Return the weights: class factor times base, plus border term, where known."""
    weights = factors[classes]
    weights *= base
    weights += border
    weights *= known
    return weights


def _reach(height: float, sigma: float, dtype: Any) -> float:
    """Return where a bell of a height falls to the smallest term."""
    least = smallest_term(dtype)
    return sigma * math.sqrt(2 * math.log(height / least)) if height > least else 0.0


def _bell(d: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    exponent = d / sigma
    exponent *= exponent
    exponent /= -2
    return np.exp(exponent, out=exponent)


def grid_of(
    config: WeightConfig,
    n_axes: int,
    pixel_size_um: Sequence[float] | None,
    *,
    source: str,
) -> Grid:
    """Return the grid in the unit of the sigmas.

    Raises
    ------
    ConfigError
        The sigmas are in micrometres but no pixel size is known along some axis
        (NU-C07), or it is no size, or the config is none (NU-C01).
    """
    if not isinstance(config, WeightConfig):
        raise ConfigError(
            "NU-C01",
            f"the weights' settings are {shown(config)}: give a WeightConfig, such as "
            "WeightConfig(sigma=4)",
        )
    if config.unit == "px":
        return Grid.of((1.0,) * n_axes)
    if pixel_size_um is not None and not is_list(pixel_size_um):
        raise ConfigError(
            "NU-C01",
            f"pixel_size_um is {shown(pixel_size_um)}: give a size along each of the "
            f"{n_axes} axes",
        )
    size = () if pixel_size_um is None else tuple(pixel_size_um)[-n_axes:]
    if len(size) < n_axes:
        raise ConfigError(
            "NU-C07",
            f"sigma is in micrometres but {source} has no pixel size: set its pixel "
            "size, or the unit to px",
        )
    return Grid.of(as_sizes(size, n_axes, name="pixel_size_um"))


def class_factors(counts: Sequence[int]) -> tuple[float, ...]:
    """Return one factor a class, from its number of known pixels.

    Examples
    --------
    >>> class_factors([6, 2, 0])
    (0.6666666666666666, 2.0, 1.0)
    """
    n_known, n_present = sum(counts), sum(n > 0 for n in counts)
    return tuple(
        min(n_known / (n_present * n), _MAX_CLASS_WEIGHT) if n else 1.0 for n in counts
    )
