from __future__ import annotations

import io
import random
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import roifile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from napari_unet.errors import FolderError, ImageError, LabelError, UNetError
from napari_unet.files.annotations import Region, StoredAnnotation, known_pixels
from napari_unet.files.formats.imagej import read_imagej, write_imagej
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (40, 50)


def stored(labels: Any, axes: str = "", **more: Any) -> StoredAnnotation:
    return StoredAnnotation(Annotation(np.asarray(labels), **more), axes=axes)


def write_zip(path: Path, *rois: ImagejRoi | bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for i, roi in enumerate(rois):
            content = roi if isinstance(roi, bytes) else roi.tobytes()
            archive.writestr(f"{i:04}-0000.roi", content)
    return path


def rect(x: int, y: int, width: int, height: int, **more: Any) -> ImagejRoi:
    roi = ImagejRoi(roitype=ROI_TYPE.RECT, **more)
    roi.left, roi.top, roi.right, roi.bottom = x, y, x + width, y + height
    return roi


def polygon(*corners: tuple[float, float], **more: Any) -> ImagejRoi:
    """Return a polygon of (x, y) corners as ImageJ writes it."""
    roi = ImagejRoi(roitype=ROI_TYPE.POLYGON, n_coordinates=len(corners), **more)
    xy = np.array(corners)
    (roi.left, roi.top), (roi.right, roi.bottom) = (
        map(int, f(axis=0)) for f in (xy.min, xy.max)
    )
    roi.integer_coordinates = xy.astype(np.int32) - [roi.left, roi.top]
    if xy.dtype.kind == "f":
        roi.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        roi.subpixel_coordinates = xy.astype(np.float32)
    return roi


def composite(path: list[float]) -> ImagejRoi:
    roi = rect(0, 0, 9, 9)
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    return roi


def mask_of(tmp_path: Path, *rois: ImagejRoi | bytes) -> np.ndarray:
    path = write_zip(tmp_path / "set.zip", *rois)
    return read_imagej(path, shape=SHAPE).annotation.labels


def where(labels: np.ndarray, i: int = 1) -> set[tuple[int, int]]:
    return {(int(y), int(x)) for y, x in np.argwhere(labels == i)}


def shoelace(ring: np.ndarray) -> float:
    x, y = ring.astype(float).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


# Writing and reading back


@given(
    arrays(
        np.int32,
        st.tuples(st.integers(1, 12), st.integers(1, 12)),
        elements=st.integers(0, 4),
    )
)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_pixel_is_lost_on_the_way(tmp_path: Path, labels: np.ndarray) -> None:
    write_imagej(tmp_path / "a.zip", stored(labels))
    read = read_imagej(tmp_path / "a.zip", shape=labels.shape)
    np.testing.assert_array_equal(read.annotation.labels, labels)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 9, 8), "ZYX"), ((4, 9, 8), "TYX"), ((2, 3, 9, 8), "TZYX"), ((1, 9, 8), "")],
)
def test_a_stack_comes_back_plane_by_plane(
    tmp_path: Path, shape: tuple[int, ...], axes: str
) -> None:
    labels = np.random.default_rng(0).integers(0, 4, shape)
    labels[-1] *= labels[-1] == 3
    write_imagej(tmp_path / "a.zip", stored(labels, axes))
    notes: list[str] = []
    read = read_imagej(tmp_path / "a.zip", shape=shape, notes=notes)
    np.testing.assert_array_equal(read.annotation.labels, labels)
    assert not notes


def test_planes_are_where_imagej_looks_for_them(tmp_path: Path) -> None:
    labels = np.zeros((2, 3, 9, 9), int)
    labels[1, 2, 4, 4] = 7
    write_imagej(tmp_path / "a.zip", stored(labels, "TZYX"))
    (roi,) = roifile.roiread(tmp_path / "a.zip")
    assert (roi.position, roi.t_position, roi.z_position) == (0, 2, 3)
    assert roi.name == "7-t002-z003 cell"
    write_imagej(tmp_path / "a.zip", stored(labels[1], "ZYX"))
    (roi,) = roifile.roiread(tmp_path / "a.zip")
    assert (roi.position, roi.t_position, roi.z_position) == (3, 0, 0)
    assert roi.name == "7-z003 cell"


