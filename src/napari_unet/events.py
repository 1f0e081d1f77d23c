"""What long work tells while it runs, and the mailbox that it looks into."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


Reason = Literal["steps", "time", "patience", "stopped", "diverged"]

WHY_ENDED: dict[Reason, str] = {
    "steps": "all steps are done",
    "time": "the time is up",
    "patience": "no better score for a while",
    "stopped": "stopped by you",
    "diverged": "the loss is no number any more",
}


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class Note(Event):
    """One sentence that the user should see; `is_warning` asks for attention."""

    message: str
    is_warning: bool = False


@dataclass(frozen=True)
class TrainingStarted(Event):
    """Training is ready for its first step."""

    n_steps: int
    n_train_images: int
    n_validation_images: int
    device: str
    validation: str


@dataclass(frozen=True)
class StepDone(Event):
    """One step of the optimiser is done; `step` counts from 1."""

    step: int
    n_steps: int
    loss: float
    elapsed_s: float


@dataclass(frozen=True)
class Validated(Event):
    """Held-back pixels were predicted and scored.

    `scores` maps names to numbers ("loss", "iou", "f1", "ap"); `score` is the one
    that decides which model is best.
    """

    step: int
    loss: float
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)


def scores_in_words(scores: Mapping[str, float]) -> str:
    """Return the scores of `Validated` and `Finished` as people read them.

    Examples
    --------
    >>> scores_in_words({"f1": 0.9, "ap": 0.818, "iou": 0.9, "n_cells": 12})
    'F1 0.90, AP 0.82, IoU 0.90 on 12 held-back cells'
    """
    names = {"f1": "F1", "ap": "AP", "iou": "IoU"}
    parts = [f"{word} {scores[k]:.2f}" for k, word in names.items() if k in scores]
    return f"{', '.join(parts)} on {scores.get('n_cells', 0):.0f} held-back cells"


@dataclass(frozen=True)
class Improved(Event):
    """The best model so far: a copy on the CPU."""

    step: int
    score: float
    model: Any = field(repr=False)


@dataclass(frozen=True)
class Paused(Event):
    """Training waits (`is_paused`) or goes on."""

    is_paused: bool


@dataclass(frozen=True)
class Finished(Event):
    """The last event of training: the best model, tuned, and why it ended."""

    model: Any = field(repr=False)
    scores: Mapping[str, float]
    reason: Reason


@dataclass(frozen=True, eq=False)
class TileDone(Event):
    """One tile of a prediction is written.

    `write` is the region of the tile within ([T,] [Z,] Y, X), in pixels of the outputs,
    which may be finer than the image's; `outputs` is a view of the whole output array
    (K, [T,] [Z,] Y, X), right inside all regions done so far.
    """

    n_done: int
    n_tiles: int
    write: tuple[slice, ...]
    outputs: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Segmented(Event):
    """The last event of a segmentation.

    `labels` is int32 ([T,] [Z,] Y, X); `outputs` float32 (K, [T,] [Z,] Y, X).
    """

    labels: NDArray[np.int32] = field(repr=False)
    outputs: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class FolderStarted(Event):
    """A batch knows its files."""

    paths: tuple[Path, ...]


@dataclass(frozen=True)
class FileStarted(Event):
    """A file of a batch is being worked on; `index` counts from 0."""

    index: int
    path: Path


@dataclass(frozen=True)
class FileProgress(Event):
    """Tiles done within the file at `index`."""

    index: int
    n_done: int
    n_tiles: int


@dataclass(frozen=True)
class FileDone(Event):
    """A file of a batch is done or failed.

    `message` is empty, a warning, or (state "failed") the error's sentence.
    """

    index: int
    path: Path
    state: Literal["done", "skipped", "failed"]
    output: Path | None
    n_cells: int
    elapsed_s: float
    message: str = ""


@dataclass(frozen=True)
class FolderFinished(Event):
    """The last event of a batch."""

    n_done: int
    n_failed: int
    n_skipped: int = 0


class Mailbox:
    """What may be asked of running work; the work looks in between two steps.

    Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._go_on = threading.Event()
        self._go_on.set()

    def stop(self) -> None:
        """Ask the work to end after this step and keep what it has."""
        self._stop.set()
        self._go_on.set()

    def pause(self) -> None:
        """Ask the work to wait after this step."""
        if not self._stop.is_set():
            self._go_on.clear()

    def resume(self) -> None:
        """Let paused work go on."""
        self._go_on.set()

    @property
    def wants_stop(self) -> bool:
        """Whether the work was asked to end."""
        return self._stop.is_set()

    @property
    def wants_pause(self) -> bool:
        """Whether the work was asked to wait."""
        return not self._go_on.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the work may go on; return whether it may."""
        return self._go_on.wait(timeout_s)
