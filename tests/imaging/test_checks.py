from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import label, regionprops

from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.checks import (
    ClassCount,
    check_annotation,
    count_annotation,
)

CLASSES = ("background", "a", "b", "tissue")
stacks = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9),
    elements=st.sampled_from([0, 0, 1, 1, 1, 1, 2, 3, 4, 2**31 - 1]),
)
some_classes = st.dictionaries(
    st.sampled_from([1, 2, 3, 4, 2**31 - 1]), st.integers(0, 3)
)


def of_kind(problems, kind):
    return [p for p in problems if p.kind == kind]


def grid_of_cells(n=4, size=10):
    """Return n x n cells of 8 x 8 px that touch neither each other nor the border."""
    cell = np.pad(np.ones((size - 2, size - 2), np.int32), 1)
    return np.kron(np.arange(1, n * n + 1).reshape(n, n), cell).astype(np.int32)


def fields_of(labels, n_dims):
    for index in np.ndindex(labels.shape[:-n_dims]):
        yield index, labels[index]


# --- one problem at a time ---------------------------------------------------------


@pytest.mark.parametrize("n_dims", [2, 3])
def test_a_clean_annotation_has_no_problems(n_dims):
    labels = np.zeros((5, 40, 40), int)
    labels[1:4] = grid_of_cells()
    assert check_annotation(Annotation.complete(labels), n_dims=n_dims) == []


def test_a_cell_in_two_pieces_is_named_at_the_smaller_piece():
    labels = grid_of_cells()
    labels[11:17, 11:14] = 1
    [problem] = check_annotation(Annotation.complete(labels))
    assert problem.kind == "pieces"
    assert problem.message == (
        "Cell 1 is in 2 pieces: give each its own number, or join them"
    )
    assert problem.position == (11, 11)
    assert (problem.cell, problem.is_note) == (1, False)


def test_a_tiny_piece_is_called_a_slip_of_the_brush():
    labels = grid_of_cells()
    labels[9, 18:20] = labels[0, 30] = 7
    problem = check_annotation(Annotation.complete(labels))[0]
    assert problem.message == (
        "Cell 7 is in 3 pieces, the smallest of 1 px: a slip of the brush?"
    )
    assert problem.position == (0, 30)


@pytest.mark.parametrize(("px", "advice"), [(4, "a slip"), (5, "give each its own")])
def test_a_piece_below_five_pixels_is_called_a_slip_of_the_brush(px, advice):
    labels = grid_of_cells()
    labels[9, 11 : 11 + px] = 4
    problem = check_annotation(Annotation.complete(labels))[0]
    assert (problem.kind, problem.cell) == ("pieces", 4)
    assert advice in problem.message


def test_pieces_that_share_a_corner_are_one():
    labels = np.zeros((20, 20), int)
    labels[2:6, 2:6] = labels[6:10, 6:10] = 1
    assert check_annotation(Annotation.complete(labels)) == []


def test_pieces_are_counted_on_each_plane_of_a_stack_but_through_a_volume():
    labels = np.zeros((3, 20, 20), int)
    labels[0, 2:8, 2:8] = labels[0, 12:18, 12:18] = 1
    labels[1, 2:18, 2:18] = 1
    stack = Annotation.complete(labels)
    [problem] = check_annotation(stack)
    assert (problem.kind, problem.position) == ("pieces", (0, 2, 2))
    assert not of_kind(check_annotation(stack, n_dims=3), "pieces")
    labels[1] = 0
    labels[2, 2:18, 2:18] = 1
    [problem] = of_kind(
        check_annotation(Annotation.complete(labels), n_dims=3), "pieces"
    )
    assert "in 3 pieces" in problem.message


