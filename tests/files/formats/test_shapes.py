"""Shapes of other programs become labels, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_unet.errors import ImageError, LabelError
from napari_unet.files.formats import shapes as module
from napari_unet.files.formats.shapes import (
    Canvas,
    Classes,
    as_ring,
    check_pixels,
    clean_name,
    color_of,
    number,
)

SQUARE = np.array([(0.5, 0.5), (0.5, 3.5), (2.5, 3.5), (2.5, 0.5)])


@pytest.mark.parametrize("chunk", [1, 3, 2**22])
@pytest.mark.parametrize("by_column", [False, True])
def test_runs_are_painted_where_nothing_was(
    chunk: int, by_column: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    canvas = Canvas((4, 5), "a")
    first, second = np.array([[0, 7], [9, 10]]), np.array([[5, 11]])
    canvas.paint(3, first, by_column=by_column)
    canvas.paint(1, second, by_column=by_column)
    flat = np.zeros(20, int)
    flat[:7] = flat[9] = 3
    flat[[7, 8, 10]] = 1
    expected = flat.reshape((4, 5), order="F" if by_column else "C")
    np.testing.assert_array_equal(canvas.labels, expected)
    assert canvas.notes() == [
        "a: 1 object overlapped others in 3 pixels, which the first one kept"
    ]


def test_planes_of_a_stack_are_painted_by_themselves() -> None:
    canvas = Canvas((2, 3, 4, 5), "a")
    canvas.paint_polygons(7, [[SQUARE]], (1, 2))
    expected = np.zeros((2, 3, 4, 5), int)
    expected[1, 2, 1:3, 1:4] = 7
    np.testing.assert_array_equal(canvas.labels, expected)
    assert canvas.notes() == []


def test_what_is_no_polygon_is_left_out() -> None:
    canvas = Canvas((4, 5), "a")
    nothing = np.empty((0, 2))
    canvas.paint_polygons(1, [[], [nothing], [SQUARE[:2]]])
    canvas.paint_polygons(2, [[SQUARE, nothing]])
    assert np.unique(canvas.labels).tolist() == [0, 2]
    assert canvas.notes() == ["a: 1 object left out that covered no pixel"]


def test_a_polygon_of_too_many_edges_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_CROSSINGS", 3)
    with pytest.raises(LabelError, match="object 5 in a has 4 corners"):
        Canvas((4, 5), "a").paint_polygons(5, [[SQUARE]])


def test_classes_come_in_the_order_of_their_objects() -> None:
    classes = Classes()
    assert classes.names == ("background", "cell")
    assert classes.colors == ()
    assert [classes.index(n) for n in ("B", "T", "B", "background")] == [1, 2, 1, 0]
    classes.index("T", "#ff0000")
    classes.index("T", "#00ff00")
    assert classes.names == ("background", "B", "T")
    assert classes.colors == ("#000000", "#e69f00", "#ff0000")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("  T   cell ", "T cell"),
        ("a\nb\tc", "a b c"),
        ("\x1b[31mred\x07", "[31mred"),
        ("\u202eevil", "evil"),
        ("x" * 10**6, "x" * 100),
        (7, "7"),
        ("\x00\n", "cell"),
        (None, "cell"),
        ([], "cell"),
        ({"a": 1}, "cell"),
    ],
)
def test_names_are_one_short_line(value: Any, name: str) -> None:
    assert clean_name(value) == name


@pytest.mark.parametrize(
    ("value", "color"),
    [
        ([1, 2, 255], "#0102ff"),
        ([1, 2, 255, 9], "#0102ff"),
        (-1, "#ffffff"),
        (255, "#0000ff"),
        ("#ABCDEF", "#abcdef"),
        ([1, 2, 256], None),
        ([1.0, 2, 3], None),
        ([1, 2], None),
        (True, None),
        ("#abcdeg", None),
        ("#abc", None),
        (None, None),
    ],
)
def test_colours_are_understood_or_none(value: Any, color: str | None) -> None:
    assert color_of(value) == color


def test_rings_are_pairs_of_numbers() -> None:
    expected = [[1, 2], [3, 4]]
    assert as_ring([1, 2, 3, 4], "a").tolist() == expected
    assert as_ring([[1, 2, 9], [3, 4, 9]], "a").tolist() == expected
    assert as_ring([], "a").shape == (0, 2)


@pytest.mark.parametrize(
    "vertices",
    [
        [1, 2, 3],
        [[1], [2]],
        [[1, 2], [3]],
        [[1, None]],
        [[1, float("nan")]],
        [[1, float("inf")]],
        [[1, 1e8]],
        ["a", "b"],
        {"a": 1},
        [[[1, 2]]],
        [10**400, 1],
    ],
)
def test_what_is_no_ring_is_refused(vertices: Any) -> None:
    with pytest.raises(LabelError, match="cell 3 has corners that are no places"):
        as_ring(vertices, "cell 3")


def test_wanted_ids_are_given_once_a_plane() -> None:
    wanted = [2, None, 2, 0, -1, 2**31, 2**31 - 1, True, "3", 2]
    planes = [(0,)] * 9 + [(1,)]
    assert number(wanted, planes) == [2, 1, 3, 4, 5, 6, 2**31 - 1, 7, 8, 2]


def test_too_many_pixels_are_refused() -> None:
    check_pixels("a", (2**15, 2**14))
    with pytest.raises(ImageError, match="a claims images of 536,870,913 pixels"):
        check_pixels("a", (2**15, 2**14), (1, 1))


@pytest.mark.parametrize("shift", [(2, 0), (0, 2), (-2, 0), (0, -2)])
def test_an_object_beyond_any_edge_is_told(shift: tuple[int, int]) -> None:
    canvas = Canvas((4, 5), "a")
    canvas.paint_polygons(1, [[SQUARE]])
    assert canvas.notes() == []
    canvas.paint_polygons(1, [[SQUARE + shift]])
    assert canvas.notes() == ["a: 1 object cut off that reached beyond the image"]


def test_parts_of_one_object_do_not_overlap_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1)
    canvas = Canvas((4, 5), "a")
    canvas.paint_polygons(1, [[SQUARE], [SQUARE]])
    assert canvas.notes() == []


@pytest.mark.parametrize("by_column", [False, True])
def test_large_objects_are_painted_as_small_ones_are(by_column: bool) -> None:
    shape = (40, 50)
    runs = [np.array([[0, 1500]]), np.array([[700, 2000]]), np.array([[5, 1999]])]
    canvas = Canvas(shape, "a")
    expected = np.zeros(2000, int)
    n_overlap = 0
    for i, run in zip((1, 2, 1), runs, strict=True):
        canvas.paint(i, run, by_column=by_column)
        part = expected[slice(*run[0])]
        n_overlap += np.count_nonzero((part != 0) & (part != i))
        part[part == 0] = i
    order: Any = "F" if by_column else "C"
    np.testing.assert_array_equal(canvas.labels, expected.reshape(shape, order=order))
    assert f"overlapped others in {n_overlap:,} pixels" in canvas.notes()[0]


def test_the_first_plane_of_a_stack_alone_is_not_all_planes() -> None:
    canvas = Canvas((3, 4, 5), "a")
    canvas.paint(1, np.array([[0, 2]]), (0,))
    canvas.paint(2, np.array([[1, 3]]))
    assert canvas.labels[0, 0].tolist() == [1, 1, 2, 0, 0]
    assert canvas.labels[1:, 0].tolist() == [[0, 2, 2, 0, 0]] * 2
    assert "1 object overlapped others in 1 pixels" in canvas.notes()[0]


def test_more_planes_than_any_stack_has_are_refused() -> None:
    check_pixels("a", (100_000, 1, 1), (1, 1))
    with pytest.raises(ImageError, match="claims an image of 100,001 planes"):
        check_pixels("a", (5, 5), (100_001, 1, 1))
