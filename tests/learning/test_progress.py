from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.imaging.scores import Tally
from napari_unet.learning import progress
from napari_unet.learning.model import Look, Model
from napari_unet.learning.progress import (
    Clock,
    History,
    learning_rate,
    schedule,
    share_done,
)
from napari_unet.learning.validation import Validation


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