def test_another_reader_finds_the_same_areas(tmp_path: Path) -> None:
    labels = np.zeros((60, 70), int)
    labels[3:20, 4:30] = 1
    labels[8:11, 9:13] = 0  # a hole in 1
    labels[30:50, 30:60] = 2
    labels[40:50, 50:60] = 0  # 2 is an L
    labels[55, 60], labels[58, 66] = 3, 3  # two pieces
    write_imagej(tmp_path / "a.zip", stored(labels))
    rois = roifile.roiread(tmp_path / "a.zip")
    assert [roi.name for roi in rois] == ["1 cell", "2 cell", "3 cell"]
    kinds = [ROI_TYPE.RECT, ROI_TYPE.TRACED, ROI_TYPE.RECT]
    assert [roi.roitype for roi in rois] == kinds
    assert [roi.composite for roi in rois] == [True, False, True]
    for i, roi in enumerate(rois, 1):
        rows, columns = np.nonzero(labels == i)
        assert (roi.left, roi.top) == (columns.min(), rows.min())
        assert (roi.right, roi.bottom) == (columns.max() + 1, rows.max() + 1)
    ring, hole = rois[0].coordinates(multi=True)
    assert shoelace(ring) - shoelace(hole) == (labels == 1).sum()
    assert shoelace(rois[1].coordinates()) == (labels == 2).sum()
    assert len(rois[1].coordinates()) == 6
    assert sum(map(shoelace, rois[2].coordinates(multi=True))) == 2


def test_ids_classes_and_colours_come_back(tmp_path: Path) -> None:
    labels = np.arange(20).reshape(4, 5) * 1000
    annotation = Annotation(
        labels,
        {1000: 2, 2000: 2, 3000: 0, 4000: 3},
        class_names=("background", "cell", "mitosis-1", "dead 日本/\\x"),
        class_colors=("#808080", "#ff0000", "#00ff01", "#0000ff"),
    )
    write_imagej(tmp_path / "a.zip", StoredAnnotation(annotation))
    rois = {roi.name: roi for roi in roifile.roiread(tmp_path / "a.zip")}
    assert rois["1000 mitosis-1"].group == 2
    assert rois["1000 mitosis-1"].stroke_color == b"\xff\x00\xff\x01"
    read = read_imagej(tmp_path / "a.zip", shape=labels.shape).annotation
    np.testing.assert_array_equal(read.labels, labels)
    assert read.class_names == annotation.class_names
    assert read.class_colors == annotation.class_colors
    np.testing.assert_array_equal(read.class_map(), annotation.class_map())
    names = zipfile.ZipFile(tmp_path / "a.zip").namelist()
    assert "4000 dead 日本__x.roi" in names


def test_without_colours_there_are_none(tmp_path: Path) -> None:
    write_imagej(tmp_path / "a.zip", stored([[1, 2]]))
    read = read_imagej(tmp_path / "a.zip", shape=(1, 2))
    assert read.annotation.class_colors == ()
    assert read.unpainted is None


def test_a_name_beyond_16_bits_does_not_break_the_roi(tmp_path: Path) -> None:
    names = ("background", "cell \N{MICROSCOPE}")
    write_imagej(tmp_path / "a.zip", stored([[3]], class_names=names))
    read = read_imagej(tmp_path / "a.zip", shape=(1, 1)).annotation
    assert read.class_names == ("background", "cell ?")
    assert read.labels[0, 0] == 3


@pytest.mark.parametrize("n", [31_000, 33_000, 70_000])
def test_images_beyond_16_bits_come_back(tmp_path: Path, n: int) -> None:
    labels = np.zeros((3, n), int)
    labels[1, 5:-2] = 1
    labels[0, -9:-5] = 2
    write_imagej(tmp_path / "a.zip", stored(labels))
    read = read_imagej(tmp_path / "a.zip", shape=labels.shape)
    np.testing.assert_array_equal(read.annotation.labels, labels)


