from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.cli import run

if TYPE_CHECKING:
    from pathlib import Path

SQUARES = np.zeros((30, 40), np.uint16)
SQUARES[2:8, 2:8] = 1
SQUARES[12:20, 5:12] = 2
SQUARES[20:28, 25:38] = 7


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Truth a and b, three cells each; a is found, b has no prediction."""
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    truth.mkdir()
    pred.mkdir()
    for name in ("a", "b"):
        tifffile.imwrite(truth / f"{name}.tif", SQUARES)
    tifffile.imwrite(pred / "a_labels.tif", SQUARES)
    return truth, pred


def evaluate(folders: tuple[Path, Path], *more: str) -> int:
    truth, pred = folders
    return run(["evaluate", f"--truth={truth}", f"--pred={pred}", *more])


def test_truth_without_a_prediction_counts_as_missed(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    assert evaluate(folders, f"--json={out}") == 0
    scores = json.loads(out.read_text())
    assert (scores["n_truth"], scores["n_pred"]) == (6, 3)
    assert scores["ap"]["0.5"] == scores["ap"]["0.95"] == scores["map"] == 0.5
    assert scores["f1"]["0.5"] == pytest.approx(2 / 3)
    assert scores["iou"] == 0.5
    assert scores["dice"] == pytest.approx(2 / 3)
    assert set(scores["pq"]) == {f"{k / 100:g}" for k in range(50, 100, 5)}
    out_text, err = capsys.readouterr()
    assert "no prediction for b.tif: counted as missed cells" in err
    assert "cells in the truth" in out_text


def test_paired_only_leaves_them_out(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    assert evaluate(folders, "--paired-only", f"--json={out}") == 0
    assert json.loads(out.read_text())["map"] == 1.0
    assert "no prediction for b.tif: left out" in capsys.readouterr().err


def test_pattern_chooses_among_the_truth(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    assert evaluate(folders, "--pattern=a*", f"--json={out}") == 0
    assert json.loads(out.read_text())["n_truth"] == 3
    assert capsys.readouterr().err == ""


def test_many_missing_files_are_named_in_short(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(7):
        tifffile.imwrite(folders[0] / f"c{i}.tif", SQUARES)
    assert evaluate(folders) == 0
    assert "b.tif, c0.tif, c1.tif, c2.tif, c3.tif and 3 more" in capsys.readouterr().err


def test_other_sizes_are_refused_by_name(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(folders[1] / "b.tif", SQUARES[:-1])
    assert evaluate(folders, f"--json={tmp_path / 's.json'}") == 1
    err = capsys.readouterr().err
    assert f"{folders[0] / 'b.tif'} is 30 x 40 but" in err
    assert "b.tif is 29 x 40" in err
    assert not (tmp_path / "s.json").exists()


def test_nothing_in_common_is_refused(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(folders, "--pattern=b*") == 1
    assert "none of the 1 files in" in capsys.readouterr().err
