"""The page about Python does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import napari_unet

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_every_block_runs_and_prints_what_it_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for block in BLOCKS:
        exec(compile(block, PAGE.name, "exec"), names)
        printed = capsys.readouterr().out.splitlines()
        expected = re.findall(r"# -> (.*)", block)
        assert [line for line in printed if line in expected] == expected
    assert {"cells.json", "nuclei.unet", "best.unet", "01_RES", "large.zarr"} <= {
        path.name for path in tmp_path.iterdir()
    }
    n_found = len(list((tmp_path / "found").glob("*_labels.tif")))
    assert n_found == len(list((tmp_path / "images").iterdir()))


def test_the_blocks_were_found() -> None:
    assert len(BLOCKS) == TEXT.count("```") // 2 > 10
    assert len(re.findall(r"# -> ", TEXT)) > 20


@pytest.mark.parametrize("name", napari_unet.__all__)
def test_every_public_name_is_named_and_used(name: str) -> None:
    assert re.search(rf"`(napari_unet\.)?{name}`", TEXT)
    assert any(f"nu.{name}" in block for block in BLOCKS)


def test_lines_are_no_longer_than_in_the_code() -> None:
    longest = max(len(line) for block in BLOCKS for line in block.splitlines())
    assert longest <= 88