def test_a_cell_of_more_than_65535_corners_comes_back(tmp_path: Path) -> None:
    labels = np.zeros((1000, 200), int)  # a comb of combs
    labels[::4], labels[1::4, ::2], labels[:, 0] = 1, 1, 1
    write_imagej(tmp_path / "a.zip", stored(labels))
    (roi,) = roifile.roiread(tmp_path / "a.zip")
    assert roi.roitype == ROI_TYPE.TRACED
    assert roi.n_coordinates > 2**16
    read = read_imagej(tmp_path / "a.zip", shape=labels.shape)
    np.testing.assert_array_equal(read.annotation.labels, labels)


def test_an_empty_annotation_comes_back(tmp_path: Path) -> None:
    write_imagej(tmp_path / "a.zip", stored(np.zeros((3, 4), int)))
    read = read_imagej(tmp_path / "a.zip", shape=(3, 4))
    assert not read.annotation.labels.any()


def test_the_same_annotation_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_imagej(tmp_path / name, stored([[1, 2, 2]]))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_lost_is_said(tmp_path: Path) -> None:
    annotation = Annotation(
        [[1]], class_names=("background", "tissue"), area_classes=frozenset({1})
    )
    square = Region((), [(0, 0), (0, 1), (1, 1)])
    notes: list[str] = []
    write_imagej(
        tmp_path / "a.zip",
        StoredAnnotation(annotation, (square,), "background"),
        notes=notes,
    )
    assert "a.zip: ImageJ has no place for 1 finished region: left" in notes[0]
    assert "which classes are areas: tissue" in notes[1]
    write_imagej(tmp_path / "a.zip", stored([[1]]), notes=notes)
    assert len(notes) == 2


def test_too_many_outlines_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_unet.files.formats.imagej.MAX_ROIS", 3)
    with pytest.raises(LabelError, match=r"more than 3 outlines.*NU-L12"):
        write_imagej(tmp_path / "a.zip", stored([[1, 2, 3, 4]]))
    assert not (tmp_path / "a.zip").exists()


# Shapes of ImageJ


def test_a_rectangle_spans_from_corner_to_corner(tmp_path: Path) -> None:
    assert where(mask_of(tmp_path, rect(3, 5, 2, 1))) == {(5, 3), (5, 4)}


