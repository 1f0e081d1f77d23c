from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.cli.folders import prepare_folder, prepare_model_file, read_pairs
from napari_unet.errors import FolderError, SaveError
from napari_unet.files.annotations import save_annotation
from napari_unet.files.images import write_labels
from napari_unet.files.stored import name_of
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_for_results_is_made_and_left_empty(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(SaveError, match=r"nothing can be written to .*a ") as caught:
        prepare_folder(tmp_path / "a")
    assert caught.value.code == "NU-S02"


@pytest.mark.parametrize("name", ["cells.tif", "cells", "folder.unet"])
def test_a_model_needs_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.unet").mkdir()
    with pytest.raises(FolderError, match="is no name for a model"):
        prepare_model_file(tmp_path / name)


def test_a_model_may_replace_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "cells.unet").write_text("old")
    prepare_model_file(tmp_path / "cells.unet")
    assert (tmp_path / "cells.unet").read_text() == "old"


def test_pairs_are_read_and_what_happened_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = tmp_path / "i.tif", tmp_path / "m.tif"
    tifffile.imwrite(image, np.ones((20, 30, 4), np.uint8), photometric="rgb")
    tifffile.imwrite(mask, np.ones((20, 30), np.uint8))
    (read,), (annotation,) = read_pairs([(image, mask)])
    assert annotation.is_known.all()
    assert read.n_channels == 3
    assert f"warning: {name_of(image)} has an alpha" in capsys.readouterr().err


def test_what_is_doubtful_about_an_annotation_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = tmp_path / "i.tif", tmp_path / "m.tif"
    labels = np.ones((20, 30), np.int32)
    tifffile.imwrite(image, labels.astype(np.uint8))
    save_annotation(mask, Annotation(labels))
    write_labels(mask, labels * 2)
    read_pairs([(image, mask)])
    told = capsys.readouterr().err
    assert "warning: " in told
    assert "was written for another version of m.tif: check the classes" in told
