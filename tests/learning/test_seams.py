from __future__ import annotations

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.imaging.arrays import Image
from napari_unet.learning.seams import seam_report


def _noise(*shape) -> Image:
    return Image(np.random.default_rng(3).random((1, *shape), np.float32))


def _config(**given) -> PredictConfig:
    return PredictConfig(device="cpu", precision="fp32", **given)


@pytest.mark.parametrize("network", [{}, {"padding": "valid", "norm": "none"}])
def test_a_local_network_leaves_no_trace(random_model, network):
    report = seam_report(
        random_model(**network), _noise(90, 130), _config(tile_size=32)
    )
    assert report.tile_size == 32
    assert report.largest_difference < 1e-5
    assert report.n_changed == 0


def test_too_small_a_halo_is_told(random_model):
    report = seam_report(random_model(), _noise(90, 130), _config(tile_size=32, halo=0))
    assert report.largest_difference > 1e-3
    assert "change by up to" in str(report)


def test_a_global_network_is_told(random_model):
    model = random_model(norm="group")
    report = seam_report(model, _noise(90, 130), _config(tile_size=32))
    assert report.largest_difference > 1e-3
    # One tile has no seams.
    assert (
        seam_report(model, _noise(30, 30), _config(tile_size=64)).largest_difference
        == 0
    )
