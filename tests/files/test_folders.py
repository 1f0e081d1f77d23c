from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from napari_unet.errors import FolderError
from napari_unet.files.folders import (
    find_images,
    look_through,
    pair_by_stem,
    stem_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def _touch(folder: Path, names: Iterable[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_images_are_found_sorted_and_hidden_files_are_not(tmp_path: Path) -> None:
    names = ["b.tif", "a.TIFF", "c.png", "日本語 #[x].tif", "-x.tif"]
    others = ["._b.tif", ".b.tif", "Thumbs.db", "notes.txt", "tif"]
    _touch(tmp_path, names + others)
    (tmp_path / "folder.tif").mkdir()
    assert [path.name for path in find_images(tmp_path)] == sorted(names)


def test_a_pattern_chooses_by_name(tmp_path: Path) -> None:
    _touch(tmp_path, ["train_1.tif", "val_1.tif", "Train_2.tif"])
    found = find_images(tmp_path, "train_*")
    assert [path.name for path in found] == ["train_1.tif"]


@pytest.mark.parametrize(
    ("name", "pattern", "code", "message"),
    [
        ("gone", None, "NU-F01", "there is no folder .*gone"),
        ("a.txt", None, "NU-F02", r"a\.txt is a file: give the folder"),
        ("empty", None, "NU-F03", "empty holds no image"),
        ("some", "x*", "NU-F03", "holds 1 image but none like 'x\\*'"),
    ],
)
def test_a_folder_without_images_says_what_is_wrong(
    tmp_path: Path, name: str, pattern: str | None, code: str, message: str
) -> None:
    _touch(tmp_path, ["a.txt"])
    _touch(tmp_path / "empty", [])
    _touch(tmp_path / "some", ["a.tif"])
    with pytest.raises(FolderError, match=message) as caught:
        find_images(tmp_path / name, pattern)
    assert caught.value.code == code


def test_a_folder_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FolderError, match="Permission denied") as caught:
        find_images(tmp_path)
    assert caught.value.code == "NU-F04"


def _tree(root: Path) -> Path:
    _touch(root, ["b.tif", "notes.txt"])
    _touch(root / "a", ["1.tif", "Thumbs.db"])
    _touch(root / "a" / "x.zarr", ["zarr.json", "inner.tif"])
    _touch(root / "a.b", ["2.png"])
    _touch(root / ".hidden", ["3.tif"])
    _touch(root / "out", ["b_labels.tif"])
    return root


def test_subfolders_are_looked_into_but_a_zarr_folder_is_one_image(
    tmp_path: Path,
) -> None:
    root = _tree(tmp_path / "root")
    assert [p.name for p in find_images(root)] == ["b.tif"]
    found = look_through(root, recursive=True, without=root / "out")
    names = [p.relative_to(root).as_posix() for p in found.images]
    assert names == ["a/1.tif", "a/x.zarr", "a.b/2.png", "b.tif"]
    others = [p.relative_to(root).as_posix() for p in found.others]
    assert others == ["a/Thumbs.db", "notes.txt"]
    assert [p.name for p in find_images(root / "a")] == ["1.tif", "x.zarr"]


def test_a_pattern_with_a_slash_is_of_paths(tmp_path: Path) -> None:
    root = _tree(tmp_path / "root")
    found = find_images(root, "a/*", recursive=True)
    assert [p.name for p in found] == ["1.tif", "x.zarr"]


def test_links_that_lead_in_a_circle_are_not_followed(tmp_path: Path) -> None:
    root = _tree(tmp_path / "root")
    (root / "a" / "up").symlink_to(root, target_is_directory=True)
    assert len(find_images(root, recursive=True)) == 5


def test_a_subfolder_that_may_not_be_read_is_told_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _tree(tmp_path / "root")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = look_through(root, recursive=True)
    assert [problem.code for problem in found.problems] == ["NU-F04"]
    assert "root/a can't be read" in str(found.problems[0])
    assert [p.name for p in found.images] == ["2.png", "b.tif", "b_labels.tif"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.tif", "a"),
        ("a.OME.TIFF", "a"),
        ("a.b.png", "a.b"),
        ("a.ome.zarr", "a"),
        (".tif", ""),
    ],
)
def test_a_stem_has_no_suffix_of_an_image(name: str, stem: str) -> None:
    assert stem_of(Path(name)) == stem


def test_images_and_masks_pair_by_stem(tmp_path: Path) -> None:
    images = _touch(tmp_path / "i", ["a.tif", "b.ome.tif", "c.png", "d.tif"])
    masks = _touch(tmp_path / "m", ["a.png", "b.tif", "d_labels.tif", "x.tif"])
    pairs, missing = pair_by_stem(find_images(images), masks)
    assert [(a.name, b.name) for a, b in pairs] == [
        ("a.tif", "a.png"),
        ("b.ome.tif", "b.tif"),
    ]
    assert [path.name for path in missing] == ["c.png", "d.tif"]
    endings = ("", "_labels")
    pairs, missing = pair_by_stem(find_images(images), masks, endings=endings)
    assert pairs[-1][1].name == "d_labels.tif"
    assert [path.name for path in missing] == ["c.png"]


def test_two_files_of_one_stem_are_refused(tmp_path: Path) -> None:
    images = _touch(tmp_path / "i", ["a.tif"])
    twice = _touch(tmp_path / "t", ["a.tif", "a.tiff"])
    both = _touch(tmp_path / "b", ["a.tif", "a_labels.tif"])
    for one, other in ((images, twice), (twice, images)):
        with pytest.raises(FolderError, match=r"a\.tif and a\.tiff stand") as caught:
            pair_by_stem(find_images(one), other)
        assert caught.value.code == "NU-F05"
    with pytest.raises(FolderError, match=r"a\.tif and a_labels\.tif stand"):
        pair_by_stem(find_images(images), both, endings=("", "_labels"))
