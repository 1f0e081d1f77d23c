"""How near one image is to another: PSNR and SSIM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from skimage.metrics import structural_similarity

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

# The window of Wang 2004: Gaussian of sigma 1.5 px, 11 px wide.
_SIGMA_PX = 1.5
_RADIUS_PX = 5


def data_range(truth: NDArray[Any], known: NDArray[np.bool_] | None = None) -> float:
    """Return what PSNR and SSIM take as the range of an image: its maximum - minimum.

    Parameters
    ----------
    truth : ndarray, shape (..., Y, X)
        The true image.
    known : ndarray of bool, same shape, optional
        Where it is known.

    Returns
    -------
    float
        1 for an image without any contrast, which has no range.

    Examples
    --------
    >>> data_range(np.array([[3, 7], [5, 5]]))
    4.0
    """
    values = np.asarray(truth)[... if known is None else known]
    span = float(values.max()) - float(values.min()) if values.size else 0.0
    return span or 1.0


def psnr(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    *,
    span: float | None = None,
    known: NDArray[np.bool_] | None = None,
) -> float:
    """Return the peak signal-to-noise ratio, in decibels: 10 log10(span^2 / MSE).

    Parameters
    ----------
    truth, predicted : ndarray, same shape (Y, X)
        The true image and the one to judge, in the same units.
    span : float, optional
        Range of the data; left out, that of `truth` (see `data_range`).
    known : ndarray of bool, same shape, optional
        Pixels that count.

    Returns
    -------
    float
        Infinite where both are the same.

    Raises
    ------
    ImageError
        The shapes differ (NU-I13).

    References
    ----------
    Wang, Bovik: Mean squared error: love it or leave it? IEEE Signal Processing
    Magazine 26, 2009, eq. 2.

    Examples
    --------
    >>> psnr(np.array([[0.0, 10.0]]), np.array([[1.0, 9.0]]))
    20.0
    """
    true, own = _checked(truth, predicted)
    span = data_range(true, known) if span is None else span
    squares = ((true - own) ** 2)[... if known is None else known]
    error = float(squares.mean()) if squares.size else 0.0
    return float(10 * np.log10(span**2 / error)) if error else float("inf")


def ssim(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    *,
    span: float | None = None,
    known: NDArray[np.bool_] | None = None,
) -> float:
    """Return the mean structural similarity, at most 1.

    Means, variances and covariance are those of a Gaussian window of sigma 1.5 px,
    11 px wide; pixels whose window leaves the image don't count, as in the original.

    Parameters
    ----------
    truth, predicted, span, known
        As of `psnr`. A known pixel is judged by its whole window, unknown pixels too.

    Returns
    -------
    float
        NaN where no pixel counts: the image is under 11 px, or nothing is known.

    Raises
    ------
    ImageError
        The shapes differ (NU-I13).

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli: Image quality assessment. IEEE Transactions on
    Image Processing 13, 2004, eq. 13, with K1 = 0.01 and K2 = 0.03.

    Examples
    --------
    >>> image = np.arange(400.0).reshape(20, 20)
    >>> ssim(image, image)
    1.0
    """
    true, own = _checked(truth, predicted)
    if min(true.shape) < 2 * _RADIUS_PX + 1:
        return float("nan")
    _, similarity = structural_similarity(
        true,
        own,
        data_range=data_range(true, known) if span is None else span,
        gaussian_weights=True,
        sigma=_SIGMA_PX,
        use_sample_covariance=False,
        full=True,
    )
    inner = (slice(_RADIUS_PX, -_RADIUS_PX),) * true.ndim
    values = similarity[inner][... if known is None else known[inner]]
    return float(values.mean()) if values.size else float("nan")


def _checked(
    truth: NDArray[Any], predicted: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    true, own = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if true.shape != own.shape:
        raise ImageError(
            "NU-I13",
            f"the true image is {true.shape} but the one to judge {own.shape}: compare "
            "images of one shape",
        )
    return true, own
