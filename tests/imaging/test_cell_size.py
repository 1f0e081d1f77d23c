from __future__ import annotations

import numpy as np
import pytest
import skimage.draw
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import regionprops

from napari_unet.imaging.cell_size import (
    diameters,
    next_scale,
    typical_diameter,
)

sizes = st.lists(st.integers(1, 1000), min_size=1, max_size=30)


def discs(radii, side=60):
    labels = np.zeros((side, side * len(radii)), np.int32)
    for i, radius in enumerate(radii):
        middle = (side // 2, side * i + side // 2)
        labels[skimage.draw.disk(middle, radius, shape=labels.shape)] = 3 * i + 2
    return labels


def _sizes(labels):
    return np.unique(labels[labels > 0], return_counts=True)[1]


def test_a_disc_has_its_own_diameter():
    found = diameters(_sizes(discs([5, 10, 20])))
    np.testing.assert_allclose(found, [10, 20, 40], atol=0.7)


@pytest.mark.parametrize("shape", [(9, 12), (5, 6, 7)])
def test_diameters_are_those_of_scikit_image(shape):
    labels = np.random.default_rng(0).integers(0, 5, shape).astype(np.int32)
    expected = [region.equivalent_diameter_area for region in regionprops(labels)]
    found = diameters(_sizes(labels), n_dims=len(shape))
    np.testing.assert_allclose(found, expected)


def test_without_cells_there_is_no_diameter():
    assert diameters(np.zeros(0, int)).shape == (0,)
    assert typical_diameter(np.zeros(0, int)) is None


@given(sizes)
def test_the_typical_cell_is_that_of_the_middle_pixel(given_sizes):
    of_pixels = np.sort(np.repeat(given_sizes, given_sizes))
    middle = of_pixels[(len(of_pixels) + 1) // 2 - 1]
    found = typical_diameter(np.array(given_sizes))
    assert found == pytest.approx(2 * np.sqrt(middle / np.pi))


def test_crumbs_hardly_change_the_typical_diameter():
    cells = np.full(10, 400)
    with_crumbs = np.concatenate([cells, np.full(200, 5)])
    assert typical_diameter(with_crumbs) == typical_diameter(cells)


def test_balls_have_the_diameter_of_their_volume():
    assert typical_diameter(np.array([4189]), n_dims=3) == pytest.approx(20, rel=1e-4)


@given(st.floats(0.1, 10), st.floats(5, 80))
def test_at_the_right_scale_nothing_changes(scale, wanted):
    assert next_scale(scale, wanted, wanted) == pytest.approx(scale)


@given(st.floats(3, 300), st.floats(20, 40))
def test_looking_again_comes_to_rest_where_cells_are_as_large_as_wanted(size, wanted):
    scale = 1.0
    for _ in range(4):
        scale = next_scale(scale, size * scale, wanted)
    assert size * scale == pytest.approx(wanted)


def test_a_step_is_bounded_and_nothing_found_changes_nothing():
    assert next_scale(2.0, 1.0, 100.0) == 5.0
    assert next_scale(2.0, 100.0, 1.0) == 0.8
    assert next_scale(0.7, None, 30.0) == 0.7
    assert next_scale(0.7, 0.0, 30.0) == 0.7


def test_pieces_of_cells_that_are_too_large_still_point_the_right_way():
    # Beyond 60 px a cell falls to pieces of 45 px, as was seen on nuclei.
    scale = 1.0
    for _ in range(3):
        seen = 100 * scale if 100 * scale < 60 else 45.0
        scale = next_scale(scale, seen, 26.0)
    assert 100 * scale == pytest.approx(26)
