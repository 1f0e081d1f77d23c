from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.cli import run
from napari_unet.events import Note
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning import fractions
from napari_unet.learning.fractions import CurveDone, CurvePoint
from napari_unet.learning.quality.learning_curve import fit_learning_curve

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    for k in range(2):
        image, labels = draw_cells((40, 40), n_cells=4, rng=np.random.default_rng(k))
        for name, array in (("images", image.astype(np.float32)), ("masks", labels)):
            (tmp_path / name).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / name / f"{k}.tif", array)
    return [
        "learning-curve",
        "--images", str(tmp_path / "images"),
        "--masks", str(tmp_path / "masks"),
    ]  # fmt: skip


@pytest.fixture
def asked(monkeypatch) -> dict[str, object]:
    """Stand for the trainings: three points, and what was asked for."""
    seen: dict[str, object] = {}

    def stand_in(images, annotations, config, **others):
        seen.update(others, n_images=len(images), config=config)
        yield Note("training")
        points = tuple(
            CurvePoint(f, n, s, 60)
            for f, n, s in ((0.25, 10, 0.5), (0.5, 20, 0.6), (1.0, 40, 0.65))
        )
        yield from points
        curve = fit_learning_curve([10, 20, 40], [0.5, 0.6, 0.65], [60] * 3)
        yield CurveDone(points, curve, "40 more may bring +0.01 to +0.09 (an estimate)")

    monkeypatch.setattr(fractions, "learning_curve", stand_in)
    return seen


def test_the_points_and_the_estimate_are_shown(folders, asked, capsys):
    code = run([*folders, "--fractions", "0.5", "1", "--max-steps", "7"])
    assert code == 0
    shown = capsys.readouterr().out
    for text in ("10", "0.500", "40", "0.650", "40 more may bring +0.01 to +0.09"):
        assert text in shown
    assert asked["fractions"] == (0.5, 1.0)
    assert asked["config"].max_steps == 7
    assert (asked["n_images"], asked["start_from"]) == (2, None)


def test_its_numbers_are_written(folders, asked, tmp_path):
    out = tmp_path / "curve.json"
    assert run([*folders, "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert [p["n_cells"] for p in written["points"]] == [10, 20, 40]
    last = written["estimates"][-1]
    assert last["n_cells"] == 80
    assert last["low"] <= last["middle"] <= last["high"]
    assert asked["fractions"] == (0.25, 0.5, 1.0)


def test_a_picture_is_written(folders, asked, tmp_path):
    out = tmp_path / "curve.png"
    assert run([*folders, "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_another_file_is_refused_before_anything_is_read(folders, tmp_path, capsys):
    assert run([*folders, "--out", str(tmp_path / "curve.pdf")]) == 2
    assert "neither a .png nor a .json file" in capsys.readouterr().err
