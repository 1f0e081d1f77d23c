"""A made image beside the one that it should be, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.imaging.image_scores import data_range, psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageScores:
    """PSNR and SSIM of images, means over them.

    Parameters
    ----------
    psnr : float
        In decibels.
    ssim : float
        At most 1; NaN where no image has 11 x 11 pixels.
    n_images : int
        How many were compared.
    """

    psnr: float
    ssim: float
    n_images: int

    def as_dict(self) -> dict[str, float]:
        """Return them by name."""
        return {"psnr": self.psnr, "ssim": self.ssim, "n_images": self.n_images}


def compare_images(truth: NDArray[Any], made: NDArray[Any]) -> ImageScores:
    """Return how near an image is to the one that it should be.

    Each channel has its own range, that of the true one; PSNR is that of all its
    pixels together, SSIM the mean over its planes. NaN in the truth is unknown.

    Parameters
    ----------
    truth, made : ndarray, shape (C, [T,] [Z,] Y, X)
        In the same units.

    Raises
    ------
    ImageError
        The shapes differ, or nothing of the truth is known (NU-I13).
    """
    if truth.shape != made.shape:
        raise ImageError(
            "NU-I13",
            f"the true image is {truth.shape} but the one to judge {made.shape}: "
            "compare images of one shape",
        )
    found = []
    for true, own in zip(truth.astype(float), made.astype(float), strict=True):
        known = np.isfinite(true)
        span = data_range(true, known)
        decibels = psnr(true, own, span=span, known=known)
        found.append((decibels, _ssim(true, own, span, known)))
    mean = np.mean(found, axis=0).tolist()
    return ImageScores(mean[0], mean[1], 1)


def _ssim(
    true: NDArray[Any], own: NDArray[Any], span: float, known: NDArray[np.bool_]
) -> float:
    planes = [
        ssim(np.nan_to_num(true[i]), own[i], span=span, known=known[i])
        for i in np.ndindex(true.shape[:-2])
    ]
    counted = [value for value in planes if not np.isnan(value)]
    return float(np.mean(counted)) if counted else float("nan")


def mean_scores(scores: Sequence[ImageScores]) -> ImageScores:
    """Return the means over images; one at least."""
    counted = [s.ssim for s in scores if not np.isnan(s.ssim)]
    return ImageScores(
        float(np.mean([s.psnr for s in scores])),
        float(np.mean(counted)) if counted else float("nan"),
        len(scores),
    )
