"""Which models there are, and what is remembered of opened ones."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from napari_unet.errors import ConfigError, FolderError, ModelError
from napari_unet.files import model_places as places

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "napari-unet"


def test_a_shipped_model_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SHIPPED_FOLDER", tmp_path)
    for name in ("b.unet", "a.unet", "notes.txt"):
        (tmp_path / name).touch()
    assert places.shipped_models() == [tmp_path / "a.unet", tmp_path / "b.unet"]
    assert places.shipped_model("b") == tmp_path / "b.unet"
    assert places.is_shipped(tmp_path / "a.unet")
    assert not places.is_shipped(tmp_path / "other" / "a.unet")
    with pytest.raises(ModelError, match=r"no model 'c' .* choose one of a, b"):
        places.shipped_model("c")
    monkeypatch.setattr(places, "SHIPPED_FOLDER", tmp_path / "empty")
    with pytest.raises(ModelError, match=r"no model 'c' .* napari-unet: give a file"):
        places.shipped_model("c")


def test_the_newest_training_comes_first(home: Path) -> None:
    assert places.trained_models() == []
    for name in ("20260101-120000", "20260301-120000", "20260201-120000", "empty"):
        (home / "runs" / name).mkdir(parents=True)
        if name != "empty":
            (home / "runs" / name / "best.unet").touch()
    found = [path.parent.name for path in places.trained_models()]
    assert found == ["20260301-120000", "20260201-120000", "20260101-120000"]


def test_opened_files_are_remembered_once_and_may_be_gone(tmp_path: Path) -> None:
    assert places.opened_models() == []
    for name in ("a.unet", "b.unet", "a.unet"):
        places.remember_model(tmp_path / name)
    assert places.opened_models() == [tmp_path / "a.unet", tmp_path / "b.unet"]
    places.forget_model(tmp_path / "a.unet")
    places.forget_model(tmp_path / "never.unet")
    assert places.opened_models() == [tmp_path / "b.unet"]


def test_a_path_is_remembered_whatever_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places.remember_model(Path("a.unet"))
    assert places.opened_models() == [tmp_path / "a.unet"]


@pytest.mark.parametrize("content", ["[]", '{"files": [1]}', '{"files": "a"}', "x"])
def test_a_damaged_list_is_not_overwritten(
    home: Path, tmp_path: Path, content: str
) -> None:
    home.mkdir(parents=True)
    (home / "models.json").write_text(content)
    with pytest.raises(ConfigError, match=r"models\.json"):
        places.remember_model(tmp_path / "a.unet")
    assert (home / "models.json").read_text() == content


def test_any_name_is_remembered(tmp_path: Path) -> None:
    odd = tmp_path / "\udcff é\n.unet"
    places.remember_model(odd)
    assert places.opened_models() == [odd]


def locked(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let nobody look into a folder, not even root."""
    real_lstat, real_iterdir = Path.lstat, Path.iterdir

    def check(inside: bool) -> None:
        if inside:
            raise PermissionError(errno.EACCES, "Permission denied")

    def lstat(path: Path) -> os.stat_result:
        check(path.parent == folder)
        return real_lstat(path)

    def iterdir(path: Path) -> Iterator[Path]:
        check(path == folder)
        return iter(real_iterdir(path))

    monkeypatch.setattr(Path, "lstat", lstat)
    monkeypatch.setattr(Path, "iterdir", iterdir)


def test_a_run_that_may_not_be_looked_into_hides_no_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [home / "runs" / name for name in ("20260301-120000", "20260201-120000")]
    for run in runs:
        run.mkdir(parents=True)
        (run / "best.unet").touch()
    locked(monkeypatch, runs[0])
    assert places.trained_models() == [run / "best.unet" for run in runs]


def test_runs_that_may_not_be_listed_say_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "runs").mkdir(parents=True)
    locked(monkeypatch, home / "runs")
    with pytest.raises(FolderError, match="can't be read") as caught:
        places.trained_models()
    assert caught.value.code == "NU-F04"
