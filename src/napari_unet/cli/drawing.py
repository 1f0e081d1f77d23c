"""Events of long work, drawn as progress bars and quiet lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.cli import console
from napari_unet.events import (
    WHY_ENDED,
    FileDone,
    FileStarted,
    Finished,
    FolderFinished,
    FolderStarted,
    Note,
    Planned,
    StepDone,
    StrokesTaken,
    TileDone,
    TrainingStarted,
    Validated,
    counted,
    scores_in_words,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.progress import Progress, TaskID

    from napari_unet.demo import DemoFinished
    from napari_unet.events import Event


def draw_training(events: Iterable[Event]) -> Finished | None:
    """Run a training to its end and show how it goes.

    Returns its last event; None where it was stopped before the first step.
    """
    last: Finished | None = None
    with console.progress_bar() as bar:
        task = bar.add_task("Preparing", total=None, note="")
        for event in events:
            _draw_step(bar, task, event)
            if isinstance(event, Finished):
                last = event
    if last is None:
        return None
    console.say_error(
        f"Training ended: {WHY_ENDED[last.reason]}; the best model is of step "
        f"{last.model.step}"
    )
    return last


def _draw_step(bar: Progress, task: TaskID, event: Event) -> None:
    match event:
        case Planned():
            console.say_error("Planned from the images and the device:")
            for choice in event.choices:
                console.say_error(f"  {choice.why}")
        case TrainingStarted():
            _draw_start(bar, task, event)
        case StepDone():
            # Training may go on after its last step.
            total = max(event.n_steps, event.step)
            note = f"loss {event.loss:.3f}"
            bar.update(task, completed=event.step, total=total, note=note)
        case StrokesTaken():
            strokes = console.counted(event.n_strokes, "fresh stroke")
            console.say_error(f"step {event.step}: learning from {strokes}")
        case Validated():
            held = event.is_held_back
            scores = scores_in_words(event.scores, is_held_back=held)
            console.say_error(f"step {event.step}: loss {event.loss:.3f}, {scores}")
        case Note():
            _say_note(event)


def _draw_start(bar: Progress, task: TaskID, event: TrainingStarted) -> None:
    console.say_error(f"Device: {event.device}")
    console.say_error(
        f"Learning from {console.counted(event.n_train_images, 'plane')}; "
        f"validation: {event.validation}"
    )
    bar.update(
        task,
        description="Training",
        total=event.n_steps,
        completed=event.first_step,
    )


def _say_note(event: Note) -> None:
    (console.warn if event.is_warning else console.say_error)(event.message)


def draw_folder(events: Iterable[Event], doing: str = "Segmenting") -> FolderFinished:
    """Run a batch to its end and show each file; return its last event."""
    last: FolderFinished | None = None
    with console.progress_bar() as bar:
        task = bar.add_task(doing, total=None, note="")
        for event in events:
            _draw_file(bar, task, event)
            if isinstance(event, FolderFinished):
                last = event
    return last or FolderFinished(n_done=0, n_failed=0)


def _draw_file(bar: Progress, task: TaskID, event: Event) -> None:
    match event:
        case FolderStarted():
            bar.update(task, total=len(event.paths))
        case FileStarted():
            bar.update(task, note=event.path.name)
        case FileDone():
            # Workers don't end in order.
            bar.advance(task)
            _say_file(event)
        case Note():
            _say_note(event)


def _say_file(event: FileDone) -> None:
    if event.state == "failed":
        console.say_error(f"failed: {event.path}: {event.message}")
        return
    if event.state == "skipped":
        # What was done before may be thousands of files.
        if event.output is None:
            console.say_error(f"skipped: {event.path}: {event.message}")
        return
    more = f" ({event.message})" if event.message else ""
    # Of a model that makes images nobody counts cells.
    cells = "" if event.n_cells is None else f"{counted(event.n_cells, 'cell')}, "
    console.say_error(f"{event.path.name}: {cells}{event.elapsed_s:.1f} s{more}")


def draw_demo(events: Iterable[Event]) -> DemoFinished:
    """Run the demo to its end and show how it goes; return its last event."""
    from napari_unet.demo import DemoFinished  # loads torch

    last: DemoFinished | None = None
    with console.progress_bar() as bar:
        task = bar.add_task("Preparing", total=None, note="")
        for event in events:
            if isinstance(event, TileDone):
                bar.update(
                    task,
                    description="Segmenting",
                    completed=event.n_done,
                    total=event.n_tiles,
                    note="",
                )
            elif isinstance(event, DemoFinished):
                last = event
            else:
                _draw_step(bar, task, event)
    if last is None:
        raise TypeError("the demo ended without its last event")
    return last
