"""GeoJSON: no pixel is lost on the way, and QuPath's habits are understood."""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.path import Path as Outline
from skimage.draw import disk

from napari_unet.errors import FolderError, ImageError, LabelError
from napari_unet.files.annotations import Region, StoredAnnotation, known_pixels
from napari_unet.files.formats.geojson import read_geojson, write_geojson
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from pathlib import Path

HYPOTHESIS = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
IDS = st.sampled_from([0, 1, 2, 9, 70_000])
PLANES = arrays(
    np.int32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=IDS
)
STACKS = arrays(
    np.int32, array_shapes(min_dims=3, max_dims=4, max_side=4), elements=IDS
)


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def _feature(*rings: Any, plane: Any = None, **properties: Any) -> dict[str, Any]:
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": list(rings)}
    if plane is not None:
        geometry["plane"] = plane
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _write(folder: Path, content: Any) -> Path:
    path = folder / "cells.geojson"
    if isinstance(content, list):
        content = {"type": "FeatureCollection", "features": content}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _labels(folder: Path, features: Any, shape: Any = (8, 10)) -> list[list[int]]:
    stored = read_geojson(_write(folder, features), shape=shape)
    return stored.annotation.labels.tolist()


def _painted(*boxes: tuple[int, int, int, int, int]) -> list[list[int]]:
    labels = np.zeros((8, 10), int)
    for i, x0, y0, x1, y1 in boxes:
        labels[y0:y1, x0:x1] = i
    return labels.tolist()