@pytest.mark.parametrize(("px", "is_speck"), [(1, True), (4, True), (5, False)])
def test_a_cell_below_five_pixels_is_a_speck(px, is_speck):
    labels = grid_of_cells()
    labels[0:10, 0:10] = 0
    labels[3, 3 : 3 + px] = 1
    problems = check_annotation(Annotation.complete(labels))
    assert [p.kind for p in problems] == ["speck"] * is_speck
    if is_speck:
        assert problems[0].message == f"Cell 1 is only {px} px: a slip of the brush?"
        assert problems[0].position == (3, 3)


@pytest.mark.parametrize(("px", "is_speck"), [(19, True), (20, False)])
def test_a_cell_below_a_twentieth_of_the_typical_one_is_a_speck(px, is_speck):
    labels = grid_of_cells(n=3, size=22)
    labels[:22, :22] = 0
    labels[5, 1 : 1 + px] = 1
    problems = check_annotation(Annotation.complete(labels))
    assert len(of_kind(problems, "speck")) == is_speck


def test_the_cap_of_a_cell_is_no_speck_in_a_stack():
    labels = np.zeros((2, 20, 20), int)
    labels[0, 5:15, 5:15] = 3
    labels[1, 9, 9] = 3
    assert check_annotation(Annotation.complete(labels)) == []


def test_the_rest_of_a_cell_at_the_border_is_no_speck_but_a_note():
    labels = np.pad(grid_of_cells(), 5)
    labels[0, 20:22] = 50
    [note] = check_annotation(Annotation.complete(labels))
    assert note.kind == "cut"
    assert note.is_note
    assert note.position == (0, 20)
    assert note.message == (
        "Cell 50 is cut by the image border: it counts, but its size is not whole"
    )


def test_the_ends_of_a_stack_cut_cells_in_volumes_only():
    labels = np.zeros((4, 12, 12), int)
    labels[2:, 4:9, 4:9] = 6
    stack = Annotation.complete(labels)
    assert check_annotation(stack) == []
    [note] = check_annotation(stack, n_dims=3)
    assert (note.kind, note.position) == ("cut", (3, 4, 4))


def test_a_cell_cut_on_many_planes_is_noted_once():
    labels = np.zeros((4, 12, 12), int)
    labels[1:, 4:9, 8:] = 6
    [note] = check_annotation(Annotation.complete(labels))
    assert note.position == (1, 4, 11)


def test_holes_are_named_with_their_size():
    labels = grid_of_cells()
    labels[3:6, 3:7] = 0
    [problem] = check_annotation(Annotation.complete(labels))
    assert problem.kind == "hole"
    assert problem.message == "Cell 1 has a hole of 12 px"
    assert problem.position == (3, 3)
    labels[2, 2] = 0
    labels[3, 3] = 1
    [problem] = check_annotation(Annotation.complete(labels))
    assert problem.message == "Cell 1 has 2 holes, 12 px in all"
    assert problem.position == (3, 4)


def test_what_is_painted_in_a_cell_is_no_hole():
    labels = grid_of_cells()
    labels[4:6, 4:6] = 99
    annotation = Annotation(labels, label_class={99: 0})
    assert of_kind(check_annotation(annotation), "hole") == []


def test_areas_and_painted_background_have_no_pieces_specks_holes_or_cuts():
    labels = np.pad(grid_of_cells(), 5)
    for i, at in ((98, 0), (99, 1)):
        labels[at, ::3] = i
        labels[44 + 2 * at : 47 + 2 * at, 10:13] = i
        labels[45 + 2 * at, 11] = 0
    annotation = Annotation(
        labels,
        label_class={98: 3, 99: 0},
        known=np.ones(labels.shape, bool),
        class_names=CLASSES,
        area_classes={3},
    )
    assert check_annotation(annotation) == []


# --- background --------------------------------------------------------------------


def test_cells_without_known_background_are_a_problem():
    [problem] = check_annotation(Annotation(grid_of_cells()))
    assert problem.kind == "no background"
    assert problem.message.startswith("No background is known")
    assert (problem.position, problem.cell) == (None, None)


