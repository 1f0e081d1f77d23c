from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.imaging import thumbnails
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.thumbnails import caption, shown_plane, sizes_of, thumbnail

MANY = settings(max_examples=10, deadline=None, derandomize=True)


def _is_grey(picture: np.ndarray) -> np.ndarray:
    return (picture == picture[..., :1]).all(-1)


@MANY
@given(st.integers(1, 400), st.integers(1, 400))
def test_no_side_is_longer_than_256_and_the_shape_is_kept(height, width):
    shape = thumbnail(Image(np.zeros((1, height, width), np.uint8))).shape
    assert max(shape[:2]) <= 256
    assert max(shape[:2]) > 128
    scale = max(shape[:2]) / max(height, width)
    np.testing.assert_allclose(shape[:2], np.multiply((height, width), scale), atol=1)


def test_a_large_image_is_averaged_and_a_small_one_repeated():
    large = np.random.default_rng(0).random((1, 512, 512))
    means = large[0].reshape(256, 2, 256, 2).mean((1, 3))
    low, high = np.percentile(means, (0.5, 99.5))
    expected = np.rint(255 * np.clip((means - low) / (high - low), 0, 1))
    np.testing.assert_array_equal(thumbnail(Image(large))[..., 0], expected)
    small = np.random.default_rng(0).random((1, 50, 40))
    picture = thumbnail(Image(small))
    assert picture.shape == (250, 200, 3)
    np.testing.assert_array_equal(picture, picture[::5, ::5].repeat(5, 0).repeat(5, 1))


@pytest.mark.parametrize("shape", [(600, 410), (90, 70)])
def test_read_in_bands_it_is_the_same(shape, monkeypatch):
    rng = np.random.default_rng(1)
    image = Image(rng.random((1, *shape)))
    labels = rng.integers(0, 3, shape).repeat(2, 0).repeat(2, 1)
    whole, sizes = thumbnail(image, labels), sizes_of(labels, [()])
    monkeypatch.setattr(thumbnails, "_BAND_PX", 5000)
    np.testing.assert_array_equal(thumbnail(image, labels), whole)
    np.testing.assert_array_equal(sizes_of(labels, [()], 5000), sizes)
    np.testing.assert_array_equal(sizes, np.bincount(labels.ravel())[1:])


@pytest.mark.parametrize("finer", [1, 2])
def test_outlines_are_where_cells_end_and_nowhere_else(finer):
    labels = np.zeros((64, 64), np.int32)
    labels[10:30, 20:40], labels[30:50, 20:40] = 1, 2
    fine = labels.repeat(finer, 0).repeat(finer, 1)
    grey = _is_grey(thumbnail(Image(np.ones((1, 64, 64))), fine))
    ends = np.zeros((256, 256), bool)
    for edge in (40, 120, 200):
        ends[edge - 1 : edge + 1, 79:161] = True
    ends[39:201, 79:81] = ends[39:201, 159:161] = True
    ends[[39, 39, 200, 200], [79, 160, 79, 160]] = False
    np.testing.assert_array_equal(~grey, ends)


def test_outlines_of_cells_too_small_to_see_are_faint():
    labels = (np.indices((1024, 1024)) // 4).sum(0) % 2
    image = Image(np.zeros((1, 1024, 1024)))
    clear = thumbnail(image, labels, cell_px=100).max()
    assert thumbnail(image, labels, cell_px=4).max() < clear / 2


def test_of_a_movie_of_stacks_the_middle_of_the_first_frame_is_drawn():
    data = np.zeros((2, 3, 5, 16, 16))
    data[0, 0, 2, :8] = 1
    image = Image(data, axes="CTZYX", channel_names=("DAPI", "actin"))
    assert shown_plane(image) == (0, 2)
    assert caption(image) == "frame 1 of 3, plane 3 of 5, channel DAPI of 2"
    assert thumbnail(image)[:128].min() == 255
    labels = np.zeros((3, 10, 32, 32), np.int32)  # twice as fine
    labels[0, 5, 8:24, 8:24] = 1
    assert not _is_grey(thumbnail(image, labels)).all()
    labels[0, 5] = 0
    labels[1:], labels[0, :4], labels[0, 7:] = 1, 1, 1
    assert _is_grey(thumbnail(image, labels)).all()


def test_three_colours_stay_colours_and_what_is_no_number_is_dark():
    data = np.zeros((3, 4, 4))
    data[0], data[1, :2] = 1, np.nan
    colours = Image(data, channel_names=("red", "green", "blue"))
    assert thumbnail(colours)[0, 0].tolist() == [255, 0, 0]
    assert caption(colours) == ""


def test_an_id_in_two_planes_is_two_cells():
    labels = np.zeros((2, 4, 4), np.int32)
    labels[0, :2], labels[1, 0], labels[1, 3, 3] = 1, 1, 7
    assert sizes_of(labels, [(0,), (1,)]).tolist() == [8, 4, 1]
    assert sizes_of(labels, [()]).tolist() == [12, 1]
    assert sizes_of(labels * 0, [()]).tolist() == []