def test_a_rectangle_may_lie_between_pixels(tmp_path: Path) -> None:
    roi = rect(3, 5, 2, 2, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION)
    roi.xd, roi.yd, roi.widthd, roi.heightd = 3.4, 5.6, 2.2, 1.0
    assert where(mask_of(tmp_path, roi)) == {(6, 3), (6, 4), (6, 5)}


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (7, 7), (10, 10), (13, 4), (3, 24)])
def test_an_oval_holds_the_pixels_whose_centres_it_holds(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    width, height = size
    roi = rect(5, 6, width, height)
    roi.roitype = ROI_TYPE.OVAL
    y, x = np.mgrid[:40, :50] + 0.5
    inside = ((x - 5 - width / 2) / (width / 2)) ** 2 + (
        (y - 6 - height / 2) / (height / 2)
    ) ** 2 < 1
    np.testing.assert_array_equal(mask_of(tmp_path, roi) > 0, inside)


def test_an_oval_may_lie_between_pixels(tmp_path: Path) -> None:
    roi = rect(5, 6, 9, 9, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION)
    roi.roitype = ROI_TYPE.OVAL
    roi.xd, roi.yd, roi.widthd, roi.heightd = 5.3, 6.2, 8.6, 9.1
    y, x = np.mgrid[:40, :50] + 0.5
    inside = ((x - 9.6) / 4.3) ** 2 + ((y - 10.75) / 4.55) ** 2 < 1
    np.testing.assert_array_equal(mask_of(tmp_path, roi) > 0, inside)


def test_round_corners_are_cut(tmp_path: Path) -> None:
    labels = mask_of(tmp_path, rect(3, 4, 20, 10, rounded_rect_arc_size=8))
    y, x = np.mgrid[:40, :50] + 0.5
    dy = np.maximum(np.abs(y - 9) - 1, 0)
    dx = np.maximum(np.abs(x - 13) - 6, 0)
    np.testing.assert_array_equal(labels > 0, dx**2 + dy**2 < 16)


@pytest.mark.parametrize("kind", [ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED])
def test_integer_corners_are_corners_of_pixels(tmp_path: Path, kind: ROI_TYPE) -> None:
    roi = polygon((2, 3), (5, 3), (5, 4), (3, 4), (3, 6), (2, 6))
    roi.roitype = kind
    assert where(mask_of(tmp_path, roi)) == {(3, 2), (3, 3), (3, 4), (4, 2), (5, 2)}


def test_subpixel_corners_hold_the_centres_that_they_surround(tmp_path: Path) -> None:
    roi = polygon((2.4, 3.4), (4.6, 3.4), (4.6, 4.6), (2.6, 4.6))
    # Centres at 2.5: the left side runs from 2.4 at 3.4 to 2.6 at 4.6.
    pixels = {(3, 2), (3, 3), (3, 4), (4, 3), (4, 4)}
    assert where(mask_of(tmp_path, roi)) == pixels


def test_a_composite_has_holes_and_pieces(tmp_path: Path) -> None:
    ring = [0, 2, 2, 1, 6, 2, 1, 6, 6, 1, 2, 6, 4]
    hole = [0, 3, 3, 1, 4, 3, 1, 4, 4, 1, 3, 4, 4]
    piece = [0, 10, 10, 1, 11, 10, 1, 11, 11, 1, 10, 11, 1, 10, 10, 4]
    found = where(mask_of(tmp_path, composite([*ring, *hole, *piece])))
    square = {(y, x) for y in range(2, 6) for x in range(2, 6)}
    assert found == square - {(3, 3)} | {(10, 10)}


@pytest.mark.parametrize("step", [2, 3])
def test_curves_of_a_composite_are_followed(tmp_path: Path, step: int) -> None:
    # A circle of radius 10 around (20, 20) in four arcs; 0.5523 as in every program.
    k = 10 * (0.5523 if step == 3 else 1)
    path: list[float] = [0, 30, 20]
    for (x, y), (u, v) in [
        ((1, 0), (0, 1)), ((0, 1), (-1, 0)), ((-1, 0), (0, -1)), ((0, -1), (1, 0)),
    ]:  # fmt: skip
        first = [20 + 10 * x + k * u, 20 + 10 * y + k * v]
        second = [20 + 10 * u + k * x, 20 + 10 * v + k * y]
        end = [20 + 10 * u, 20 + 10 * v]
        path += [step, *first, *(second if step == 3 else []), *end]
    labels = mask_of(tmp_path, composite([*path, 4]))
    # Of four quadratic arcs: 4 * (r^2 / 2 + 2/3 of the triangle outside the chord).
    area = np.pi * 100 if step == 3 else 400 * (1 / 2 + 1 / 3)
    assert abs((labels > 0).sum() - area) < 8
    assert (labels > 0)[11:29, 20].all()


def test_points_lines_and_texts_are_left_out_with_a_note(tmp_path: Path) -> None:
    others = [
        ImagejRoi(roitype=ROI_TYPE.POINT, n_coordinates=0),
        ImagejRoi(roitype=ROI_TYPE.LINE, x1=1, x2=9),
        ImagejRoi(roitype=ROI_TYPE.NOROI),
        rect(1, 1, 9, 9, subtype=ROI_SUBTYPE.TEXT),
        *(polygon((1, 1), (9, 9), (1, 9)) for _ in range(3)),
    ]
    kinds = [ROI_TYPE.POLYLINE, ROI_TYPE.FREELINE, ROI_TYPE.ANGLE]
    for roi, kind in zip(others[-3:], kinds, strict=True):
        roi.roitype = kind
    path = write_zip(tmp_path / "a.zip", *others, rect(0, 0, 1, 1))
    notes: list[str] = []
    labels = read_imagej(path, shape=SHAPE, notes=notes).annotation.labels
    assert where(labels) == {(0, 0)}
    assert len(notes) == 1
    assert "7 ROIs without an area (points, lines, texts) were left out" in notes[0]


def test_a_single_roi_is_read(tmp_path: Path) -> None:
    path = tmp_path / "5 nucleus.roi"
    path.write_bytes(rect(3, 4, 2, 2).tobytes())
    annotation = read_imagej(path, shape=SHAPE).annotation
    assert where(annotation.labels, 5) == {(4, 3), (4, 4), (5, 3), (5, 4)}
    assert annotation.class_names == ("background", "nucleus")


# Names, groups, planes


def names_read(tmp_path: Path, *named: tuple[str, int]) -> list[tuple[int, str]]:
    rois = [rect(3 * i, 0, 2, 2, name=n, group=g) for i, (n, g) in enumerate(named)]
    annotation = read_imagej(write_zip(tmp_path / "a.zip", *rois), shape=SHAPE)
    labels, names = annotation.annotation.labels, annotation.annotation.class_names
    kinds = annotation.annotation.class_map()
    return [(int(labels[0, 3 * i]), names[kinds[0, 3 * i]]) for i in range(len(named))]


def test_names_give_ids_and_classes(tmp_path: Path) -> None:
    assert names_read(
        tmp_path,
        ("12 mitosis", 3),
        ("7", 0),
        ("9", 4),
        ("0001-0123-0456", 0),
        ("0123-0456", 2),
        ("mitosis", 0),
        ("mitosis-1", 0),
        ("F02-C1", 0),
        ("99999999999 x", 0),
        ("12 again", 0),
        ("0 zero", 0),
        ("5 background", 0),
    ) == [
        (12, "mitosis"),
        (7, "cell"),
        (9, "group 4"),
        (1, "cell"),
        (2, "group 2"),
        (3, "mitosis"),
        (4, "mitosis"),
        (6, "cell"),
        (8, "cell"),
        (10, "again"),
        (11, "zero"),
        (5, "background"),
    ]


def test_the_name_of_the_member_counts_where_the_roi_has_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("sub/../4 axon.ROI", rect(0, 0, 1, 1).tobytes())
        archive.writestr("sub/", b"")
        archive.writestr("__MACOSX/._4 axon.roi", b"\0\5\x16\7")
        archive.writestr("readme.txt", b"hello")
    notes: list[str] = []
    annotation = read_imagej(tmp_path / "a.zip", shape=SHAPE, notes=notes).annotation
    assert annotation.labels[0, 0] == 4
    assert annotation.class_names[1] == "axon"
    assert len(notes) == 1
    assert "1 of its files are no ROIs" in notes[0]


def test_a_name_for_each_cell_makes_no_class_of_each(tmp_path: Path) -> None:
    letters = "abcdefghijkl"
    rois = [rect(0, 0, 1, 1, name=f"{a}{b}") for a in letters for b in letters]
    notes: list[str] = []
    path = write_zip(tmp_path / "a.zip", *rois)
    annotation = read_imagej(path, shape=SHAPE, notes=notes).annotation
    assert annotation.class_names == ("background", "cell")
    assert "144 different names" in notes[0]


@pytest.mark.parametrize(
    ("where_it_is", "shape", "plane"),
    [
        ({"position": 2}, (3,), (1,)),
        ({"z_position": 3}, (3,), (2,)),
        ({"t_position": 2, "z_position": 1, "c_position": 2}, (3,), (1,)),
        ({"name": "0003-0040-0050"}, (3,), (2,)),
        ({"name": "0003-0040-0050-1"}, (3,), (2,)),
        ({"position": 5}, (2, 3), (1, 1)),
        ({"t_position": 2, "z_position": 3}, (2, 3), (1, 2)),
        ({"t_position": 2}, (2, 3), (1, 0)),
    ],
)
def test_the_plane_is_found(
    tmp_path: Path,
    where_it_is: dict[str, Any],
    shape: tuple[int, ...],
    plane: tuple[int, ...],
) -> None:
    path = write_zip(tmp_path / "a.zip", rect(1, 1, 1, 1, **where_it_is))
    labels = read_imagej(path, shape=(*shape, 4, 4)).annotation.labels
    assert [tuple(at) for at in np.argwhere(labels)] == [(*plane, 1, 1)]


def test_a_roi_on_no_plane_is_on_all_and_one_beyond_on_none(tmp_path: Path) -> None:
    rois = rect(0, 0, 1, 1), rect(1, 1, 1, 1, position=9), rect(2, 2, 1, 1, position=1)
    path = write_zip(tmp_path / "a.zip", *rois)
    notes: list[str] = []
    labels = read_imagej(path, shape=(3, 4, 4), notes=notes).annotation.labels
    assert np.argwhere(labels).tolist() == [[0, 0, 0], [0, 2, 2], [1, 0, 0], [2, 0, 0]]
    assert read_imagej(path, shape=(2, 2, 4, 4)).annotation.labels[:, :, 0, 0].all()
    assert "1 ROI is on planes that the image lacks" in notes[0]
    assert "1 ROI is on no particular plane and put on all" in notes[1]


@pytest.mark.parametrize(
    ("where_it_is", "stack"),
    [
        ({}, ()),
        ({"position": 1}, ()),
        ({"position": 4}, (4,)),
        ({"z_position": 4, "t_position": 1}, (4,)),
        ({"z_position": 4, "t_position": 3}, (3, 4)),
    ],
)
def test_without_a_shape_the_smallest_is_taken(
    tmp_path: Path, where_it_is: dict[str, int], stack: tuple[int, ...]
) -> None:
    path = write_zip(tmp_path / "a.zip", rect(3, 4, 2, 2, **where_it_is))
    notes: list[str] = []
    read = read_imagej(path, notes=notes)
    assert read.annotation.labels.shape == (*stack, 6, 5)
    assert (read.annotation.labels > 0).sum() == 4
    assert "has no image size" in notes[0]


def test_the_first_roi_keeps_what_two_cover(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", rect(0, 0, 4, 1), rect(2, 0, 60, 1))
    notes: list[str] = []
    labels = read_imagej(path, shape=SHAPE, notes=notes).annotation.labels
    assert labels[0, :6].tolist() == [1, 1, 1, 1, 2, 2]
    assert "in 2 pixels" in notes[0]
    assert "beyond the image" in notes[1]


# What can't be read


def refused(path: Path, why: str) -> None:
    with pytest.raises(LabelError, match=rf"{path.name} is not a sound.*{why}.*NU-L11"):
        read_imagej(path, shape=SHAPE)


def test_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="NU-F01"):
        read_imagej(tmp_path / "a.zip")
    with pytest.raises(FolderError, match="NU-F04"):
        read_imagej(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "neither"),
        (b"hello", "neither"),
        (b"Iout", "is damaged"),
        (b"PK\3\4 and no more", "damaged or cut"),
        (b"Iout" + bytes(2**24), "more than any ROI"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", why)


def zip_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_a_zip_without_rois_is_refused(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner.zip", ("1.roi", rect(0, 0, 1, 1).tobytes()))
    nested = zip_of(tmp_path / "a.zip", ("inner.zip", inner.read_bytes()))
    refused(nested, "no member's name ends in .roi")
    nested = zip_of(tmp_path / "a.zip", ("inner.roi", inner.read_bytes()))
    refused(nested, "'inner' is damaged")


def test_nothing_is_extracted(tmp_path: Path) -> None:
    roi = rect(0, 0, 1, 1).tobytes()
    names = ["../up.roi", "/abs.roi", "C:\\x.roi", "..\\x.roi", "a/../../x.roi"]
    names += [
        "NUL.roi",
        "nul\0x.roi",
        "same.roi",
        "same.roi",
        "SAME.roi",
        "\x1b[1m.roi",
    ]
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zip_of(folder / "a.zip", *((name, roi) for name in names))
    labels = read_imagej(path, shape=SHAPE).annotation.labels
    assert labels.sum() == 1
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.zip"]


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("1.roi", rect(0, 0, 1, 1).tobytes()))
    content = bytearray(path.read_bytes())
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(start) + flags] |= 1
    path.write_bytes(content)
    refused(path, "encrypted")


def test_bombs_are_refused_by_what_they_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zip_of(tmp_path / "a.zip", ("1.roi", bytes(11 * 2**20)))
    refused(path, "a ROI claims 11,534,336 bytes")
    path = zip_of(tmp_path / "a.zip", ("1.roi", bytes(2 * 2**20)))  # 1000 : 1
    refused(path, "a ROI claims 2,097,152 bytes")
    roi = rect(0, 0, 1, 1).tobytes()
    path = zip_of(tmp_path / "a.zip", *((f"{i}.roi", roi) for i in range(9)))
    assert read_imagej(path, shape=SHAPE).annotation.labels.any()
    for limit, least, why in [
        ("roi_zip._MAX_TOTAL_BYTES", 8 * len(roi), "its ROIs claim"),
        ("roi_zip._MAX_FILE_BYTES", 9, r"it has [\d,]+ bytes"),
        ("roi_zip.MAX_ROIS", 8, "it has 9 ROIs"),
        ("roi_zip.MAX_ROIS", 4, "more than 4 members"),
        ("imagej._MAX_CORNERS", 30, "more than 30 corners"),
        ("imagej._MAX_CROSSINGS", 10, "longer than those of any cells"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(f"napari_unet.files.formats.{limit}", least)
            refused(path, why)


def test_a_lying_size_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", ("1.roi", bytes(9 * 2**20)))
    content = bytearray(path.read_bytes())
    for start, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(start) + at, 100)
    path.write_bytes(content)
    refused(path, "damaged or cut off")


@pytest.mark.parametrize(
    "path",
    [
        [5, 1, 1],
        [0, 1],
        [0, 1, 1, 3, 1, 1, 1],
        [0, np.nan, 1, 1, 2, 2, 4],
        [0, 1e9, 1, 1, 2, 2, 4],
        [np.inf],
        [0.5, 1, 1],
    ],
)
def test_a_damaged_path_is_refused(tmp_path: Path, path: list[float]) -> None:
    refused(write_zip(tmp_path / "a.zip", composite(path)), "its ROI .* is damaged")


def test_boxes_that_are_no_places_are_refused(tmp_path: Path) -> None:
    roi = rect(1, 1, 2, 2, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION)
    roi.xd, roi.yd, roi.widthd, roi.heightd = 1, 1, np.nan, 2
    refused(write_zip(tmp_path / "a.zip", roi), "its ROI .* is damaged")
    empty = rect(3, 3, 0, 2), composite([4.0])
    labels = mask_of(tmp_path, *empty, rect(3, 3, 1, 1))
    assert (labels > 0).sum() == 1


def test_rois_that_would_need_a_huge_image_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", rect(30_000, 30_000, 10, 10))
    with pytest.raises(UNetError, match="NU-I03"):
        read_imagej(path)
    path = write_zip(tmp_path / "a.zip", rect(0, 0, 10, 10, position=2**31 - 1))
    with pytest.raises(UNetError, match="NU-I03"):
        read_imagej(path)


def test_points_alone_have_no_size(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", ImagejRoi(roitype=ROI_TYPE.NOROI))
    with pytest.raises(LabelError, match=r"no ROI with an area.*NU-L11"):
        read_imagej(path)


def samples() -> list[bytes]:
    labels = np.zeros((12, 14), np.int32)
    labels[2:9, 2:9] = 1
    labels[4, 4] = 0
    labels[10, 3:9] = 2
    buffer = io.BytesIO()
    rois = rect(1, 1, 5, 5, name="a"), polygon((1.5, 2.5), (7.5, 2.5), (4.0, 8.5))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, roi in enumerate(rois):
            archive.writestr(f"{i}.roi", roi.tobytes())
    return [buffer.getvalue(), *(roi.tobytes() for roi in rois)]


@pytest.mark.parametrize("i", range(3))
def test_damaged_files_give_labels_or_one_clear_error(tmp_path: Path, i: int) -> None:
    whole = samples()[i]
    rng = random.Random(i)
    path = tmp_path / "a.zip"
    cut = [whole[:n] for n in range(0, len(whole), 7)]
    for content in cut + [_flipped(whole, rng) for _ in range(700)]:
        path.write_bytes(content)
        message, labels = "", None
        try:
            labels = read_imagej(path, shape=SHAPE).annotation.labels
        except UNetError as error:
            message = error.message
        assert path.name in message if labels is None else labels.shape == SHAPE


def _flipped(whole: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(whole)
    for _ in range(rng.randrange(1, 4)):
        damaged[rng.randrange(len(whole))] ^= rng.randrange(1, 256)
    return bytes(damaged)


def test_what_is_unknown_is_not_lost_without_a_word(tmp_path: Path) -> None:
    notes: list[str] = []
    for unpainted, n_notes in (("background", 0), ("unknown", 1), (None, 1)):
        labels = np.zeros((2, 5, 5), np.int32)
        labels[0, 1, 1] = 1
        known = known_pixels(labels, (), unpainted)
        held = StoredAnnotation(Annotation(labels, known=known), (), unpainted)
        write_imagej(tmp_path / "a.zip", held, notes=notes)
        assert len(notes) == n_notes
        notes.clear()
    write_imagej(tmp_path / "a.zip", stored([[1, 0]]), notes=notes)
    assert "no place for what is not painted being unknown: say it" in notes[0]


def test_a_class_without_an_object_keeps_its_number(tmp_path: Path) -> None:
    annotation = Annotation(
        [[1, 2]], {1: 0, 2: 3}, class_names=("background", "Tumor", "cell", "Immune")
    )
    write_imagej(tmp_path / "a.zip", StoredAnnotation(annotation))
    read = read_imagej(tmp_path / "a.zip", shape=(1, 2)).annotation
    assert read.class_names == ("background", "class 1", "class 2", "Immune")
    assert dict(read.label_class) == {1: 0, 2: 3}


def test_groups_of_other_people_give_no_numbers(tmp_path: Path) -> None:
    rois = (
        rect(0, 0, 1, 1, name="1 Tumor", group=3),
        rect(1, 1, 1, 1, name="Immune", group=7),
    )
    read = read_imagej(write_zip(tmp_path / "a.zip", *rois), shape=(4, 4))
    assert read.annotation.class_names == ("background", "Tumor", "Immune")


def test_a_roi_far_away_in_time_takes_no_memory(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", rect(0, 0, 9, 9, t_position=3_670_016))
    with pytest.raises(ImageError, match="3,670,016 planes, but at most 100,000"):
        read_imagej(path)


def test_rois_on_all_planes_of_a_long_movie_are_read_soon(tmp_path: Path) -> None:
    rois = [rect(i % 50, i // 50, 1, 1) for i in range(200)]
    path = write_zip(tmp_path / "a.zip", *rois)
    labels = read_imagej(path, shape=(5000, 4, 50)).annotation.labels
    assert (labels == np.arange(1, 201).reshape(4, 50)).all()


def test_names_of_classes_stay_apart_and_changes_are_said(tmp_path: Path) -> None:
    names = ("background", "a\U0001f600", "a\U0001f601", " background")
    complete = Annotation(
        [[1, 2, 3]], {1: 1, 2: 2, 3: 3}, class_names=names, known=np.ones((1, 3), bool)
    )
    notes: list[str] = []
    held = StoredAnnotation(complete, (), "background")
    write_imagej(tmp_path / "a.zip", held, notes=notes)
    assert len(notes) == 1
    assert "a.zip: 3 class names were changed: " in notes[0]
    assert "to 'background 2'" in notes[0]
    read = read_imagej(tmp_path / "a.zip", shape=(1, 3)).annotation
    assert read.class_names == ("background", "a?", "a? 2", "background 2")
    assert read.class_map().tolist() == [[1, 2, 3]]
