from __future__ import annotations

import os
import zipfile
from typing import TYPE_CHECKING

import pytest

from napari_unet.errors import FolderError
from napari_unet.files.formats import FORMATS, read_annotations
from napari_unet.files.formats.recognition import kind_of

if TYPE_CHECKING:
    from pathlib import Path


def _zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"Iout" + bytes(60))
    return path


@pytest.mark.parametrize(
    "names",
    [("1.roi",), ("a/0001-0002.ROI", "b.roi"), ("readme.txt", "1.roi"),
     ("__MACOSX/._1.roi", "1.roi")],
)  # fmt: skip
def test_a_zip_with_rois_is_a_set_of_rois(tmp_path: Path, names) -> None:
    assert kind_of(_zip(tmp_path / "a.zip", *names)) == "imagej"


@pytest.mark.parametrize("names", [(), ("roi.txt",), ("__MACOSX/._1.roi",)])
def test_any_other_zip_is_none(tmp_path: Path, names) -> None:
    assert kind_of(_zip(tmp_path / "a.zip", *names)) is None


@pytest.mark.parametrize(
    "name",
    ["man_track.txt", "res_track.txt", "man_seg000.tif", "man_track0012.tiff",
     "man_seg_003_011.tif", "SEG/man_seg000.tif", "TRA/man_track000.tif"],
)  # fmt: skip
def test_a_folder_of_the_challenge_is_known_by_its_files(tmp_path: Path, name) -> None:
    path = tmp_path / "01_GT" / name
    path.parent.mkdir(parents=True)
    path.touch()
    assert kind_of(tmp_path / "01_GT") == "ctc"


def test_masks_of_single_images_are_no_movie(tmp_path: Path) -> None:
    (tmp_path / "mask000.tif").touch()
    assert kind_of(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.json", b'{"format": "napari-unet annotation"}', "tiff"),
        ("a.json", b'{"type": "FeatureCollection", "features": []}', "geojson"),
        ("a.json", b'{"images": [{"file_name": "a.png"}]}', "coco"),
        ("a.json", b'{"name": "package"}', None),
        ("a_seg.npy", b"\x93NUMPY", "cellpose"),
        ("a.npy", b"\x93NUMPY", None),
        ("a.roi", b"Iout", "imagej"),
        ("a.tif", b"", "tiff"),
    ],
)
def test_files_are_known_by_name_and_first_bytes(
    tmp_path: Path, name, content, kind
) -> None:
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) == kind
    assert kind_of(tmp_path / f"no_{name}") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("name", ["a.tif", "a.zip", "a.json", "a.geojson", "a_seg.npy"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert kind_of(tmp_path / name) is None
    for chosen in FORMATS:
        if chosen != "ctc":
            with pytest.raises(
                FolderError, match=r"is no file but a pipe|there is no file"
            ):
                read_annotations(tmp_path / name, format=chosen)
    with pytest.raises(FolderError, match="in no format of annotations"):
        read_annotations(tmp_path / name)
