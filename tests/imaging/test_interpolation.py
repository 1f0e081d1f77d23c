from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.errors import LabelError
from napari_unet.imaging.interpolation import interpolate_slices

volumes = hnp.arrays(
    np.int32,
    st.tuples(st.integers(1, 6), st.integers(1, 7), st.integers(1, 7)),
    elements=st.sampled_from([0, 0, 0, 1, 2, -1]),
)


@st.composite
def painted_with_gaps(draw):
    """Draw one cell on the first and the last slice, and on few in between."""
    labels = np.zeros((draw(st.integers(3, 6)), 7, 8), np.int32)
    masks = hnp.arrays(np.int32, (7, 8), elements=st.integers(0, 1))
    between = draw(st.lists(st.integers(2, len(labels) - 1), max_size=2))
    for z in {0, len(labels) - 1, *between}:
        labels[z] = draw(masks)
        labels[z, draw(st.integers(0, 6)), draw(st.integers(0, 7))] = 1
    return labels


Z, Y, X = np.mgrid[-20:21, -30:30, -30:30]
SOLIDS = {
    "sphere": Z**2 + Y**2 + X**2 <= 18.3**2,
    "cone": np.hypot(Y, X) <= 2 + (Z + 20) / 2,
    "tilted cylinder": np.hypot(Y - 0.6 * Z, X + 0.4 * Z) <= 8,
    "tilted ellipsoid": (Z / 19) ** 2 + ((Y + 0.3 * Z) / 8) ** 2 + (X / 14) ** 2 <= 1,
}


def painted_every(step, solid):
    labels = np.zeros(solid.shape, np.int32)
    labels[::step][solid[::step]] = 5
    return labels


@pytest.mark.parametrize("step", [2, 3, 5])
@pytest.mark.parametrize("name", SOLIDS)
def test_solids_painted_on_some_slices_are_filled_to_their_volume(name, step):
    labels = painted_every(step, SOLIDS[name])
    filled = interpolate_slices(labels, 5).applied_to(labels) == 5
    painted = np.flatnonzero(labels.any(axis=(1, 2)))
    between = slice(painted[0], painted[-1] + 1)
    truth, found = SOLIDS[name][between], filled[between]
    assert found.sum() == pytest.approx(truth.sum(), rel=0.03)
    assert (truth & found).sum() / (truth | found).sum() > 0.95
    assert not filled[: painted[0]].any()
    assert not filled[painted[-1] + 1 :].any()


def test_a_cell_that_does_not_change_is_copied():
    labels = np.zeros((6, 9, 9), int)
    labels[[0, 5], 2:7, 1:8] = 3
    labels[[0, 5], 4, 4] = 0  # with its hole
    filled = interpolate_slices(labels, 3).applied_to(labels)
    for plane in filled:
        np.testing.assert_array_equal(plane, labels[0])


def test_a_cell_that_moves_by_whole_pixels_keeps_its_shape():
    labels = np.zeros((4, 20, 20), int)
    shape = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]])
    labels[0, 2:5, 3:6] = labels[3, 11:14, 9:12] = 2 * shape
    filled = interpolate_slices(labels, 2).applied_to(labels)
    np.testing.assert_array_equal(filled[1, 5:8, 5:8], 2 * shape)
    np.testing.assert_array_equal(filled[2, 8:11, 7:10], 2 * shape)
    assert filled[1].sum() == filled[2].sum() == labels[0].sum()


def test_several_gaps_are_filled_each_from_its_own_neighbours():
    labels = np.zeros((9, 5, 30), int)
    labels[0, :, :10] = labels[2, :, :10] = 1
    labels[3, :, 10:20] = labels[8, :, 10:20] = 1
    filled = interpolate_slices(labels, 1).applied_to(labels)
    np.testing.assert_array_equal(filled[1], labels[0])
    for z in range(4, 8):
        np.testing.assert_array_equal(filled[z], labels[3])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(volumes)
def test_only_unpainted_pixels_between_painted_slices_change(labels):
    assume((labels == 1).any())
    on = (labels == 1).any(axis=(1, 2))
    painted = np.flatnonzero(on)
    if painted[-1] - painted[0] == painted.size - 1:
        with pytest.raises(LabelError, match="cell 1 has no slice to fill"):
            interpolate_slices(labels, 1)
        return
    edit = interpolate_slices(labels, 1)
    filled = edit.applied_to(labels)
    assert (labels[edit.indices] == 0).all()
    assert (edit.values == 1).all()
    np.testing.assert_array_equal(filled[on], labels[on])
    np.testing.assert_array_equal(filled[: painted[0]], labels[: painted[0]])
    np.testing.assert_array_equal(filled[painted[-1] :], labels[painted[-1] :])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(painted_with_gaps())
def test_no_slice_in_between_is_left_out(labels):
    filled = interpolate_slices(labels, 1).applied_to(labels)
    assert filled.any(axis=(1, 2)).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(painted_with_gaps())
def test_upside_down_and_mirrored_the_same_is_filled(labels):
    filled = interpolate_slices(labels, 1).applied_to(labels)
    turned = labels[::-1, :, ::-1]
    again = interpolate_slices(turned, 1).applied_to(turned)
    np.testing.assert_array_equal(again[::-1, :, ::-1], filled)


def test_a_cell_that_shrinks_towards_its_edge_stays_a_disc():
    y, x = np.mgrid[:41, :41] - 20
    labels = np.zeros((3, 41, 41), int)
    labels[0, np.hypot(y, x) <= 20] = labels[2, np.hypot(y, x - 16) <= 4] = 1
    filled = interpolate_slices(labels, 1).applied_to(labels)[1]
    away = np.hypot(y, x - 8)
    assert (filled[away <= 11] == 1).all()
    assert (filled[away > 13] == 0).all()


def test_ignored_pixels_in_between_stay():
    labels = np.ones((3, 5, 5), int)
    labels[1] = 0
    labels[1, 2] = -1
    filled = interpolate_slices(labels, 1).applied_to(labels)
    np.testing.assert_array_equal(filled[1] == 1, labels[1] == 0)


def test_other_cells_in_between_stay():
    labels = np.zeros((3, 5, 5), int)
    labels[[0, 2]] = 1
    labels[1] = 2
    assert interpolate_slices(labels, 1).values.size == 0


def test_a_cell_on_one_slice_or_none_is_refused():
    labels = np.zeros((3, 5, 5), int)
    labels[1, 2, 2] = 1
    with pytest.raises(LabelError, match="cell 1 has no slice to fill"):
        interpolate_slices(labels, 1)
    with pytest.raises(LabelError, match="no cell 2 here"):
        interpolate_slices(labels, 2)


def test_a_plane_is_refused():
    with pytest.raises(LabelError, match=r"shape \(5, 5\) have no slices"):
        interpolate_slices(np.ones((5, 5), int), 1)
