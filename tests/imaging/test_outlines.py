"""Outlines hold every pixel: traced and filled again, a mask is the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from skimage.measure import points_in_poly

from napari_unet.imaging.outlines import (
    indices_of,
    label_outlines,
    outlines,
    runs_inside,
)

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


def _mask(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


def fill_outline(rings, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels inside rings as a mask."""
    mask = np.zeros(shape, bool)
    mask.ravel()[indices_of(runs_inside(rings, shape))] = True
    return mask


def _area(ring: np.ndarray) -> float:
    """Shoelace; positive for rings that run clockwise on the screen (y down)."""
    y, x = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


@given(MASKS)
@settings(max_examples=300)
def test_a_mask_comes_back_pixel_by_pixel(mask: np.ndarray) -> None:
    rings = [ring for piece in outlines(mask) for ring in piece]
    np.testing.assert_array_equal(fill_outline(rings, mask.shape), mask)


@given(MASKS)
@settings(max_examples=300)
def test_each_piece_comes_back_by_itself(mask: np.ndarray) -> None:
    labels, n = ndimage.label(mask)  # 4-connected
    filled = [fill_outline(piece, mask.shape) for piece in outlines(mask)]
    assert sorted(m.tolist() for m in filled) == sorted(
        (labels == i).tolist() for i in range(1, n + 1)
    )


@given(MASKS)
@settings(max_examples=300)
def test_rings_are_simple_and_oriented(mask: np.ndarray) -> None:
    for outer, *holes in outlines(mask):
        assert _area(outer) > 0
        assert all(_area(hole) < 0 for hole in holes)
        for ring in (outer, *holes):
            assert len(np.unique(ring, axis=0)) == len(ring)  # touches itself nowhere
            step = np.roll(ring, -1, axis=0) - ring
            assert ((step != 0).sum(axis=1) == 1).all()  # along pixel edges
            turn = step != np.roll(step, -1, axis=0)
            assert turn.any(axis=1).all()  # corners only


@given(MASKS)
def test_there_is_a_hole_for_each_enclosed_piece_of_background(
    mask: np.ndarray,
) -> None:
    n_rings = sum(len(piece) for piece in outlines(mask))
    expected = 0
    labels, n = ndimage.label(mask)
    for i in range(1, n + 1):
        expected += ndimage.label(np.pad(labels != i, 1, constant_values=True))[1]
    assert n_rings == expected


def test_a_square_is_outlined_along_its_edges() -> None:
    ((ring,),) = outlines(_mask("...", ".##", ".##"))
    assert ring.tolist() == [[0.5, 0.5], [0.5, 2.5], [2.5, 2.5], [2.5, 0.5]]
    assert ring.dtype == np.float64


def test_diagonal_pixels_are_two_pieces() -> None:
    assert len(outlines(_mask("#.", ".#"))) == 2


def test_a_hole_that_meets_the_outside_at_a_corner_stays_a_hole() -> None:
    ((outer, hole),) = outlines(_mask("###", "#.#", "##."))
    assert (_area(outer), _area(hole)) == (8, -1)


def test_an_island_in_a_hole_is_a_piece_of_its_own() -> None:
    pieces = outlines(_mask("#####", "#...#", "#.#.#", "#...#", "#####"))
    assert [len(rings) for rings in pieces] == [2, 1]


def test_nothing_has_no_outlines() -> None:
    assert outlines(np.zeros((3, 4), bool)) == []
    assert label_outlines(np.zeros((3, 4), np.int32)) == {}
    assert not fill_outline([], (3, 4)).any()


@given(
    arrays(np.int32, array_shapes(min_dims=2, max_dims=2, max_side=9),
           elements=st.sampled_from([0, 3, 70_000, 2**31 - 1]))
)  # fmt: skip
def test_all_cells_at_once_are_each_cell_by_itself(labels: np.ndarray) -> None:
    found = label_outlines(labels)
    assert list(found) == [i for i in np.unique(labels) if i]
    for i, pieces in found.items():
        alone = outlines(labels == i)
        assert [[r.tolist() for r in p] for p in pieces] == [
            [r.tolist() for r in p] for p in alone
        ]


@given(
    st.lists(st.tuples(*2 * [st.floats(-3, 12)]), min_size=3, max_size=8),
)
def test_a_polygon_holds_the_centres_inside_it(
    polygon: list[tuple[float, float]],
) -> None:
    ring = np.round(np.array(polygon), 2)
    centres = np.argwhere(np.ones((8, 9))).astype(float)
    # scikit-image casts one ray a point; what is on an edge is another matter.
    expected = points_in_poly(centres, ring)
    off_edges = _distance_to_edges(centres, ring) > 1e-6
    filled = fill_outline([ring], (8, 9)).ravel()
    np.testing.assert_array_equal(filled[off_edges], expected[off_edges])


def _distance_to_edges(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
    start, along = ring, np.roll(ring, -1, axis=0) - ring
    offset = points[:, None] - start
    length2 = np.maximum((along**2).sum(axis=1), 1e-12)
    at = np.clip((offset * along).sum(axis=2) / length2, 0, 1)
    return np.linalg.norm(offset - at[..., None] * along, axis=2).min(axis=1)


def test_tiling_polygons_share_no_centre_and_miss_none() -> None:
    corners = [(-0.5, -0.5), (0, 5), (4, 2), (2, 2), (5, 5), (5, -0.5)]
    left = [(-0.5, -0.5), (-0.5, 2), (5, 2), (5, -0.5)]
    right = [(-0.5, 2), (-0.5, 5.5), (5, 5.5), (5, 2)]
    both = fill_outline([left], (5, 5)).astype(int) + fill_outline([right], (5, 5))
    np.testing.assert_array_equal(both, 1)
    closed = fill_outline([[*corners, corners[0]]], (5, 5))
    np.testing.assert_array_equal(closed, fill_outline([corners], (5, 5)))


@pytest.mark.parametrize("shift", [-50, 50])
def test_outside_the_image_there_is_no_pixel(shift: float) -> None:
    square = np.array([(0, 0), (0, 5), (5, 5), (5, 0)]) + shift
    assert not fill_outline([square], (9, 9)).any()
    assert len(runs_inside([square], (9, 9))) == 0


def test_what_lies_outside_is_cut_off() -> None:
    ring = [(-9, -9), (-9, 1.5), (2.5, 1.5), (2.5, -9)]
    np.testing.assert_array_equal(
        fill_outline([ring], (4, 4)),
        _mask("##..", "##..", "##..", "...."),
    )


@given(MASKS)
def test_runs_are_the_filled_pixels_in_order(mask: np.ndarray) -> None:
    rings = [ring for piece in outlines(mask) for ring in piece]
    runs = runs_inside(rings, mask.shape)
    assert (runs[:, 0] < runs[:, 1]).all()
    np.testing.assert_array_equal(indices_of(runs), np.flatnonzero(mask))
