from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label

from napari_unet.imaging.arrays import Image
from napari_unet.imaging.measure import classes_of, measure, neighbours


def _disc(radius: float, side: int = 101) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side // 2
    return (y**2 + x**2 <= radius**2).astype(np.int32)


def test_a_disc_is_measured_as_geometry_says():
    labels = _disc(30)
    image = Image(np.full((1, 101, 101), 7.0), pixel_size_um=(0.5, 0.5))
    found = {k: v[0] for k, v in measure(labels, image).columns.items()}
    assert found["area_um2"] == pytest.approx(math.pi * 15**2, rel=0.01)
    assert found["diameter_um"] == pytest.approx(30, rel=0.01)
    assert found["major_axis_um"] == pytest.approx(30, rel=0.02)
    assert found["minor_axis_um"] == pytest.approx(30, rel=0.02)
    assert found["eccentricity"] == pytest.approx(0, abs=0.05)
    assert (found["y_um"], found["x_um"]) == (25.0, 25.0)
    assert found["solidity"] > 0.95
    assert (found["mean"], found["sd"]) == (7.0, 0.0)


def test_pixels_that_are_not_square_count_as_they_are():
    labels = np.zeros((10, 20), np.int32)
    labels[2:4, 5:15] = 1
    image = Image(np.zeros((1, 10, 20)), pixel_size_um=(2.0, 0.25))
    found = {k: v[0] for k, v in measure(labels, image).columns.items()}
    assert found["area_um2"] == 2 * 10 * 0.5
    assert (found["y_um"], found["x_um"]) == (5.0, 9.5 * 0.25)


def test_without_a_pixel_size_all_is_in_pixels():
    found = measure(_disc(5, 21), Image(np.zeros((1, 21, 21)))).columns
    names = ("y_px", "x_px", "area_px", "diameter_px", "major_axis_px")
    assert all(name in found for name in names)
    assert not any(name.endswith(("_um", "_um2")) for name in found)


def test_each_channel_is_measured_as_numpy_does():
    rng = np.random.default_rng(0)
    labels = label(rng.random((60, 70)) > 0.6, connectivity=1)
    pixels = rng.random((2, 60, 70), np.float32)
    names = ("DAPI", "actin")
    found = measure(labels, Image(pixels, channel_names=names)).columns
    np.testing.assert_array_equal(found["label"], np.arange(1, labels.max() + 1))
    for channel, name in zip(pixels, names, strict=True):
        for what, of in (("mean", ndimage.mean), ("sd", ndimage.standard_deviation)):
            expected = of(channel.astype(float), labels, found["label"])
            np.testing.assert_allclose(found[f"{what}_{name}"], expected, atol=1e-6)
        np.testing.assert_array_equal(
            found[f"max_{name}"], ndimage.maximum(channel, labels, found["label"])
        )


def test_each_frame_has_rows_of_its_own():
    labels = np.zeros((3, 8, 8), np.int32)
    labels[0, 1:3, 1:3], labels[2, 4:6, 4:8], labels[2, 0, 0] = 5, 6, 9
    movie = Image(np.ones((1, 3, 8, 8)), axes="CTYX")
    found = measure(labels, movie).columns
    assert list(found)[:2] == ["label", "frame"]
    assert found["label"].tolist() == [5, 6, 9]
    assert found["frame"].tolist() == [0, 2, 2]
    assert found["area_px"].tolist() == [4, 8, 1]
    assert found["at_border"].tolist() == [False, True, True]


def test_volumes_have_volumes():
    labels = np.zeros((6, 8, 8), np.int32)
    labels[1:3, 2:6, 2:6] = 1
    size = (2.0, 0.5, 0.5)
    volume = Image(np.ones((1, 6, 8, 8)), pixel_size_um=size)
    found = {k: v[0] for k, v in measure(labels, volume, n_dims=3).columns.items()}
    assert found["volume_um3"] == 2 * 4 * 4 * 0.5
    assert (found["z_um"], found["y_um"]) == (3.0, 1.75)


def test_an_image_without_cells_has_the_columns_and_no_rows():
    image = Image(np.zeros((1, 9, 9)), pixel_size_um=(1.0, 1.0))
    found = measure(np.zeros((9, 9), np.int32), image)
    assert len(found) == 0
    assert list(found.columns) == list(measure(_disc(3, 9), image).columns)


def test_neighbours_are_those_that_touch():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 6, (5, 6)).astype(np.int32)
    expected = [set() for _ in range(6)]
    for (y, x), i in np.ndenumerate(labels):
        around = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        expected[i] |= {int(j) for j in np.unique(around) if j not in (0, i)}
    expected[0] = set()
    assert neighbours(labels).tolist() == [len(e) for e in expected]


def test_a_cell_is_of_the_class_of_most_of_its_pixels():
    roles = ["softmax:background", "softmax:round", "softmax:long", "distance"]
    outputs = np.zeros((4, 1, 6), np.float32)
    outputs[1, 0, :3], outputs[2, 0, 3:] = 1, 1
    outputs[0, 0, 0] = 0.9
    labels = np.array([[1, 1, 2, 2, 2, 0]], np.int32)
    assert classes_of(labels, outputs, roles).tolist() == ["", "round", "long"]
    found = measure(
        labels, Image(outputs[:1]), classes=classes_of(labels, outputs, roles)
    )
    assert list(found.columns)[:2] == ["label", "class"]
    assert found.columns["class"].tolist() == ["round", "long"]


def test_labels_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match=r"labels of \(4, 4\) for an image of \(5, 5\)"
    ):
        measure(np.zeros((4, 4), int), Image(np.zeros((1, 5, 5))))
