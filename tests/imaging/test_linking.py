from __future__ import annotations

from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label

from napari_unet.imaging.linking import link_frames

MANY = settings(max_examples=40, deadline=None, derandomize=True)


def _frame(*cells: tuple[int, int]) -> np.ndarray:
    """Cells of 4 px in one row, each by its id and where it begins."""
    frame = np.zeros((1, 40), np.int32)
    for i, x in cells:
        frame[0, x : x + 4] = i
    return frame


def test_a_cell_that_moves_a_little_keeps_its_id():
    movie = np.stack([_frame((1, 0), (2, 10)), _frame((2, 1), (1, 11)), _frame((9, 2))])
    linked = link_frames(movie)
    assert linked[0, 0, 0] == linked[1, 0, 1] == linked[2, 0, 2] == 1
    assert linked[0, 0, 10] == linked[1, 0, 11] == 2


def test_what_appears_begins_a_track_and_what_is_gone_is_not_taken_up_again():
    movie = np.stack([_frame((1, 0)), _frame((1, 20)), _frame((1, 0))])
    linked = link_frames(movie)
    assert [int(frame.max()) for frame in linked] == [1, 2, 3]


def test_of_two_that_want_one_the_sum_decides():
    # Both halves reach the cell before; the right one has another partner as well.
    before = np.zeros((1, 12), np.int32)
    before[0, 0:6], before[0, 6:12] = 1, 2
    now = np.zeros((1, 12), np.int32)
    now[0, 0:2], now[0, 2:10] = 1, 2
    linked = link_frames(np.stack([before, now]))
    assert linked[1, 0, 0] == 1
    assert linked[1, 0, 5] == 2


@MANY
@given(st.integers(0, 10_000))
def test_the_sum_of_overlaps_is_the_largest_there_is(seed):
    rng = np.random.default_rng(seed)
    movie = np.stack(
        [label(rng.random((4, 9)) > 0.5, connectivity=1) for _ in range(2)]
    ).astype(np.int32)
    iou = np.zeros((movie[0].max() + 1, movie[1].max() + 1))
    for i in range(1, len(iou)):
        for j in range(1, iou.shape[1]):
            a, b = movie[0] == i, movie[1] == j
            iou[i, j] = (a & b).sum() / (a | b).sum()
    iou[iou < 0.1] = 0
    rows, columns = range(1, len(iou)), range(1, iou.shape[1])
    if len(rows) > len(columns):
        iou, rows, columns = iou.T, columns, rows
    if len(columns) > 7:
        return
    best = max(
        (sum(iou[i, j] for i, j in zip(rows, order, strict=False)))
        for order in permutations(columns, len(rows))
    )
    linked = link_frames(movie)
    own = 0.0
    for i in np.unique(linked[0][linked[0] > 0]):
        a, b = linked[0] == i, linked[1] == i
        own += (a & b).sum() / (a | b).sum()
    assert np.isclose(own, best)


@MANY
@given(st.integers(0, 10_000))
def test_ids_are_renamed_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    movie = np.stack(
        [label(rng.random((6, 9)) > 0.4, connectivity=1) for _ in range(3)]
    ).astype(np.int32)
    linked = link_frames(movie)
    assert sorted(np.unique(linked[linked > 0])) == list(range(1, linked.max() + 1))
    for before, after in zip(movie, linked, strict=True):
        pairs = np.unique(np.stack([before.ravel(), after.ravel()], 1), axis=0)
        assert len(pairs) == len(np.unique(before)) == len(np.unique(after))


def test_an_empty_movie_stays_empty():
    assert not link_frames(np.zeros((3, 5, 5), np.int32)).any()