@pytest.mark.parametrize("how", ["finished", "painted"])
def test_any_known_background_is_enough(how):
    labels = grid_of_cells()
    known = np.zeros(labels.shape, bool)
    if how == "finished":
        known[0, 0] = True
    else:
        labels[0, :10] = 99
    annotation = Annotation(labels, label_class={99: 0}, known=known)
    assert check_annotation(annotation) == []


def test_known_pixels_under_cells_are_no_background():
    labels = grid_of_cells()
    problems = check_annotation(Annotation(labels, known=labels > 0))
    assert [p.kind for p in problems] == ["no background"]


def test_nothing_painted_is_no_problem_of_the_background():
    assert check_annotation(Annotation(np.zeros((5, 5), int))) == []
    assert check_annotation(Annotation(np.full((5, 5), 2), label_class={2: 0})) == []


# --- the list ----------------------------------------------------------------------


def test_faults_come_before_notes_and_the_list_ends_where_told():
    labels = np.pad(grid_of_cells(), 5)
    labels[0, 3:9] = 30
    labels[15, 15] = 31
    labels[8, 8] = 0
    labels[35:38, 2] = 4
    annotation = Annotation(labels)
    kinds = [p.kind for p in check_annotation(annotation)]
    assert kinds == ["no background", "pieces", "speck", "hole", "cut"]
    for most in range(6):
        problems = check_annotation(annotation, most=most)
        assert [p.kind for p in problems] == kinds[:most]


@st.composite
def annotated(draw):
    """Draw an annotation of small cells, some areas or background, and `n_dims`."""
    labels = draw(stacks)
    annotation = Annotation(
        labels,
        label_class=draw(some_classes),
        known=np.ones(labels.shape, bool),
        class_names=CLASSES,
        area_classes={3},
    )
    return annotation, min(draw(st.sampled_from([2, 3])), labels.ndim)


def masks_of(annotation, n_dims):
    """Yield field by field and cell by cell: index, id, mask, what is unpainted."""
    labels, kinds = annotation.labels, annotation.label_class
    ids = np.unique(labels[labels > 0]).tolist()
    for index in np.ndindex(labels.shape[:-n_dims]):
        for i in (i for i in ids if kinds.get(i, 1) in (1, 2)):
            if (labels[index] == i).any():
                yield index, i, labels[index] == i, labels[index] == 0


def problems_of(kind, annotation, n_dims):
    return of_kind(check_annotation(annotation, n_dims=n_dims, most=10**6), kind)


def at_border(mask):
    axes = [(axis, n) for axis, n in enumerate(mask.shape) if n > 1]
    return any(mask.take([0, n - 1], axis).any() for axis, n in axes)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(annotated())
def test_pieces_equal_those_of_scikit_image(drawn):
    expected = []
    for index, i, mask, _ in masks_of(*drawn):
        pieces = regionprops(label(mask, connectivity=mask.ndim))
        if len(pieces) > 1:
            smallest = min(piece.area for piece in pieces)
            expected.append((index, i, len(pieces), smallest))
    found = []
    annotation, n_dims = drawn
    for problem in problems_of("pieces", annotation, n_dims):
        index, at = problem.position[:-n_dims], problem.position[-n_dims:]
        pieces = label(annotation.labels[index] == problem.cell, connectivity=n_dims)
        assert pieces[at] > 0
        assert f"in {pieces.max()} pieces" in problem.message
        size = int((pieces == pieces[at]).sum())
        found.append((index, problem.cell, pieces.max(), size))
    assert found == expected


