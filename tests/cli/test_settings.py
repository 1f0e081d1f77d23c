from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from napari_unet.cli.settings import UsageError, merge, read_settings
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError, FolderError
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.loop import runs

if TYPE_CHECKING:
    from pathlib import Path


def test_no_file_sets_nothing() -> None:
    assert read_settings(None) == {}


def test_flags_win_over_the_file_and_the_file_over_the_defaults(
    tmp_path: Path,
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"train": {"max_steps": 5, "seed": 1}}))
    flags = TrainConfig(seed=2)
    merged = merge(TrainConfig, read_settings(path)["train"], flags, path)
    assert merged == TrainConfig(max_steps=5, seed=2)
    assert merged.model_fields_set == {"max_steps", "seed"}


def test_a_flag_that_repeats_the_default_still_wins(tmp_path: Path) -> None:
    flags = TrainConfig(max_steps=TrainConfig().max_steps)
    assert merge(TrainConfig, {"max_steps": 5}, flags, tmp_path) == TrainConfig()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r'not the JSON file .*: write settings like {"train"'),
        ("[" * 100_000, "not the JSON file"),
        ('{"train": {"seed": 1, "seed": 2}}', "a key is given twice"),
        ('{"trian": {}}', "is not understood: it should be like"),
        ('{"train": 3}', "is not understood"),
        ("[]", "is not understood"),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_settings(path)
    assert caught.value.code == "NU-C01"
    assert "settings.json" in str(caught.value)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"there is no file .*nowhere\.json") as e:
        read_settings(tmp_path / "nowhere.json")
    assert e.value.code == "NU-F01"
    with pytest.raises(FolderError, match="is a folder") as e:
        read_settings(tmp_path)
    assert e.value.code == "NU-F02"


def test_the_settings_of_a_run_are_read_again_without_what_the_data_decides(
    tmp_path: Path, tiny_model: Path
) -> None:
    model = load_model(tiny_model)
    runs.start(tmp_path, model)
    parts = read_settings(tmp_path / "config.json")
    assert set(parts) == {"train", "network", "weights"}
    assert parts["train"] == model.training.model_dump()
    in_file = model.network.model_dump()
    del in_file["in_channels"], in_file["out_channels"]
    assert parts["network"] == in_file


def test_values_of_the_file_are_checked_and_named(tmp_path: Path) -> None:
    values = {"max_steps": 0, "colour": "red"}
    with pytest.raises(ConfigError, match="'max_steps' is 0: it should be") as caught:
        merge(TrainConfig, values, TrainConfig(), tmp_path)
    assert caught.value.code == "NU-C01"
    assert "there is no setting 'colour'" in caught.value.message


def test_flags_that_do_not_go_with_the_file_are_named(tmp_path: Path) -> None:
    in_file = {"architecture": "trans_unet", "transformer_layers": 1}
    with pytest.raises(UsageError, match=r"settings file .*: depth is 3: trans_unet"):
        merge(NetworkConfig, in_file, NetworkConfig(depth=3), tmp_path)


def test_what_an_architecture_of_the_file_fixes_does_not_outlive_it(
    tmp_path: Path,
) -> None:
    flags = NetworkConfig(architecture="unet")
    merged = merge(NetworkConfig, {"architecture": "trans_unet"}, flags, tmp_path)
    assert merged == NetworkConfig()
