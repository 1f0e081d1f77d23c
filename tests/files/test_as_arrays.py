"""The public functions take arrays, annotations and files alike."""

from __future__ import annotations

import numpy as np
import pytest

import napari_unet as nu
from napari_unet.errors import ConfigError
from napari_unet.files.annotations import Region, save_annotation
from napari_unet.imaging import scores, targets, weight_maps


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((24, 32), np.int32)
    labels[4:20, 3:14] = 1
    labels[4:20, 17:29] = 2
    return labels


@pytest.fixture
def path(labels, tmp_path):
    nu.write_labels(tmp_path / "a.tif", labels)
    return tmp_path / "a.tif"


def test_files_give_what_their_arrays_give(labels, path):
    np.testing.assert_array_equal(
        nu.border_weights(path, w0=7.0), weight_maps.border_weights(labels, w0=7.0)
    )
    np.testing.assert_array_equal(
        nu.weight_map(str(path)), weight_maps.weight_map(labels)
    )
    expected = targets.make_target(nu.Annotation.complete(labels))
    for source in (path, str(path), labels, nu.Annotation.complete(labels)):
        target = nu.make_target(source, nu.WeightConfig())
        np.testing.assert_array_equal(target.classes, expected.classes)
        np.testing.assert_array_equal(target.weights, expected.weights)
    moved = np.roll(labels, 2, axis=0)
    assert nu.score(path, moved) == scores.score(labels, moved)


def test_a_file_with_finished_areas_weighs_nothing_where_nothing_is_known(
    labels, tmp_path
):
    region = Region((), ((0, 0), (0, 15), (23, 15), (23, 0)))
    save_annotation(tmp_path / "b.tif", nu.Annotation(labels), [region])
    weights = nu.weight_map(tmp_path / "b.tif")
    assert weights[2, 2] >= 1
    assert weights[2, 30] == 0


def test_painted_background_and_areas_of_a_file_are_no_cells(tmp_path):
    labels = np.zeros((24, 60), np.int32)
    for i in range(5):
        labels[4:20, 12 * i + 1 : 12 * i + 9] = i + 1
    annotation = nu.Annotation(
        labels,
        {3: 0, 4: 2},
        class_names=("background", "cell", "tissue"),
        area_classes=frozenset({2}),
    )
    save_annotation(tmp_path / "b.tif", annotation)
    cells_alone = np.where(np.isin(labels, [1, 2, 5]), labels, 0)
    expected = weight_maps.border_weights(cells_alone)
    for source in (tmp_path / "b.tif", str(tmp_path / "b.tif"), annotation):
        np.testing.assert_array_equal(nu.border_weights(source), expected)
    assert not np.array_equal(expected, weight_maps.border_weights(labels))


def test_a_file_brings_its_pixel_size_and_a_given_one_goes_before(labels, tmp_path):
    nu.write_labels(tmp_path / "c.tif", labels, pixel_size_um=(0.5, 0.25))
    config = nu.WeightConfig(unit="um", sigma=1.5)
    complete = nu.Annotation.complete(labels)
    for size in (None, (2.0, 1.0)):
        used = (0.5, 0.25) if size is None else size
        np.testing.assert_array_equal(
            nu.weight_map(tmp_path / "c.tif", config, pixel_size_um=size),
            weight_maps.weight_map(labels, config, pixel_size_um=used),
        )
        target = nu.make_target(tmp_path / "c.tif", config, pixel_size_um=size)
        expected = targets.make_target(complete, config, pixel_size_um=used)
        np.testing.assert_array_equal(target.weights, expected.weights)


def test_an_array_in_micrometres_needs_a_pixel_size(labels, path):
    config = nu.WeightConfig(unit="um")
    with pytest.raises(ConfigError, match="labels has no pixel size"):
        nu.weight_map(labels, config)
    with pytest.raises(ConfigError, match=r"a\.tif has no pixel size"):
        nu.make_target(path, config)
    assert nu.weight_map(labels, config, pixel_size_um=(1, 1)).shape == labels.shape


def test_cells_are_measured_in_arrays_and_files(labels, path):
    image = nu.Image(np.arange(24.0 * 32).reshape(1, 24, 32), pixel_size_um=(0.5, 2))
    for source in (labels, path, str(path)):
        found = nu.measure(source, image)
        assert len(found) == 2
        assert found.columns["area_um2"].tolist() == [176.0, 192.0]
    with pytest.raises(nu.UNetError, match="measure cells in the image") as caught:
        nu.measure(labels[1:], image)
    assert caught.value.code == "NU-L02"


def test_movies_are_linked_and_written(labels, path, tmp_path):
    movie = np.stack([labels, np.where(labels > 0, 3 - labels, 0)])
    linked = nu.link_frames(movie)
    np.testing.assert_array_equal(linked, np.stack([labels, labels]))
    nu.write_labels(tmp_path / "movie.tif", movie, axes="TYX")
    np.testing.assert_array_equal(nu.link_frames(tmp_path / "movie.tif"), linked)
    for _ in range(2):  # an earlier result is replaced
        nu.write_ctc_result(tmp_path / "01_RES", linked)
    tracks = (tmp_path / "01_RES" / "res_track.txt").read_text()
    assert tracks == "1 0 1 0\n2 0 1 0\n"
    np.testing.assert_array_equal(
        nu.read_labels(tmp_path / "01_RES" / "mask001.tif"), labels
    )


def test_what_has_no_time_is_no_movie(labels, path, tmp_path):
    nu.write_labels(tmp_path / "stack.tif", np.stack([labels, labels]), axes="ZYX")
    for source in (labels, path, tmp_path / "stack.tif"):
        with pytest.raises(nu.UNetError, match="whose first axis is time") as caught:
            nu.link_frames(source)
        assert caught.value.code == "NU-I15"
    with pytest.raises(nu.UNetError, match="whose first axis is time"):
        nu.write_ctc_result(tmp_path / "01_RES", labels)
    assert not (tmp_path / "01_RES").exists()


def test_a_movie_with_too_many_cells_leaves_nothing_behind(tmp_path):
    movie = np.zeros((2, 4, 4), np.int32)
    movie[:, 0, 0] = 65_536
    with pytest.raises(nu.UNetError, match="ids up to 65,535") as caught:
        nu.write_ctc_result(tmp_path / "01_RES", movie)
    assert caught.value.code == "NU-L12"
    assert list(tmp_path.iterdir()) == []
