from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.imaging.cell_counts import (
    TrueCells,
    joined,
    resampled,
    score_of,
    standard_error,
)
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.scores import pool, tally

_SMALL = st.tuples(st.integers(1, 8), st.integers(1, 8))


@st.composite
def _planes(draw):
    shape = draw(_SMALL)
    ids = st.sampled_from([0, 0, 1, 2, 5, 9])
    labels = [draw(arrays(np.int32, shape, elements=ids)) for _ in range(2)]
    known = draw(arrays(bool, shape)) | (labels[0] > 0)
    return (*labels, known)


def _as_dict(counts) -> dict[str, object]:
    return {
        name: pytest.approx(value) for name, value in vars(counts).items()
    }  # sums of IoU in another order


@given(_planes())
@settings(max_examples=300, deadline=None)
def test_the_rows_add_up_to_the_tally_of_the_plane(planes):
    truth, found, known = planes
    counts = TrueCells(truth, known).count(found)
    assert vars(counts.tally()) == _as_dict(tally(truth, found, known=known))


@given(st.lists(_planes(), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_joined_counts_are_pooled_scores(several):
    counts = joined([TrueCells(t, k).count(f) for t, f, k in several])
    pooled = pool(tally(t, f, known=k) for t, f, k in several)
    sums = counts.table.sum(0)
    assert counts.tally().scores().as_dict() == {
        name: pytest.approx(value) for name, value in pooled.as_dict().items()
    }
    assert score_of("mean_ap")(sums) == pytest.approx(pooled.map)
    assert score_of("ap")(sums) == pytest.approx(pooled.ap["0.5"])
    assert score_of("f1")(sums) == pytest.approx(pooled.f1["0.5"])
    assert score_of("iou")(sums) == pytest.approx(pooled.iou)
    assert score_of(None)(sums) == pytest.approx((pooled.map + pooled.iou) / 2)


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    labels = draw_cells((96, 96), n_cells=12, rng=np.random.default_rng(seed))[1]
    # Some cells lost, some cut, and one that is none.
    found = np.where(np.isin(labels, (2, 5)), 0, labels)
    found[:, :3] = 0
    found[40:44, 50:56] = 99
    return labels, found


def test_best_iou_and_middle_are_those_of_each_cell():
    labels, found = _drawn(0)
    counts = TrueCells(labels).count(found)
    for row, label in enumerate(counts.label):
        cell = labels == label
        ious = [
            (cell & (found == k)).sum() / (cell | (found == k)).sum()
            for k in np.unique(found[found > 0])
        ]
        assert counts.best_iou[row] == pytest.approx(max(ious))
        assert counts.middle[row] == pytest.approx(np.argwhere(cell).mean(0))


def test_what_is_beside_a_cell_counts_with_it():
    truth = np.zeros((9, 40), int)
    truth[3:6, 3:6], truth[3:6, 30:33] = 1, 2
    found = np.zeros_like(truth)
    found[3:6, 7:9] = 4  # near the first
    found[3:6, 15:32] = 6  # begins nearer to the first, but lies over the second
    counts = TrueCells(truth).count(found)
    assert counts.n_pred.tolist() == [1, 1]
    assert counts.pred_px.tolist() == [6 + 9, 3 * 17 - 9]
    assert counts.common_px.tolist() == [0, 6]


def test_a_plane_without_cells_is_one_row_of_false_ones():
    counts = TrueCells(np.zeros((5, 5), int)).count(np.eye(5, dtype=int) * 3)
    assert counts.label.tolist() == [0]
    assert counts.n_pred.tolist() == [1]
    assert counts.pred_px.tolist() == [5]
    assert score_of("ap")(counts.table.sum(0)) == 0
    assert counts.tally().n_truth == 0


def test_the_jackknife_is_that_of_leaving_out_each_cell():
    labels, found = _drawn(1)
    truth = TrueCells(labels)
    now, before = truth.count(found).table, truth.count(np.roll(found, 2, 1)).table
    score = score_of(None)
    n = len(now)
    left = [
        score(np.delete(now, i, 0).sum(0)) - score(np.delete(before, i, 0).sum(0))
        for i in range(n)
    ]
    expected = np.sqrt((n - 1) / n * np.sum((left - np.mean(left)) ** 2))
    assert standard_error(now, before, score) == pytest.approx(expected)
    assert standard_error(now, now, score) == 0
    assert standard_error(now[:1], before[:1], score) == np.inf


def test_resampling_agrees_with_the_jackknife_and_is_paired():
    rng = np.random.default_rng(0)
    drawn = [_drawn(seed) for seed in range(8)]
    truths = [TrueCells(labels) for labels, _ in drawn]
    now = joined([t.count(f) for t, (_, f) in zip(truths, drawn, strict=True)]).table
    before = joined(
        [t.count(np.roll(f, 1, 1)) for t, (_, f) in zip(truths, drawn, strict=True)]
    ).table
    score = score_of("mean_ap")
    a, b = resampled([now, before], score, n_draws=4000, rng=rng)
    assert a.shape == (4000,)
    assert np.std(a - b) == pytest.approx(standard_error(now, before, score), rel=0.1)
    assert np.mean(a - b) == pytest.approx(
        score(now.sum(0)) - score(before.sum(0)), abs=0.01
    )
    same = resampled([now, now], score, n_draws=10, rng=rng)
    assert np.array_equal(same[0], same[1])
