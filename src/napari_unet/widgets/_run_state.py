"""What the run panel shows, as a pure function of the events: no Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from napari_unet import events as ev

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.widgets._worker import Failure

Phase = Literal["idle", "running", "paused", "stopping", "done", "stopped", "failed"]
_N_NOTES = 6


@dataclass(frozen=True)
class WorkStarted(ev.Event):
    """The user started the work; `what` is its name, such as "Training"."""

    what: str


@dataclass(frozen=True)
class StopAsked(ev.Event):
    """The user asked the work to stop."""


@dataclass(frozen=True)
class WorkAt(ev.Event):
    """How far the work is; `message` says it in words."""

    n_done: int
    n_total: int
    message: str


@dataclass(frozen=True)
class WorkDone(ev.Event):
    """The work has done what it should; `message` says what that is."""

    message: str


@dataclass(frozen=True)
class WorkFailed(ev.Event):
    """The work ended by an error."""

    failure: Failure


@dataclass(frozen=True)
class WorkEnded(ev.Event):
    """The work's generator is closed."""


@dataclass(frozen=True)
class RunState:
    """All that the run panel shows.

    Parameters
    ----------
    phase : str
        Where the work stands.
    what : str
        Name of the work.
    n_done, n_total : int
        Steps, tiles or files; a total of 0 is not known yet.
    message : str
        The line above the progress bar.
    notes : tuple of str
        What the work told, newest last; warnings begin with a sign.
    failure : Failure, optional
        Why the work failed.
    """

    phase: Phase = "idle"
    what: str = ""
    n_done: int = 0
    n_total: int = 0
    message: str = ""
    notes: tuple[str, ...] = ()
    failure: Failure | None = None

    @property
    def is_running(self) -> bool:
        """Whether the work goes on, paused or not."""
        return self.phase in {"running", "paused", "stopping"}


def _work_started(state: RunState, event: WorkStarted) -> RunState:
    return RunState("running", event.what, message=f"{event.what} is starting …")


def _stop_asked(state: RunState, event: StopAsked) -> RunState:
    return replace(state, phase="stopping", message="Stopping …")


def _work_at(state: RunState, event: WorkAt) -> RunState:
    message = state.message if state.phase == "stopping" else event.message
    return replace(state, n_done=event.n_done, n_total=event.n_total, message=message)


def _work_done(state: RunState, event: WorkDone) -> RunState:
    return replace(state, phase="done", message=event.message)


def _work_failed(state: RunState, event: WorkFailed) -> RunState:
    return replace(state, phase="failed", message="", failure=event.failure)


def _work_ended(state: RunState, event: WorkEnded) -> RunState:
    if not state.is_running:
        return state
    return replace(state, phase="stopped", message=f"{state.what} was cancelled")


def _note(state: RunState, event: ev.Note) -> RunState:
    text = f"⚠ {event.message}" if event.is_warning else event.message
    if text in state.notes:
        return state
    return replace(state, notes=(*state.notes, text)[-_N_NOTES:])


def _training_started(state: RunState, event: ev.TrainingStarted) -> RunState:
    n = event.n_train_images
    check = event.validation.replace("held back", "kept apart to check")
    message = f"Learning from {ev.counted(n, 'plane')}; {check}"
    started = replace(state, n_total=event.n_steps, message="First step …")
    return _note(started, ev.Note(message))


def _step_done(state: RunState, event: ev.StepDone) -> RunState:
    if event.step > event.n_steps and state.phase != "stopping":
        message = (
            f"Step {event.step}, loss {event.loss:.3g}: goes on learning until you stop"
        )
        done = replace(state, n_done=event.n_steps, n_total=event.n_steps)
        return replace(done, phase="running", message=message)
    rate = event.step / event.elapsed_s if event.elapsed_s > 0 else 0.0
    left = (event.n_steps - event.step) / rate if rate else 0.0
    message = f"Step {event.step} of {event.n_steps}, loss {event.loss:.3g}" + (
        f", {_duration(left)} left" if rate else ""
    )
    counted = replace(state, n_done=event.step, n_total=event.n_steps)
    if state.phase == "stopping":
        return counted
    return replace(counted, phase="running", message=message)


def _paused(state: RunState, event: ev.Paused) -> RunState:
    if state.phase == "stopping":
        return state
    if event.is_paused:
        return replace(state, phase="paused", message=f"Paused at step {state.n_done}")
    return replace(state, phase="running", message="Going on …")


def _finished(state: RunState, event: ev.Finished) -> RunState:
    message = f"{state.what} ended: {ev.WHY_ENDED[event.reason]}"
    ended = replace(state, phase="done", message=message)
    if not event.scores:
        return ended
    best = f"Best model: {ev.scores_in_words(event.scores)}"
    return _note(ended, ev.Note(best))


def _tile_done(state: RunState, event: ev.TileDone) -> RunState:
    message = f"Tile {event.n_done} of {event.n_tiles}"
    return replace(state, n_done=event.n_done, n_total=event.n_tiles, message=message)


def _segmented(state: RunState, event: ev.Segmented) -> RunState:
    # Ids are consecutive, so the largest is the count.
    n_cells = int(event.labels.max(initial=0))
    return replace(state, phase="done", message=f"{ev.counted(n_cells, 'cell')} found")


# Any: each function takes its own kind of event.
_REDUCERS: dict[type, Callable[[RunState, Any], RunState]] = {
    WorkStarted: _work_started,
    StopAsked: _stop_asked,
    WorkAt: _work_at,
    WorkDone: _work_done,
    WorkFailed: _work_failed,
    WorkEnded: _work_ended,
    ev.Note: _note,
    ev.TrainingStarted: _training_started,
    ev.StepDone: _step_done,
    ev.Paused: _paused,
    ev.Finished: _finished,
    ev.TileDone: _tile_done,
    ev.Segmented: _segmented,
}


def reduce(state: RunState, event: ev.Event) -> RunState:
    """Return the state after `event`; events that change nothing return `state`."""
    reducer = _REDUCERS.get(type(event))
    return state if reducer is None else reducer(state, event)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
