from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment
from skimage.metrics import contingency_table
from skimage.segmentation import find_boundaries

from napari_unet.errors import LabelError
from napari_unet.imaging.scores import THRESHOLDS, Tally, pool, score, tally

ids = st.sampled_from([0, 0, 1, 2, 3, 8, 2**31 - 1])
pairs = hnp.array_shapes(min_dims=2, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.int64, shape, elements=ids),
        hnp.arrays(np.int64, shape, elements=ids),
    )
)


def iou_table(truth, predicted):
    """IoU of each true with each predicted cell, one by one."""
    cells = [
        [labels == i for i in np.unique(labels) if i] for labels in (truth, predicted)
    ]
    table = np.zeros([len(c) for c in cells])
    for i, a in enumerate(cells[0]):
        for j, b in enumerate(cells[1]):
            table[i, j] = (a & b).sum() / (a | b).sum()
    return table


def best_matching(table, threshold):
    """Most pairs at the threshold, and among those the largest sum of IoU."""
    worth = np.where(table >= threshold, 1000 + table, 0)
    i, j = linear_sum_assignment(worth, maximize=True)
    kept = table[i, j] >= threshold
    return i[kept], table[i, j][kept]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(pairs)
def test_matches_equal_an_optimal_assignment(images):
    got = tally(*images)
    table = iou_table(*images)
    for k, threshold in enumerate(THRESHOLDS):
        _, ious = best_matching(table, threshold)
        assert got.matched[k] == len(ious)
        assert got.matched_iou[k] == pytest.approx(ious.sum())
    assert (got.n_truth, got.n_pred) == table.shape


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pairs)
def test_pixel_scores_equal_their_definition(images):
    a, b = (image > 0 for image in images)
    scores = score(*images)
    if (a | b).any():
        assert scores.iou == pytest.approx((a & b).sum() / (a | b).sum())
        assert scores.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    else:
        assert scores.iou == scores.dice == 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pairs)
def test_seg_equals_its_definition(images):
    truth, predicted = images
    values = []
    for i in np.unique(truth[truth > 0]):
        cell, best = truth == i, 0.0
        for j in np.unique(predicted[predicted > 0]):
            other = predicted == j
            if 2 * (cell & other).sum() > cell.sum():
                best = (cell & other).sum() / (cell | other).sum()
        values.append(best)
    assert score(*images).seg == pytest.approx(np.mean(values) if values else 1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pairs)
def test_touching_pairs_equal_a_walk_over_all_pixels(images):
    truth = images[0]
    touching = set()
    for place in np.argwhere(truth > 0):
        around = tuple(slice(max(p - 1, 0), p + 2) for p in place)
        own = truth[tuple(place)]
        touching |= {
            frozenset((own, n)) for n in truth[around].flat if n not in (0, own)
        }
    assert tally(*images).n_touching_pairs == len(touching)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(pairs)
def test_a_perfect_prediction_under_other_ids_scores_1(images):
    truth = images[0]
    renamed = np.where(truth > 0, 2**31 - truth, 0)
    scores = score(truth, renamed)
    assert scores.map == scores.iou == scores.dice == scores.seg == 1
    assert set(scores.ap.values()) == set(scores.f1.values()) == {1.0}
    assert scores.pq["0.95"] == pytest.approx(1)
    assert scores.separated_pairs == scores.n_touching_pairs


@settings(max_examples=50, deadline=None, derandomize=True)
@given(pairs)
def test_overlaps_agree_with_scikit_image(images):
    a, b = (np.searchsorted([0, 1, 2, 3, 8, 2**31 - 1], image) for image in images)
    table = contingency_table(a, b, sparse_type="array").toarray()
    assert tally(*images).common_px == table[1:, 1:].sum()


def bars(*lengths):
    """Return a row of cells of these lengths, with gaps."""
    row = []
    for i, length in enumerate(lengths, start=1):
        row += [i] * length + [0] * 10
    return np.array([row])


def test_scores_of_a_hand_counted_row():
    truth = bars(10, 10, 10)
    predicted = np.zeros_like(truth)
    predicted[0, 0:8] = 5  # 8 of 10: IoU 0.8
    predicted[0, 20:26] = 6  # 6 of 10: IoU 0.6
    predicted[0, 32:35] = 7  # outside of all
    scores = score(truth, predicted)
    assert (scores.n_truth, scores.n_pred) == (3, 3)
    assert scores.ap["0.5"] == 2 / 4
    assert scores.ap["0.6"] == 2 / 4  # exactly 0.6 counts
    assert scores.ap["0.65"] == 1 / 5
    assert scores.ap["0.8"] == 1 / 5
    assert scores.ap["0.85"] == 0
    assert scores.f1["0.5"] == pytest.approx(2 / 3)
    assert scores.pq["0.5"] == pytest.approx((0.8 + 0.6) / 3)
    assert scores.map == pytest.approx((3 * 0.5 + 4 * 0.2) / 10)
    assert scores.iou == 14 / 33
    assert scores.dice == pytest.approx(28 / 47)
    assert scores.seg == pytest.approx(1.4 / 3)


