"""What long work tells while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

# All that is said to and by running work, in one place for users.
from napari_unet.mailbox import Mailbox as Mailbox
from napari_unet.mailbox import Region as Region  # noqa: TC001
from napari_unet.mailbox import Stroke as Stroke

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
class Choice:
    """What planning chose for one setting, and why, in one sentence."""

    name: str
    value: Any
    why: str


@dataclass(frozen=True)
class Planned(Event):
    """Settings that the user left open were chosen from the images and the device."""

    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class LearningRateChanged(Event):
    """The peak learning rate is another one than was planned, from the start on."""

    learning_rate: float


@dataclass(frozen=True)
class TrainingStarted(Event):
    """Training is ready for its first step, or goes on after `first_step` steps.

    `held_back` are the regions that are validated on and never learned from.
    """

    n_steps: int
    n_train_images: int
    n_validation_images: int
    device: str
    validation: str
    held_back: tuple[Region, ...] = ()
    first_step: int = 0


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
    that decides which model is best. Where nothing could be held back
    (`is_held_back`), they are of the training pixels.
    """

    step: int
    loss: float
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    is_held_back: bool = True


def scores_in_words(scores: Mapping[str, float], *, is_held_back: bool = True) -> str:
    """Return the scores of `Validated` and `Finished` as people read them.

    Parameters
    ----------
    scores : mapping of str to float
        As the event has them.
    is_held_back : bool
        False where they are of the training pixels.

    Examples
    --------
    >>> scores_in_words({"f1": 0.9, "ap": 0.818, "iou": 0.9, "n_cells": 12})
    'F1 0.90, AP 0.82, IoU 0.90 on 12 held-back cells'
    >>> scores_in_words({"psnr": 31.24, "ssim": 0.912, "n_images": 1})
    'PSNR 31.2 dB, SSIM 0.91 on 1 held-back image'
    >>> scores_in_words({"f1": 0.9, "n_cells": 1}, is_held_back=False)
    'F1 0.90 on 1 training cell'
    """
    whose = "held-back" if is_held_back else "training"
    if "psnr" in scores:
        both = f"PSNR {scores['psnr']:.1f} dB, SSIM {scores.get('ssim', math.nan):.2f}"
        return f"{both} on {counted(scores.get('n_images', 0), f'{whose} image')}"
    names = {"f1": "F1", "ap": "AP", "iou": "IoU"}
    parts = [f"{word} {scores[k]:.2f}" for k, word in names.items() if k in scores]
    on = counted(scores.get("n_cells", 0), f"{whose} cell")
    return f"{', '.join(parts)} on {on}"


def counted(n: float, noun: str) -> str:
    """Return how many of something there are.

    Examples
    --------
    >>> counted(1, "file"), counted(2.0, "file")
    ('1 file', '2 files')
    """
    return f"{n:.0f} {noun}{'' if n == 1 else 's'}"


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
class CheckpointSaved(Event):
    """All that is needed to go on from here is on disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class StrokesTaken(Event):
    """Fresh strokes entered: from the next step on they are learned from."""

    step: int
    n_strokes: int


@dataclass(frozen=True, eq=False)
class Previewed(Event):
    """The region that the user looks at, predicted with the averaged weights.

    `labels` is int32 (Y, X) and `outputs` float32 (K, Y, X), both of the region. Of a
    model that makes images from images `labels` is None and `outputs` is in the units
    of its targets, with as many pixels for each of the region as these have.
    """

    step: int
    region: Region
    labels: NDArray[np.int32] | None = field(repr=False)
    outputs: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class WorseCell:
    """A cell that the model before had found and the new one misses.

    `iou` is that of its best match before and now; `middle` its row and column.
    """

    region: Region
    label: int
    middle: tuple[float, float]
    iou_before: float
    iou_now: float


@dataclass(frozen=True)
class Compared(Event):
    """The new model beside the one that it started from, on the same held-back pixels.

    `n_cells` says what the scores rest on.
    """

    verdict: Literal["better", "same", "worse"]
    before: Mapping[str, float]
    now: Mapping[str, float]
    worse_cells: tuple[WorseCell, ...] = ()


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
    (K, [T,] [Z,] Y, X), right inside all regions done so far. With test-time
    augmentation `spread`, float32 ([T,] [Z,] Y, X), is its standard deviation.
    """

    n_done: int
    n_tiles: int
    write: tuple[slice, ...]
    outputs: NDArray[np.float32] = field(repr=False)
    spread: NDArray[np.float32] | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Segmented(Event):
    """The last event of a segmentation.

    `labels` is int32 ([T,] [Z,] Y, X); `outputs` float32 (K, [T,] [Z,] Y, X).
    """

    labels: NDArray[np.int32] = field(repr=False)
    outputs: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class BlockDone(Event):
    """A block of an image that is too large to be looked at as a whole is done."""

    n_done: int
    n_blocks: int


@dataclass(frozen=True)
class LabelsWritten(Event):
    """The last event of the segmentation of a large image: its labels are in a file.

    `block_px` and `halo_px` say how it was cut to find its cells, `tile_px` how it was
    predicted: the side of a tile without its halo, in pixels that the network sees.
    """

    path: Path
    n_cells: int
    block_px: int
    halo_px: int
    tile_px: int


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

    `n_cells` is None where images are made, and no cells found; `message` is empty, a
    warning, or (state "failed") the error's sentence.
    """

    index: int
    path: Path
    state: Literal["done", "skipped", "failed"]
    output: Path | None
    n_cells: int | None
    elapsed_s: float
    message: str = ""


@dataclass(frozen=True)
class FolderFinished(Event):
    """The last event of a batch."""

    n_done: int
    n_failed: int
    n_skipped: int = 0
