from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.imaging.grids import Grids
from napari_unet.imaging.resampling import resample
from napari_unet.imaging.tiling import mirror_pad, plan_equal_tiles, plan_tiles

LENGTHS = st.integers(1, 50)
SHAPES = st.tuples(LENGTHS, LENGTHS)
MANY = settings(max_examples=60, deadline=None, derandomize=True)


@MANY
@given(SHAPES, SHAPES, st.integers(0, 9), st.integers(0, 70), st.data())
def test_a_window_is_cut_from_the_resampled_and_mirrored_image(
    own, seen, before, after, data
):
    image = np.random.default_rng(0).random((2, *own), np.float32)
    pads = [(before, after)] * 2
    whole = mirror_pad(resample(image, seen), [(0, 0), *pads])
    region = []
    for n in whole.shape[1:]:
        start = data.draw(st.integers(0, n - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, n))))
    found = Grids(own, seen).read(
        lambda window: image[(slice(None), *window)], tuple(region), pads
    )
    np.testing.assert_allclose(found, whole[(slice(None), *region)], atol=1e-6)


@MANY
@given(SHAPES, SHAPES, st.sampled_from([3, 8, 64]), st.sampled_from([1, 2]))
def test_tiles_add_up_to_the_whole(own, seen, size, finer):
    grids = Grids(own, seen, finer)
    fine = [n * finer for n in seen]
    found = np.random.default_rng(1).random((2, *fine), np.float32)
    expected = resample(found, [n * finer for n in own])
    outputs = np.zeros_like(expected)
    done = np.zeros(expected.shape[1:], int)
    for tile in plan_tiles(fine, tile_size=size, halo=0, multiple=1):
        grids.add(outputs, found[(slice(None), *tile.write)], tile.write)
        done[grids.final(tile.write)] += 1
        # What is said to be final is right already.
        np.testing.assert_allclose(
            outputs[:, done > 0], expected[:, done > 0], atol=1e-6
        )
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    assert (done == 1).all()


def test_tiles_that_are_blended_add_up_too():
    own, seen = (37, 61), (74, 40)
    grids = Grids(own, seen)
    found = np.random.default_rng(1).random((1, 80, 80), np.float32)
    expected = resample(found[:, :74, :40], own)
    outputs = np.zeros_like(expected)
    for tile in plan_equal_tiles(seen, sizes=(16, 16), overlap=6, multiple=2):
        weighted = found[(slice(None), *tile.read)].copy()
        weighted *= tile.weights[0][:, None] * tile.weights[1]
        region = tuple(
            slice(r.start, min(r.stop, n)) for r, n in zip(tile.read, seen, strict=True)
        )
        height, width = (r.stop - r.start for r in region)
        grids.add(outputs, weighted[:, :height, :width], region)
        at = grids.final(tile.write)
        np.testing.assert_allclose(
            outputs[(slice(None), *at)], expected[(slice(None), *at)], atol=1e-6
        )
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