def test_an_iou_on_a_threshold_counts():
    for k, threshold in enumerate(THRESHOLDS):
        truth = np.ones((1, 100), int)
        predicted = np.zeros_like(truth)
        predicted[0, : round(threshold * 100)] = 1
        assert sum(tally(truth, predicted).matched) == k + 1


@pytest.mark.parametrize("swap", [False, True])
def test_two_halves_of_a_cell_give_one_match_at_one_half(swap):
    whole = np.array([[1, 1, 1, 1]])
    halves = np.array([[1, 1, 2, 2]])
    counts = tally(halves, whole) if swap else tally(whole, halves)
    assert counts.matched[0] == 1
    assert counts.matched_iou[0] == 0.5
    assert counts.matched[1] == 0


def test_pairs_count_as_separated_when_both_cells_are_found():
    truth = np.zeros((8, 30), int)
    truth[:, 0:5], truth[:, 5:10] = 1, 2  # found as two
    truth[:, 12:17], truth[:, 17:22] = 3, 4  # found as one
    truth[:, 25:28] = 5  # alone
    predicted = truth.copy()
    predicted[truth == 4] = 3
    scores = score(truth, predicted)
    assert (scores.n_touching_pairs, scores.separated_pairs) == (2, 1)


def test_cells_that_meet_at_a_corner_touch():
    truth = np.array([[1, 0], [0, 2]])
    assert score(truth, truth).n_touching_pairs == 1
    volume = np.zeros((2, 2, 2), int)
    volume[0, 0, 1], volume[1, 1, 0] = 1, 2
    assert score(volume, volume).n_touching_pairs == 1


def test_cells_touch_where_scikit_image_finds_a_boundary_between_them():
    truth = np.kron([[1, 2], [3, 4]], np.ones((4, 4), int))
    inner = find_boundaries(truth, connectivity=2)
    assert inner.any()
    assert score(truth, truth).n_touching_pairs == 6


def test_nothing_found_where_nothing_is_scores_1():
    nothing = np.zeros((4, 4), int)
    scores = score(nothing, nothing)
    assert scores.map == scores.iou == scores.dice == scores.seg == 1
    assert (scores.n_truth, scores.n_pred) == (0, 0)


@pytest.mark.parametrize("swap", [False, True])
def test_everything_missed_or_invented_scores_0(swap):
    pair = [np.eye(5, dtype=int), np.zeros((5, 5), int)]
    scores = score(*(pair[::-1] if swap else pair))
    assert scores.map == scores.iou == scores.dice == scores.f1["0.5"] == 0


@settings(max_examples=50, deadline=None, derandomize=True)
@given(pairs, pairs)
def test_pooling_equals_one_large_image(first, second):
    assert (
        pool([tally(*first), tally(*second)])
        == (tally(*first) + tally(*second)).scores()
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(pairs, st.integers(1, 4))
def test_pooling_equals_the_images_side_by_side(images, n_copies):
    rows = []
    for image in images:
        small = np.minimum(image, 9)
        gap = np.zeros((*image.shape[:-1], 1), int)
        copies = [np.where(small > 0, small + 10 * k, 0) for k in range(n_copies)]
        rows.append(np.concatenate([p for c in copies for p in (c, gap)], axis=-1))
    want = score(*rows).as_dict()
    for name, value in pool([tally(*images)] * n_copies).as_dict().items():
        assert value == pytest.approx(want[name])


def test_pooling_nothing_is_perfect():
    assert pool([]) == Tally().scores()


def test_scores_become_json_with_keys_as_thresholds():
    truth = bars(5, 5)
    data = json.loads(json.dumps(score(truth, truth).as_dict()))
    names = ["0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95"]
    for key in ("ap", "f1", "pq"):
        assert list(data[key]) == names
    assert {"iou", "dice", "ap", "f1", "pq", "map", "n_truth", "n_pred"} <= set(data)


def test_different_shapes_are_refused():
    with pytest.raises(LabelError, match=r"\(2, 3\) but the prediction \(3, 2\)"):
        score(np.zeros((2, 3), int), np.zeros((3, 2), int))


def test_probabilities_are_no_labels():
    with pytest.raises(LabelError, match="prediction holds values that are not whole"):
        score(np.zeros((2, 2), int), np.full((2, 2), 0.3))


def test_cells_found_where_nothing_is_known_are_not_judged():
    labels, found = np.zeros((2, 20, 30), np.int32)
    labels[2:8, 2:8] = 1
    known = np.zeros((20, 30), bool)
    known[:, :15] = True
    found[2:8, 2:8], found[2:8, 20:26] = 5, 7  # right; not known
    found[12:16, 9:13] = 8  # wrong, and known
    found[12:16, 14:18] = 9  # mostly not known
    counts = tally(labels, found, known=known)
    assert (counts.n_truth, counts.n_pred, counts.matched[0]) == (1, 2, 1)
    assert tally(labels, found, known=np.ones_like(known)) == tally(labels, found)
    assert score(labels, found, known=known) == counts.scores()
