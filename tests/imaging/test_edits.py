from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.draw import disk
from skimage.measure import label
from skimage.morphology import dilation

from napari_unet.errors import LabelError
from napari_unet.imaging.edits import (
    cells_under,
    delete_cell,
    fill_holes,
    grow_cell,
    merge_cells,
    shrink_cell,
    split_cells,
    split_pieces,
)
from napari_unet.imaging.pieces import line_pixels

planes = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.sampled_from([0, 1, 1, 1, 1, 1, 2, 2, 9]),
)
fields = planes | hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
    elements=st.sampled_from([0, 0, 1, 1, 1, 2]),
)
lines = hnp.arrays(
    float,
    st.tuples(st.integers(1, 4), st.just(2)),
    elements=st.floats(-3, 14, width=16),
)
NEW = 100


@st.composite
def crossing_lines(draw):
    """Draw lines from one side of the plane to the other, by way of anywhere."""
    anywhere = st.tuples(*[st.floats(-1, 12, width=16)] * 2)
    ends = [(draw(st.floats(-1, 12, width=16)), x) for x in (-1.0, 13.0)]
    line = np.array([ends[0], *draw(st.lists(anywhere, max_size=3)), ends[1]])
    return line[:, ::-1] if draw(st.booleans()) else line


@st.composite
def cells_of_some_size(draw):
    """Draw cells of blocks of pixels, so that lines have something to cut."""
    blocks = draw(
        hnp.arrays(
            np.int32,
            st.tuples(*[st.integers(1, 4)] * 2),
            elements=st.sampled_from([0, 1, 1, 2, 9]),
        )
    )
    labels = np.kron(blocks, np.ones((3, 3), np.int32))
    labels[draw(hnp.arrays(bool, labels.shape))] = 0
    return labels if draw(st.booleans()) else np.kron(blocks, np.ones((3, 3), np.int32))


def n_pieces(mask):
    return label(mask, connectivity=mask.ndim).max()


def two_discs():
    """Two cells of radius 20 that overlap, so that they were painted as one."""
    labels = np.zeros((60, 100), np.int32)
    labels[disk((30, 30), 20)] = 7
    labels[disk((30, 65), 20)] = 7
    return labels


def try_split(labels, line, **how):
    try:
        return split_cells(labels, line, NEW, **how)
    except LabelError:
        return None


# --- an edit -----------------------------------------------------------------------


def test_an_edit_leaves_the_labels_alone():
    labels = two_discs()
    before = labels.copy()
    edit = delete_cell(labels, 7)
    edit.applied_to(labels)
    np.testing.assert_array_equal(labels, before)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(fields)
def test_an_edit_names_each_pixel_that_changes_once_and_no_other(labels):
    assume((labels == 1).any())
    edits = [delete_cell(labels, 1), fill_holes(labels)]
    if (labels == 2).any():
        edits.append(merge_cells(labels, [2, 1]))
    for edit in edits:
        assert edit.values.dtype == np.int32
        assert len(edit.indices) == labels.ndim
        places = np.stack(edit.indices, axis=1)
        assert len(np.unique(places, axis=0)) == len(places)
        assert (labels[edit.indices] != edit.values).all()
        assert edit.parents == {}


# --- split -------------------------------------------------------------------------


def test_a_line_between_two_discs_splits_them():
    labels = two_discs()
    edit = split_cells(labels, [[5, 47.5], [55, 47.5]], NEW)
    split = edit.applied_to(labels)
    np.testing.assert_array_equal(split > 0, labels > 0)
    assert set(np.unique(split)) == {0, 7, NEW}
    assert split[30, 30] != split[30, 65]
    assert edit.parents == {NEW: 7}
    assert abs((split == 7).sum() - (split == NEW).sum()) <= 30


def test_the_largest_piece_keeps_the_id_and_others_are_numbered_by_size():
    labels = np.full((5, 30), 3)
    edit = split_cells(labels, [[-1, 20], [9, 20], [9, 26], [-1, 26]], NEW)
    split = edit.applied_to(labels)
    assert split[2, [5, 23, 28]].tolist() == [3, NEW, NEW + 1]
    assert edit.parents == {NEW: 3, NEW + 1: 3}


def test_several_cells_are_split_by_one_line_in_its_order():
    labels = np.zeros((10, 30), int)
    labels[:, 2:10], labels[:, 12:20], labels[:, 22:28] = 5, 2, 8
    line = [[4.2, 29], [4.9, -2]]
    edit = split_cells(labels, line, NEW)
    assert edit.parents == {NEW: 8, NEW + 1: 2, NEW + 2: 5}
    assert split_cells(labels, line, NEW, ids={2, 99}).parents == {NEW: 2}


