"""Images made from images, compared on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from skimage.metrics import peak_signal_noise_ratio

from napari_unet.cli import run

if TYPE_CHECKING:
    from pathlib import Path

TRUTH = np.random.default_rng(0).random((32, 40)).astype(np.float32)
NOISE = np.random.default_rng(1).normal(size=TRUTH.shape).astype(np.float32)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    made = tmp_path / "truth", tmp_path / "made", tmp_path / "images"
    for folder, end, noise in zip(
        made, ("", "_predicted", ""), (0, 0.1, 0.5), strict=True
    ):
        folder.mkdir()
        tifffile.imwrite(folder / f"a{end}.tif", TRUTH + noise * NOISE)
    return made


def test_made_images_are_scored_beside_what_they_were_made_from(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    truth, made, images = folders
    scores, figure = tmp_path / "scores.json", tmp_path / "seen.png"
    given = [f"--truth={truth}", f"--pred={made}", "--task=regress"]
    more = [f"--images={images}", f"--figure={figure}", f"--json={scores}"]
    assert run(["evaluate", *given, *more]) == 0
    found = json.loads(scores.read_text())
    span = float(np.ptp(TRUTH))
    for own, noise in ((found, 0.1), (found["input"], 0.5)):
        expected = peak_signal_noise_ratio(
            TRUTH, TRUTH + noise * NOISE, data_range=span
        )
        assert own["psnr"] == pytest.approx(expected, abs=1e-3)
        assert own["n_images"] == 1
    assert found["images"][0]["name"] == "a.tif"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "PSNR of the input" in capsys.readouterr().out


def test_figures_are_of_images_only(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    truth, made, images = folders
    given = [f"--truth={truth}", f"--pred={made}"]
    assert run(["evaluate", *given, f"--images={images}"]) == 2
    assert "are for --task regress" in capsys.readouterr().err


def test_no_prediction_at_all_is_an_error(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    truth, made, _ = folders
    (made / "a_predicted.tif").rename(made / "b.tif")
    assert (
        run(["evaluate", f"--truth={truth}", f"--pred={made}", "--task=regress"]) == 1
    )
    assert "[NU-F08]" in capsys.readouterr().err
