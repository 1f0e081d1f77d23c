"""The shipped sample is there, whole and credited."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_unet.files.samples import SAMPLE_FOLDER, sample_about, sample_images


def test_the_sample_is_four_images_with_labels() -> None:
    samples = sample_images()
    assert [name for name, _, _ in samples] == sample_about()["names"]
    assert [labels.max() for _, _, labels in samples] == [35, 33, 40, 28]
    for name, image, labels in samples:
        assert image.data.shape == (1, 256, 256)
        assert image.data.dtype == np.uint8
        assert image.pixel_size_um is None
        assert image.source.endswith(f"{name}.tif")
        assert labels.shape == image.shape


def test_nuclei_are_brighter_than_what_is_around_them() -> None:
    for _, image, labels in sample_images():
        pixels = image.data[0]
        assert pixels[labels > 0].mean() > 2 * pixels[labels == 0].mean()


def test_each_label_is_one_piece() -> None:
    for _, _, labels in sample_images():
        for i in range(1, labels.max() + 1):
            assert ndimage.label(labels == i, np.ones((3, 3)))[1] == 1


def test_the_credits_name_licence_and_source() -> None:
    about = sample_about()
    assert about["licence"] == "CC0-1.0"
    assert "stardist 0.9.2" in about["source"]
    assert "Caicedo" in about["cite"]


def test_no_other_file_is_shipped() -> None:
    files = {path.relative_to(SAMPLE_FOLDER) for path in SAMPLE_FOLDER.rglob("*.*")}
    assert len(files) == 9