def test_a_cell_that_the_line_only_touches_stays_whole():
    labels = np.zeros((9, 20), int)
    labels[:, :8], labels[:, 10:] = 1, 2
    edit = split_cells(labels, [[4, -1], [4, 15]], NEW)
    assert edit.parents == {NEW: 1}


def test_a_piece_that_the_line_does_not_meet_is_not_split_off():
    labels = np.zeros((9, 20), int)
    labels[:, :8] = labels[:, 10:] = 1
    touch = [[4, 3], [4, 15]]
    with pytest.raises(LabelError, match="does not cut cell 1 in two"):
        split_cells(labels, touch, NEW)
    split = split_cells(labels, [[-1, 2], [9, 2]], NEW).applied_to(labels)
    assert (split[:, 10:] == 1).all()
    assert (split == NEW).any()


def test_a_closed_line_cuts_out_what_it_encloses():
    labels = np.full((30, 30), 4)
    ring = [[8, 8], [8, 20], [20, 20], [20, 8], [8, 8]]
    split = split_cells(labels, ring, NEW).applied_to(labels)
    assert (split[9:20, 9:20] == NEW).all()
    assert split[0, 0] == 4


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ([[0, 0], [3, 0]], "the line meets no cell: draw it from one side"),
        ([[30, 30], [34, 30]], "does not cut cell 7 in two: draw it from one side"),
        ([[30, 30]], "does not cut cell 7 in two"),
        ([[-50, 0], [-50, 99]], "the line meets no cell"),
    ],
)
def test_a_line_that_cuts_nothing_is_refused(line, sentence):
    with pytest.raises(LabelError, match=sentence):
        split_cells(two_discs(), line, NEW)


def test_a_line_that_ends_in_all_its_cells_names_them():
    labels = np.repeat([[1] * 8 + [2] * 8], 8, axis=0)
    with pytest.raises(LabelError, match="does not cut any of the cells 1, 2 in two"):
        split_cells(labels, [[4, 4], [4, 12]], NEW)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cells_of_some_size(), crossing_lines())
def test_a_split_loses_no_pixel_and_gives_whole_pieces(labels, line):
    edit = try_split(labels, line)
    assume(edit is not None)
    split = edit.applied_to(labels)
    np.testing.assert_array_equal(split > 0, labels > 0)
    assert sorted(edit.parents) == list(range(NEW, NEW + len(edit.parents)))
    assert set(np.unique(edit.values)) == set(edit.parents)
    for new, parent in edit.parents.items():
        assert (labels[split == new] == parent).all()
        assert n_pieces(split == new) == 1
    for i in set(np.unique(labels)) - set(edit.parents.values()):
        np.testing.assert_array_equal(split == i, labels == i)
    for i in set(edit.parents.values()):
        assert n_pieces(split == i) == n_pieces(labels == i)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(planes | cells_of_some_size(), lines | crossing_lines())
def test_a_cell_is_split_exactly_where_a_piece_falls_apart(labels, line):
    edit = try_split(labels, line)
    path = line_pixels(line)
    on_line = np.zeros(labels.shape, bool)
    for y, x in path:
        if 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]:
            on_line[y, x] = True
    expected = {}
    for i in np.unique(labels[labels > 0]).tolist():
        before = label(labels == i, connectivity=2)
        for piece in range(1, before.max() + 1):
            part = before == piece
            after = label(part & ~on_line, connectivity=2)
            sizes = np.bincount(after.ravel())[1:]
            n_parts = int((sizes >= min(5, part.sum() / 20)).sum())
            if n_parts > 1:
                expected[i] = expected.get(i, 0) + n_parts - 1
    found = list(edit.parents.values()) if edit else []
    assert {i: found.count(i) for i in set(found)} == expected


def steps_inside(cell, start):
    """Return the number of 8-neighbour steps inside a cell from a mask."""
    far = np.full(cell.shape, np.inf)
    far[start] = 0
    waiting = deque(map(tuple, np.argwhere(start)))
    while waiting:
        y, x = waiting.popleft()
        for other in np.ndindex(3, 3):
            at = (y + other[0] - 1, x + other[1] - 1)
            is_inside = all(0 <= k < n for k, n in zip(at, cell.shape, strict=True))
            if is_inside and cell[at] and far[at] > far[y, x] + 1:
                far[at] = far[y, x] + 1
                waiting.append(at)
    return far


