from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_unet.errors import LabelError
from napari_unet.imaging.pieces import (
    all_but_largest,
    cut_off,
    find_box,
    find_holes,
    ids_along,
    line_pixels,
)

label_images = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=8),
    elements=st.sampled_from([0, 0, 1, 1, 1, 1, 2, 3]),
)
lines = hnp.arrays(
    float,
    st.tuples(st.integers(1, 4), st.just(2)),
    elements=st.floats(-3, 12, width=16),
)


def straight_neighbours(place, shape):
    for axis, step in itertools.product(range(len(shape)), (-1, 1)):
        other = tuple(k + step * (a == axis) for a, k in enumerate(place))
        yield (
            other
            if all(0 <= k < n for k, n in zip(other, shape, strict=True))
            else None
        )


def brute_force_hole(labels, start):
    """Flood unpainted pixels from one of them; return the id around them, or 0."""
    seen, waiting, around = {start}, [start], set()
    while waiting:
        for other in straight_neighbours(waiting.pop(), labels.shape):
            if other is None:
                around.add("border")
            elif labels[other] != 0:
                around.add(int(labels[other]))
            elif other not in seen:
                seen.add(other)
                waiting.append(other)
    [first, *more] = around
    return 0 if more or first == "border" else first


@settings(max_examples=80, deadline=None, derandomize=True)
@given(label_images)
def test_holes_equal_brute_force(labels):
    if labels.all() or not labels.any():
        return
    regions, cells = find_holes(labels)
    for place in map(tuple, np.argwhere(labels == 0)):
        assert cells[regions[place]] == brute_force_hole(labels, place)
    assert (cells[regions[labels != 0]] == 0).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_images)
def test_holes_of_a_lone_cell_are_those_of_scipy(labels):
    cell = np.minimum(labels, 1)
    regions, cells = find_holes(cell)
    expected = ndimage.binary_fill_holes(cell) & (cell == 0)
    np.testing.assert_array_equal(cells[regions] == 1, expected)


def test_ignored_pixels_beside_it_make_a_region_no_hole():
    labels = np.ones((3, 4), int)
    labels[1, 1] = 0
    labels[1, 2] = -1
    assert not find_holes(labels)[1].any()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(label_images, st.integers(0, 3))
def test_a_box_holds_all_of_a_cell_and_no_more(labels, margin):
    for i in np.unique(labels[labels > 0]).tolist():
        box = find_box(labels, i)
        assert (labels[box] == i).sum() == (labels == i).sum()
        assert box == ndimage.find_objects(labels)[i - 1]
        wider = find_box(labels, i, margin=margin)
        for tight, wide, n in zip(box, wider, labels.shape, strict=True):
            assert wide.start == max(tight.start - margin, 0)
            assert wide.stop == min(tight.stop + margin, n)


@pytest.mark.parametrize("i", [5, 0, -1])
def test_a_box_of_a_cell_that_is_not_there_is_refused(i):
    labels = np.array([[0, 1], [-1, 1]])
    with pytest.raises(LabelError, match=f"no cell {i} here"):
        find_box(labels, i)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(lines)
def test_a_line_goes_from_pixel_to_pixel_across_sides(line):
    path = line_pixels(line)
    assert (np.abs(np.diff(path, axis=0)).sum(axis=1) <= 1).all()
    # From first to last vertex, through all others, and never farther than a pixel.
    np.testing.assert_array_equal(path[[0, -1]], np.floor(line[[0, -1]] + 0.5))
    passed = set(map(tuple, path))
    assert {tuple(np.floor(v + 0.5)) for v in line} <= passed
    dense = np.concatenate(
        [line[:1], *(np.linspace(a, b, 200) for a, b in itertools.pairwise(line))]
    )
    distance = np.abs(path[:, None] - dense[None]).max(axis=2).min(axis=1)
    assert distance.max() <= 1.1


def test_a_line_without_points_is_refused():
    for line in ([], [[1, 2, 3]], [1, 2], np.zeros((0, 2))):
        with pytest.raises(LabelError, match=r"no line of points \(y, x\)"):
            line_pixels(line)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_line_with_points_nowhere_is_refused(bad):
    with pytest.raises(LabelError, match="no line of points"):
        line_pixels([[0, 0], [bad, 1]])


def test_ids_along_a_path_come_in_its_order_and_once():
    labels = np.array([[4, 4, 0, 2, -1, 4]])
    path = np.array([[0, k] for k in range(-3, 9)])
    assert ids_along(labels, path) == (4, 2)
    assert ids_along(labels, path[::-1]) == (4, 2)
    assert ids_along(labels, path[:7]) == (4, 2)
    assert ids_along(labels, path[5:7]) == (2,)


def test_a_line_over_the_whole_cell_cuts_nothing_off():
    cell = np.ones((2, 3), bool)
    assert not cut_off(cell, np.argwhere(cell)).any()


def test_a_corner_does_not_let_a_cell_slip_through_the_line():
    cell = np.ones((20, 20), bool)
    off = cut_off(cell, line_pixels([[-1, -1], [20, 20]]))
    assert off.max() == 1
    assert off[0, 19] != off[19, 0]


def test_crumbs_are_no_parts_of_a_large_cell_but_are_of_a_small_one():
    large = np.ones((10, 20), bool)
    corner = np.array([[1, 0], [1, 1], [0, 1]])  # leaves 1 px beyond
    assert not cut_off(large, corner).any()
    small = np.ones((3, 3), bool)
    assert cut_off(small, corner).max() == 1


def test_a_part_of_five_pixels_is_no_crumb():
    cell = np.ones((5, 100), bool)
    assert cut_off(cell, line_pixels([[-1, 1], [5, 1]])).max() == 1
    cell[4, 0] = False
    assert cut_off(cell, line_pixels([[-1, 1], [5, 1]])).max() == 0


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.data())
def test_all_parts_are_numbered_but_the_largest_of_each_origin(pixels, data):
    parts = np.array(pixels)
    origin = np.array([0, *(data.draw(st.integers(1, 2)) for _ in range(6))])
    number = all_but_largest(parts, origin)
    sizes = {int(p): int((parts == p).sum()) for p in set(pixels) - {0}}
    kept = {
        max((p for p in sizes if origin[p] == o), key=lambda p: (sizes[p], -p))
        for o in {int(origin[p]) for p in sizes}
    }
    others = sorted(set(sizes) - kept, key=lambda p: (-sizes[p], p))
    expected = {p: k for k, p in enumerate(others, start=1)}
    assert number.tolist() == [expected.get(p, 0) for p in pixels]
