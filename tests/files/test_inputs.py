from __future__ import annotations

import numpy as np
import pytest

from napari_unet.errors import FolderError, ImageError, LabelError
from napari_unet.files.annotations import save_annotation
from napari_unet.files.images import write_image, write_labels
from napari_unet.files.inputs import as_annotation, as_image
from napari_unet.imaging.arrays import Annotation, Image


def test_an_image_is_taken_as_it_is():
    image = Image(np.zeros((2, 4, 5)))
    assert as_image(image) is image


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, ">u2"])
def test_a_plane_becomes_an_image_of_one_channel(dtype):
    array = np.ones((4, 5), dtype)
    image = as_image(array)
    assert (image.axes, image.shape, image.n_channels) == ("CYX", (4, 5), 1)
    np.testing.assert_array_equal(image.plane()[0], array)


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_an_image_file_is_read(tmp_path, kind):
    path = tmp_path / "a.tif"
    data = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    write_image(path, data, axes="CYX", pixel_size_um=(0.5, 0.5))
    image = as_image(kind(path))
    np.testing.assert_array_equal(image.plane(), data)
    assert image.pixel_size_um == pytest.approx((0.5, 0.5))
    assert "a.tif" in image.source


@pytest.mark.parametrize("shape", [(5,), (3, 4, 5), (4, 5, 3), (2, 3, 4, 5), ()])
def test_the_meaning_of_other_axes_is_never_guessed(shape):
    with pytest.raises(ImageError, match=r"came without axes: give Image\(") as caught:
        as_image(np.zeros(shape))
    assert caught.value.code == "NU-I09"
    assert str(shape) in caught.value.message


def test_a_missing_image_is_refused(tmp_path):
    with pytest.raises(FolderError, match=r"none\.tif"):
        as_image(tmp_path / "none.tif")


def test_an_annotation_is_taken_as_it_is():
    annotation = Annotation(np.ones((3, 3), int))
    assert as_annotation(annotation) is annotation


def test_labels_alone_are_completely_painted():
    labels = np.zeros((3, 4, 5), np.uint16)
    labels[1, 2, 3] = 7
    annotation = as_annotation(labels)
    np.testing.assert_array_equal(annotation.labels, labels)
    assert annotation.is_known.all()


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_label_file_is_completely_painted(tmp_path, kind):
    labels = np.zeros((6, 7), np.int32)
    labels[2:4, 2:4] = 70_000
    write_labels(tmp_path / "mask.tif", labels)
    annotation = as_annotation(kind(tmp_path / "mask.tif"))
    np.testing.assert_array_equal(annotation.labels, labels)
    assert annotation.is_known.all()
    assert annotation.source.endswith("mask.tif")


def test_a_file_with_json_beside_it_is_known_where_that_says_so(tmp_path):
    labels = np.zeros((6, 7), np.int32)
    labels[2:4, 2:4] = 1
    save_annotation(tmp_path / "a.ome.tif", Annotation(labels))
    annotation = as_annotation(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(annotation.is_known, labels > 0)


def test_labels_that_are_none_are_refused():
    with pytest.raises(LabelError, match="not whole numbers"):
        as_annotation(np.full((3, 3), 0.5))
