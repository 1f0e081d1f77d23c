from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet.cli.drawing import draw_demo, draw_folder, draw_training
from napari_unet.demo import DemoFinished
from napari_unet.events import (
    CheckpointSaved,
    Choice,
    FileDone,
    FileProgress,
    FileStarted,
    Finished,
    FolderFinished,
    FolderStarted,
    Improved,
    Note,
    Paused,
    Planned,
    StepDone,
    StrokesTaken,
    TileDone,
    TrainingStarted,
    Validated,
)
from napari_unet.imaging.scores import Tally

if TYPE_CHECKING:
    from napari_unet.events import Event

MODEL = SimpleNamespace(step=2)
TRAINING: list[Event] = [
    Note("alpha was dropped"),
    Note("images are dark", is_warning=True),
    TrainingStarted(4, 3, 1, "CPU, 1 threads (no GPU found)", "1 of 4 images"),
    StepDone(1, 4, 0.9, 0.1),
    StepDone(2, 4, 0.8, 0.2),
    Validated(2, 0.7, 0.5, {"f1": 0.5, "n_cells": 8.0}),
    Improved(2, 0.5, MODEL),
    Finished(MODEL, {"f1": 0.5}, "time"),
]


def test_training_is_told_in_quiet_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert draw_training(iter(TRAINING)) is TRAINING[-1]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "alpha was dropped",
        "warning: images are dark",
        "Device: CPU, 1 threads (no GPU found)",
        "Learning from 3 planes; validation: 1 of 4 images",
        "step 2: loss 0.700, F1 0.50 on 8 held-back cells",
        "Training ended: the time is up; the best model is of step 2",
    ]


def test_scores_on_what_was_learned_from_are_told_as_that(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = {"f1": 0.5, "n_cells": 36.0}
    draw_training(iter([Validated(2, 0.7, 0.5, scores, is_held_back=False)]))
    told = capsys.readouterr().err
    assert told == "step 2: loss 0.700, F1 0.50 on 36 training cells\n"


def test_plans_and_strokes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        Planned((Choice("patch_size", 96, "Patch 96 px: 5 cells."),)),
        *TRAINING[2:4],
        StrokesTaken(1, 1),
        Paused(is_paused=True),
        Paused(is_paused=False),
        CheckpointSaved(1, Path("step-000001.json")),
        StepDone(5, 4, 0.8, 0.2),
    ]
    assert draw_training(iter(events)) is None
    err = capsys.readouterr().err.splitlines()
    assert err[:2] == [
        "Planned from the images and the device:",
        "  Patch 96 px: 5 cells.",
    ]
    assert err[-1] == "step 1: learning from 1 fresh stroke"


def test_on_a_terminal_training_has_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    draw_training(iter(TRAINING))
    err = capsys.readouterr().err
    assert "Training" in err
    assert "2/4" in err
    assert "loss 0.800" in err


def test_training_that_was_stopped_before_it_began_gives_nothing() -> None:
    assert draw_training(iter(TRAINING[:-1])) is None


def test_each_file_of_a_folder_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = Path("in/a.tif"), Path("in/b.tif")
    events: list[Event] = [
        FolderStarted((a, b)),
        FileStarted(0, a),
        FileProgress(0, 1, 2),
        FileDone(0, a, "done", Path("out/a_labels.tif"), 12, 0.5, "may be empty"),
        FileStarted(1, b),
        FileDone(1, b, "failed", None, 0, 0.1, "b.tif is empty [NU-I01]"),
        FolderFinished(1, 1),
    ]
    assert draw_folder(iter(events)) == FolderFinished(1, 1)
    assert capsys.readouterr().err.splitlines() == [
        "a.tif: 12 cells, 0.5 s (may be empty)",
        f"failed: {b}: b.tif is empty [NU-I01]",
    ]


def test_what_was_done_before_is_not_told_file_by_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    a, b = Path("in/a.tif"), Path("in/b.txt")
    events: list[Event] = [
        FolderStarted((a, b)),
        FileDone(0, a, "skipped", Path("out/a_labels.tif"), 12, 0.0, "done before"),
        FileDone(1, b, "skipped", None, 0, 0.0, "b.txt is no image"),
        FolderFinished(0, 0, 2),
    ]
    assert draw_folder(iter(events)) == FolderFinished(0, 0, 2)
    assert capsys.readouterr().err.splitlines() == [f"skipped: {b}: b.txt is no image"]


def test_the_demo_is_told_as_training_and_its_end_returned() -> None:
    last = DemoFinished(Tally().scores(), 1.0)
    outputs = np.zeros((2, 4, 4), np.float32)
    tile = TileDone(1, 1, (slice(0, 4), slice(0, 4)), outputs)
    assert draw_demo(iter([*TRAINING, tile, last])) is last


def test_the_demo_without_a_last_event_is_a_bug() -> None:
    with pytest.raises(TypeError, match="the demo ended without"):
        draw_demo(iter(TRAINING))
