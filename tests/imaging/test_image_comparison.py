"""PSNR and SSIM of whole images, checked with scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from napari_unet.errors import ImageError
from napari_unet.imaging.image_comparison import compare_images, mean_scores
from napari_unet.imaging.image_scores import ssim

RNG = np.random.default_rng(0)
TRUTH = RNG.random((2, 3, 32, 40)) * np.array([1.0, 100.0])[:, None, None, None]
MADE = TRUTH + RNG.normal(size=TRUTH.shape) * 0.1


def test_each_channel_is_judged_by_its_own_range():
    found = compare_images(TRUTH, MADE)
    spans = [np.ptp(true) for true in TRUTH]
    pairs = list(zip(TRUTH, MADE, spans, strict=True))
    expected = [peak_signal_noise_ratio(t, m, data_range=s) for t, m, s in pairs]
    assert found.psnr == pytest.approx(np.mean(expected))
    planes = [ssim(t[z], m[z], span=s) for t, m, s in pairs for z in range(3)]
    assert found.ssim == pytest.approx(np.mean(planes))


def test_what_is_unknown_does_not_count():
    truth = TRUTH[:1, 0].copy()
    made = MADE[:1, 0].copy()
    truth[:, 16:], made[:, 16:] = np.nan, 1e9
    half = compare_images(TRUTH[:1, 0, :16], MADE[:1, 0, :16])
    assert compare_images(truth, made).psnr == pytest.approx(half.psnr)


def test_means_leave_out_what_has_no_ssim():
    small = compare_images(TRUTH[..., :5], MADE[..., :5])
    assert np.isnan(small.ssim)
    whole = compare_images(TRUTH, MADE)
    both = mean_scores([small, whole])
    assert both.ssim == whole.ssim
    assert both.as_dict() == {
        "psnr": (small.psnr + whole.psnr) / 2, "ssim": whole.ssim, "n_images": 2
    }  # fmt: skip


def test_images_of_other_shapes_are_refused():
    with pytest.raises(ImageError, match="compare images of one shape") as caught:
        compare_images(TRUTH, MADE[..., :-1])
    assert caught.value.code == "NU-I13"
