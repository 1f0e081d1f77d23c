"""How unsure a network is, pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import entr

from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_ALONE = ("sigmoid", "probability")


def uncertainty_of(
    outputs: NDArray[np.float32],
    roles: Sequence[str],
    spread: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Return what tells how unsure a network is, by name.

    Parameters
    ----------
    outputs : ndarray of float32, shape (K, [T,] [Z,] Y, X)
        What it gives, activated: those of the last `napari_unet.events.TileDone`.
    roles : sequence of str
        What each of the K channels means (`Model.roles`).
    spread : ndarray of float32, shape ([T,] [Z,] Y, X), optional
        What test-time augmentation adds: the `spread` of that event.

    Returns
    -------
    dict of str to ndarray of float32, shape ([T,] [Z,] Y, X)
        "entropy", 0 to 1, where there are probabilities (see `entropy`), and "spread"
        where it is given.

    Raises
    ------
    ModelError
        There are neither (NU-M13).

    Examples
    --------
    >>> outputs = np.array([[[0.5]], [[0.5]]], np.float32)
    >>> uncertainty_of(outputs, ["softmax:background", "softmax:cell"])
    {'entropy': array([[1.]], dtype=float32)}
    """
    check_tells_uncertainty(roles, has_spread=spread is not None)
    maps = {}
    if _has_probabilities(roles):
        maps["entropy"] = entropy(outputs, roles)
    if spread is not None:
        maps["spread"] = spread
    return maps


def check_tells_uncertainty(roles: Sequence[str], *, has_spread: bool) -> None:
    """Refuse outputs that say nothing of how sure a network is.

    Parameters
    ----------
    roles : sequence of str
        What each output means.
    has_spread : bool
        With test-time augmentation.

    Raises
    ------
    ModelError
        Values alone, without test-time augmentation (NU-M13).
    """
    if not has_spread and not _has_probabilities(roles):
        raise ModelError(
            "NU-M13",
            "the model makes values, which say nothing of how sure it is of them: "
            "turn test-time augmentation on, with flips or all",
        )


def _has_probabilities(roles: Sequence[str]) -> bool:
    return any(role.startswith(("softmax", *_ALONE)) for role in roles)


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
    alone = [i for i, kind in enumerate(kinds) if kind in _ALONE]
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