@settings(max_examples=100, deadline=None, derandomize=True)
@given(annotated())
def test_holes_equal_those_of_scipy(drawn):
    expected = []
    for index, i, mask, unpainted in masks_of(*drawn):
        sides = ndimage.generate_binary_structure(mask.ndim, 1)
        regions, n = ndimage.label(unpainted & ndimage.binary_fill_holes(mask))
        holes = [regions == k for k in range(1, n + 1)]
        # Another cell in the hole makes it none.
        holes = [
            h for h in holes if (mask | h)[ndimage.binary_dilation(h, sides)].all()
        ]
        if holes:
            expected.append((index, i, len(holes), sum(h.sum() for h in holes)))
    annotation, n_dims = drawn
    found = problems_of("hole", annotation, n_dims)
    for problem, (index, i, n, px) in zip(found, expected, strict=True):
        assert (problem.position[:-n_dims], problem.cell) == (index, i)
        assert annotation.labels[problem.position] == 0
        what = f"a hole of {px} px" if n == 1 else f"{n} holes, {px} px in all"
        assert problem.message == f"Cell {i} has {what}"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(annotated())
def test_specks_and_cut_cells_equal_brute_force(drawn):
    areas, cut = {}, set()
    for _, i, mask, _ in masks_of(*drawn):
        areas[i] = max(areas.get(i, 0), int(mask.sum()))
        if at_border(mask):
            cut.add(i)
    limit = max(5, np.median(list(areas.values())) / 20) if areas else 0
    specks = [i for i in sorted(areas) if areas[i] < limit and i not in cut]
    assert [p.cell for p in problems_of("speck", *drawn)] == specks
    notes = problems_of("cut", *drawn)
    assert sorted(p.cell for p in notes) == sorted(cut)
    annotation, n_dims = drawn
    for p in notes:
        assert annotation.labels[p.position] == p.cell
        sides = zip(p.position, annotation.labels.shape, strict=True)
        assert any(n > 1 and k in (0, n - 1) for k, n in list(sides)[-n_dims:])


# --- counts ------------------------------------------------------------------------


def brute_force_pairs(cells, n_dims):
    pairs = set()
    for _, field in fields_of(cells, n_dims):
        for at in np.ndindex(field.shape):
            for step in itertools.product((-1, 0, 1), repeat=n_dims):
                other = tuple(np.add(at, step))
                if all(0 <= k < n for k, n in zip(other, field.shape, strict=True)):
                    a, b = int(field[at]), int(field[other])
                    if 0 < a < b:
                        pairs.add((a, b))
    return pairs


@settings(max_examples=100, deadline=None, derandomize=True)
@given(annotated(), st.data())
def test_counts_equal_brute_force(drawn, data):
    complete, n_dims = drawn
    labels, label_class = complete.labels, complete.label_class
    known = data.draw(hnp.arrays(bool, labels.shape))
    annotation = replace(complete, known=known)
    counts = count_annotation(annotation, n_dims=n_dims)
    assert [kind.name for kind in counts.classes] == list(CLASSES)
    kinds = {i: label_class.get(i, 1) for i in np.unique(labels[labels > 0]).tolist()}
    for k, kind in enumerate(counts.classes):
        ids = [i for i, own in kinds.items() if own == k]
        assert kind.painted_px == np.isin(labels, ids).sum()
        assert kind.n_cells == (len(ids) if k in (1, 2) else 0)
    assert counts.n_cells == sum(kind in (1, 2) for kind in kinds.values())
    pairs = brute_force_pairs(annotation.cells(), n_dims)
    assert counts.n_touching_pairs == len(pairs)
    planes = annotation.is_known.reshape(-1, *labels.shape[-2:])
    assert counts.n_planes == sum(plane.any() for plane in planes)


def test_an_id_on_several_planes_is_one_cell_and_a_pair_is_counted_once():
    labels = np.zeros((3, 4, 6), int)
    labels[:2, :, :3], labels[:2, :, 3:] = 1, 2
    counts = count_annotation(Annotation(labels))
    assert counts.classes[1] == ClassCount("cell", n_cells=2, painted_px=48)
    assert counts.n_touching_pairs == 1
    assert counts.n_planes == 2


def test_an_empty_annotation_counts_nothing():
    counts = count_annotation(Annotation(np.zeros((3, 4, 6), int)))
    assert counts.n_cells == counts.n_touching_pairs == counts.n_planes == 0
    assert counts.classes[0] == ClassCount("background", 0, 0)
