from __future__ import annotations

import numpy as np
import pytest

from napari_unet import events as ev
from napari_unet.widgets._run_state import (
    RunState,
    StopAsked,
    WorkAt,
    WorkEnded,
    WorkFailed,
    WorkStarted,
    reduce,
)
from napari_unet.widgets._worker import Failure

BUG = Failure("a sentence", "Traceback ...", is_bug=True)


def after(*events, state=None):
    state = state or RunState()
    for event in events:
        state = reduce(state, event)
    return state


def started(n=10):
    return ev.TrainingStarted(
        n, 1, 1, "CPU, 2 threads", "a block of the image held back"
    )


STEP = ev.StepDone(4, 10, 0.5, 2.0)
TILE = ev.TileDone(1, 4, (), np.zeros((2, 4, 4), np.float32))


def test_nothing_runs_at_first():
    assert not RunState().is_running


def test_steps_fill_the_bar_and_tell_what_is_left():
    state = after(WorkStarted("Training"), started(), STEP)
    assert (state.n_done, state.n_total) == (4, 10)
    assert state.message == "Step 4 of 10, loss 0.5, 3 s left"


def test_the_first_step_has_no_estimate_without_time():
    state = after(WorkStarted("Training"), started(), ev.StepDone(1, 10, 0.5, 0.0))
    assert state.message == "Step 1 of 10, loss 0.5"


def test_minutes_are_told_as_minutes():
    step = ev.StepDone(1, 101, 0.5, 1.0)
    assert "1 min 40 s left" in after(WorkStarted("Training"), started(), step).message


def test_validation_is_told_at_the_start():
    state = after(WorkStarted("Training"), started())
    assert state.notes == (
        "Learning from 1 plane; a block of the image kept apart to check",
    )


def test_a_warning_is_marked_and_told_once():
    warning = ev.Note("pixel size differs", is_warning=True)
    assert after(warning, warning).notes == ("⚠ pixel size differs",)


def test_only_the_newest_notes_are_kept():
    state = after(*(ev.Note(str(i)) for i in range(30)))
    assert state.notes[-1] == "29"
    assert len(state.notes) < 10


def test_pause_and_resume():
    state = after(WorkStarted("Training"), STEP, ev.Paused(is_paused=True))
    assert state.phase == "paused"
    assert "Paused at step 4" in state.message
    assert after(ev.StepDone(5, 10, 0.5, 2.0), state=state).phase == "running"
    assert after(ev.Paused(is_paused=False), state=state).phase == "running"


def test_a_pause_does_not_hide_that_stop_was_asked():
    state = after(WorkStarted("Training"), StopAsked(), ev.Paused(is_paused=True))
    assert state.phase == "stopping"
    assert after(STEP, state=state).message == "Stopping …"


def test_finished_training_tells_why_and_how_good():
    done = ev.Finished(None, {"f1": 0.874}, "patience")
    state = after(WorkStarted("Training"), done, WorkEnded())
    assert state.phase == "done"
    assert "no better score" in state.message
    assert any("F1 0.87" in note for note in state.notes)


@pytest.mark.parametrize("reason", ["steps", "time", "patience", "stopped", "diverged"])
def test_every_reason_to_end_has_words(reason):
    assert after(ev.Finished(None, {}, reason)).phase == "done"


def test_an_end_without_a_result_was_a_cancel():
    state = after(WorkStarted("Prediction"), StopAsked(), WorkEnded())
    assert state.phase == "stopped"
    assert state.message == "Prediction was cancelled"


def test_an_error_stays_after_the_end_and_goes_with_the_next_start():
    state = after(WorkStarted("Training"), WorkFailed(BUG), WorkEnded())
    assert (state.phase, state.failure) == ("failed", BUG)
    assert after(WorkStarted("Training"), state=state).failure is None


def test_tiles_fill_the_bar():
    state = after(WorkStarted("Prediction"), TILE)
    assert (state.n_done, state.n_total) == (1, 4)


def test_cells_are_counted_at_the_end():
    labels = np.array([[0, 1], [2, 3]], np.int32)
    done = ev.Segmented(labels, np.zeros((2, 2, 2), np.float32))
    assert after(WorkStarted("Prediction"), done).message == "3 cells found"


def test_work_tells_how_far_it_is_until_it_is_stopped():
    state = after(WorkStarted("Batch"), WorkAt(3, 8, "3 of 8 files"))
    assert (state.n_done, state.n_total, state.message) == (3, 8, "3 of 8 files")
    state = after(StopAsked(), WorkAt(4, 8, "4 of 8 files"), state=state)
    assert (state.n_done, state.message) == (4, "Stopping …")


def test_an_event_that_shows_nothing_changes_nothing():
    state = RunState()
    assert reduce(state, ev.Improved(1, 0.5, None)) is state
