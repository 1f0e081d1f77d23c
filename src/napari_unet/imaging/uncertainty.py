"""How sure a network is of its classes, pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import entr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def entropy(outputs: NDArray[np.float32], roles: Sequence[str]) -> NDArray[np.float32]:
    """Return the entropy of the classes: 0 where one is certain, 1 where none is.

    That of the classes which share a softmax is divided by the logarithm of their
    number. Of probabilities that stand alone the mean is taken, each with its opposite;
    distances and other values say nothing.

    Parameters
    ----------
    outputs : ndarray of float32, shape (K, ...)
        What a network gives, activated.
    roles : sequence of str
        What each of the K channels means.

    Returns
    -------
    ndarray of float32, shape (...)

    References
    ----------
    Shannon: A mathematical theory of communication. Bell System Technical Journal 27,
    379 (1948), section 6.

    Examples
    --------
    >>> outputs = np.array([[1.0, 0.5], [0.0, 0.5]], np.float32)
    >>> entropy(outputs, ["softmax:background", "softmax:cell"]).tolist()
    [0.0, 1.0]
    """
    kinds = [role.partition(":")[0] for role in roles]
    shared = [i for i, kind in enumerate(kinds) if kind.startswith("softmax")]
    alone = [i for i, kind in enumerate(kinds) if kind in ("sigmoid", "probability")]
    found = []
    if len(shared) > 1:
        found.append(_bits(outputs[shared]).sum(0) / np.log2(len(shared)))
    found += [_bits(np.stack([p, 1 - p])).sum(0) for p in outputs[alone]]
    if not found:
        return np.zeros(outputs.shape[1:], np.float32)
    return np.asarray(np.mean(found, axis=0), np.float32)


def _bits(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    # Blended tiles may leave the interval by a rounding.
    return np.asarray(entr(np.clip(probability, 0, 1)) / np.float32(np.log(2)))
