from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.errors import FolderError, ImageError, LabelError
from napari_unet.files.annotations import save_annotation
from napari_unet.files.pairs import find_pairs, read_pair
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from pathlib import Path

LABELS = np.zeros((20, 30), np.int32)
LABELS[2:9, 2:9] = 1


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    image, mask = tmp_path / "images" / "a.tif", tmp_path / "masks" / "a.tif"
    for path in (image, mask):
        path.parent.mkdir()
    tifffile.imwrite(image, np.ones((20, 30), np.uint8))
    tifffile.imwrite(mask, LABELS.astype(np.uint8))
    return image, mask


def test_images_are_paired_by_name_and_those_without_a_mask_told(
    pair: tuple[Path, Path],
) -> None:
    image, mask = pair
    lonely = image.with_name("b.tif")
    assert find_pairs([image, lonely], mask.parent) == ([pair], [lonely])


def test_no_pair_at_all_is_refused(pair: tuple[Path, Path]) -> None:
    image, mask = pair
    sentence = (
        r"none of the 2 images in .*images has a mask of the same name in .*masks"
    )
    with pytest.raises(FolderError, match=sentence) as caught:
        find_pairs([image.with_name("b.tif"), image.with_name("c.tif")], mask.parent)
    assert caught.value.code == "NU-F08"
    with pytest.raises(FolderError, match=r"not even the only image in .*mask"):
        find_pairs([image.with_name("b.tif")], mask.parent)


def test_a_mask_alone_is_complete_and_one_with_json_as_painted(
    pair: tuple[Path, Path],
) -> None:
    _, complete = read_pair(*pair)
    assert complete.is_known.all()
    np.testing.assert_array_equal(complete.labels, LABELS)
    save_annotation(pair[1], Annotation(LABELS))
    _, partial = read_pair(*pair)
    np.testing.assert_array_equal(partial.is_known, LABELS > 0)


def test_an_ome_tiff_with_json_is_as_painted_too(pair: tuple[Path, Path]) -> None:
    mask = pair[1].with_name("a.ome.tif")
    save_annotation(mask, Annotation(LABELS))
    _, partial = read_pair(pair[0], mask)
    np.testing.assert_array_equal(partial.is_known, LABELS > 0)


def test_a_mask_of_one_plane_in_a_stack_fits_its_image(
    pair: tuple[Path, Path],
) -> None:
    tifffile.imwrite(pair[1], LABELS.astype(np.uint8)[None], photometric="minisblack")
    _, annotation = read_pair(*pair)
    np.testing.assert_array_equal(annotation.labels, LABELS)


def test_a_stack_of_three_planes_and_its_mask_are_no_colour_pictures(
    pair: tuple[Path, Path],
) -> None:
    stack = np.stack([LABELS, LABELS * 2, LABELS * 3]).astype(np.uint8)
    for path in pair:
        tifffile.imwrite(path, stack, photometric="rgb", planarconfig="separate")
    image, annotation = read_pair(*pair, axes="ZYX")
    np.testing.assert_array_equal(image.data[0], stack)
    np.testing.assert_array_equal(annotation.labels, stack)


def test_a_mask_of_another_size_is_named_with_both_sizes(
    pair: tuple[Path, Path],
) -> None:
    tifffile.imwrite(pair[1], np.ones((20, 31), np.uint8))
    sentence = r"masks.a\.tif is 20 x 31 but its image .*images.a\.tif is 20 x 30"
    with pytest.raises(LabelError, match=sentence) as caught:
        read_pair(*pair)
    assert caught.value.code == "NU-L02"


def test_what_happened_while_reading_is_noted(pair: tuple[Path, Path]) -> None:
    tifffile.imwrite(pair[0], np.ones((20, 30, 4), np.uint8), photometric="rgb")
    notes: list[str] = []
    image, _ = read_pair(*pair, notes=notes)
    assert image.n_channels == 3
    assert "a.tif" in notes[0]


@pytest.mark.parametrize("which", [0, 1])
def test_messages_tell_a_mask_from_the_image_of_the_same_name(
    pair: tuple[Path, Path], which: int
) -> None:
    pair[which].write_bytes(b"")
    folder = ("images", "masks")[which]
    with pytest.raises(ImageError, match=rf"{folder}.a\.tif is an empty file"):
        read_pair(*pair)


def test_axes_and_channels_are_those_of_the_image(pair: tuple[Path, Path]) -> None:
    stack = np.stack([np.zeros((20, 30)), np.full((20, 30), 5)]).astype(np.uint8)
    tifffile.imwrite(pair[0], stack, photometric="minisblack")
    image, _ = read_pair(*pair, axes="CYX", channels=["1"])
    np.testing.assert_array_equal(image.data, stack[1:])
