from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

import napari_unet as nu
from napari_unet.cli import run
from napari_unet.files.annotations import save_annotation
from napari_unet.files.images import write_labels
from napari_unet.imaging.arrays import Annotation

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
    (seg,) = (line for line in out_text.splitlines() if "SEG" in line)
    assert "0.500" in seg


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
    assert "not even the only file in" in capsys.readouterr().err


@pytest.fixture
def movies(tmp_path: Path) -> tuple[Path, Path]:
    """One cell that moves, with number 1 in each frame; found in the first only."""
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    movie = np.zeros((3, 30, 40), np.int32)
    for t in range(3):
        movie[t, 5:15, 10 * t : 10 * t + 8] = 1
    found = movie.copy()
    found[1:] = 0
    for folder, labels in ((truth, movie), (pred, found)):
        folder.mkdir()
        write_labels(folder / "a.tif", labels, axes="TYX")
        tifffile.imwrite(
            folder / "unnamed.tif", labels.astype(np.uint16), photometric="minisblack"
        )
    return truth, pred


@pytest.mark.parametrize("more", [["--pattern=a*"], ["--pattern=u*", "--axes=tyx"]])
def test_a_movie_is_scored_frame_by_frame(
    movies: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
) -> None:
    out = tmp_path / "scores.json"
    assert evaluate(movies, *more, f"--json={out}") == 0
    scores = json.loads(out.read_text())
    assert (scores["n_truth"], scores["n_pred"]) == (3, 1)
    assert scores["ap"]["0.5"] == pytest.approx(1 / 3)
    assert capsys.readouterr().err == ""


def test_planes_that_nothing_names_are_one_volume_and_that_is_said(
    movies: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.json"
    assert evaluate(movies, "--pattern=u*", f"--json={out}") == 0
    assert json.loads(out.read_text())["n_truth"] == 1
    told = capsys.readouterr().err
    assert "does not say what its axes are: its planes were compared as one" in told
    assert "--axes TYX" in told


def test_predictions_without_truth_are_named(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(folders[1] / "z_labels.tif", SQUARES)
    assert evaluate(folders, "--pattern=a*") == 0
    assert "no true file for z_labels.tif: left out" in capsys.readouterr().err


def test_an_empty_folder_of_predictions_misses_every_cell(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[1] / "a_labels.tif").unlink()
    out = tmp_path / "scores.json"
    assert evaluate(folders, f"--json={out}") == 0
    scores = json.loads(out.read_text())
    assert (scores["n_truth"], scores["n_pred"], scores["map"]) == (6, 0, 0.0)
    assert "no prediction for a.tif, b.tif: counted" in capsys.readouterr().err
    assert evaluate(folders, "--paired-only") == 1


def test_a_missing_folder_of_predictions_is_refused(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate((folders[0], folders[1] / "none")) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_the_folder_of_the_scores_is_made_or_refused_first(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "s.json"
    assert evaluate(folders, f"--json={out}") == 0
    assert json.loads(out.read_text())["n_truth"] == 6
    assert evaluate((tmp_path / "none", folders[1]), f"--json={tmp_path}") == 1
    assert f"{tmp_path} is a folder: give the name of a file" in capsys.readouterr().err


def test_an_annotation_is_judged_by_its_cells_where_it_is_known(
    tmp_path: Path,
) -> None:
    truth, pred, out = tmp_path / "truth", tmp_path / "pred", tmp_path / "scores.json"
    truth.mkdir()
    pred.mkdir()
    painted = np.where(SQUARES == 2, 0, SQUARES)  # one cell is not painted yet
    painted[:, 39] = 9  # background
    save_annotation(truth / "a.tif", Annotation(painted, {9: 0}))
    tifffile.imwrite(pred / "a.tif", SQUARES)
    assert evaluate((truth, pred), f"--json={out}") == 0
    scores = json.loads(out.read_text())
    assert (scores["n_truth"], scores["n_pred"], scores["map"]) == (2, 2, 1)
    assert nu.score(truth / "a.tif", pred / "a.tif").as_dict() == scores
