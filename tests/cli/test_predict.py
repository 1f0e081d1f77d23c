from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import tifffile

import napari_unet as nu
from napari_unet.cli import run
from napari_unet.learning.networks import build_network

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
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
