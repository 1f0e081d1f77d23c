"""Opening annotations from napari's menu."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from napari.layers import Labels

from napari_unet.files.annotations import Region, StoredAnnotation, save_annotation
from napari_unet.files.formats import FORMATS, write_annotations
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets import readers
from napari_unet.widgets._layers import about
from napari_unet.widgets._painted import painted_of
from napari_unet.widgets._painting import open_annotation
from napari_unet.widgets.readers import get_reader


@pytest.fixture
def stored(drawn) -> StoredAnnotation:
    labels = drawn[1]
    annotation = Annotation(
        labels,
        label_class={2: 2, 4: 0},
        class_names=("background", "cell", "tissue"),
        class_colors=("#808080", "#00ff00", "#ff0000"),
        area_classes=frozenset({2}),
        known=np.ones(labels.shape, bool),
    )
    return StoredAnnotation(annotation, unpainted="background")


def opened(path) -> list[Labels]:
    read = get_reader(str(path))
    assert read is not None
    return [Labels(data, **attributes) for data, attributes, _ in read(str(path))]


@pytest.mark.parametrize("name", ["coco", "geojson", "imagej", "tiff"])
def test_a_layer_is_what_annotate_opens(tmp_path, viewer, drawn, stored, name) -> None:
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    write_annotations(path, {"a.tif": stored})
    path = tmp_path / "a.json" if name == "tiff" else path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (labels,) = opened(path)
    shape = labels.data.shape  # of ImageJ ROIs the smallest that holds them
    before = stored.annotation.labels
    np.testing.assert_array_equal(labels.data, before[: shape[0], : shape[1]])
    assert labels.data.sum() == before.sum()
    assert labels.data.dtype == np.int32
    assert labels.name == "a"
    image = viewer.add_image(drawn[0])
    by_annotate = open_annotation(viewer, image, stored, name="b")
    noted, wanted = dict(about(labels)), dict(about(by_annotate))
    wanted.pop("image")
    assert noted.keys() == wanted.keys()
    if name == "tiff":
        assert noted == wanted
        np.testing.assert_array_equal(labels.features, by_annotate.features)
    names = labels.features.set_index("index")["class"]
    assert names[2] == "tissue"


def test_finished_areas_are_not_lost_silently(tmp_path) -> None:
    region = Region((), [(0, 0), (0, 9), (9, 9), (9, 0)])
    save_annotation(tmp_path / "a.tif", Annotation(np.eye(20)), [region])
    with pytest.warns(UserWarning, match="1 finished regions of a.json are not shown"):
        opened(tmp_path / "a.json")


def test_each_image_of_a_coco_file_is_a_layer(tmp_path, stored, monkeypatch) -> None:
    three = {f"x/{stem}.tif": stored for stem in "abc"}
    write_annotations(tmp_path / "c.json", three)
    assert [labels.name for labels in opened(tmp_path / "c.json")] == ["a", "b", "c"]
    monkeypatch.setattr(readers, "_MOST_LAYERS", 2)
    with pytest.warns(UserWarning, match="holds 3 images, of which the first 2"):
        assert len(opened(tmp_path / "c.json")) == 2


def test_what_was_assumed_is_warned_of(tmp_path, stored) -> None:
    write_annotations(tmp_path / "a.zip", {"a": stored})
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(content)
    read = get_reader(str(tmp_path / "b.zip"))
    assert read is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(str(tmp_path / "b.zip"))
    assert len({str(one.message) for one in caught}) == len(caught)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'{"version": "5.0", "shapes": []}'),
        ("a.json", b'{"images": "none"}'),
        ("a.zip", b"PK\x05\x06" + bytes(18)),
        ("a_seg.npy", b"text"),
        ("a.roi", b"text"),
        ("a.geojson", b"text"),
    ],
)
def test_other_files_are_left_to_others(tmp_path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    assert get_reader(str(tmp_path / name)) is None


def test_files_to_be_stacked_are_left_to_others(tmp_path, stored) -> None:
    write_annotations(tmp_path / "a.zip", {"a": stored})
    assert get_reader([str(tmp_path / "a.zip")]) is None
    assert get_reader(str(tmp_path / "no.zip")) is None


@pytest.mark.gui
def test_napari_opens_and_saves_with_the_plugin(window, tmp_path, npe2pm) -> None:
    with npe2pm.tmp_plugin(package="napari-unet-loop"):
        layer = window.add_labels(np.eye(12, dtype=np.int32) * 7, name="mine")
        for name in ("a.tif", "a.zip", "b.json", "a.geojson"):
            path = str(tmp_path / name)
            with warnings.catch_warnings():  # of what the format can't hold
                warnings.simplefilter("ignore")
                assert layer.save(path, plugin="napari-unet-loop")[0] == path
        for name in ("a.json", "a.zip", "b.json", "a.geojson"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                (read,) = window.open(tmp_path / name, plugin="napari-unet-loop")
            np.testing.assert_array_equal(read.data, layer.data)
            assert painted_of(read).class_names[:2] == ("background", "cell")
