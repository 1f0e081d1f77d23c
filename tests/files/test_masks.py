"""A mask is complete unless the JSON file beside it says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.errors import ConfigError
from napari_unet.files.annotations import save_annotation
from napari_unet.files.images import write_labels
from napari_unet.files.masks import read_mask
from napari_unet.imaging.arrays import Annotation, Image

if TYPE_CHECKING:
    from pathlib import Path

LABELS = np.zeros((20, 30), np.int32)
LABELS[2:9, 2:9], LABELS[12:15, 2:9] = 1, 2


def test_labels_alone_are_complete(tmp_path: Path) -> None:
    write_labels(tmp_path / "a.tif", LABELS, pixel_size_um=(0.5, 0.25))
    stored = read_mask(tmp_path / "a.tif")
    assert stored.annotation.is_known.all()
    assert (stored.axes, stored.pixel_size_um) == ("YX", (0.5, 0.25))
    assert stored.unpainted == "background"


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.OME.TIFF"])
def test_the_json_file_of_any_tiff_says_what_is_known(
    tmp_path: Path, name: str
) -> None:
    save_annotation(tmp_path / name, Annotation(LABELS), pixel_size_um=(0.5, 0.25))
    stored = read_mask(str(tmp_path / name))
    np.testing.assert_array_equal(stored.annotation.is_known, LABELS > 0)
    assert stored.unpainted == "unknown"
    assert (stored.axes, stored.pixel_size_um) == ("YX", (0.5, 0.25))


def test_a_json_file_of_something_else_is_named_with_its_folder(
    tmp_path: Path,
) -> None:
    write_labels(tmp_path / "a.tif", LABELS)
    (tmp_path / "a.json").write_text('{"shapes": []}')
    with pytest.raises(ConfigError, match="does not describe an annotation") as caught:
        read_mask(tmp_path / "a.tif")
    assert caught.value.code == "NU-C01"
    assert str(tmp_path / "a.json") in caught.value.message


def test_notes_about_the_annotation_come_along(tmp_path: Path) -> None:
    save_annotation(tmp_path / "a.tif", Annotation(LABELS))
    write_labels(tmp_path / "a.tif", LABELS * 2)
    notes: list[str] = []
    read_mask(tmp_path / "a.tif", notes=notes)
    assert "a.json was written for another version of a.tif" in notes[0]


def test_a_black_and_white_mask_is_noted(tmp_path: Path) -> None:
    mask = (LABELS > 0).astype(np.uint8) * 255
    tifffile.imwrite(tmp_path / "two.tif", mask)
    mask[17, 20] = 255
    tifffile.imwrite(tmp_path / "three.tif", mask)
    notes: list[str] = []
    for name in ("two.tif", "three.tif"):
        read_mask(tmp_path / name, notes=notes)
    (note,) = notes
    assert note.startswith(f"{tmp_path / 'three.tif'} has one id in 3 pieces: if it")


def test_a_mask_is_put_into_the_order_of_its_image(tmp_path: Path) -> None:
    stack = np.stack([LABELS, LABELS * 2, LABELS * 3])
    image = Image(stack[None])
    tifffile.imwrite(
        tmp_path / "a.tif", stack.transpose(1, 2, 0), photometric="minisblack"
    )
    read = read_mask(tmp_path / "a.tif", image=image, axes="yxcz")
    np.testing.assert_array_equal(read.annotation.labels, stack)
    # The image's only frame is gone; its labels never had one.
    read = read_mask(tmp_path / "a.tif", image=image, axes="TYXZ")
    np.testing.assert_array_equal(read.annotation.labels, stack)


def test_an_annotated_slice_of_a_stack_fits_its_image(tmp_path):
    labels = np.zeros((1, 30, 40), np.int32)
    labels[0, 3:6, 3:6] = 1
    square = [(1, 1), (1, 8), (9, 8), (9, 1)]
    save_annotation(
        tmp_path / "m.tif", Annotation(labels), [((0,), square)], axes="ZYX"
    )
    stored = read_mask(tmp_path / "m.tif", image=Image(np.ones((1, 30, 40))))
    np.testing.assert_array_equal(stored.annotation.labels, labels[0])
    assert [region.plane for region in stored.regions] == [()]
