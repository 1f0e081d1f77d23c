from __future__ import annotations

import re
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from napari_unet.cli import run
from napari_unet.learning.checkpoint import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cells


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copy(tiny_model, tmp_path / "nuclei.unet")


def card(model: Path, *more: str) -> tuple[int, Path]:
    out = model.parent / "card"
    return run(["card", f"--model={model}", f"--out={out}", *more]), out / "README.md"


def test_what_is_named_gets_into_the_model_and_onto_the_card(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--author=A. One", "--author=B. Two", "--license=CC-BY-4.0", "--about=-x-"]
    code, written = card(model, *more)
    assert code == 0
    assert f"card: {written}" in capsys.readouterr().out
    kept = load_model(model)
    assert (kept.authors, kept.license) == (("A. One", "B. Two"), "CC-BY-4.0")
    assert kept.about == "-x-"
    text = written.read_text(encoding="utf-8")
    assert text.startswith("# nuclei\n\n\\-x-\n")
    assert "A. One, B. Two" in text
    assert "images.png" not in text


def test_what_is_not_given_stays(model: Path) -> None:
    assert card(model, "--author=A. One")[0] == 0
    before = model.read_bytes()
    assert card(model)[0] == 0
    assert model.read_bytes() == before
    assert card(model, "--license=MIT")[0] == 0
    assert load_model(model).authors == ("A. One",)


def test_images_and_masks_give_thumbnails_and_examples(
    model: Path, cells: Cells
) -> None:
    folders = [f"--images={cells.images}", f"--masks={cells.masks}"]
    code, written = card(model, *folders, "--pattern=train_*")
    assert code == 0
    names = {path.name for path in written.parent.iterdir()}
    assert {"images.png", "best_1.png", "worst_1.png"} <= names
    assert "val_a" not in written.read_text(encoding="utf-8")


def test_masks_alone_are_refused(model: Path, cells: Cells) -> None:
    assert card(model, f"--masks={cells.masks}")[0] == 2


def test_a_licence_that_is_none_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = model.read_bytes()
    code, written = card(model, "--license=do what you like!")
    assert code == 1
    assert "SPDX" in capsys.readouterr().err
    assert model.read_bytes() == before
    assert not written.exists()


def test_the_commands_on_the_card_work(
    model: Path, cells: Cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, written = card(model)
    text = written.read_text(encoding="utf-8")
    monkeypatch.chdir(model.parent)
    shutil.copytree(cells.images, "images")
    shutil.copy(cells.images / "val_a.tif", "image.tif")
    command = re.search(r"^napari-unet (.*)$", text, re.MULTILINE)
    python = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert command is not None
    assert python is not None
    assert run(shlex.split(command[1])) == 0
    assert len(list((model.parent / "labels").glob("*_labels.tif"))) == 3
    exec(python[1], {})
    assert (model.parent / "labels.tif").is_file()
