from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_unet.errors import ImageError
from napari_unet.imaging.image_scores import data_range, psnr, ssim


def _pair(seed: int, shape=(20, 23)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(100, 30, shape)
    return truth, truth + rng.normal(0, rng.uniform(1, 30), shape)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_both_are_those_of_scikit_image(seed):
    truth, own = _pair(seed)
    span = np.ptp(truth)
    assert psnr(truth, own) == pytest.approx(
        peak_signal_noise_ratio(truth, own, data_range=span)
    )
    expected = structural_similarity(
        truth, own, data_range=span, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(truth, own) == pytest.approx(expected)


def test_ssim_is_the_formula_of_2004_window_by_window():
    truth, own = _pair(3, (14, 13))
    span = np.ptp(truth)
    at = np.arange(-5, 6)
    line = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    values = []
    for y in range(5, 14 - 5):
        for x in range(5, 13 - 5):
            cut = (slice(y - 5, y + 6), slice(x - 5, x + 6))
            a, b = truth[cut], own[cut]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
            cab = (window * (a - ma) * (b - mb)).sum()
            values.append(
                (2 * ma * mb + c1) * (2 * cab + c2)
                / ((ma**2 + mb**2 + c1) * (va + vb + c2))
            )  # fmt: skip
    assert ssim(truth, own) == pytest.approx(np.mean(values), abs=1e-9)


@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_psnr_does_not_mind_units(factor, offset, seed):
    truth, own = _pair(seed)
    other = psnr(factor * truth + offset, factor * own + offset)
    assert other == pytest.approx(psnr(truth, own))


def test_what_is_unknown_does_not_count():
    truth, own = _pair(5, (30, 30))
    known = np.ones(truth.shape, bool)
    known[:, 20:] = False
    wrong = own.copy()
    wrong[:, 20:] = 1e6
    inside = (slice(None), slice(None, 20))
    assert psnr(truth, wrong, known=known) == pytest.approx(
        psnr(truth[inside], own[inside])
    )
    assert data_range(truth, known) == np.ptp(truth[inside])
    # Windows see 5 px further.
    wrong = own.copy()
    wrong[:, 25:] = 1e6
    span = data_range(truth, known)
    full = structural_similarity(
        truth, own, data_range=span, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )[1]  # fmt: skip
    expected = full[5:-5, 5:20].mean()
    assert ssim(truth, wrong, known=known) == pytest.approx(expected)


def test_the_same_image_is_perfect_and_nothing_known_is_no_number():
    truth, _ = _pair(0)
    assert psnr(truth, truth) == np.inf
    assert ssim(truth, truth) == 1
    nothing = np.zeros(truth.shape, bool)
    assert np.isnan(ssim(truth, truth, known=nothing))
    assert np.isnan(ssim(truth[:10], truth[:10]))
    assert data_range(np.full((3, 3), 7)) == 1


@pytest.mark.parametrize("compare", [psnr, ssim])
def test_images_of_two_shapes_are_refused(compare):
    with pytest.raises(ImageError, match="one shape"):
        compare(np.zeros((12, 12)), np.zeros((12, 13)))
