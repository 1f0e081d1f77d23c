from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.cli.folders import prepare_folder, prepare_model_file, read_pairs
from napari_unet.errors import FolderError, LabelError
from napari_unet.files.annotations import save_annotation
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_for_results_is_made_and_left_empty(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(FolderError, match=r"nothing can be written to .*a ") as caught:
        prepare_folder(tmp_path / "a")
    assert caught.value.code == "NU-F06"


@pytest.mark.parametrize("name", ["cells.tif", "cells", "folder.unet"])
def test_a_model_needs_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.unet").mkdir()
    with pytest.raises(FolderError, match="is no name for a model"):
        prepare_model_file(tmp_path / name)


def test_a_model_may_replace_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "cells.unet").write_text("old")
    prepare_model_file(tmp_path / "cells.unet")
    assert (tmp_path / "cells.unet").read_text() == "old"


def test_masks_alone_count_as_complete_and_pairs_as_painted(tmp_path: Path) -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[2:9, 2:9] = 1
    image, mask = tmp_path / "i.tif", tmp_path / "m.tif"
    tifffile.imwrite(image, np.ones((20, 30), np.uint8))
    tifffile.imwrite(mask, labels)
    _, (complete,) = read_pairs([(image, mask)])
    assert complete.is_known.all()
    save_annotation(mask, Annotation(labels))
    _, (partial,) = read_pairs([(image, mask)])
    assert (partial.is_known == (labels > 0)).all()


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    image, mask = tmp_path / "i.tif", tmp_path / "m.tif"
    tifffile.imwrite(image, np.ones((20, 30), np.uint8))
    tifffile.imwrite(mask, np.ones((20, 31), np.uint8))
    with pytest.raises(
        LabelError, match=r"m\.tif is 20 x 31 but its image .*i\.tif is 20 x 30"
    ) as caught:
        read_pairs([(image, mask)])
    assert caught.value.code == "NU-L02"


def test_what_happened_while_reading_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = tmp_path / "i.tif", tmp_path / "m.tif"
    tifffile.imwrite(image, np.ones((20, 30, 4), np.uint8), photometric="rgb")
    tifffile.imwrite(mask, np.ones((20, 30), np.uint8))
    (read,), _ = read_pairs([(image, mask)])
    assert read.n_channels == 3
    assert "note: i.tif" in capsys.readouterr().err
