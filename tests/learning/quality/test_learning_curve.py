from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from napari_unet.errors import LabelError
from napari_unet.imaging.scores import Tally
from napari_unet.learning.model import Round
from napari_unet.learning.quality.learning_curve import (
    curve_of,
    fit_learning_curve,
    in_words,
    next_round,
    same_held_back,
    what_they_brought,
)
from napari_unet.learning.quality.validation import Validation


@given(
    st.floats(0.5, 0.95), st.floats(0.2, 3.0), st.floats(0.3, 1.5)
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_power_law_without_noise_is_found_again(a, b, c):
    n = np.array([10, 20, 40, 80, 160])
    score = a - b * n**-c
    if score.min() < 0:
        return
    curve = fit_learning_curve(n, score, [1e9] * 5)
    for k in (15, 100, 320):
        assert curve.estimate(k)[1] == pytest.approx(a - b * k**-c, abs=0.01)


def test_the_fit_is_the_least_squares_one_of_scipy():
    n, score = np.array([12, 25, 60, 140]), np.array([0.42, 0.61, 0.6, 0.74])
    m = np.array([20, 20, 80, 80])
    sigma = np.sqrt(score * (1 - score) / m + 0.01**2)

    def residuals(abc):
        return (score - abc[0] + abc[1] * n ** -abc[2]) / sigma

    curve = fit_learning_curve(n, score, m)
    best = min(
        least_squares(
            residuals, [0.8, 1, c], bounds=([-np.inf, 0, 0.1], [1, np.inf, 2])
        ).cost
        for c in (0.2, 0.5, 1, 1.9)
    )
    own = 0.5 * (residuals([curve.a, curve.b, curve.c]) ** 2).sum()
    assert own == pytest.approx(best, rel=0.02)


def test_eight_of_ten_curves_lie_within_the_band():
    # Scores as they come: of m cells, with a seed's noise; asked for twice the cells.
    rng = np.random.default_rng(0)
    n, m = np.array([20, 40, 80, 160]), 100
    inside = []
    for _ in range(60):
        a, c = rng.uniform(0.6, 0.9), rng.uniform(0.4, 1.0)
        b = 0.35 * 20**c
        true = a - b * n**-c
        seen = rng.binomial(m, true) / m + rng.normal(0, 0.01, n.size)
        low, _, high = fit_learning_curve(n, seen, [m] * 4).estimate(320)
        inside.append(low <= a - b * 320**-c <= high)
    assert 0.7 <= np.mean(inside) <= 1


def test_more_held_back_cells_make_it_more_certain():
    n, score = [20, 40, 80], [0.5, 0.6, 0.66]
    few, many = (fit_learning_curve(n, score, [m] * 3) for m in (20, 2000))
    widths = [np.ptp(curve.estimate(160)) for curve in (few, many)]
    assert widths[1] < 0.5 * widths[0]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=6))
@settings(max_examples=40, deadline=None)
def test_an_estimate_is_a_score_and_never_falls(scores):
    n = [10 * 2**k for k in range(len(scores))]
    curve = fit_learning_curve(n, scores, [30] * len(n))
    low, middle, high = curve.estimate(n[-1] * 2)
    assert low <= middle <= high <= 1
    assert curve.estimate(n[-1] * 4)[1] >= middle
    assert curve.gain(n[-1], n[-1])[0] >= 0


def test_the_same_scores_give_the_same_estimate():
    n, score = [20, 40, 80], [0.5, 0.6, 0.66]
    a, b = (fit_learning_curve(n, score, [50] * 3).estimate(160) for _ in range(2))
    assert a == b


@pytest.mark.parametrize(
    ("n", "score"),
    [([20, 40], [0.5, 0.6]), ([20, 20, 40], [0.5, 0.5, 0.6]),
     ([20, 40, 80], [0.5, 0.6, np.nan])],
)  # fmt: skip
def test_too_few_points_are_refused(n, score):
    with pytest.raises(LabelError, match="2 different numbers of annotated cells"):
        fit_learning_curve(n, score, [50] * len(n))


def _rounds(*scores: float, **about: object) -> list[Round]:
    return [
        Round(40 * (k + 1), s, 400, **({"held_back": "a"} | about))
        for k, s in enumerate(scores)
    ]


def test_only_rounds_on_the_same_pixels_are_one_curve():
    rounds = [*_rounds(0.1, 0.2, held_back="b"), *_rounds(0.5, 0.6, 0.66)]
    assert same_held_back(rounds) == tuple(rounds[2:])
    assert same_held_back([]) == ()
    assert curve_of(rounds).n.tolist() == [40, 80, 120]
    with pytest.raises(LabelError, match="too few"):
        curve_of(rounds[:4])


def test_scores_of_images_are_no_share_of_cells():
    with pytest.raises(LabelError, match="psnr"):
        curve_of(_rounds(30, 31, 32, name="psnr"))


def test_what_they_brought_is_said_with_its_noise():
    assert what_they_brought(_rounds(0.5, 0.6)) == (
        "The last 40 cells brought +0.10 (0.50 -> 0.60, on 400 held-back cells)"
    )
    assert "within the noise" in what_they_brought(_rounds(0.60, 0.61))
    psnr = what_they_brought(_rounds(30.04, 30.11, name="psnr"))
    assert "brought +0.1 (30.0 -> 30.1, on 400 held-back" in psnr
    again = [*_rounds(0.5), *_rounds(0.6)]
    assert what_they_brought(again).startswith("Training again, without more cells,")
    for rounds in ([], _rounds(0.5), [*_rounds(0.5), *_rounds(0.6, held_back="b")]):
        assert "can't be said" in what_they_brought(rounds)


def test_a_round_on_other_pixels_between_hides_what_they_brought():
    a, b = _rounds(0.5, 0.6), _rounds(0.55, held_back="b")
    assert "can't be said" in what_they_brought([a[0], b[0], a[1]])


def test_words_tell_what_as_many_more_may_bring():
    said = in_words(_rounds(0.5, 0.6, 0.65))
    assert said.startswith("The last 40 cells brought +0.05")
    low, _, high = curve_of(_rounds(0.5, 0.6, 0.65)).gain(120, 40)
    assert said.endswith(f"; 40 more may bring {low:+.2f} to {high:+.2f} (an estimate)")
    assert "after three rounds" in in_words(_rounds(0.5, 0.6))
    assert "more may" not in in_words([*_rounds(0.5, 0.6, 0.65), _rounds(0.5)[0]])


def test_a_training_adds_its_round():
    scores = Tally(n_truth=7, n_pred=7, truth_px=10, pred_px=10, common_px=10).scores()
    result = Validation(0.1, scores, choose_by="iou")
    added = next_round(33, [], result)
    assert (added.n_cells, added.score, added.n_held_back) == (33, 1.0, 7)
    assert (added.name, len(added.held_back)) == ("iou", 64)
    made = next_round(4, [], Validation(0.1, None, psnr=31.0, n_images=2))
    assert (made.score, made.n_held_back, made.name) == (31.0, 2, "psnr")
    assert next_round(33, [], Validation(0.1, scores)).name == "score"
