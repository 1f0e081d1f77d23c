"""COCO: pycocotools reads what is written, and what others write is read safely."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from skimage.draw import disk

from napari_unet.errors import ConfigError, FolderError, ImageError, LabelError
from napari_unet.files import json_files
from napari_unet.files.annotations import Region, StoredAnnotation, known_pixels
from napari_unet.files.formats.coco import read_coco, write_coco
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from pathlib import Path

# pycocotools 2.0.11 has an array type of before NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")
HYPOTHESIS = settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LABELS = arrays(
    np.int32,
    array_shapes(min_dims=2, max_dims=2, max_side=10),
    elements=st.sampled_from([0, 1, 2, 9, 70_000]),
)
SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]  # x, y: columns 2 to 5, rows 1 to 3


def _cells() -> np.ndarray:
    labels = np.zeros((40, 50), np.int32)
    labels[disk((12, 12), 8)] = 5
    labels[10:13, 10:13] = 0  # a hole
    labels[disk((30, 40), 6)] = 70_000
    labels[36:, :4] = labels[36:, 10:12] = 6  # two pieces
    labels[0, 40:] = 8
    return labels


def _write(path: Path, objects: list[Any], **changes: Any) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.tif", "width": 10, "height": 8}],
        "annotations": [
            {"id": i, "image_id": 1} | one for i, one in enumerate(objects)
        ],
        "categories": [],
    }
    path = path / "cells.json"
    path.write_text(json.dumps(content | changes), encoding="utf-8")
    return path


def _read_one(path: Path, notes: list[str] | None = None) -> Annotation:
    return read_coco(path, notes=notes)["a.tif"].annotation


@given(LABELS)
@HYPOTHESIS
def test_pycocotools_finds_each_cell_to_the_pixel(
    tmp_path: Path, labels: np.ndarray
) -> None:
    path = tmp_path / "cells.json"
    write_coco(path, {"a.tif": StoredAnnotation(Annotation(labels))})
    coco = COCO(path)
    found = np.zeros_like(labels)
    for one in coco.loadAnns(coco.getAnnIds(imgIds=[1])):
        mask = coco.annToMask(one)
        expected = (labels == one["napari_unet"]["label"]).astype(np.uint8)
        rles = [coco_mask.encode(np.asfortranarray(m)) for m in (mask, expected)]
        assert coco_mask.iou(rles[:1], rles[1:], [0]).item() == 1.0
        assert one["area"] == coco_mask.area(rles[0]) == expected.sum()
        assert one["bbox"] == coco_mask.toBbox(rles[1]).tolist()
        assert one["iscrowd"] == 0
        found[mask.astype(bool)] = one["napari_unet"]["label"]
    np.testing.assert_array_equal(found, labels)


@given(LABELS)
@HYPOTHESIS
def test_what_pycocotools_compresses_is_read(
    tmp_path: Path, labels: np.ndarray
) -> None:
    objects = []
    for i in np.unique(labels[labels > 0]):
        rle = coco_mask.encode(np.asfortranarray(labels == i, np.uint8))
        rle["counts"] = rle["counts"].decode()
        objects.append({"segmentation": rle, "napari_unet": {"label": int(i)}})
    height, width = labels.shape
    image = {"id": 1, "file_name": "a.tif", "width": width, "height": height}
    path = _write(tmp_path, objects, images=[image])
    np.testing.assert_array_equal(_read_one(path).labels, labels)


def test_a_round_trip_loses_nothing(tmp_path: Path) -> None:
    labels = _cells()
    region = Region((), [(1.5, 1.0), (1.0, 48.0), (30.0, 20.0)])
    annotation = Annotation(
        labels,
        {5: 2, 70_000: 1, 6: 3, 8: 0},
        known=known_pixels(labels, [region]),
        class_names=("nothing", "cell", "ドナー", "tissue"),
        class_colors=("#000000", "#ff0000", "#00ff7f", "#123456"),
        area_classes=frozenset({3}),
    )
    stored = StoredAnnotation(
        annotation, [region], "unknown", axes="YX", pixel_size_um=(0.5, 0.25)
    )
    notes: list[str] = []
    write_coco(tmp_path / "a.json", {"x/a.tif": stored}, notes=notes)
    back = read_coco(tmp_path / "a.json", notes=notes)["x/a.tif"]
    assert notes == [
        "x/a.tif: COCO has no place for 1 finished region, 1 painted background "
        "object, 1 area class (tissue) and what is not painted being unknown: "
        "napari-unet reads that back, other programs don't see it"
    ]
    np.testing.assert_array_equal(back.annotation.labels, labels)
    np.testing.assert_array_equal(back.annotation.is_known, annotation.is_known)
    assert back.annotation.label_class == annotation.label_class
    assert back.annotation.class_names == annotation.class_names
    assert back.annotation.class_colors == annotation.class_colors
    assert back.annotation.area_classes == {3}
    assert [(r.plane, np.asarray(r.vertices).tolist()) for r in back.regions] == [
        ((), np.asarray(region.vertices).tolist())
    ]
    assert (back.unpainted, back.axes) == ("unknown", "YX")
    assert back.pixel_size_um == (0.5, 0.25)


def test_the_same_annotation_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write_coco(tmp_path / name, {"a": StoredAnnotation(Annotation(_cells()))})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_others_see_polygons_of_classes_without_our_members(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    annotation = Annotation(
        _cells(), {5: 2}, class_names=("background", "cell", "T"),
        class_colors=("#000000", "#010203", "#0405ff"),
    )  # fmt: skip
    write_coco(path, {"a.tif": StoredAnnotation(annotation)})
    content = json.loads(path.read_text(encoding="utf-8"))
    assert [(c["id"], c["name"], c["color"]) for c in content["categories"]] == [
        (1, "cell", [1, 2, 3]),
        (2, "T", [4, 5, 255]),
    ]
    for one in content["annotations"]:
        del one["napari_unet"]
    del content["napari_unet"]
    path.write_text(json.dumps(content), encoding="utf-8")
    back = read_coco(path)["a.tif"]
    for new, old in enumerate((5, 6, 8, 70_000), 1):
        expected = annotation.labels == old
        np.testing.assert_array_equal(back.annotation.labels == new, expected)
    assert back.annotation.label_class == {1: 2, 2: 1, 3: 1, 4: 1}
    assert back.annotation.class_colors == annotation.class_colors
    assert back.unpainted is None
    assert not back.annotation.is_known[20, 45]


def test_images_with_other_classes_share_the_categories(tmp_path: Path) -> None:
    one, two = np.zeros((2, 4, 5), np.int32)
    one[0, :2], one[2] = 1, 2
    two[1] = 1
    first = Annotation(one, {1: 1, 2: 2}, class_names=("background", "B", "T"))
    second = Annotation(
        two, {1: 1}, class_names=("none", "T"), class_colors=("#000000", "#ff0000"),
        area_classes=frozenset({1}),
    )  # fmt: skip
    path = tmp_path / "a.json"
    write_coco(path, {"a": StoredAnnotation(first), "b": StoredAnnotation(second)})
    back = {key: stored.annotation for key, stored in read_coco(path).items()}
    assert list(back) == ["a", "b"]
    assert back["a"].class_names == back["b"].class_names == ("background", "B", "T")
    assert back["a"].class_colors[2] == "#ff0000"
    assert back["a"].label_class == {1: 1, 2: 2}
    assert back["b"].label_class == {1: 2}
    assert (back["a"].area_classes, back["b"].area_classes) == (frozenset(), {2})
    np.testing.assert_array_equal(back["b"].labels, two)


def test_nothing_to_write_is_an_empty_file_that_reads(tmp_path: Path) -> None:
    write_coco(tmp_path / "a.json", {})
    assert read_coco(tmp_path / "a.json") == {}


def test_a_stack_is_refused(tmp_path: Path) -> None:
    stack = StoredAnnotation(Annotation(np.ones((2, 3, 4), int)))
    with pytest.raises(LabelError, match=r"a\.tif is a stack .*COCO holds single pla"):
        write_coco(tmp_path / "a.json", {"a.tif": stack})


def test_a_finished_region_that_is_none_is_refused(tmp_path: Path) -> None:
    stored = StoredAnnotation(Annotation(_cells()), [Region((), [(0, 0), (1, 1)])])
    with pytest.raises(LabelError, match="fewer than 3 corners"):
        write_coco(tmp_path / "a.json", {"a.tif": stored})


def test_a_name_outside_of_the_folder_is_not_written(tmp_path: Path) -> None:
    stored = StoredAnnotation(Annotation(_cells()))
    with pytest.raises(LabelError, match="escapes the image folder"):
        write_coco(tmp_path / "a.json", {"../a.tif": stored})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("segmentation", [[SQUARE], SQUARE])
def test_polygons_hold_the_pixels_inside(tmp_path: Path, segmentation: Any) -> None:
    labels = _read_one(_write(tmp_path, [{"segmentation": segmentation}])).labels
    expected = np.zeros((8, 10), int)
    expected[1:4, 2:6] = 1
    np.testing.assert_array_equal(labels, expected)


def test_parts_of_one_object_are_one_cell(tmp_path: Path) -> None:
    parts = [SQUARE, [5, 3, 9, 3, 9, 7, 5, 7], [1, 1]]
    labels = _read_one(_write(tmp_path, [{"segmentation": parts}])).labels
    expected = np.zeros((8, 10), int)
    expected[1:4, 2:6] = expected[3:7, 5:9] = 1
    np.testing.assert_array_equal(labels, expected)


def test_categories_become_classes_in_their_order(tmp_path: Path) -> None:
    categories = [
        {"id": 90, "name": "T\n\x1b[31mcell", "supercategory": "x", "color": "#ABCDEF"},
        {"id": "b", "name": "B" * 300},
        {"id": 10**30, "name": "Background"},
        {"id": 4, "name": "background"},
        {"id": 5},
    ]
    squares = [
        {"segmentation": [[x, 0, x + 1, 0, x + 1, 5, x, 5]], "category_id": k}
        for x, k in enumerate((90, "b", 10**30, 4, 5, 77, None))
    ]
    annotation = _read_one(_write(tmp_path, squares, categories=categories))
    assert annotation.class_names == (
        "background", "T [31mcell", "B" * 100, "Background", "category 5",
        "category 77", "cell",
    )  # fmt: skip
    assert annotation.label_class == {1: 1, 2: 2, 3: 3, 4: 0, 5: 4, 6: 5, 7: 6}
    assert annotation.class_colors[:2] == ("#000000", "#abcdef")
    assert len(annotation.class_colors) == 7


def test_what_is_no_cell_is_left_out_and_told(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        [
            {"segmentation": [SQUARE], "iscrowd": 1},
            {"bbox": [0, 0, 3, 3]},
            {"segmentation": []},
            {"segmentation": [SQUARE], "image_id": 7},
            {"segmentation": [[4, 2, 20, 2, 20, 5, 4, 5]]},
            {"segmentation": [[50, 50, 60, 50, 60, 60]]},
            {"segmentation": [[0.1, 0.1, 0.2, 0.1, 0.2, 0.2]]},
        ],
    )
    notes: list[str] = []
    labels = _read_one(path, notes).labels
    expected = np.zeros((8, 10), int)
    expected[2:5, 4:] = 2
    expected[1:4, 2:6] = 1
    np.testing.assert_array_equal(labels, expected)
    where = f"a.tif in {path}: "
    assert notes == [
        "cells.json: 1 object left out that belonged to no image in the file",
        "cells.json: 2 objects left out that had a box or nothing, but no shape",
        "cells.json: 1 object marked as a crowd, each of which was read as one cell",
        where + "1 object overlapped others in 4 pixels, which the first one kept",
        where + "2 objects cut off that reached beyond the image",
        where + "2 objects left out that covered no pixel",
    ]


def test_an_image_without_a_size_is_just_large_enough(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.tif"}
    notes: list[str] = []
    path = _write(tmp_path, [{"segmentation": [SQUARE]}], images=[image])
    assert _read_one(path, notes).labels.shape == (4, 6)
    assert "a.tif" in notes[0]
    assert "just large enough" in notes[0]
    rle = {"size": [5, 7], "counts": [3, 4]}
    path = _write(tmp_path, [{"segmentation": rle}], images=[image])
    assert _read_one(path).labels.shape == (5, 7)


def test_ids_given_twice_or_not_at_all_are_new_ones(tmp_path: Path) -> None:
    bars = [
        {"id": 1, "segmentation": [[0, y, 9, y, 9, y + 1, 0, y + 1]]} | own
        for y, own in enumerate(
            (
                {"napari_unet": {"label": 2}},
                {"napari_unet": {"label": 2}},
                {},
                {"napari_unet": {"label": -4}},
                {"napari_unet": {"label": True}},
                {"napari_unet": "?"},
            )
        )
    ]
    labels = _read_one(_write(tmp_path, bars)).labels
    assert labels[:6, 0].tolist() == [2, 1, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "content: "),
        ({"annotations": []}, "images: Field required"),
        ({"images": [{"id": 1}]}, r"images\.0\.file_name"),
        ({"images": [{"file_name": "a"}]}, r"images\.0\.id"),
        ({"images": [{"id": 1, "file_name": "a", "width": -3}]}, "width"),
        ({"images": [{"id": 1, "file_name": "a", "width": 2**40}]}, "width"),
        ({"images": [], "annotations": [{"id": 1}]}, r"annotations\.0\.image_id"),
    ],
)
def test_what_is_no_coco_file_is_refused(
    tmp_path: Path, content: Any, why: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(LabelError, match=rf"x\.json is not a COCO annotation .*{why}"):
        read_coco(path)


@pytest.mark.parametrize(("ids", "names"), [((1, 1), "ab"), ((1, 2), "aa")])
def test_an_image_that_is_there_twice_is_refused(
    tmp_path: Path, ids: tuple[int, int], names: str
) -> None:
    images = [{"id": i, "file_name": name} for i, name in zip(ids, names, strict=True)]
    with pytest.raises(LabelError, match=r"cells\.json has the image . or .* twice"):
        read_coco(_write(tmp_path, [], images=images))


@pytest.mark.parametrize("name", ["../a.tif", "C:/a.tif", "http://a/b"])
def test_an_image_outside_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path, [], images=[{"id": 1, "file_name": name}])
    with pytest.raises(LabelError, match=r"cells\.json names .*escapes the image fol"):
        read_coco(path)


@pytest.mark.parametrize(
    ("segmentation", "why"),
    [
        ("text", "neither polygons nor run lengths"),
        ({"counts": [3]}, "without the size"),
        ({"size": [8, 0], "counts": [3]}, "without the size"),
        ({"size": [8, 1.0], "counts": [3]}, "without the size"),
        ({"size": [10, 8], "counts": [3]}, "another size than its image's 8 x 10"),
        ({"size": [8, 10], "counts": [0, 81]}, "don't fit its image of 8 x 10"),
        ({"size": [8, 10]}, "no list of whole numbers"),
        ([[1, 2, 3]], "no places in an image"),
        ([[1, 2, float("nan"), 4, 5, 6]], "no places in an image"),
        ([[1, 2, 1e300, 4, 5, 6]], "no places in an image"),
        ([["a"] * 6], "no places in an image"),
        ([[[1, 2], 3]], "no places in an image"),
        ([[{}, {}]], "no places in an image"),
    ],
)
def test_an_object_that_can_be_none_is_refused(
    tmp_path: Path, segmentation: Any, why: str
) -> None:
    path = _write(tmp_path, [{"id": "cell 9", "segmentation": segmentation}])
    with pytest.raises(LabelError, match=rf"'cell 9' of a\.tif in .*\.json.*{why}"):
        read_coco(path)


def test_infinity_written_as_a_number_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, [{"segmentation": [SQUARE]}])
    path.write_text(path.read_text().replace("[2, 1,", "[1e999, 1,"))
    with pytest.raises(LabelError, match="no places in an image"):
        read_coco(path)


def test_huge_images_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    huge = {"id": 1, "file_name": "a.tif", "width": 10**9, "height": 10**9}
    many = [{**huge, "id": i, "file_name": f"{i}", "width": 1} for i in range(9)]
    without_size = [{"id": 1, "file_name": "a.tif"}]
    rle = {"size": [10**9] * 2, "counts": [5, 10**9]}
    polygon = [[0, 0, 1e7, 0, 1e7, 1e7]]
    for objects, images in (
        ([], [huge]),
        ([], many),
        ([{"segmentation": rle}], without_size),
        ([{"segmentation": polygon}], without_size),
    ):
        path = _write(tmp_path, objects, images=images)
        with pytest.raises(ImageError, match=r"cells\.json claims images of [\d,]+ p"):
            read_coco(path)


def test_objects_that_cover_the_image_again_and_again_are_refused(
    tmp_path: Path,
) -> None:
    everything = {"segmentation": {"size": [8, 10], "counts": [0, 80]}}
    _read_one(_write(tmp_path, [everything] * 8))
    with pytest.raises(LabelError, match="cover the image more than 8 times"):
        _read_one(_write(tmp_path, [everything] * 9))


def test_a_polygon_of_a_million_corners_is_refused_or_read_soon(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.tif", "width": 2048, "height": 2048}
    rng = np.random.default_rng(0)
    wild = rng.uniform(0, 2048, 2_000_000).round(1).tolist()
    path = _write(tmp_path, [{"segmentation": [wild]}], images=[image])
    with pytest.raises(LabelError, match="1,000,000 corners, more than any cell"):
        read_coco(path)


def test_damaged_members_of_ours_are_left_out_and_told(tmp_path: Path) -> None:
    for own in (
        {"images": {"1": {"regions": [[[], [[0, 0]]]]}}},
        {"images": {"1": {"class_colors": ["red"]}}},
        {"images": {"1": 5}},
    ):
        path = _write(tmp_path, [{"segmentation": [SQUARE]}], napari_unet=own)
        notes: list[str] = []
        assert _read_one(path, notes).labels.any()
        assert "a.tif: what napari-unet kept beside the cells is damaged" in notes[0]
    for own in ("?", {"images": []}, {"images": {}}):
        notes = []
        _read_one(_write(tmp_path, [], napari_unet=own), notes)
        assert notes == []


def test_members_that_do_not_fit_are_made_to_fit(tmp_path: Path) -> None:
    member = {
        "class_names": ["none", "a\x1b", "a"],
        "class_colors": ["#000000"],
        "area_classes": [2, 99],
        "regions": [[[3], [[0, 0], [0, 4], [4, 4]]]],
        "axes": "ZYX",
        "painted_background": [
            5,
            {},
            {"segmentation": [SQUARE], "napari_unet": {"label": 6}},
        ],
    }
    path = _write(tmp_path, [], napari_unet={"images": {"1": member}})
    notes: list[str] = []
    stored = read_coco(path, notes=notes)["a.tif"]
    assert stored.annotation.class_names == ("none", "a", "a 2")
    assert stored.annotation.class_colors == ()
    assert stored.annotation.area_classes == {2}
    assert stored.annotation.label_class == {6: 0}
    assert (stored.regions, stored.axes) == ((), "")
    assert "1 finished regions don't fit the image" in notes[0]


def test_files_that_are_not_json_or_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(FolderError, match=r"x\.json can't be read"):
        read_coco(path)
    path.write_text('{"images": [')
    with pytest.raises(LabelError, match=r"x\.json is no JSON file that can be read"):
        read_coco(path)
    monkeypatch.setattr(json_files, "_MAX_FOREIGN_BYTES", 10)
    with pytest.raises(ConfigError, match="has 12 bytes, but at most 10"):
        read_coco(path)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["size", "counts", "id", "label", "images"]), inner
            )
        ),
        max_leaves=12,
    )
)
@HYPOTHESIS
def test_whatever_stands_in_the_file_is_read_or_refused(
    tmp_path: Path, value: Any
) -> None:
    own = {"images": {"1": value}}
    for objects, changes in (
        ([{"segmentation": value}], {}),
        ([], {"categories": value}),
        ([], {"images": value}),
        ([{"segmentation": [SQUARE]}], {"napari_unet": own}),
    ):
        path = _write(tmp_path, objects, **changes)
        with contextlib.suppress(LabelError, ImageError):
            read_coco(path)


def test_what_is_said_of_several_images_is_said_once(tmp_path: Path) -> None:
    notes: list[str] = []
    annotation = Annotation([[1, 0]], class_names=("background", "T\tcell\n"))
    names = [f"{i}.tif" for i in range(1200)]
    several = dict.fromkeys(names, StoredAnnotation(annotation))
    write_coco(tmp_path / "a.json", several, notes=notes)
    assert notes == [
        "0.tif and 1,199 more: COCO has no place for what is not painted being "
        "unknown: napari-unet reads that back, other programs don't see it",
        r"a.json: 1 class name was changed: 'T\tcell\n' to 'T cell'",
    ]
    notes.clear()
    complete = StoredAnnotation(Annotation.complete([[1, 0]]), (), "background")
    write_coco(tmp_path / "a.json", {"a.tif": complete}, notes=notes)
    assert notes == []
