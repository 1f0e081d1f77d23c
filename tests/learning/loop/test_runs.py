from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from napari_unet.errors import ConfigError, SaveError
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.loop import runs


def test_a_run_begins_with_its_settings_and_no_scores(random_model, tmp_path):
    model, folder = random_model(), tmp_path / "deep" / "run"
    runs.start(folder, model)
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    assert settings == {
        "train": model.training.model_dump(),
        "network": model.network.model_dump(),
        "weights": model.weights.model_dump(),
        "normalization": model.normalization.model_dump(),
    }
    assert (folder / "metrics.jsonl").read_bytes() == b""


def test_a_new_run_in_an_old_folder_begins_again(random_model, tmp_path):
    runs.start(tmp_path, random_model())
    runs.log(tmp_path, 1, 0.5, 1.0, {})
    runs.start(tmp_path, random_model())
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


@pytest.mark.parametrize("has_checkpoint", [True, False])
@pytest.mark.parametrize("is_finished", [True, False])
def test_only_a_run_that_can_be_gone_on_with_is_in_the_way(
    tmp_path, has_checkpoint, is_finished
):
    (tmp_path / "checkpoints").mkdir()
    if has_checkpoint:
        (tmp_path / "checkpoints" / "step-000120.json").touch()
    if is_finished:
        runs.end(tmp_path, 120, "steps")
    if is_finished or not has_checkpoint:
        runs.check_may_begin(tmp_path)
        return
    with pytest.raises(ConfigError, match="interrupted after step 120") as e:
        runs.check_may_begin(tmp_path)
    assert e.value.code == "NU-C33"


def test_each_validation_is_a_row(random_model, tmp_path):
    runs.start(tmp_path, random_model())
    runs.log(tmp_path, 10, 0.5, 1.23456, {"iou": 0.25, "loss": 0.75})
    runs.log(tmp_path, 20, 0.25, 2.0, {"iou": 0.5, "loss": 0.5})
    text = (tmp_path / "metrics.jsonl").read_text("utf-8")
    rows = [json.loads(row) for row in text.splitlines()]
    assert rows[0] == {
        "step": 10,
        "train_loss": 0.5,
        "elapsed_s": 1.235,
        "val_iou": 0.25,
        "val_loss": 0.75,
    }
    assert [row["step"] for row in rows] == [10, 20]


def test_the_best_model_is_replaced(random_model, tmp_path):
    runs.save_best(tmp_path, random_model(base_width=2))
    runs.save_best(tmp_path, random_model(base_width=3))
    loaded = load_model(tmp_path / "best.unet")
    assert loaded.network.base_width == 3
    assert torch.equal(
        loaded.state["head.weight"], random_model(base_width=3).state["head.weight"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["best.unet"]


def test_a_run_folder_that_cannot_be_made_is_refused(random_model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match=r"the run folder .*run can't be made") as e:
        runs.start(tmp_path / "file" / "run", random_model())
    assert e.value.code == "NU-S02"


def test_scores_that_cannot_be_written_are_an_error_of_ours(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(SaveError, match=r"metrics\.jsonl can't be written: No") as e:
        runs.log(tmp_path, 1, 0.5, 1.0, {})
    assert e.value.code == "NU-S01"


def _log(folder: Path, *steps: int) -> None:
    for step in steps:
        runs.log(folder, step, 0.5, 1.0, {"loss": 0.5})


def _steps(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_what_will_be_done_again_is_dropped(random_model, tmp_path):
    runs.start(tmp_path, random_model())
    _log(tmp_path, 10, 20, 30)
    runs.go_back_to(tmp_path, 20)
    assert _steps(tmp_path) == [10, 20]
    _log(tmp_path, 30)
    assert _steps(tmp_path) == [10, 20, 30]


def test_a_row_that_a_kill_cut_is_dropped(random_model, tmp_path):
    runs.start(tmp_path, random_model())
    _log(tmp_path, 10, 20)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    runs.go_back_to(tmp_path, 20)
    assert _steps(tmp_path) == [10]


def test_without_scores_there_is_nothing_to_drop(tmp_path):
    runs.go_back_to(tmp_path, 20)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_told_and_the_rest_is_written():
    done = []

    def fail() -> None:
        raise SaveError("NU-S01", "the disk is full")

    (note,) = runs.keeping(fail, lambda: done.append(1))
    assert done == [1]
    assert note.is_warning
    assert "the disk is full" in note.message


def test_a_finished_run_is_known_until_a_new_one_begins(random_model, tmp_path):
    runs.start(tmp_path, random_model())
    assert runs.end_of(tmp_path) is None
    runs.end(tmp_path, 40, "patience")
    assert runs.end_of(tmp_path) == (40, "patience")
    runs.save_not_kept(tmp_path, random_model())
    runs.start(tmp_path, random_model())
    assert runs.end_of(tmp_path) is None
    assert not (tmp_path / "not_kept.unet").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"step": 3, "reason": "bored"}'])
def test_a_damaged_end_is_none(tmp_path, content):
    (tmp_path / "finished.json").write_text(content)
    assert runs.end_of(tmp_path) is None
