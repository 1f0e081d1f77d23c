"""One plane to learn from or to validate on, and where on it there is much to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_unet.events import Region
    from napari_unet.imaging.arrays import Target

_MAX_CANDIDATES = 50_000  # more would cost memory and change nothing
_BORDER_WEIGHT = 3.0  # what counts this much lies between two close cells
_BRIGHT = 0.25  # of the normalised range of images to be made


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane, or a block of one, to learn from or to validate on.

    Parameters
    ----------
    image : ndarray of float32, shape (C, Y, X)
        Normalised intensities.
    labels : ndarray of int32, shape (Y, X)
        Painted instances, as the user painted them.
    known : ndarray of bool, shape (Y, X)
        Where something is known.
    target : Target
        Classes, values and weights (Y, X); finer where images are made that are finer.
    region : Region, optional
        Where it lies in the image, in pixels of the image.
    values_follow_image : bool
        Whether values are the brighter, the brighter the image is.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.int32]
    known: NDArray[np.bool_]
    target: Target
    region: Region | None = None
    values_follow_image: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.labels.shape
        return height, width

    @property
    def upscale(self) -> int:
        """Pixels of the target for each pixel, along each axis."""
        return int(self.target.weights.shape[-1] // self.labels.shape[-1])


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pixels to draw patches around, as flat indices of a plane.

    Parameters
    ----------
    known : ndarray of int64
        Of weight above 0.
    painted : mapping of int to ndarray of int64
        Of each painted class; of images to be made what is bright, as class 1.
    borders : ndarray of int64
        Between close cells, where the border weight is high.
    counts : mapping of str or int to int
        How many there are in all, of which the arrays are an even sample: of
        "known", "borders" and each class.
    """

    known: NDArray[np.int64]
    painted: Mapping[int, NDArray[np.int64]]
    borders: NDArray[np.int64]
    counts: Mapping[str | int, int]

    @classmethod
    def of(cls, plane: Plane, classes: NDArray[np.int16] | None = None) -> Candidates:
        """Find them.

        Parameters
        ----------
        plane : Plane
            Where to look.
        classes : ndarray of int16, shape (Y, X), optional
            What is painted, by class; taken from the target if left out.
        """
        weights = plane.target.weights
        u = plane.upscale
        if u > 1:
            weights = weights[u // 2 :: u, u // 2 :: u]
        known = weights > 0
        classes = (_classes(plane) if classes is None else classes) * known
        masks: dict[str | int, NDArray[np.bool_]] = {
            "known": known,
            "borders": weights > _BORDER_WEIGHT,
        }
        present = np.flatnonzero(np.bincount(classes.ravel()))
        masks |= {int(k): classes == k for k in present if k > 0}
        found = {name: np.flatnonzero(mask) for name, mask in masks.items()}
        return cls(
            _sample(found["known"]),
            {k: _sample(at) for k, at in found.items() if isinstance(k, int)},
            _sample(found["borders"]),
            {name: at.size for name, at in found.items()},
        )


def _classes(plane: Plane) -> NDArray[np.int16]:
    """Return what is painted, by class; 0 is background."""
    classes = plane.target.classes
    if classes is not None:
        # The gaps between touching cells are painted as well.
        return np.where((plane.labels > 0) & (classes == 0), np.int16(1), classes)
    values = plane.target.values
    if values is None:
        return (plane.labels > 0).astype(np.int16)
    u = plane.upscale
    brightest = values[:, u // 2 :: u, u // 2 :: u].max(axis=0)
    return np.asarray(brightest > _BRIGHT, np.int16)


def _sample(found: NDArray[np.int64]) -> NDArray[np.int64]:
    # An even sample in scan order: no random state needed, none of it clumped.
    step = max(1, found.size // _MAX_CANDIDATES)
    return found[::step]
