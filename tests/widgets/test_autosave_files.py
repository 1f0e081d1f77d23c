"""Where unsaved annotations lie."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from napari_unet.errors import SaveError
from napari_unet.files.annotations import Region, StoredAnnotation, load_annotation
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets import _autosave_files as files

SQUARE = ((1.0, 2.0), (1.0, 5.0), (4.0, 5.0), (4.0, 2.0))


def stored(ids=((1, 0), (0, 2)), *, regions=(), unpainted="unknown", **classes):
    labels = np.kron(np.array(ids, np.int32), np.ones((6, 6), np.int32))
    label_class = {int(k[1:]): v for k, v in classes.items()}
    return StoredAnnotation(
        Annotation(labels=labels, label_class=label_class), regions, unpainted
    )


def test_folder_is_the_users_own_and_never_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = files.autosave_folder()
    assert folder.name == "autosave"
    assert "napari-unet" in str(folder)
    assert folder != tmp_path


def test_what_is_written_is_listed_and_loads(tmp_path) -> None:
    path = files.new_autosave_path("image", tmp_path / "new")
    content = stored(regions=[Region((), SQUARE)], unpainted="background", _2=0)
    files.write_autosave(path, content, image="image", layer="cells")
    (found,) = files.list_autosaves("image", tmp_path / "new")
    assert (found.path, found.image, found.layer) == (path, "image", "cells")
    assert abs((datetime.now(UTC) - found.saved_at).total_seconds()) < 60
    assert files.fingerprint(load_annotation(path)) == files.fingerprint(content)


def test_each_annotation_has_a_file_of_its_own(tmp_path) -> None:
    paths = {files.new_autosave_path("image", tmp_path) for _ in range(20)}
    assert len(paths) == 20


def test_other_images_are_not_listed(tmp_path) -> None:
    path = files.new_autosave_path("a", tmp_path)
    files.write_autosave(path, stored(), image="a", layer="cells")
    assert files.list_autosaves("b", tmp_path) == []
    assert files.list_autosaves("a", tmp_path / "no such folder") == []


def test_newest_comes_first(tmp_path, monkeypatch) -> None:
    for year in (2021, 2023, 2022):

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None, year=year):
                return datetime(year, 1, 1, tzinfo=tz)

        monkeypatch.setattr(files, "datetime", Clock)
        path = files.new_autosave_path("a", tmp_path)
        files.write_autosave(path, stored(), image="a", layer=str(year))
    found = files.list_autosaves("a", tmp_path)
    assert [autosave.layer for autosave in found] == ["2023", "2022", "2021"]


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"image": 1}', "\udcff"])
def test_broken_note_is_passed_over(tmp_path, note) -> None:
    path = files.new_autosave_path("a", tmp_path)
    files.write_autosave(path, stored(), image="a", layer="cells")
    path.with_suffix(".autosave").write_bytes(note.encode("utf-8", "surrogateescape"))
    assert files.list_autosaves("a", tmp_path) == []


def test_pair_without_its_note_is_not_offered(tmp_path) -> None:
    path = files.new_autosave_path("a", tmp_path)
    files.write_autosave(path, stored(), image="a", layer="cells")
    path.unlink()
    assert files.list_autosaves("a", tmp_path) == []


def test_discarding_leaves_nothing_and_may_be_repeated(tmp_path) -> None:
    path = files.new_autosave_path("a", tmp_path)
    files.write_autosave(path, stored(), image="a", layer="cells")
    files.discard_autosave(path)
    files.discard_autosave(path)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_told(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "x.tif"
    with pytest.raises(SaveError, match="NU-S01"):
        files.write_autosave(path, stored(), image="a", layer="cells")
    files.discard_autosave(path)


def test_fault_of_the_disk_is_told_and_no_note_is_left(tmp_path, monkeypatch) -> None:
    def full(*args, **kwargs):
        raise SaveError("NU-S01", "the disk is full")

    monkeypatch.setattr(files, "save_annotation", full)
    path = files.new_autosave_path("a", tmp_path)
    with pytest.raises(SaveError, match="NU-S01"):
        files.write_autosave(path, stored(), image="a", layer="cells")
    assert files.list_autosaves("a", tmp_path) == []


@pytest.mark.parametrize(
    "other",
    [
        stored(((1, 0), (0, 3))),
        stored(_1=0),
        stored(unpainted="background"),
        stored(regions=[Region((), SQUARE)]),
    ],
    ids=["labels", "classes", "unpainted", "regions"],
)
def test_fingerprint_sees_every_change(other) -> None:
    assert files.fingerprint(other) != files.fingerprint(stored())


def test_fingerprint_is_the_same_for_the_same_meaning() -> None:
    assert files.fingerprint(stored(_1=1, _2=1)) == files.fingerprint(stored())
