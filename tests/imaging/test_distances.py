from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.imaging import distances
from napari_unet.imaging.distances import Grid, distance_sums, nearest_distances
from napari_unet.imaging.windows import whole

cell_images = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9),
    elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 2**31 - 1]),
)
sizes = st.sampled_from([1.0, 0.5, 0.3, 0.1083, 2.0, math.sqrt(2), math.pi])


def brute_force(cells, size):
    """d1 and d2 of each pixel, from all pixels of all cells."""
    d = np.full((2, *cells.shape), np.inf)
    places = [np.argwhere(cells == i) for i in np.unique(cells) if i > 0]
    for pixel in np.ndindex(cells.shape):
        lengths = sorted(
            np.sqrt((((place - pixel) * size) ** 2).sum(axis=1)).min()
            for place in places
        )
        d[(slice(len(lengths[:2])), *pixel)] = lengths[:2]
    return d


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cell_images, st.data())
def test_distances_equal_brute_force_within_reach(cells, data):
    size = data.draw(st.tuples(*[sizes] * cells.ndim))
    reach = data.draw(st.floats(0.1, 12))
    d1, d2 = brute_force(cells, size)
    everything, grid = whole(cells.shape), Grid.of(size)
    sums = distance_sums(cells, everything, reach, grid)
    first = nearest_distances(cells, everything, reach, grid)
    is_clear = abs(d1 + d2 - reach) > 1e-9  # rounding may fall on either side
    expected = np.where(d1 + d2 <= reach, d1 + d2, np.inf)
    np.testing.assert_allclose(sums[is_clear], expected[is_clear], rtol=1e-13)
    is_clear = abs(d1 - reach) > 1e-9
    expected = np.where(d1 <= reach, d1, np.inf)
    np.testing.assert_allclose(first[is_clear], expected[is_clear], rtol=1e-13)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cell_images, st.data())
def test_a_window_has_the_bits_of_the_whole_field(cells, data):
    size = data.draw(st.tuples(*[sizes] * cells.ndim))
    reach = data.draw(st.sampled_from([0.5, 1.0, 2.0, 5.0]))
    window = []
    for n in cells.shape:
        start = data.draw(st.integers(0, n - 1))
        window.append(slice(start, data.draw(st.integers(start + 1, n))))
    grid, everything = Grid.of(size), whole(cells.shape)
    for measure in (distance_sums, nearest_distances):
        part = measure(cells, tuple(window), reach, grid)
        all_of_it = measure(cells, everything, reach, grid)
        np.testing.assert_array_equal(part, all_of_it[tuple(window)])


def test_distances_of_blocks_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    cells = np.where(rng.random((50, 70)) < 0.01, rng.integers(1, 9, (50, 70)), 0)
    everything, grid = whole(cells.shape), Grid.of((1, 1))
    expected = nearest_distances(cells, everything, 11.0, grid)
    monkeypatch.setattr(distances, "SMALL_BLOCK_PX", 100)
    found = nearest_distances(cells, everything, 11.0, grid)
    np.testing.assert_array_equal(found, expected)
    assert np.isinf(found).any()
    assert (found == 0).any()


def test_a_reach_of_zero_finds_nothing():
    cells = np.array([[1, 2]], np.int32)
    everything, grid = whole(cells.shape), Grid.of((1, 1))
    assert np.isinf(distance_sums(cells, everything, 0.0, grid)).all()
    assert np.isinf(nearest_distances(cells, everything, 0.0, grid)).all()


@pytest.mark.parametrize(
    ("size", "squares"),
    [
        ((1, 1), (1, 1)),
        ((0.5, 0.5, 0.5), (1, 1, 1)),
        ((2.0, 0.5, 0.5), (16, 1, 1)),
        ((0.3, 0.1), (9, 1)),
        ((0.15, 0.1), (9, 4)),
        ((math.sqrt(2), 1), (2, 1)),
        ((0.2, 0.1083, 0.1083), (2000**2, 1083**2, 1083**2)),
    ],
)
def test_squared_lengths_are_whole_numbers_where_sizes_have_a_measure(size, squares):
    grid = Grid.of(size)
    assert grid.squares == squares
    lengths = np.sqrt(squares) * grid.unit
    np.testing.assert_allclose(lengths, size, rtol=1e-15)


@pytest.mark.parametrize("size", [(1, math.pi, math.e), (1000.0, 0.0107)])
def test_other_sizes_are_measured_in_real_numbers(size):
    grid = Grid.of(size)
    assert grid.dtype_for((10,) * len(size)) == np.float64
    lengths = np.sqrt(grid.squares) * grid.unit
    np.testing.assert_allclose(lengths, size, rtol=1e-15)


def test_squared_lengths_never_overflow():
    grid = Grid.of((0.2, 0.1083))
    shape = (9000, 9000)
    corner = [np.array([n - 1]) for n in shape]
    (squared,) = grid.squared(corner, grid.dtype_for(shape))
    assert squared == 8999**2 * (2000**2 + 1083**2)
    assert Grid.of((1, 1)).dtype_for((100, 100)) == np.int32
    assert Grid.of((1, 1)).dtype_for((40_000, 40_000)) == np.int64
