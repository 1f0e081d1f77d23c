"""Which patches to learn from: where there is something to learn, seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.learning.augmentation import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Target

_MAX_CANDIDATES = 50_000  # more would cost memory and change nothing
_PAINTED_SHARE = 0.7  # of the patches are drawn around a painted object


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane to learn from or to validate on.

    Parameters
    ----------
    image : ndarray of float32, shape (C, Y, X)
        Normalised intensities.
    labels : ndarray of int32, shape (Y, X)
        Painted instances, as the user painted them.
    known : ndarray of bool, shape (Y, X)
        Where something is known.
    target : Target
        Classes and weights (Y, X).
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int32]
    known: NDArray[np.bool_]
    target: Target


class PatchSource:
    """Draws windows from planes, at random around what is known.

    Planes count by the square root of their known area, so that a large image does
    not silence a small one. Windows that reach beyond a plane see it mirrored.

    Parameters
    ----------
    planes : sequence of Plane
        At least one with a weight above 0.
    """

    def __init__(self, planes: Sequence[Plane]) -> None:
        self._planes = [p for p in planes if p.target.weights.any()]
        n_known = np.array([np.count_nonzero(p.target.weights) for p in self._planes])
        self._chances = np.sqrt(n_known) / np.sqrt(n_known).sum()
        self._known = [_candidates(p.target.weights > 0) for p in self._planes]
        self._painted = [
            _candidates((p.labels > 0) & (p.target.weights > 0)) for p in self._planes
        ]

    def draw(self, rng: np.random.Generator, *, n: int, size: int, reach: int) -> Batch:
        """Return `n` windows of side `size` as a batch on the CPU.

        Parameters
        ----------
        rng : numpy.random.Generator
            Decides which.
        n : int
            Number of windows.
        size : int
            Side of a window, in pixels.
        reach : int
            The chosen pixel lies within `reach` pixels of the window's middle.
        """
        windows = [self._draw_one(rng, size, reach) for _ in range(n)]
        image, classes, weights = zip(*windows, strict=True)
        return Batch(
            torch.from_numpy(np.stack(image)),
            torch.from_numpy(np.stack(classes)).long(),
            torch.from_numpy(np.stack(weights)),
        )

    def _draw_one(
        self, rng: np.random.Generator, size: int, reach: int
    ) -> tuple[NDArray[np.generic], ...]:
        k = int(rng.choice(len(self._planes), p=self._chances))
        plane = self._planes[k]
        has_painted = self._painted[k].size > 0
        wants_painted = has_painted and rng.random() < _PAINTED_SHARE
        candidates = self._painted[k] if wants_painted else self._known[k]
        at = np.unravel_index(int(rng.choice(candidates)), plane.labels.shape)
        shift = rng.integers(-reach, reach + 1, 2)
        rows, columns = (
            mirrored_indices(int(at[i]) + int(shift[i]) - size // 2, size, length)
            for i, length in enumerate(plane.labels.shape)
        )
        window = (..., rows[:, None], columns[None, :])
        target = plane.target
        if target.classes is None:
            raise TypeError("patches are drawn from targets with classes")
        return plane.image[window], target.classes[window], target.weights[window]


def _candidates(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    found = np.flatnonzero(mask)
    # An even sample in scan order: no random state needed, none of it clumped.
    step = max(1, found.size // _MAX_CANDIDATES)
    return found[::step]


def mirrored_indices(start: int, size: int, length: int) -> NDArray[np.intp]:
    """Return `size` indices from `start` on, mirrored into [0, length).

    The outermost pixel is not repeated; a single pixel is.
    """
    if length == 1:
        return np.zeros(size, np.intp)
    period = 2 * (length - 1)
    at = np.arange(start, start + size) % period
    return np.minimum(at, period - at)
