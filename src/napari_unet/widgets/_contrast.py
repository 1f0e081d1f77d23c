"""Between which values an image is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_LOOKED_AT = 2**20


def limits_of(data: NDArray[Any]) -> tuple[float, float]:
    """Return contrast limits: the percentiles 1 and 99.8 of the pixels.

    Of a large image every so many pixels are looked at; NaN counts as nothing.
    """
    step = max(1, round((data.size / _MOST_LOOKED_AT) ** (1 / data.ndim)))
    part = np.asarray(data[(slice(None, None, step),) * data.ndim], dtype=float)
    part = part[np.isfinite(part)]
    if not part.size:
        return 0.0, 1.0
    low, high = np.percentile(part, (1.0, 99.8))
    return float(low), float(high if high > low else low + 1)
