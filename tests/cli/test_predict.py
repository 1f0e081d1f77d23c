from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

import napari_unet as nu
from napari_unet.cli import run
from napari_unet.learning.networks import build_network

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cells


def predict(model: Path, images: Path, output: Path, *more: str) -> int:
    argv = [f"--model={model}", f"--input={images}", f"--output={output}"]
    return run(["predict", *argv, "--device=cpu", *more])


def test_a_folder_is_segmented_as_the_api_does_it(
    cells: Cells, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert predict(tiny_model, cells.images, out) == 0
    for path in cells.images.iterdir():
        labels = nu.read_labels(out / f"{path.stem}_labels.tif")
        assert labels.max() > 0
        np.testing.assert_array_equal(labels, nu.segment(tiny_model, path))
    said, told = capsys.readouterr()
    assert f"3 segmented, 0 failed: {out}" in said
    assert told.startswith("Device: CPU")
    assert "val_a.tif: " in told


def test_of_made_images_no_cells_are_told(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = nu.NetworkConfig(base_width=2, depth=1, out_channels=1)
    state = build_network(network).state_dict()
    model = nu.Model(network, state, roles=("value:image",))
    nu.save_model(tmp_path / "a.unet", model)
    out = tmp_path / "out"
    assert predict(tmp_path / "a.unet", cells.images, out, "--pattern=val_*") == 0
    said, told = capsys.readouterr()
    assert f"1 predicted, 0 failed: {out}" in said
    assert "val_a.tif: " in told
    assert "cell" not in told.replace(str(tmp_path), "")


def test_pattern_one_file_and_probabilities(
    cells: Cells, tiny_model: Path, tmp_path: Path
) -> None:
    assert predict(tiny_model, cells.images, tmp_path / "a", "--pattern=val_*") == 0
    image = cells.images / "val_a.tif"
    assert predict(tiny_model, image, tmp_path / "b", "--probabilities") == 0
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"ledger.jsonl", "val_a_labels.tif"}
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert names == {"ledger.jsonl", "val_a_labels.tif", "val_a_probabilities.tif"}


def test_a_bad_file_is_named_and_the_rest_is_done(
    cells: Cells, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.tif").write_bytes(b"")
    good = (cells.images / "val_a.tif").read_bytes()
    (images / "b.tif").write_bytes(good)
    assert predict(tiny_model, images, tmp_path / "out") == 3
    assert (
        f"failed: {images / 'a.tif'}: images{os.sep}a.tif is an empty file"
        in capsys.readouterr().err
    )
    assert (tmp_path / "out" / "b_labels.tif").exists()
    rows = (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(row)["state"] for row in rows] == ["failed", "done"]


def test_axes_and_channels_are_taken_from_the_flags(
    cells: Cells, tiny_model: Path, tmp_path: Path
) -> None:
    plane = tifffile.imread(cells.images / "val_a.tif")
    channels = np.stack([np.zeros_like(plane), plane])
    tifffile.imwrite(tmp_path / "two.tif", channels, photometric="minisblack")
    flags = ("--axes=CYX", "--channels=1")
    assert predict(tiny_model, tmp_path / "two.tif", tmp_path / "out", *flags) == 0
    labels = nu.read_labels(tmp_path / "out" / "two_labels.tif")
    expected = nu.segment(tiny_model, cells.images / "val_a.tif")
    np.testing.assert_array_equal(labels, expected)


def test_without_axes_an_unnamed_stack_is_refused_with_the_choices(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = np.zeros((3, 32, 32), np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    assert predict(tiny_model, tmp_path / "s.tif", tmp_path / "out") == 3
    assert "name them with --axes" in capsys.readouterr().err


def test_a_file_that_is_no_model_is_code_1(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = cells.images / "val_a.tif"
    assert predict(model, cells.images, tmp_path / "out") == 1
    assert "is not a napari-unet model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_subfolders_are_mirrored_and_a_second_run_does_nothing_again(
    cells: Cells, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    (images / "day 1").mkdir(parents=True)
    for name in ("a.tif", "day 1/b.tif"):
        (images / name).write_bytes((cells.images / "val_a.tif").read_bytes())
    out = tmp_path / "out"
    assert predict(tiny_model, images, out, "--measure") == 0
    labels = out / "day 1" / "b_labels.tif"
    assert labels.exists()
    rows = (out / "measurements.csv").read_text("utf-8").splitlines()
    assert rows[0].startswith("file,label,")
    assert {row.split(",")[0] for row in rows[1:]} == {"a.tif", "day 1/b.tif"}
    before = labels.stat().st_mtime_ns
    capsys.readouterr()
    assert predict(tiny_model, images, out, "--measure") == 0
    assert "0 segmented, 0 failed, 2 skipped" in capsys.readouterr().out
    assert labels.stat().st_mtime_ns == before
    assert predict(tiny_model, images, out, "--measure", "--no-resume") == 0
    assert "2 segmented, 0 failed: " in capsys.readouterr().out
    flat = tmp_path / "flat"
    assert predict(tiny_model, images, flat, "--no-recursive") == 0
    assert not (flat / "day 1").exists()


def test_shards_share_the_files_and_a_last_run_gathers_them(
    cells: Cells, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for shard, n in (("1/2", 2), ("2/2", 1)):
        assert predict(tiny_model, cells.images, out, f"--shard={shard}") == 0
        assert f"{n} segmented" in capsys.readouterr().out
    assert not (out / "ledger.jsonl").exists()
    assert predict(tiny_model, cells.images, out) == 0
    assert "0 segmented, 0 failed, 3 skipped" in capsys.readouterr().out
    rows = (out / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(row)["state"] for row in rows] == ["done"] * 3


def test_a_shard_that_is_none_is_told_before_anything_is_done(
    cells: Cells, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(tiny_model, cells.images, tmp_path / "out", "--shard=3/2") == 2
    assert "there is no shard 3/2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="kills")
def test_predict_goes_on_where_it_was_killed(
    cells: Cells, tiny_model: Path, tmp_path: Path
) -> None:
    images, out, whole = (tmp_path / name for name in ("images", "out", "whole"))
    images.mkdir()
    for i in range(40):
        name = ("train_a", "train_b", "val_a")[i % 3]
        content = (cells.images / f"{name}.tif").read_bytes()
        (images / f"{i:02d}.tif").write_bytes(content)
    flags = [f"--model={tiny_model}", f"--input={images}", f"--output={out}"]
    argv = [sys.executable, "-m", "napari_unet", "predict", *flags, "--device=cpu"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            if ".tif: " in line:
                told.append(line.partition(":")[0])
                process.kill()
                break
    assert told
    ends = {p.name: p.stat().st_mtime_ns for p in out.glob("*_labels.tif")}
    done = json.loads((out / "ledger.jsonl").read_text().splitlines()[0])["output"]
    assert predict(tiny_model, images, out, "--resume") == 0
    assert (out / done).stat().st_mtime_ns == ends[done]
    assert predict(tiny_model, images, whole) == 0
    for path in whole.glob("*_labels.tif"):
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert len(list(out.glob("*_labels.tif"))) == 40


def test_a_movie_is_linked_previewed_and_its_uncertainty_told(
    cells: Cells, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plane = tifffile.imread(cells.images / "val_a.tif")
    movie = np.stack([plane, np.roll(plane, 1, 0)])
    tifffile.imwrite(tmp_path / "m.tif", movie, metadata={"axes": "TYX"}, imagej=True)
    out = tmp_path / "out"
    flags = ("--ctc", "--preview", "--uncertainty", "--test-time-augmentation=flips")
    assert predict(tiny_model, tmp_path / "m.tif", out, *flags) == 0
    assert f"Preview: {out / 'preview.html'}" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {
        "ledger.jsonl", "m_labels.tif", "m_RES", "m_uncertainty.tif", "preview.html",
        "previews",
    }  # fmt: skip
    labels = nu.read_labels(out / "m_labels.tif")
    config = nu.PredictConfig(test_time_augmentation="flips")
    movie_image = nu.Image(movie[None], axes="CTYX")
    expected = nu.segment(tiny_model, movie_image, config, link=True)
    np.testing.assert_array_equal(labels, expected)


def test_a_seam_report_says_what_tiles_change(
    cells: Cells, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    image = cells.images / "val_a.tif"
    flags = ("--seam-report", "--tile-size=32", "--precision=fp32")
    for _ in range(2):  # also of what was done before
        assert predict(tiny_model, image, out, *flags) == 0
        said = capsys.readouterr().out
        assert "val_a.tif: with tiles of 32 px in other places outputs change" in said
        assert ", and 0 of " in said
