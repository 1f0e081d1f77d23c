from __future__ import annotations

import numpy as np
import pytest

from napari_unet.config import PredictConfig
from napari_unet.imaging.arrays import Image
from napari_unet.learning import seams
from napari_unet.learning.seams import SeamReport, seam_report


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


def test_of_a_large_plane_the_middle_is_predicted(random_model, monkeypatch):
    model, config = random_model(norm="group"), _config(tile_size=32)
    image = _noise(60, 131)
    expected = seam_report(model, Image(image.data[:, :, 35:95]), config)
    monkeypatch.setattr(seams, "_LARGEST_PX", 60)
    assert seam_report(model, image, config) == expected


def test_where_no_cells_are_found_none_are_told():
    assert "cells" not in str(SeamReport(64, 0.25, 0, 0))
    assert str(SeamReport(64, 0.25, 9, 2)).endswith(", and 2 of 9 cells change")
