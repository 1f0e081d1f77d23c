"""Which files of a run are unlike the others, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# With fewer files nobody can say which one is the odd one.
_LEAST_FILES = 5
# Iglewicz and Hoaglin's advice.
_FAR = 3.5
# The standard deviation of a normal distribution by its MAD.
_SD_PER_MAD = 1.4826
# Where most files are alike to the last digit, this much is still nothing to look at.
_LEAST_RATIO = 0.05


def unlike_others(
    n_cells: Sequence[int | None], sizes: Sequence[float | None]
) -> list[list[str]]:
    """Return why each file should be looked at; nothing for most.

    A number of cells, or a median size, is far from the others' if it is more than 3.5
    robust standard deviations from their median: 1.4826 times the median absolute
    deviation, but never less than the noise of counting, or 5 % of a size. Sizes are
    compared by their logarithm. Five files are needed to say so.

    Parameters
    ----------
    n_cells : sequence of int or None
        Of each file; None where cells are not counted.
    sizes : sequence of float or None
        Median size of its cells; None where there are none.

    References
    ----------
    Iglewicz, Hoaglin: How to Detect and Handle Outliers. ASQC (1993), chapter 3.

    Examples
    --------
    >>> unlike_others([90, 110, 100, 96, 0, 3], [9, 9.5, 10, 11, None, 10])[4:]
    [['no cells found'], ['far fewer cells than the other files']]
    """
    found = [i for i, n in enumerate(n_cells) if n]
    counts = np.array([n_cells[i] for i in found], float)
    noise = float(np.sqrt(np.median(counts))) if len(counts) else 1.0
    many = dict(zip(found, _far(counts, noise), strict=True))
    sized = [i for i, size in enumerate(sizes) if size]
    logs = np.log(np.array([sizes[i] for i in sized], float))
    large = dict(zip(sized, _far(logs, _LEAST_RATIO), strict=True))
    reasons: list[list[str]] = []
    for i, n in enumerate(n_cells):
        own = ["no cells found"] if n == 0 else []
        if side := many.get(i):
            more = "more" if side > 0 else "fewer"
            own.append(f"far {more} cells than the other files")
        if side := large.get(i):
            larger = "larger" if side > 0 else "smaller"
            own.append(f"cells far {larger} than those of the other files")
        reasons.append(own)
    return reasons


def _far(values: NDArray[np.float64], least: float) -> list[int]:
    """Return -1 or 1 for what is far below or above most of all, else 0."""
    if len(values) < _LEAST_FILES:
        return [0] * len(values)
    apart = values - np.median(values)
    scale = max(_SD_PER_MAD * float(np.median(np.abs(apart))), least)
    is_far = np.abs(apart) > _FAR * scale
    return [int(side) for side in np.sign(apart) * is_far]
