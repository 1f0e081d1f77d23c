from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.imaging.scores import Tally
from napari_unet.learning.loop import progress
from napari_unet.learning.loop.progress import (
    Best,
    Clock,
    History,
    Pace,
    learning_rate,
    schedule,
    share_done,
)
from napari_unet.learning.model import Look, Model
from napari_unet.learning.quality.validation import Validation


def _seen(loss: float = 0.5) -> Validation:
    return Validation(loss, Tally(n_truth=3).scores())


def _model(**about: object) -> Model:
    return Model(NetworkConfig(), {}, **about)


def test_pauses_are_no_training_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = Clock()
    now[0] += 5

    def wait(seconds: float) -> None:
        now[0] += 1000 * seconds

    clock.leave_out(wait, 0.2)
    now[0] += 2
    assert clock.elapsed_s == pytest.approx(7)


def test_the_learning_rate_warms_up_and_falls_to_zero():
    assert schedule(0.025) == pytest.approx(0.5)
    assert schedule(0.05) == pytest.approx(1)
    assert schedule(0.525) == pytest.approx(0.5)
    assert schedule(1.0) == pytest.approx(0, abs=1e-12)
    falling = [schedule(p) for p in np.linspace(0.05, 1, 50)]
    assert falling == sorted(falling, reverse=True)


def test_the_first_and_the_last_step_learn_something():
    config = TrainConfig(max_steps=10, learning_rate=0.1)
    rates = [learning_rate(step / 10, config) for step in range(1, 11)]
    assert min(rates) > 0
    assert max(rates) <= 0.1
    assert learning_rate(1.0, TrainConfig(max_steps=1)) > 0


def test_progress_follows_whichever_ends_first():
    config = TrainConfig(max_steps=100, max_minutes=2.0)
    assert share_done(10, 60.0, config) == 0.5
    assert share_done(80, 60.0, config) == 0.8
    assert share_done(1, 1e6, config) == 1
    assert share_done(30, 1e6, TrainConfig(max_steps=100)) == 0.3


def test_a_history_counts_from_the_first_training_of_the_weights():
    old = tuple(Look(step, 0.9, 0.8, 0.1) for step in (10, 20, 30))
    history = History(_model(step=20, history=old))
    history.add(0, None, _seen(0.7))
    history.add(5, 0.6, _seen(0.4))
    assert history.total(5) == 25
    # What came after step 20 is of weights that nobody went on from.
    assert history.looks == (
        *old[:2], Look(20, None, 0.7, 0.5), Look(25, 0.6, 0.4, 0.5),
    )  # fmt: skip


def test_a_loss_that_is_no_number_is_not_kept():
    history = History(_model())
    history.add(1, 0.5, _seen(np.nan))
    history.add(2, 0.5, _seen(np.inf))
    history.add(3, 0.5, _seen(0.25))
    assert [look.step for look in history.looks] == [3]


def test_a_long_history_is_thinned_but_keeps_its_ends():
    history = History(_model())
    for step in range(1, 5001):
        history.add(step, 0.5, _seen())
        assert len(history.looks) <= 1000
    steps = [look.step for look in history.looks]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, 5000)
    assert len(steps) >= 500


def test_what_takes_little_time_is_due_at_every_nth_step():
    pace = Pace(50, max_share=0.1)
    due = []
    for step in range(1, 301):
        if pace.is_due(step):
            due.append(step)
            pace.took(1.0, step, elapsed_s=step * 1.0)
    assert due == [50, 100, 150, 200, 250, 300]


@pytest.mark.parametrize("took_s", [7.0, 20.0, 100.0])
def test_what_takes_long_is_due_more_rarely_and_costs_its_share_at_most(took_s):
    pace, now, spent, due = Pace(10, max_share=0.1), 0.0, 0.0, []
    for step in range(1, 20_001):
        now += 1.0
        if pace.is_due(step):
            due.append(step)
            pace.took(took_s, step, elapsed_s=now)
            now, spent = now + took_s, spent + took_s
    assert all(step % 10 == 0 for step in due)
    assert 0.06 < spent / now < 0.11


def test_without_a_share_time_plays_no_role():
    pace = Pace(3)
    due = []
    for step in range(1, 10):
        if pace.is_due(step):
            due.append(step)
            pace.took(1e6, step, elapsed_s=1.0)
    assert due == [3, 6, 9]


def test_done_in_between_it_is_due_at_the_next_multiple():
    pace = Pace(10)
    pace.took(1.0, 0, 0.0)
    assert next(step for step in range(1, 21) if pace.is_due(step)) == 10
    pace.took(1.0, 13, 5.0)
    assert not pace.is_due(19)
    assert pace.is_due(20)
    other = Pace(10)
    other.load_state_dict(pace.state_dict())
    assert not other.is_due(19)
    assert other.is_due(20)


def test_with_late_strokes_a_tenth_of_the_learning_rate_is_left():
    config = TrainConfig(max_steps=100, learning_rate=0.2, keep_learning=True)
    plain = config.model_copy(update={"keep_learning": False})
    for share in np.linspace(0.01, 1, 100):
        expected = learning_rate(share, plain)
        if share > 0.1:
            expected = max(expected, 0.02)
        assert learning_rate(share, config) == pytest.approx(expected)


def test_another_peak_scales_the_schedule():
    config = TrainConfig(learning_rate=0.2)
    for share in (0.01, 0.3, 0.9):
        ratio = learning_rate(share, config, 0.05) / learning_rate(share, config)
        assert ratio == pytest.approx(0.25)


def _result(score: float, loss: float = 0.5, n_cells: int = 100) -> Validation:
    right = round(n_cells * score)
    counts = Tally(
        n_truth=n_cells, n_pred=n_cells, truth_px=100, pred_px=100,
        common_px=round(100 * score), matched=(right,) * 10,
    )  # fmt: skip
    return Validation(loss, counts.scores())


def test_the_best_is_gone_on_with():
    weights = {"w": torch.arange(3.0)}
    first, second = (Best(_model(step=5)) for _ in range(2))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert not second.is_found
    for score in (0.5, 0.4, 0.3):
        first.is_beaten_by(_result(score))
    looks = (Look(1, None, 0.5, 0.4), Look(2, 0.3, 0.5, 0.5))
    first.model = Model(
        NetworkConfig(), weights, step=7, scores={"f1": 0.5}, history=looks
    )
    second.load_state_dict(first.state_dict())
    assert second.is_found
    assert second.n_worse == 2
    assert (second.model.step, second.model.scores) == (7, {"f1": 0.5})
    assert second.model.history == looks
    assert torch.equal(second.model.state["w"], weights["w"])
    for result in (_result(0.45), _result(0.5, loss=0.6), _result(0.6)):
        assert first.is_beaten_by(result) == second.is_beaten_by(result)
        assert first.n_worse == second.n_worse


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_nan_is_never_the_best(loss):
    best = Best(_model())
    assert not best.is_beaten_by(_result(0.9, loss=loss))
    assert not best.is_found
    assert best.n_worse == 1


def test_a_history_is_gone_on_with():
    first, second = History(_model(step=3)), History(_model(step=3))
    first.add(0, None, _seen(0.7))
    first.add(5, 0.6, _seen(0.4))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.looks == first.looks


def test_the_clock_counts_on(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = Clock()
    clock.go_on_from(40.0)
    now[0] += 2
    assert clock.elapsed_s == pytest.approx(42)
