"""An annotation on disk: what was painted comes back, and what it means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_unet.errors import ConfigError, FolderError, LabelError, SaveError
from napari_unet.files.annotations import (
    Region,
    known_pixels,
    load_annotation,
    save_annotation,
)
from napari_unet.files.images import write_labels
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from pathlib import Path

_LABELS = np.zeros((20, 30), np.int32)
_LABELS[2:5, 2:5] = 7
_LABELS[10:12, 3:9] = 70_000
_SQUARE = Region((), [(1, 1), (1, 8), (9, 8), (9, 1)])


def _edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | changes), encoding="utf-8")


def test_everything_comes_back(tmp_path: Path) -> None:
    annotation = Annotation(
        _LABELS,
        {7: 2, 70_000: 0},
        known=known_pixels(_LABELS, [_SQUARE]),
        class_names=("background", "cell", "ドナー"),
    )
    save_annotation(tmp_path / "x.tif", annotation, [_SQUARE])
    stored = load_annotation(tmp_path / "x.tif")
    np.testing.assert_array_equal(stored.annotation.labels, _LABELS)
    np.testing.assert_array_equal(stored.annotation.is_known, annotation.is_known)
    assert stored.annotation.label_class == {7: 2, 70_000: 0}
    assert stored.annotation.class_names == annotation.class_names
    assert stored.annotation.source == str(tmp_path / "x.tif")
    assert [(r.plane, np.asarray(r.vertices).tolist()) for r in stored.regions] == [
        ((), np.asarray(_SQUARE.vertices).tolist())
    ]
    assert stored.unpainted == "unknown"
    assert stored.notes == ()


def test_the_pair_is_a_tif_and_a_json_of_one_stem(tmp_path: Path) -> None:
    save_annotation(tmp_path / "x.json", Annotation(_LABELS))
    save_annotation(tmp_path / "y.ome.tif", Annotation(_LABELS))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["x.json", "x.tif", "y.json", "y.ome.tif"]
    for name in ("x.json", "x.tif", "y.ome.tif"):
        assert load_annotation(tmp_path / name).unpainted == "unknown"


def test_the_class_of_every_painted_id_is_written(tmp_path: Path) -> None:
    save_annotation(tmp_path / "x.tif", Annotation(_LABELS, {7: 0, 9: 1}))
    content = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert content["label_class"] == {"7": 0, "9": 1, "70000": 1}


def test_saving_again_replaces_both(tmp_path: Path) -> None:
    save_annotation(tmp_path / "x.tif", Annotation(_LABELS), [_SQUARE])
    save_annotation(tmp_path / "x.tif", Annotation(_LABELS * 0), unpainted="background")
    stored = load_annotation(tmp_path / "x.tif")
    assert not stored.annotation.labels.any()
    assert (tuple(stored.regions), stored.unpainted) == ((), "background")
    assert stored.notes == ()


def test_a_tif_alone_loads_and_what_unpainted_means_is_left_to_ask(
    tmp_path: Path,
) -> None:
    write_labels(tmp_path / "x.tif", _LABELS)
    stored = load_annotation(tmp_path / "x.tif")
    assert stored.unpainted is None
    np.testing.assert_array_equal(stored.annotation.is_known, _LABELS > 0)
    assert stored.notes == ("x.tif came alone: say what unpainted pixels are",)


def test_a_torn_pair_loads_with_a_note(tmp_path: Path) -> None:
    save_annotation(tmp_path / "x.tif", Annotation(_LABELS), [_SQUARE])
    newer = _LABELS.copy()
    newer[15, 15] = 8
    write_labels(tmp_path / "x.tif", newer)
    stored = load_annotation(tmp_path / "x.tif")
    np.testing.assert_array_equal(stored.annotation.labels, newer)
    assert "written for another version of x.tif" in stored.notes[0]


class TestKnownPixels:
    @settings(derandomize=True, deadline=None, max_examples=50)
    @given(
        top=st.integers(-3, 20),
        left=st.integers(-3, 20),
        height=st.integers(1, 30),
        width=st.integers(1, 30),
    )
    def test_a_rectangle_between_pixel_centres_is_its_slice(
        self, top: int, left: int, height: int, width: int
    ) -> None:
        bottom, right = top + height - 0.5, left + width - 0.5
        y, x = top - 0.5, left - 0.5
        corners = [(y, x), (y, right), (bottom, right), (bottom, x)]
        expected = np.zeros((15, 17), bool)
        expected[
            max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)
        ] = True
        known = known_pixels(np.zeros((15, 17), np.int32), [Region((), corners)])
        np.testing.assert_array_equal(known, expected)

    def test_a_triangle_is_the_pixels_whose_centres_are_inside(self) -> None:
        triangle = Region((), [(-0.5, -0.5), (9.6, -0.5), (-0.5, 9.6)])
        rows, columns = np.indices((12, 12))
        known = known_pixels(np.zeros((12, 12), np.int32), [triangle])
        np.testing.assert_array_equal(known, rows + columns < 9.1)

    def test_a_region_counts_on_its_plane_alone(self) -> None:
        labels = np.zeros((3, 20, 30), np.int32)
        known = known_pixels(labels, [Region((1,), _SQUARE.vertices)])
        assert known[1].any()
        assert not known[[0, 2]].any()

    def test_background_holds_for_planes_that_were_looked_at(self) -> None:
        assert known_pixels(np.zeros((4, 5), np.int32), (), "background").all()
        labels = np.zeros((3, 4, 5), np.int32)
        labels[2, 1, 1] = 3
        known = known_pixels(labels, (), "background")
        assert known[2].all()
        assert not known[:2].any()

    @pytest.mark.parametrize("plane", [(), (3,), (-1,), (0, 0)])
    def test_a_region_on_no_plane_is_refused(self, plane: tuple[int, ...]) -> None:
        region = Region(plane, _SQUARE.vertices)
        with pytest.raises(LabelError, match="a finished region is on plane") as caught:
            known_pixels(np.zeros((3, 20, 30), np.int32), [region])
        assert caught.value.code == "NU-L02"


@pytest.mark.parametrize(
    ("vertices", "outline"),
    [
        ([(1, 1), (1, 8), (9, 8), (9, 1)], "rectangle"),
        ([(1, 1), (2, 8), (9, 8), (9, 1)], "polygon"),
        ([(0, 2), (2, 4), (4, 2), (2, 0)], "polygon"),
        ([(0, 0), (0, 1), (1, 1)], "polygon"),
    ],
)
def test_an_upright_rectangle_is_told_from_other_polygons(
    vertices: list[tuple[int, int]], outline: str
) -> None:
    assert Region((), vertices).outline == outline


@settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_any_stack_of_annotations_survives(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (3, 9, 11), np.int32) * rng.integers(0, 2)
    regions = [
        ((int(rng.integers(3)),), rng.uniform(-2, 12, (rng.integers(3, 7), 2)))
        for _ in range(rng.integers(0, 4))
    ]
    unpainted = str(rng.choice(["unknown", "background"]))
    annotation = Annotation(labels, {1: 0}, known_pixels(labels, regions, unpainted))  # type: ignore[arg-type]
    save_annotation(tmp_path / "x.tif", annotation, regions, unpainted)  # type: ignore[arg-type]
    stored = load_annotation(tmp_path / "x.tif")
    np.testing.assert_array_equal(stored.annotation.labels, labels)
    np.testing.assert_array_equal(stored.annotation.is_known, annotation.is_known)
    assert stored.unpainted == unpainted


class TestBadInput:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        save_annotation(tmp_path / "x.tif", Annotation(_LABELS), [_SQUARE])
        return tmp_path / "x.json"

    def test_a_missing_tif_is_named(self, path: Path) -> None:
        path.with_suffix(".tif").unlink()
        with pytest.raises(FolderError, match=r"there is no file .*x\.tif"):
            load_annotation(path)

    @pytest.mark.parametrize(
        ("changes", "where"),
        [
            ({"unpainted": "maybe"}, "unpainted"),
            ({"label_class": {"seven": 1}}, "label_class"),
            ({"label_class": {"7": -1}}, "label_class"),
            ({"class_names": []}, "class_names"),
            ({"more": 1}, "more"),
            ({"format": "other"}, "format"),
            ({"regions": [{"type": "star", "plane": [], "vertices": []}]}, "regions"),
            (
                {
                    "regions": [
                        {"type": "polygon", "plane": [], "vertices": [[1e300, 0]] * 3}
                    ]
                },
                "vertices",
            ),
        ],
    )
    def test_what_does_not_describe_an_annotation_says_where(
        self, path: Path, changes: dict[str, Any], where: str
    ) -> None:
        _edit(path, **changes)
        with pytest.raises(ConfigError, match=rf"x\.json does not describe .*{where}"):
            load_annotation(path)

    def test_a_newer_version_is_named_as_such(self, path: Path) -> None:
        _edit(path, version=2, novelty=True)
        with pytest.raises(ConfigError, match="written by a newer version") as caught:
            load_annotation(path)
        assert caught.value.code == "NU-C02"

    def test_a_region_on_no_plane_is_refused(self, path: Path) -> None:
        region = {"type": "polygon", "plane": [4], "vertices": [[0, 0], [0, 5], [5, 5]]}
        _edit(path, regions=[region])
        with pytest.raises(LabelError, match=r"plane \(4,\) but the labels have"):
            load_annotation(path)

    def test_a_class_without_a_name_is_refused(self, path: Path) -> None:
        _edit(path, label_class={"7": 5})
        with pytest.raises(LabelError, match="uses class 5"):
            load_annotation(path)

    @pytest.mark.parametrize("text", ["[]", "{}", '{"mine": 1}', "not JSON"])
    def test_a_json_of_something_else_is_not_overwritten(
        self, tmp_path: Path, text: str
    ) -> None:
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        with pytest.raises(SaveError, match="save under another name") as caught:
            save_annotation(tmp_path / "x.tif", Annotation(_LABELS))
        assert caught.value.code == "NU-S03"
        assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
        assert (tmp_path / "x.json").read_text(encoding="utf-8") == text

    @pytest.mark.parametrize(
        ("plane", "vertices", "message"),
        [
            ((), [(0, 0), (1, 1)], "fewer than 3 corners"),
            ((), [(0, 0), (1, 1), (float("nan"), 1)], "one that is no place"),
            ((2,), _SQUARE.vertices, r"is on plane \(2,\)"),
        ],
    )
    def test_a_region_that_could_not_be_loaded_is_refused_before_writing(
        self, tmp_path: Path, plane: tuple[int, ...], vertices: Any, message: str
    ) -> None:
        with pytest.raises(LabelError, match=message):
            save_annotation(
                tmp_path / "x.tif", Annotation(_LABELS), [Region(plane, vertices)]
            )
        assert not list(tmp_path.iterdir())


def test_colours_and_areas_come_back(tmp_path):
    annotation = Annotation(
        np.array([[1, 2, 3]]),
        label_class={2: 2},
        class_names=("background", "cell", "tissue"),
        class_colors=("#808080", "#ff0000", "#00ff00"),
        area_classes=frozenset({2}),
    )
    save_annotation(tmp_path / "a.tif", annotation)
    loaded = load_annotation(tmp_path / "a.tif").annotation
    assert loaded.class_colors == annotation.class_colors
    assert loaded.area_classes == {2}


def _one_slice_cases() -> list[Any]:
    return [
        ((1, 30, 40), "ZYX", [(0,)]),
        ((1, 30, 40), "TYX", [(0,)]),
        ((1, 30, 40), None, [(0,)]),
        ((3, 1, 30, 40), "TZYX", [(0, 0), (2, 0)]),
        ((1, 3, 30, 40), "TZYX", [(0, 2)]),
        ((1, 1, 30, 40), "TZYX", [(0, 0)]),
        ((2, 3, 30, 40), "ZTYX", [(1, 2)]),
        ((1, 30, 40), "ZYX", []),
    ]


class TestAxesOfLengthOne:
    @pytest.mark.parametrize(("shape", "axes", "planes"), _one_slice_cases())
    def test_shape_axes_regions_and_pixel_size_come_back(
        self, tmp_path: Path, shape: Any, axes: str | None, planes: list[Any]
    ) -> None:
        labels = np.zeros(shape, np.int32)
        labels[..., 3:5, 4] = np.arange(1, 1 + labels[..., 0, 0].size).reshape(
            *shape[:-2], 1
        )
        regions = [Region(plane, _SQUARE.vertices) for plane in planes]
        known = known_pixels(labels, regions)
        size = (2.0, 0.5, 0.25) if "Z" in (axes or "ZYX") else (0.5, 0.25)
        save_annotation(
            tmp_path / "x.tif",
            Annotation(labels, known=known),
            regions,
            axes=axes,
            pixel_size_um=size,
        )
        stored = load_annotation(tmp_path / "x.tif")
        np.testing.assert_array_equal(stored.annotation.labels, labels)
        np.testing.assert_array_equal(stored.annotation.is_known, known | (labels > 0))
        assert [region.plane for region in stored.regions] == planes
        default = {3: "ZYX", 4: "TZYX"}[len(shape)]
        assert (stored.axes, stored.pixel_size_um) == (axes or default, size)

    def test_a_file_that_names_no_shape_still_loads(self, tmp_path: Path) -> None:
        labels = np.zeros((3, 1, 30, 40), np.int32)
        regions = [Region((2, 0), _SQUARE.vertices)]
        save_annotation(tmp_path / "x.tif", Annotation(labels), regions)
        content = json.loads((tmp_path / "x.json").read_text("utf-8"))
        for key in ("shape", "axes", "pixel_size_um"):
            del content[key]
        (tmp_path / "x.json").write_text(json.dumps(content), encoding="utf-8")
        stored = load_annotation(tmp_path / "x.tif")
        assert stored.annotation.labels.shape == (3, 30, 40)
        assert [region.plane for region in stored.regions] == [(2,)]

    def test_a_tiff_of_another_size_keeps_its_own(self, tmp_path: Path) -> None:
        save_annotation(tmp_path / "x.tif", Annotation(np.zeros((1, 30, 40), int)))
        write_labels(tmp_path / "x.tif", _LABELS)
        stored = load_annotation(tmp_path / "x.tif")
        assert stored.annotation.labels.shape == _LABELS.shape
        assert stored.axes == "YX"
