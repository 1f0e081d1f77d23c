from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_unet import demo
from napari_unet.cli import run
from napari_unet.config import TrainConfig

if TYPE_CHECKING:
    from pathlib import Path

FAST = TrainConfig(max_steps=1, batch_size=1, patch_size=32)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DEMO_CONFIG", FAST)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")


def test_headless_the_demo_prints_the_scores_and_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "demo"
    assert run(["demo", "--headless", f"--out={out}", "--device=cpu"]) == 0
    text = capsys.readouterr().out
    assert "The unseen crop against the truth" in text
    assert "cells in the truth" in text
    assert text.splitlines()[-1] == f"labels, pictures, scores and model: {out}"
    assert (out / "scores.json").exists()


def test_without_a_display_the_demo_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", f"--out={tmp_path}", "--device=cpu"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("napari is not opened: ")