@settings(max_examples=60, deadline=None, derandomize=True)
@given(crossing_lines())
def test_pixels_under_the_line_go_to_the_nearest_piece(line):
    labels = np.zeros((12, 12), int)
    labels[disk((6, 6), 5.5)] = 1
    labels[3:9, 0:5] = 0
    edit = try_split(labels, line)
    assume(edit is not None)
    split = edit.applied_to(labels)
    on_line = np.zeros(labels.shape, bool)
    path = line_pixels(line)
    inside = ((path >= 0) & (path < 12)).all(axis=1)
    on_line[tuple(path[inside].T)] = True
    sizes = np.bincount(label((labels > 0) & ~on_line, connectivity=2).ravel())
    assume(sizes.min() >= 5)  # no crumbs
    ids = [1, *edit.parents]
    far = [steps_inside(labels > 0, (split == i) & ~on_line) for i in ids]
    for at in map(tuple, np.argwhere(on_line & (labels > 0))):
        own = far[ids.index(split[at])][at]
        assert own == min(distance[at] for distance in far)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cells_of_some_size(), crossing_lines())
def test_split_and_merged_again_the_labels_are_as_before(labels, line):
    edit = try_split(labels, line)
    assume(edit is not None)
    split = edit.applied_to(labels)
    for parent in set(edit.parents.values()):
        parts = [new for new, old in edit.parents.items() if old == parent]
        split = merge_cells(split, [parent, *parts]).applied_to(split)
    np.testing.assert_array_equal(split, labels)


def test_cells_under_a_line_and_under_a_point():
    labels = two_discs()
    labels[:, 80:] = 3
    assert cells_under(labels, [[30, 99], [30, 0]]) == (3, 7)
    assert cells_under(labels, [[30.4, 29.6]]) == (7,)
    assert cells_under(labels, [[0, 0]]) == ()


# --- merge, delete -----------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(fields, st.permutations([1, 2, 9]))
def test_merged_cells_have_the_first_id(labels, order):
    ids = [i for i in order if (labels == i).any()]
    assume(len(ids) > 1)
    merged = merge_cells(labels, ids).applied_to(labels)
    np.testing.assert_array_equal(merged, np.where(labels > 0, ids[0], labels))


@pytest.mark.parametrize("ids", [[], [7], [7, 7]])
def test_merging_one_cell_is_refused(ids):
    with pytest.raises(LabelError, match="choose two or more"):
        merge_cells(two_discs(), ids)


