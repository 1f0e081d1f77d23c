from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import napari_unet as nu
from napari_unet.cli import run
from napari_unet.learning.sharing import verification

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    config = nu.NetworkConfig(base_width=2, depth=1)
    model = nu.Model(config, nu.build_network(config).state_dict())
    return nu.save_model(tmp_path / "sound.unet", model)


@pytest.fixture
def damaged(sound: Path) -> Path:
    path = sound.with_name("damaged.unet")
    path.write_bytes(sound.read_bytes()[:-5])
    return path


def test_a_sound_model_is_code_0(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(sound)]) == 0
    said = capsys.readouterr()
    assert "1 as they were, 0 not" in said.out
    assert "0.0e+00" in said.out
    assert not said.err


def test_one_of_two_models_that_is_refused_is_code_3_and_named(
    sound: Path, damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(damaged), str(sound)]) == 3
    said = capsys.readouterr()
    assert f"failed: {damaged} is a damaged model file" in said.err
    assert "1 as they were, 1 not" in said.out
    assert "NU-M02" in said.out


def test_models_none_of_which_is_sound_are_code_1(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(damaged), str(tmp_path / "none.unet")]) == 1
    said = capsys.readouterr().err
    assert "damaged" in said
    assert "is missing" in said


def test_a_model_that_changed_is_told_with_what_to_do(
    sound: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "self_test_difference", lambda *_: 0.25)
    assert run(["verify", str(sound)]) == 1
    said = capsys.readouterr()
    assert "no longer computes what it did" in said.err
    assert "changed" in said.out


def test_reduced_precision_that_matters_is_only_warned_of(
    sound: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "reduced_precision_difference", lambda *_: 0.125)
    assert run(["verify", str(sound)]) == 0
    said = capsys.readouterr()
    assert "1.2e-01" in said.out
    assert "by up to 0.12 on" in said.err
    assert "predict with --precision fp32" in said.err


def test_json_holds_what_the_table_says(
    sound: Path, damaged: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new folder" / "report.json"
    assert run(["verify", str(sound), str(damaged), f"--json={path}"]) == 3
    one, other = json.loads(path.read_text(encoding="utf-8"))
    assert one == json.loads(json.dumps(nu.verify_model(sound).as_dict()))
    assert one["is_ok"] is True
    assert other["path"] == str(damaged)
    assert other["is_ok"] is False
    assert other["problem"]["code"] == "NU-M02"


def test_without_a_model_the_flags_are_not_understood() -> None:
    assert run(["verify"]) == 2


def test_usage_and_table_name_the_models_alike(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["verify", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Usage: napari-unet verify [OPTIONS] MODEL\n")
    assert "MODEL  " in told
    assert "ARGS" not in told
    assert "MORE" not in told


def test_brackets_in_names_are_shown_as_they_are(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = sound.rename(sound.with_name("[red] a.unet"))
    assert run(["verify", str(copy)]) == 0
    assert "[red]" in capsys.readouterr().out
