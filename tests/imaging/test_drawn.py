from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.scores import score


def draw(seed=0, **settings):
    settings = {"n_cells": 12, **settings}
    return draw_cells((160, 200), rng=np.random.default_rng(seed), **settings)


def test_picture_and_truth_have_the_types_and_shape_asked_for():
    image, labels = draw()
    assert image.dtype == np.float32
    assert labels.dtype == np.int32
    assert image.shape == labels.shape == (160, 200)


@pytest.mark.parametrize("touching", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_every_cell_is_there_in_one_piece(touching, seed):
    _, labels = draw(seed, touching=touching)
    np.testing.assert_array_equal(np.unique(labels), np.arange(13))
    for i in range(1, 13):
        assert ndimage.label(labels == i, np.ones((3, 3)))[1] == 1
        assert (labels == i).sum() >= 20


def test_the_border_leaves_enough_of_every_cell():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        _, labels = draw_cells((40, 40), n_cells=4, rng=rng, touching=True)
        assert np.bincount(labels[labels > 0])[1:].min() >= 20


@pytest.mark.parametrize("seed", range(4))
def test_cells_lie_apart(seed):
    _, labels = draw(seed)
    for i in range(1, 13):
        distance = ndimage.distance_transform_edt(labels != i)
        others = (labels > 0) & (labels != i)
        assert distance[others].min() > 3


@pytest.mark.parametrize("seed", range(4))
def test_touching_cells_come_in_pairs(seed):
    _, labels = draw(seed, touching=True)
    assert score(labels, labels).n_touching_pairs == 6


def test_an_odd_number_leaves_one_cell_alone():
    _, labels = draw(n_cells=5, touching=True)
    assert labels.max() == 5
    assert score(labels, labels).n_touching_pairs == 2


def test_cells_are_brighter_than_the_ground():
    image, labels = draw(noise=0)
    assert image[labels > 0].mean() > 3 * image[labels == 0].mean()
    assert image[labels == 0].min() == pytest.approx(0.1, abs=0.01)


def test_noise_has_the_spread_asked_for():
    quiet, _ = draw(noise=0)
    noisy, _ = draw(noise=0.2)
    assert (noisy - quiet).std() == pytest.approx(0.2, rel=0.05)


def test_the_same_seed_draws_the_same_picture():
    for a, b in zip(draw(3), draw(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(draw(3)[1], draw(4)[1])


def test_a_full_picture_ends_with_fewer_cells():
    _, labels = draw_cells((30, 30), n_cells=15, rng=np.random.default_rng(0))
    assert 1 <= labels.max() < 15


def test_no_cells_leave_the_ground():
    image, labels = draw(n_cells=0, noise=0)
    assert not labels.any()
    np.testing.assert_allclose(image, 0.1, rtol=1e-6)
