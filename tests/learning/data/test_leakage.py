from __future__ import annotations

import numpy as np

from napari_unet.config import NormalizationConfig
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.learning.data.leakage import leakage_warnings
from napari_unet.learning.data.pairs import LazyPair
from napari_unet.learning.data.summaries import summarize


def _pair(seed: int, source: str = "array", gain: float = 1.0):
    """What is known of an image of noise, and of one cell in it."""
    data = gain * np.random.default_rng(seed).random((1, 64, 64))
    labels = np.zeros((64, 64), np.int32)
    labels[8:20, 8:20] = 1
    pair = LazyPair(Image(data, source=source), Annotation.complete(labels))
    return summarize(pair, NormalizationConfig())


def test_other_fields_are_fine_to_validate_on():
    assert leakage_warnings([_pair(0), _pair(1)], [_pair(2), _pair(3)]) == []


def test_a_copy_or_another_exposure_of_what_is_learned_from_is_told():
    for copy in (_pair(1, "v/b.tif"), _pair(1, "v/b.tif", gain=3)):
        [told] = leakage_warnings([_pair(0), _pair(1, "t/b.tif")], [_pair(2), copy])
        assert told.startswith("1 of 2 validation images show a field")
        assert "(like t/b.tif)" in told
        assert "too good" in told


def test_the_same_file_and_tiles_of_one_field_are_told():
    [told] = leakage_warnings([_pair(0, "a.tif")], [_pair(0, "a.tif")])
    assert told.startswith("1 of 1 validation image shows a field")
    assert "(a.tif)" in told
    tiles = [_pair(0, "a_tile1.tif")], [_pair(1, "a_tile2.tif")]
    assert len(leakage_warnings(*tiles)) == 1


def _part(known: np.ndarray):
    """What is known of a part of an image of two cells."""
    data = np.random.default_rng(0).random((1, 64, 64))
    labels = np.zeros((64, 64), np.int32)
    labels[8:20, 8:20], labels[40:50, 8:20] = 1, 2
    labels[~known] = 0
    pair = LazyPair(Image(data, source="a.tif"), Annotation(labels, known=known))
    return summarize(pair, NormalizationConfig())


def test_two_parts_of_one_image_are_fine_if_they_share_no_pixel():
    upper, lower = np.zeros((2, 64, 64), bool)
    upper[:30], lower[34:] = True, True
    assert leakage_warnings([_part(upper)], [_part(lower)]) == []
    lower[29:] = True
    assert len(leakage_warnings([_part(upper)], [_part(lower)])) == 1
