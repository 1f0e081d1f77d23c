"""The command line as it is used: in a process of its own, from images to scores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

import napari_unet as nu
from napari_unet.imaging.drawn import draw_cells

if TYPE_CHECKING:
    from tests.conftest import Cells

COMMAND = str(Path(sys.executable).parent / "napari-unet")
SMALL = ("--base-width=4", "--depth=1", "--batch-size=4", "--patch-size=32")
CPU = ("--device=cpu", "--precision=fp32")


def listen_to_ctrl_c() -> None:
    # A test run in the background ignores it, and what it starts inherits that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def call(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *argv], capture_output=True, text=True, check=False, timeout=300
    )


def test_from_images_to_scores(cells: Cells, tmp_path: Path) -> None:
    model, labels = tmp_path / "cells.unet", tmp_path / "labels"
    trained = call(
        "train",
        f"--images={cells.images}",
        f"--masks={cells.masks}",
        "--val-pattern=val_*",
        f"--out={model}",
        "--max-steps=80",
        "--validate-every=40",
        "--learning-rate=0.01",
        *SMALL,
        *CPU,
    )
    assert trained.returncode == 0, trained.stderr
    predicted = call(
        "predict",
        f"--model={model}",
        f"--input={cells.images}",
        f"--output={labels}",
        "--pattern=val_*",
        *CPU,
    )
    assert predicted.returncode == 0, predicted.stderr
    scores_file = tmp_path / "scores.json"
    scored = call(
        "evaluate",
        f"--truth={cells.masks}",
        f"--pred={labels}",
        "--pattern=val_*",
        f"--json={scores_file}",
    )
    assert scored.returncode == 0, scored.stderr
    scores = json.loads(scores_file.read_text())
    assert scores["f1"]["0.5"] > 0.8
    truth = nu.read_labels(cells.masks / "val_a.tif")
    found = nu.read_labels(labels / "val_a_labels.tif")
    assert scores == nu.score(truth, found).as_dict()


def test_python_m_is_the_same_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "napari_unet", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == nu.__version__


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_stops_training_and_the_best_model_is_written(
    cells: Cells, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    out = tmp_path / "cells.unet"
    argv = [f"--images={cells.images}", f"--masks={cells.masks}", f"--out={out}"]
    more = ["--max-steps=1000000", "--validate-every=5", *SMALL, *CPU]
    with subprocess.Popen(
        [COMMAND, "train", *argv, *more],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listen_to_ctrl_c,
    ) as process:
        assert process.stderr is not None
        told = ""
        # A validation says that the loop is running: no need to wait for a time.
        while "step 5:" not in told:
            line = process.stderr.readline()
            assert line, told
            told += line
        process.send_signal(signum)
        told += process.stderr.read()
    assert process.returncode == code, told
    assert "Stopping; the best model is kept" in told
    assert nu.load_model(out).step >= 5
    assert not list(tmp_path.rglob("*.unettmp"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_batch_with_whole_files_only(
    tiny_model: Path, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    image, _ = draw_cells((64, 64), n_cells=5, rng=np.random.default_rng(0))
    for i in range(400):
        tifffile.imwrite(images / f"{i:03}.tif", image)
    argv = [f"--model={tiny_model}", f"--input={images}", f"--output={out}", *CPU]
    with subprocess.Popen(
        [COMMAND, "predict", *argv],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listen_to_ctrl_c,
    ) as process:
        assert process.stderr is not None
        while "001.tif" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signum)
        process.stderr.read()
    assert process.returncode == code
    done = [json.loads(row) for row in (out / "ledger.jsonl").read_text().splitlines()]
    assert 2 <= len(done) < 400
    for path in out.glob("*.tif"):
        nu.read_labels(path)
    assert not list(out.glob(".*"))
