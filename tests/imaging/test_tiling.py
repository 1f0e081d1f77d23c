from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.errors import ConfigError
from napari_unet.imaging.tiling import (
    mirror_pad,
    pad_to_multiple,
    plan_equal_tiles,
    plan_tiles,
)

shapes = st.lists(st.integers(1, 70), min_size=2, max_size=3).map(tuple)
settings_ = st.tuples(st.integers(1, 40), st.integers(0, 30), st.integers(1, 16))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(shapes, settings_)
def test_write_regions_partition_the_image(shape, sizes):
    tile_size, halo, multiple = sizes
    tile_size = max(tile_size, 8)
    written = np.zeros(shape, int)
    tiles = plan_tiles(shape, tile_size=tile_size, halo=halo, multiple=multiple)
    for tile in tiles:
        written[tile.write] += 1
    assert (written == 1).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(shapes, settings_)
def test_the_crop_of_what_is_read_is_what_is_written(shape, sizes):
    tile_size, halo, multiple = sizes
    pixels = np.arange(np.prod(shape)).reshape(shape)
    for tile in plan_tiles(
        shape, tile_size=max(tile_size, 8), halo=halo, multiple=multiple
    ):
        np.testing.assert_array_equal(pixels[tile.read][tile.crop], pixels[tile.write])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 500), settings_)
def test_halos_reach_as_far_as_asked_or_to_the_border(length, sizes):
    tile_size, halo, multiple = sizes
    for tile in plan_tiles(
        (length,), tile_size=tile_size, halo=halo, multiple=multiple
    ):
        (read,), (write,) = tile.read, tile.write
        assert read.start == 0 or read.start <= write.start - halo
        assert read.stop == length or read.stop >= write.stop + halo
        assert 0 <= read.start <= write.start < write.stop <= read.stop <= length


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 30), settings_)
def test_tiles_of_a_padded_image_lie_on_the_pooling_grid(n_steps, sizes):
    tile_size, halo, multiple = sizes
    length = n_steps * multiple
    for tile in plan_tiles(
        (length,), tile_size=tile_size, halo=halo, multiple=multiple
    ):
        for part in (tile.read[0], tile.crop[0], tile.write[0]):
            assert part.start % multiple == part.stop % multiple == 0


def test_a_tile_larger_than_the_image_is_the_image():
    (tile,) = plan_tiles((1, 37), tile_size=512, halo=96, multiple=1)
    assert tile.read == tile.crop == tile.write == (slice(0, 1), slice(0, 37))


def test_tiles_come_in_the_order_of_the_pixels():
    tiles = plan_tiles((32, 48), tile_size=16, halo=0, multiple=16)
    starts = [(t.write[0].start, t.write[1].start) for t in tiles]
    assert starts == [(0, 0), (0, 16), (0, 32), (16, 0), (16, 16), (16, 32)]


@pytest.mark.parametrize(
    ("shape", "tile_size", "halo", "multiple"),
    [((0, 5), 16, 0, 1), ((5, 5), 0, 0, 1), ((5, 5), 16, -1, 1), ((5, 5), 16, 0, 0)],
)
def test_sizes_out_of_range_are_refused(shape, tile_size, halo, multiple):
    with pytest.raises(ConfigError, match="sizes are 1 or more"):
        plan_tiles(shape, tile_size=tile_size, halo=halo, multiple=multiple)


def mirrored(index, length):
    """Walk to and fro between the ends, one pixel a step."""
    place, step = 0, 1
    for _ in range(abs(index)):
        if not 0 <= place + step < length:
            step = -step
        if 0 <= place + step < length:
            place += step
    return place


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 40))
def test_mirror_pad_walks_to_and_fro(length, before, after):
    values = np.arange(length) * 10
    got = mirror_pad(values, [(before, after)])
    # Seen from the first pixel, both ways look the same: the mirror is symmetric.
    want = [mirrored(k, length) * 10 for k in range(-before, length + after)]
    np.testing.assert_array_equal(got, want)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=3, max_dims=4, max_side=6)),
    st.integers(1, 16),
)
def test_padding_to_a_multiple_keeps_the_image_in_its_place(plane, multiple):
    padded, crop = pad_to_multiple(plane, multiple)
    assert padded.shape[0] == plane.shape[0]
    assert all(n % multiple == 0 for n in padded.shape[1:])
    assert all(n - m < multiple for n, m in zip(padded.shape, plane.shape, strict=True))
    assert padded.dtype == plane.dtype
    np.testing.assert_array_equal(padded[crop], plane)


def test_padding_mirrors_at_the_end():
    padded, _ = pad_to_multiple(np.array([[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]), 4)
    np.testing.assert_array_equal(
        padded[0], [[1, 2, 3, 2], [4, 5, 6, 5], [7, 8, 9, 8], [4, 5, 6, 5]]
    )


def test_padding_never_hands_back_the_callers_array():
    plane = np.zeros((1, 8, 8))
    padded, _ = pad_to_multiple(plane, 8)
    padded[:] = 1
    assert not plane.any()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    size=st.integers(1, 40),
    overlap=st.integers(0, 20),
    margin=st.integers(0, 5),
    multiple=st.sampled_from([1, 2, 8]),
)
def test_equal_tiles_partition_and_their_weights_sum_to_one(
    shape, size, overlap, margin, multiple
):
    size, overlap = max(size, multiple), min(overlap, size // 2)
    tiles = plan_equal_tiles(
        shape,
        sizes=[size] * len(shape),
        margin=margin,
        overlap=overlap,
        multiple=multiple,
    )
    counts = np.zeros(shape, int)
    total = np.zeros([n + size + multiple for n in shape])
    for tile in tiles:
        counts[tile.write] += 1
        for read, crop, write in zip(tile.read, tile.crop, tile.write, strict=True):
            assert read.stop - read.start == size + 2 * margin
            assert read.start == write.start
            assert read.start % multiple == 0
            assert 0 == crop.start < crop.stop <= size
            assert crop.stop == write.stop - write.start
        if tile.weights:
            region = tuple(slice(w.start, w.start + size) for w in tile.write)
            total[region] += functools.reduce(np.multiply.outer, tile.weights)
    assert (counts == 1).all()
    if tiles[0].weights:
        np.testing.assert_allclose(total[tuple(slice(0, n) for n in shape)], 1, 1e-5)
    else:
        assert overlap == 0 or len(tiles) == 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(length=st.integers(1, 300), size=st.integers(8, 60), overlap=st.integers(0, 30))
def test_neighbours_overlap_as_asked(length, size, overlap):
    overlap = min(overlap, size // 2)
    tiles = plan_equal_tiles((length,), sizes=[size], overlap=overlap)
    for left, right in itertools.pairwise(tiles):
        assert left.read[0].stop - right.read[0].start >= overlap


@pytest.mark.parametrize(
    "wrong", [{"sizes": [4]}, {"overlap": -1}, {"margin": -1}, {"multiple": 0}]
)
def test_equal_tiles_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError, match="do not fit an image"):
        plan_equal_tiles((20,), **({"sizes": [16], "multiple": 8} | wrong))
