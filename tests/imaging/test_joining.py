from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.joining import Joiner, plan_blocks

MANY = settings(max_examples=40, deadline=None, derandomize=True)


def _blocks(whole: np.ndarray, size: int, halo: int):
    """Each block with numbers of its own for the cells that it sees."""
    rng = np.random.default_rng(0)
    found = []
    for block in plan_blocks(whole.shape, size=size, halo=halo):
        window = whole[block.window]
        ids = np.unique(window[window > 0])
        table = np.zeros(whole.max() + 1, np.int32)
        table[ids] = rng.permutation(len(ids)) + 1
        found.append((block, table[window]))
    return found


def joined(blocks, shape, halo: int) -> np.ndarray:
    """The cells of the whole, of those of its blocks."""
    joiner = Joiner(shape, halo)
    cores = [(block.core, joiner.add(block, labels)) for block, labels in blocks]
    numbers = joiner.numbers()
    whole = np.zeros(tuple(shape), np.uint32)
    for core, found in cores:
        whole[core] = numbers[found]
    return whole


def _is_renumbered(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether there is one number for each, both ways."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()], 1), axis=0)
    return len(pairs) == len(np.unique(a)) == len(np.unique(b))


def test_cores_partition_an_image_and_windows_hold_them():
    shape, n = (50, 33, 7), np.zeros((50, 33, 7), int)
    for block in plan_blocks(shape, size=16, halo=5):
        n[block.core] += 1
        for core, window, side in zip(block.core, block.window, shape, strict=True):
            assert window.start == max(core.start - 5, 0)
            assert window.stop == min(core.stop + 5, side)
    assert (n == 1).all()


def test_sides_are_open_where_the_image_goes_on():
    blocks = plan_blocks((20, 10), size=10, halo=2)
    assert [block.open_sides((20, 10)) for block in blocks] == [
        ((False, True), (False, False)),
        ((True, False), (False, False)),
    ]


@MANY
@given(
    st.integers(0, 1000),
    st.sampled_from([(40, 70), (64, 64), (90, 31)]),
    st.sampled_from([13, 16, 32]),
    st.sampled_from([1, 2, 6, 16]),
)
def test_what_all_blocks_see_alike_is_what_the_whole_shows(seed, shape, size, halo):
    rng = np.random.default_rng(seed)
    whole = label(rng.random(shape) > 0.45, connectivity=1).astype(np.int32)
    found = joined(_blocks(whole, size, halo), shape, halo)
    assert found.dtype == np.uint32
    assert _is_renumbered(whole, found)
    assert found.max() == whole.max()


def test_volumes_are_joined_too():
    rng = np.random.default_rng(2)
    whole = label(rng.random((20, 30, 25)) > 0.7, connectivity=1).astype(np.int32)
    assert _is_renumbered(whole, joined(_blocks(whole, 9, 4), whole.shape, 4))


def test_touching_cells_stay_apart():
    rng = np.random.default_rng(4)
    _, whole = draw_cells((128, 128), n_cells=40, rng=rng, touching=True)
    found = joined(_blocks(whole, 32, 40), whole.shape, 40)
    assert _is_renumbered(whole, found)


def test_cells_that_blocks_see_differently_are_one_where_they_mostly_agree():
    shape = (8, 20)
    left, right = plan_blocks(shape, size=10, halo=8)
    a, b = np.zeros((8, 18), np.int32), np.zeros((8, 18), np.int32)
    a[2:6, 6:14] = 1  # the left one sees columns 6 to 13
    b[2:6, 4:9] = 1  # the right one, from column 2 on, sees 6 to 10
    b[2:6, 9:12] = 2  # and another one in 11 to 13
    found = joined([(left, a), (right, b)], shape, 8)
    assert found[3, 6] == found[3, 10] != 0
    assert found[3, 12] not in (0, found[3, 6])


def test_size_and_border_count_in_the_whole_image():
    whole = np.zeros((20, 40), np.int32)
    whole[0:3, 18:22] = 1  # over the seam, at the border
    whole[8:10, 19:21] = 2  # 2 pixels in each block
    whole[15, 5] = 3
    whole[15, 30:39] = 4
    joiner = Joiner(whole.shape, 8)
    cores = [
        (block.core, joiner.add(block, labels))
        for block, labels in _blocks(whole, 20, 8)
    ]
    numbers = joiner.numbers(min_size_px=4, clears_border=True, first=70_001)
    found = np.zeros(whole.shape, np.uint32)
    for core, labels in cores:
        found[core] = numbers[labels]
    assert sorted(np.unique(found)) == [0, 70_001, 70_002]
    np.testing.assert_array_equal(found > 0, np.isin(whole, (2, 4)))


def test_cells_are_as_wide_as_all_their_parts_together():
    whole = np.zeros((40, 60), np.int32)
    whole[5, 3:55] = 1  # 52 px, over three blocks
    whole[10:38, 7] = 2  # 28 px
    whole[20:30, 20:30] = 3
    joiner = Joiner(whole.shape, 8)
    for block, labels in _blocks(whole, 20, 8):
        joiner.add(block, labels)
    assert [joiner.n_wider_than(w) for w in (9, 10, 27, 28, 51, 52)] == [
        *(3, 2, 2, 1, 1, 0)
    ]


@pytest.mark.parametrize("n", [0, 1])
def test_an_image_with_hardly_a_cell(n):
    whole = np.zeros((9, 9), np.int32)
    whole[4, 4] = n
    assert joined(_blocks(whole, 4, 2), whole.shape, 2).max() == n


def test_numbers_go_beyond_16_bits():
    whole = np.arange(1, 300 * 300 + 1, dtype=np.int32).reshape(300, 300)
    found = joined(_blocks(whole, 100, 2), whole.shape, 2)
    assert len(np.unique(found)) == 90_000


def test_seams_are_forgotten_once_both_sides_are_known():
    joiner = Joiner((64, 64), 8)
    for block in plan_blocks((64, 64), size=16, halo=8):
        joiner.add(block, np.zeros([w.stop - w.start for w in block.window], np.int32))
        assert len(joiner._seams) <= 5
    assert not joiner._seams
