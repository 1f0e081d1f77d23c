from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from napari_unet.config import NetworkConfig
from napari_unet.errors import ConfigError, ImageError, LabelError
from napari_unet.files.images import write_image, write_labels
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.learning.checkpoint import Model
from napari_unet.learning.data.pairs import (
    check_channels,
    pair_up,
    size_warnings,
)

TINY = NetworkConfig(base_width=2, depth=1)


def _labels(shape=(64, 64)) -> np.ndarray:
    labels = np.zeros(shape, np.int32)
    labels[..., 4:20, 4:20] = 1
    labels[..., 30:44, 10:30] = 2
    labels[..., 40:60, 40:60] = 3
    return labels


def test_images_and_annotations_are_paired_from_arrays_and_files(tmp_path):
    image, labels = np.random.default_rng(0).random((8, 9)), np.ones((8, 9), int)
    write_image(tmp_path / "a.tif", image[None].astype("f4"), axes="CYX")
    write_labels(tmp_path / "a_mask.tif", labels)
    pairs = pair_up([image, str(tmp_path / "a.tif")], [labels, tmp_path / "a_mask.tif"])
    assert [p.image.shape for p in pairs] == [(8, 9)] * 2
    assert all(p.annotation.is_known.all() for p in pairs)


@pytest.mark.parametrize(("n_images", "n_annotations"), [(2, 1), (0, 0), (0, 1)])
def test_numbers_that_differ_are_refused(n_images, n_annotations):
    with pytest.raises(
        ConfigError, match=f"{n_images} images came with {n_annotations} annotations"
    ) as caught:
        pair_up([np.ones((8, 8))] * n_images, [np.ones((8, 8), int)] * n_annotations)
    assert caught.value.code == "NU-C03"


def test_shapes_that_differ_are_refused_with_both_shapes_and_names():
    image = Image(np.ones((1, 10, 12)), source="cells.tif")
    annotation = Annotation.complete(np.ones((5, 6), int), source="labels.tif")
    with pytest.raises(LabelError) as caught:
        pair_up([image], [annotation])
    assert caught.value.code == "NU-L02"
    assert caught.value.message == (
        "labels.tif is 5 x 6 but its image cells.tif is 10 x 12: annotate the full "
        "image, or crop both the same way"
    )


def test_images_with_other_channels_are_refused():
    images = [Image(np.ones((n, 8, 8)), source=f"{n}.tif") for n in (1, 3)]
    with pytest.raises(
        ImageError, match=r"3\.tif has 3 channels but 1\.tif has 1: train on images"
    ) as caught:
        pair_up(images, [np.ones((8, 8), int)] * 2)
    assert caught.value.code == "NU-I10"


def test_annotations_with_other_classes_are_refused():
    labels = np.ones((8, 8), int)
    two = Annotation(labels, class_names=("background", "red", "green"), source="b")
    with pytest.raises(
        LabelError, match=r"b has the classes .*'green'.* but a has .*: give all"
    ) as caught:
        pair_up([np.ones((8, 8))] * 2, [Annotation(labels, source="a"), two])
    assert caught.value.code == "NU-L06"


@pytest.mark.parametrize(
    ("n_model", "n_image", "sentence"),
    [
        (1, 3, "the model expects 1 channel, photo.png has 3: choose the channels"),
        (2, 1, "the model expects 2 channels, photo.png has 1: choose the channels"),
    ],
)
def test_an_image_with_other_channels_than_the_model_is_refused(
    random_model, n_model, n_image, sentence
):
    image = Image(np.ones((n_image, 8, 8)), source="photo.png")
    with pytest.raises(ImageError) as caught:
        check_channels(random_model(in_channels=n_model), image)
    assert caught.value.message.startswith(sentence)
    assert caught.value.code == "NU-I10"


@pytest.mark.parametrize("images", [np.ones((2, 8, 8)), "a.tif", Path("a.tif")])
def test_one_image_where_several_are_wanted_is_refused(images):
    with pytest.raises(ConfigError, match="give two lists"):
        pair_up(images, images)


def _sized(*size: float) -> Image:
    data = np.random.default_rng(0).random((1, 64, 64))
    return Image(data, pixel_size_um=size or None, source=f"{size}.tif")


@pytest.mark.parametrize(
    ("sizes", "start", "expected"),
    [
        ([(0.5, 0.5), (0.5, 0.7)], None, r"0\.7 µm per pixel .*0\.5 µm"),
        ([(0.5, 0.5), (0.55, 0.5)], None, None),
        ([(0.5, 0.5), ()], (0.5, 0.5), None),
        ([(0.5, 0.5)], (1.0, 1.0), r"0\.5 µm .* model to start from .*at 1 µm"),
    ],
)
def test_pixel_sizes_that_differ_are_told_with_both_numbers(sizes, start, expected):
    model = Model(TINY, {}, pixel_size_um=start)
    found = size_warnings([_sized(*size) for size in sizes], model)
    assert len(found) == (expected is not None)
    assert expected is None or re.search(expected, found[0])