def test_merging_or_deleting_a_cell_that_is_not_there_is_refused():
    with pytest.raises(LabelError, match="no cell 8 here"):
        merge_cells(two_discs(), [7, 8])
    with pytest.raises(LabelError, match="no cell 8 here"):
        delete_cell(two_discs(), 8)
    with pytest.raises(LabelError, match="no cell 0 here"):
        delete_cell(two_discs(), 0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(fields)
def test_a_deleted_cell_is_gone_and_all_else_stays(labels):
    assume((labels == 1).any())
    deleted = delete_cell(labels, 1).applied_to(labels)
    np.testing.assert_array_equal(deleted, np.where(labels == 1, 0, labels))


# --- holes -------------------------------------------------------------------------


@settings(max_examples=80, deadline=None, derandomize=True)
@given(fields)
def test_filling_leaves_no_hole_and_changes_nothing_painted(labels):
    filled = fill_holes(labels).applied_to(labels)
    assert (filled[labels > 0] == labels[labels > 0]).all()
    assert fill_holes(filled).values.size == 0
    for i in np.unique(labels[labels > 0]):
        gained = (filled == i) & (labels == 0)
        assert not (gained & ~ndimage.binary_fill_holes(labels == i)).any()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(fields)
def test_filling_a_lone_cell_equals_scipy(labels):
    cell = (labels > 0) * np.int32(4)
    expected = ndimage.binary_fill_holes(cell) * 4
    np.testing.assert_array_equal(fill_holes(cell).applied_to(cell), expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(fields)
def test_filling_chosen_cells_is_the_chosen_part_of_filling_all(labels):
    ids = [i for i in (2, 1) if (labels == i).any()]
    assume(ids)
    all_filled = fill_holes(labels).applied_to(labels)
    expected = np.where(np.isin(all_filled, ids), all_filled, labels)
    filled = fill_holes(labels, ids).applied_to(labels)
    np.testing.assert_array_equal(filled, expected)
    one = fill_holes(labels, ids[:1]).applied_to(labels)
    np.testing.assert_array_equal(
        one[all_filled != ids[0]], labels[all_filled != ids[0]]
    )


def test_a_hole_in_which_another_cell_lies_is_left():
    labels = np.full((7, 7), 1)
    labels[1:6, 1:6] = 0
    labels[3, 3] = 2
    assert fill_holes(labels).values.size == 0
    labels[3, 3] = 0
    assert fill_holes(labels).values.size == 25


def test_filling_no_cells_changes_nothing():
    assert fill_holes(two_discs(), []).values.size == 0


def test_filling_many_cells_is_like_filling_them_one_by_one():
    ring = np.ones((3, 3), int)
    ring[1, 1] = 0
    numbers = np.arange(1, 50).reshape(7, 7)
    labels, full = np.kron(numbers, ring), np.kron(numbers, np.ones((3, 3), int))
    ids = range(5, 45)
    expected = np.where(np.isin(full, ids), full, labels)
    np.testing.assert_array_equal(fill_holes(labels, ids).applied_to(labels), expected)
    with pytest.raises(LabelError, match="no cell 50 here"):
        fill_holes(labels, range(5, 52))


def test_filling_a_cell_that_is_not_there_is_refused():
    with pytest.raises(LabelError, match="no cell 8 here"):
        fill_holes(two_discs(), [8])


# --- grow, shrink ------------------------------------------------------------------


@settings(max_examples=80, deadline=None, derandomize=True)
@given(fields, st.integers(1, 3))
def test_growing_changes_nothing_painted(labels, px):
    assume((labels == 1).any())
    try:
        edit = grow_cell(labels, 1, px)
    except LabelError:
        # No room: no unpainted pixel shares a side with the cell.
        cross = ndimage.generate_binary_structure(labels.ndim, 1)
        assert not (dilation(labels == 1, cross) & (labels == 0)).any()
        return
    assert (labels[edit.indices] == 0).all()
    assert (edit.values == 1).all()
    grown = edit.applied_to(labels)
    distance = ndimage.distance_transform_edt(labels != 1)
    assert distance[grown == 1].max() <= px
    assert n_pieces(grown == 1) <= n_pieces(labels == 1)


def test_a_free_cell_grows_to_all_within_the_distance():
    labels = np.zeros((40, 40), int)
    labels[15:25, 12:28] = 3
    for px in (1, 2, 5):
        expected = ndimage.distance_transform_edt(labels != 3) <= px
        grown = grow_cell(labels, 3, px).applied_to(labels)
        np.testing.assert_array_equal(grown == 3, expected)


def test_a_cell_does_not_grow_across_another():
    labels = np.zeros((5, 8), int)
    labels[:, 2], labels[:, 3] = 1, 2
    grown = grow_cell(labels, 1, 4).applied_to(labels)
    assert (grown[:, :3] == 1).all()
    assert (grown[:, 4:] == 0).all()


def test_a_cell_does_not_grow_through_a_corner_between_others():
    with pytest.raises(LabelError, match="cell 1 can't grow"):
        grow_cell(np.array([[1, 2, 2], [3, 0, 0], [3, 0, 0]]), 1, 3)


def test_a_cell_without_room_can_not_grow():
    with pytest.raises(LabelError, match="cell 1 can't grow: there is no unpainted"):
        grow_cell(np.array([[1, 2, 0]]), 1)


def test_growing_paints_over_no_ignored_pixels():
    labels = np.array([[0, 1, -1]])
    assert grow_cell(labels, 1).applied_to(labels).tolist() == [[1, 1, -1]]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(fields, st.integers(1, 3))
def test_shrinking_never_deletes_a_cell(labels, px):
    assume((labels == 1).any())
    try:
        edit = shrink_cell(labels, 1, px)
    except LabelError:
        far = ndimage.distance_transform_edt(labels == 1)
        assert far.max() <= px
        return
    shrunk = edit.applied_to(labels)
    assert (shrunk == 1).any()
    np.testing.assert_array_equal(shrunk[labels != 1], labels[labels != 1])
    if (labels != 1).any():
        expected = ndimage.distance_transform_edt(labels == 1) > px
        np.testing.assert_array_equal(shrunk == 1, expected)


def test_a_cell_that_fills_the_image_does_not_shrink():
    assert shrink_cell(np.full((3, 4), 2), 2).values.size == 0


def test_a_cell_that_would_vanish_is_refused():
    with pytest.raises(LabelError, match="cell 2 is too small to shrink by 1 px"):
        shrink_cell(np.array([[0, 2, 2, 0]]), 2)


# --- pieces ------------------------------------------------------------------------


@settings(max_examples=80, deadline=None, derandomize=True)
@given(fields)
def test_pieces_become_cells_of_their_own(labels):
    assume((labels == 1).any())
    n = n_pieces(labels == 1)
    if n == 1:
        with pytest.raises(LabelError, match="cell 1 is in one piece"):
            split_pieces(labels, 1, NEW)
        return
    edit = split_pieces(labels, 1, NEW)
    split = edit.applied_to(labels)
    assert edit.parents == dict.fromkeys(range(NEW, NEW + n - 1), 1)
    sizes = [(split == i).sum() for i in (1, *edit.parents)]
    assert sizes == sorted(sizes, reverse=True)
    assert all(n_pieces(split == i) == 1 for i in (1, *edit.parents))
    merged = merge_cells(split, [1, *edit.parents]).applied_to(split)
    np.testing.assert_array_equal(merged, labels)


def test_pieces_of_a_cell_that_is_not_there_are_refused():
    with pytest.raises(LabelError, match="no cell 8 here"):
        split_pieces(two_discs(), 8, NEW)
