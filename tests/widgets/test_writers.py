"""Saving layers from napari's menu."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_unet.files.annotations import Region, load_annotation
from napari_unet.files.formats import read_annotations
from napari_unet.widgets import writers
from napari_unet.widgets._layers import note_about
from napari_unet.widgets._painting import add_regions, new_annotation

SQUARE = [(2, 2), (2, 9), (9, 9), (9, 2)]


@pytest.fixture
def labels(viewer, tmp_path):
    """An annotation with a class and a finished region, of an image from a file."""
    image = viewer.add_image(np.zeros((20, 30)), name="nuclei")
    image.units, image.scale = ("um", "um"), (0.5, 0.25)
    labels = new_annotation(viewer, image)
    labels.data[4:7, 4:7], labels.data[12:15, 12:15] = 1, 2
    note_about(
        labels,
        label_class={2: 2},
        class_names=("background", "cell", "dividing"),
        class_colors=("#808080", "#00ff00", "#ff0000"),
    )
    add_regions(viewer, labels, [Region((), SQUARE)])
    return labels


def test_the_pair_holds_everything(viewer, labels, tmp_path) -> None:
    path = tmp_path / "a.tif"
    layers = [layer.as_layer_data_tuple() for layer in (labels, viewer.layers[-1])]
    written = writers.write_pair(str(path), layers)
    assert written == [str(path), str(tmp_path / "a.json")]
    stored = load_annotation(path)
    np.testing.assert_array_equal(stored.annotation.labels, labels.data)
    assert stored.annotation.class_names == ("background", "cell", "dividing")
    assert stored.annotation.class_colors[1:] == ("#00ff00", "#ff0000")
    np.testing.assert_allclose(stored.regions[0].vertices, SQUARE)
    assert stored.pixel_size_um == (0.5, 0.25)


def test_other_shapes_are_left_out_with_a_warning(viewer, labels, tmp_path) -> None:
    other = viewer.add_shapes([np.array(SQUARE)], name="scribble")
    layers = [layer.as_layer_data_tuple() for layer in (labels, other)]
    with pytest.warns(UserWarning, match="scribble are no finished regions"):
        writers.write_pair(str(tmp_path / "a.tif"), layers)
    assert len(load_annotation(tmp_path / "a.tif").regions) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("write", "name"),
    [
        (writers.write_coco, "a.json"),
        (writers.write_imagej, "a.zip"),
        (writers.write_geojson, "a.geojson"),
    ],
)
def test_other_programs_get_pixels_and_classes(labels, tmp_path, write, name) -> None:
    data, attributes, _ = labels.as_layer_data_tuple()
    assert write(str(tmp_path / name), data, attributes) == [str(tmp_path / name)]
    read = read_annotations(tmp_path / name, shapes={"a": (20, 30)})
    (annotation,) = (stored.annotation for stored in read.values())
    np.testing.assert_array_equal(annotation.labels, labels.data)
    assert annotation.class_names[annotation.label_class[2]] == "dividing"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_coco_names_the_image(viewer, labels, tmp_path) -> None:
    data, attributes, _ = labels.as_layer_data_tuple()
    writers.write_coco(str(tmp_path / "a.json"), data, attributes)
    content = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert [image["file_name"] for image in content["images"]] == ["nuclei.tif"]


def test_what_gets_lost_is_warned_of(labels, tmp_path) -> None:
    data, attributes, _ = labels.as_layer_data_tuple()
    with (
        pytest.warns(UserWarning, match="finished"),
        pytest.warns(UserWarning, match="what is not painted being unknown"),
    ):
        writers.write_imagej(str(tmp_path / "a.zip"), data, attributes)


def test_a_layer_that_annotate_never_saw_is_saved_as_cells(viewer, tmp_path) -> None:
    layer = viewer.add_labels(np.eye(9, dtype=np.uint8), name="watershed")
    writers.write_pair(str(tmp_path / "a.tif"), [layer.as_layer_data_tuple()])
    stored = load_annotation(tmp_path / "a.tif")
    assert stored.unpainted == "unknown"
    assert stored.annotation.class_names == ("background", "cell")