def _pixels_of(geometry: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """The pixels of a geometry, by matplotlib: centres are at 0.5, 0.5."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = np.zeros(len(centres), int)
    polygons = geometry["coordinates"]
    for rings in [polygons] if geometry["type"] == "Polygon" else polygons:
        for ring in rings:
            assert ring[0] == ring[-1]
            inside += Outline(np.array(ring), closed=True).contains_points(centres)
    return (inside % 2 == 1).reshape(shape)


@given(PLANES)
@HYPOTHESIS
def test_others_find_each_cell_to_the_pixel(tmp_path: Path, labels: np.ndarray) -> None:
    path = tmp_path / "a.geojson"
    write_geojson(path, StoredAnnotation(Annotation(labels)))
    features = json.loads(path.read_text())["features"]
    assert len(features) == len(np.unique(labels[labels > 0]))
    for feature in features:
        i = int(feature["properties"]["metadata"]["napari_unet_label"])
        np.testing.assert_array_equal(
            _pixels_of(feature["geometry"], labels.shape), labels == i
        )


@given(PLANES | STACKS)
@HYPOTHESIS
def test_labels_come_back_pixel_by_pixel(tmp_path: Path, labels: np.ndarray) -> None:
    path = tmp_path / "a.geojson"
    write_geojson(path, StoredAnnotation(Annotation(labels)))
    for shape in (None, labels.shape):
        back = read_geojson(path, shape=shape).annotation
        np.testing.assert_array_equal(back.labels, labels)


@given(STACKS)
@HYPOTHESIS
def test_planes_and_cells_through_planes_survive_other_programs(
    tmp_path: Path, labels: np.ndarray
) -> None:
    path = tmp_path / "a.geojson"
    write_geojson(path, StoredAnnotation(Annotation(labels)))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content["features"]))
    back = read_geojson(path, shape=labels.shape).annotation
    np.testing.assert_array_equal(back.labels, labels)


def test_a_round_trip_loses_nothing(tmp_path: Path) -> None:
    labels = np.zeros((3, 40, 50), np.int32)
    labels[0][disk((12, 12), 8)] = labels[1][disk((12, 14), 6)] = 5
    labels[0, 10:13, 10:13] = 0
    labels[1, 36:, :4] = labels[1, 36:, 10:12] = 2**31 - 1
    labels[2, 0, 40:] = 8
    region = Region((1,), [(1.5, 1.0), (1.0, 48.0), (30.0, 20.0)])
    annotation = Annotation(
        labels,
        {5: 2, 2**31 - 1: 3, 8: 0},
        known=known_pixels(labels, [region], "background"),
        class_names=("nothing", "cell", "ドナー", "tissue"),
        class_colors=("#000000", "#ff0000", "#00ff7f", "#123456"),
        area_classes=frozenset({3}),
    )
    stored = StoredAnnotation(
        annotation, [region], "background", axes="TYX", pixel_size_um=(0.5, 0.25)
    )
    notes: list[str] = []
    write_geojson(tmp_path / "a.geojson", stored, notes=notes)
    back = read_geojson(tmp_path / "a.geojson", notes=notes)
    assert notes == [
        "a.geojson: GeoJSON has no place for 1 finished region, 1 painted background "
        "object and 1 area class (tissue): napari-unet reads that back, other "
        "programs don't see it"
    ]
    np.testing.assert_array_equal(back.annotation.labels, labels)
    np.testing.assert_array_equal(back.annotation.is_known, annotation.is_known)
    assert back.annotation.label_class == annotation.label_class
    assert back.annotation.class_names == annotation.class_names
    assert back.annotation.class_colors == annotation.class_colors
    assert back.annotation.area_classes == {3}
    assert [(r.plane, np.asarray(r.vertices).tolist()) for r in back.regions] == [
        ((1,), np.asarray(region.vertices).tolist())
    ]
    assert (back.unpainted, back.axes) == ("background", "TYX")
    assert back.pixel_size_um == (0.5, 0.25)


def test_a_feature_is_what_qupath_imports(tmp_path: Path) -> None:
    labels = np.zeros((2, 6, 7), np.int32)
    labels[1, 1:4, 2:6] = 3
    labels[1, 2, 3] = 0
    annotation = Annotation(
        labels, class_names=("background", "T"), class_colors=("#000000", "#c80102")
    )
    path = tmp_path / "a.geojson"
    write_geojson(path, StoredAnnotation(annotation, axes="ZYX"))
    (feature,) = json.loads(path.read_text())["features"]
    assert str(uuid.UUID(feature.pop("id")))
    assert feature == {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [
                [[2, 1], [6, 1], [6, 4], [2, 4], [2, 1]],
                [[3, 2], [3, 3], [4, 3], [4, 2], [3, 2]],
            ],
            "plane": {"c": -1, "z": 1, "t": 0},
        },
        "properties": {
            "objectType": "annotation",
            "metadata": {"napari_unet_label": "3"},
            "classification": {"name": "T", "color": [200, 1, 2]},
        },
    }


def test_the_same_annotation_gives_the_same_bytes_and_each_cell_its_id(
    tmp_path: Path,
) -> None:
    labels = np.zeros((3, 5, 6), np.int32)
    labels[:, 1:3, 1:3] = 1
    labels[:, 4:, 4:] = 2
    paths = [tmp_path / name for name in ("a.geojson", "b.geojson")]
    for path in paths:
        write_geojson(path, StoredAnnotation(Annotation(labels)))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    features = json.loads(paths[0].read_text())["features"]
    assert len({feature["id"] for feature in features}) == 6


def test_names_given_twice_are_kept_apart(tmp_path: Path) -> None:
    annotation = Annotation(
        np.array([[1, 2]]), {1: 1, 2: 2}, class_names=("background", "a", "a ")
    )
    write_geojson(tmp_path / "a.geojson", StoredAnnotation(annotation))
    back = read_geojson(tmp_path / "a.geojson").annotation
    assert back.class_names == ("background", "a", "a 2")
    assert back.label_class == {1: 1, 2: 2}


@pytest.mark.parametrize("as_", ["collection", "list", "feature"])
def test_a_collection_a_list_and_a_feature_are_read(tmp_path: Path, as_: str) -> None:
    feature = _feature(_rectangle(2, 1, 6, 4))
    path = _write(tmp_path, [feature] if as_ == "collection" else feature)
    if as_ == "list":
        path.write_text(json.dumps([feature]))
    labels = read_geojson(path, shape=(8, 10)).annotation.labels
    assert labels.tolist() == _painted((1, 2, 1, 6, 4))


def test_holes_stay_free_and_pieces_are_one_cell(tmp_path: Path) -> None:
    ring, hole = _rectangle(1, 1, 6, 6), _rectangle(2, 2, 4, 5)
    several = _feature()
    several["geometry"] = {
        "type": "MultiPolygon",
        "coordinates": [[ring, hole], [_rectangle(7, 0, 9, 2)]],
    }
    assert _labels(tmp_path, [several]) == _painted(
        (1, 1, 1, 6, 6), (0, 2, 2, 4, 5), (1, 7, 0, 9, 2)
    )


def test_pixels_belong_to_the_polygon_that_holds_their_centre(tmp_path: Path) -> None:
    # Columns 2 to 4 have their centres at 2.5, 3.5 and 4.5.
    feature = _feature(_rectangle(2.4, 1.6, 4.6, 4.4))
    assert _labels(tmp_path, [feature]) == _painted((1, 2, 2, 5, 4))


def test_classifications_become_classes_with_their_colours(tmp_path: Path) -> None:
    classifications = [
        {"name": "T\n\x1b[31m cell", "color": [200, 0, 1]},
        {"name": "B", "colorRGB": -3670016},
        {"names": ["Tumor", "CD8"]},
        "plain",
        None,
        {"name": "background"},
        {"name": "B"},
    ]
    features = [
        _feature(_rectangle(x, 0, x + 1, 4), classification=c)
        for x, c in enumerate(classifications)
    ]
    annotation = read_geojson(_write(tmp_path, features), shape=(8, 10)).annotation
    assert annotation.class_names == (
        "background", "T [31m cell", "B", "Tumor: CD8", "plain", "cell",
    )  # fmt: skip
    assert annotation.label_class == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 0, 7: 2}
    assert annotation.class_colors[:3] == ("#000000", "#c80001", "#c80000")


def test_detections_go_before_the_annotation_around_them(tmp_path: Path) -> None:
    features = [
        _feature(_rectangle(0, 0, 9, 7), objectType="annotation"),
        _feature(_rectangle(1, 1, 4, 4), objectType="cell"),
        _feature(_rectangle(3, 3, 6, 6), objectType="detection"),
    ]
    features[0]["properties"]["childObjects"] = [features.pop()]
    features[1]["nucleusGeometry"] = {"type": "Polygon", "coordinates": []}
    notes: list[str] = []
    path = _write(tmp_path, features)
    labels = read_geojson(path, shape=(8, 10), notes=notes).annotation.labels
    assert labels.tolist() == _painted(
        (1, 0, 0, 9, 7), (3, 3, 3, 6, 6), (2, 1, 1, 4, 4)
    )
    assert notes == [
        "cells.geojson: 1 object read by the outline of the cell, without the nucleus",
        "cells.geojson: 2 objects overlapped others in 18 pixels, which the first one "
        "kept",
    ]


def test_what_is_no_area_is_left_out_and_told(tmp_path: Path) -> None:
    others = [
        {"type": "Feature", "geometry": {"type": kind, "coordinates": []}}
        for kind in ("Point", "LineString", "Point", "x\n\x1b[0m" + "y" * 500)
    ]
    features = [
        *others,
        {"type": "Feature", "geometry": None},
        _feature(_rectangle(8, 6, 12, 9)),
        _feature(_rectangle(20, 20, 30, 30)),
        _feature(),
        _feature([]),
        _feature([[1, 1], [5, 5]]),
    ]
    notes: list[str] = []
    path = _write(tmp_path, features)
    labels = read_geojson(path, shape=(8, 10), notes=notes).annotation.labels
    assert labels.tolist() == _painted((1, 8, 6, 10, 8))
    assert notes[0].startswith("cells.geojson: 2 Point, 1 LineString, 1 x [0myy")
    assert notes[0].endswith("1 no geometry left out, because only areas are read")
    assert notes[0].isprintable()
    assert notes[1:] == [
        "cells.geojson: 2 objects cut off that reached beyond the image",
        "cells.geojson: 4 objects left out that covered no pixel",
    ]


def test_measurements_that_are_not_numbers_do_not_matter(tmp_path: Path) -> None:
    path = _write(tmp_path, [_feature(_rectangle(0, 0, 2, 2), measurements={"a": 1})])
    path.write_text(path.read_text().replace('"a": 1', '"a": NaN, "a": -Infinity'))
    assert read_geojson(path, shape=(8, 10)).annotation.labels.any()


def test_an_image_of_unknown_size_is_just_large_enough(tmp_path: Path) -> None:
    path = _write(tmp_path, [_feature(_rectangle(2, 1, 6, 4.2))])
    notes: list[str] = []
    assert read_geojson(path, notes=notes).annotation.labels.shape == (5, 6)
    assert "just large enough" in notes[0]
    assert read_geojson(_write(tmp_path, [])).annotation.labels.shape == (1, 1)


@pytest.mark.parametrize(
    ("planes", "shape"),
    [
        ([{"z": 2}], (3, 4, 4)),
        ([{"t": 1}], (2, 4, 4)),
        ([{"z": 2}, {"t": 1}], (2, 3, 4, 4)),
        ([{"z": -1, "t": "x"}, "?"], (4, 4)),
    ],
)
def test_planes_make_a_stack(tmp_path: Path, planes: Any, shape: Any) -> None:
    features = [_feature(_rectangle(0, 0, 4, 4), plane=plane) for plane in planes]
    path = _write(tmp_path, features)
    assert read_geojson(path).annotation.labels.shape == shape


def test_objects_go_to_their_plane(tmp_path: Path) -> None:
    def planes(
        shape: tuple[int, ...], *places: dict[str, int]
    ) -> tuple[Any, list[str]]:
        features = [_feature(_rectangle(0, 0, 2, 1), plane=place) for place in places]
        notes: list[str] = []
        stored = read_geojson(_write(tmp_path, features), shape=shape, notes=notes)
        return stored.annotation.labels[..., 0, 0].tolist(), notes

    note = ["cells.geojson: 1 object left out on planes that the image does not have"]
    assert planes((3, 2, 2), {"z": 2}, {"z": 0}) == ([2, 0, 1], [])
    assert planes((3, 2, 2), {"t": 2}, {"t": 0}) == ([2, 0, 1], [])
    assert planes((3, 2, 2), {"z": 3}, {"z": 1}) == ([0, 1, 0], note)
    assert planes((3, 2, 2), {"z": 1, "t": 1}, {"z": 1}) == ([0, 1, 0], note)
    assert planes((2, 3, 2, 2), {"z": 2, "t": 1}) == ([[0, 0, 0], [0, 0, 1]], [])
    # One plane of a stack, for which a single image is at hand.
    assert planes((2, 2), {"z": 4}) == (1, [])
    assert planes((2, 2), {"z": 4}, {"z": 0}) == (1, note)


@pytest.mark.parametrize(
    "content",
    [
        {},
        5,
        None,
        {"type": "FeatureCollection"},
        {"type": "FeatureCollection", "features": {}},
        {"type": "FeatureCollection", "features": [5]},
        {"type": "Polygon", "coordinates": []},
        {"images": [], "annotations": []},
    ],
)
def test_what_is_no_geojson_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(LabelError, match=r"cells\.geojson is not a GeoJSON annotation"):
        read_geojson(_write(tmp_path, content))


@pytest.mark.parametrize(
    ("coordinates", "why"),
    [
        (None, "no list of outlines"),
        (5, "no list of outlines"),
        ([5], "no list of outlines"),
        ([[[1, 2], [3]]], "no places"),
        ([[[1, 2], [3, "x"]]], "no places"),
        ([[[1, 2], [3, float("nan")]]], "no places"),
        ([[[1, 2], [3, 1e9]]], "no places"),
        ([[[1, 2], [3, {}]]], "no places"),
    ],
)
def test_an_object_that_can_be_none_is_refused(
    tmp_path: Path, coordinates: Any, why: str
) -> None:
    bad = _feature()
    bad["geometry"]["coordinates"] = coordinates
    path = _write(tmp_path, [_feature(), bad])
    with pytest.raises(LabelError, match=rf"object 2 in .*cells\.geojson has .*{why}"):
        read_geojson(path)


def test_pieces_that_are_no_list_are_refused(tmp_path: Path) -> None:
    bad = _feature()
    bad["geometry"] = {"type": "MultiPolygon", "coordinates": 5}
    with pytest.raises(LabelError, match="no list of outlines"):
        read_geojson(_write(tmp_path, [bad]))


def test_huge_images_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    far = _write(tmp_path, [_feature(_rectangle(0, 0, 1e7, 1e7))])
    with pytest.raises(ImageError, match=r"geojson claims images of 100,000,000"):
        read_geojson(far)
    with pytest.raises(ImageError, match="claims an image of 2,147,483,648 planes"):
        read_geojson(_write(tmp_path, [_feature(plane={"z": 2**31 - 1})]))
    wide = _write(tmp_path, [_feature(_rectangle(20_000, 20_000, 20_010, 20_010))])
    with pytest.raises(ImageError, match="without its image at most 268,435,456"):
        read_geojson(wide)
    own = {
        "type": "FeatureCollection",
        "features": [],
        "napari_unet": {"shape": [2**30, 9]},
    }
    with pytest.raises(ImageError, match="claims images"):
        read_geojson(_write(tmp_path, own))


def test_a_polygon_of_a_million_corners_is_refused(tmp_path: Path) -> None:
    wild = np.random.default_rng(0).uniform(0, 2048, (1_000_000, 2)).round(1)
    path = _write(tmp_path, [_feature(wild.tolist())])
    with pytest.raises(LabelError, match="1,000,000 corners, more than any cell"):
        read_geojson(path, shape=(2048, 2048))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"x\.geojson can't be read"):
        read_geojson(tmp_path / "x.geojson")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["type", "name", "names", "color", "z", "metadata"]),
                inner,
            )
        ),
        max_leaves=12,
    )
)
@HYPOTHESIS
def test_whatever_stands_in_the_file_is_read_or_refused(
    tmp_path: Path, value: Any
) -> None:
    ring = _rectangle(0, 0, 2, 2)
    geometry = _feature()
    geometry["geometry"] = value
    coordinates = _feature()
    coordinates["geometry"]["coordinates"] = value
    for content in (
        value,
        [geometry],
        [coordinates],
        [_feature(ring, plane=value)],
        [_feature(ring, classification=value, metadata=value, childObjects=value)],
        {"type": "FeatureCollection", "features": [], "napari_unet": value},
    ):
        path = _write(tmp_path, content)
        with contextlib.suppress(LabelError, ImageError):
            read_geojson(path)


def test_names_that_are_changed_are_said(tmp_path: Path) -> None:
    notes: list[str] = []
    names = ("background", "a\nb", "c" * 101)
    complete = Annotation([[1, 0]], class_names=names, known=np.ones((1, 2), bool))
    held = StoredAnnotation(complete, (), "background")
    write_geojson(tmp_path / "a.geojson", held, notes=notes)
    assert len(notes) == 1
    assert r"a.geojson: 2 class names were changed: 'a\nb' to 'a b', 'ccc" in notes[0]
