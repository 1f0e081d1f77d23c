"""Interpolated labels are noticed; honest ones never are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.errors import LabelError
from napari_unet.files.label_checks import check_not_interpolated, n_pieces_of_one_id
from napari_unet.files.samples import sample_images


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.2])
def test_labels_resized_like_a_photograph_are_refused(factor: float) -> None:
    for name, _, labels in sample_images():
        resized = ndimage.zoom(labels.astype(float), factor, order=1)
        spoilt = np.rint(resized).clip(0).astype(np.int32)
        with pytest.raises(LabelError, match=rf"{name} looks interpolated: [\d,]+ ids"):
            check_not_interpolated(spoilt, name)


@pytest.mark.parametrize("factor", [0.25, 0.5, 3])
def test_labels_resized_by_nearest_neighbour_are_fine(factor: float) -> None:
    for name, _, labels in sample_images():
        check_not_interpolated(ndimage.zoom(labels, factor, order=0), name)


def test_a_smoothed_black_and_white_mask_is_refused() -> None:
    rows, columns = np.ogrid[:200, :200]
    distance = np.hypot(rows - 99.3, columns - 98.7)
    mask = np.rint(255 * np.clip((80.5 - distance) / 2, 0, 1)).astype(np.int32)
    with pytest.raises(LabelError, match="looks interpolated"):
        check_not_interpolated(mask, "mask")


@settings(max_examples=30, derandomize=True, deadline=None)
@given(seed=st.integers(0, 2**32), n_ids=st.integers(1, 5000))
def test_labels_by_chance_are_fine(seed: int, n_ids: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_ids + 1, (40, 40), dtype=np.int32)
    check_not_interpolated(labels, "by chance")


def test_crowded_tiny_cells_in_reading_order_are_fine() -> None:
    crowd = np.arange(1, 1601, dtype=np.int32).reshape(40, 40)
    check_not_interpolated(crowd, "crowd")
    check_not_interpolated(crowd.repeat(2, 0), "crowd of two pixels each")


def test_stacks_of_any_depth_are_looked_at() -> None:
    _, _, labels = sample_images()[0]
    movie = np.stack([[labels, labels], [labels, labels]])
    check_not_interpolated(movie, "movie")
    spoilt = np.rint(ndimage.zoom(movie.astype(float), (1, 1, 0.5, 0.5), order=1))
    with pytest.raises(LabelError, match="movie looks interpolated"):
        check_not_interpolated(spoilt.astype(np.int32), "movie")


def test_a_blank_first_plane_is_no_fault() -> None:
    stack = np.zeros((2, 64, 64), np.int32)
    stack[1, :30, :30] = 9
    check_not_interpolated(stack, "stack")


def test_the_pieces_of_one_id_are_counted_on_the_plane_with_the_most() -> None:
    mask = np.zeros((3, 9, 9), np.int32)
    mask[1, ::2, ::2] = 255  # 5 x 5 pixels that touch nowhere
    mask[2, :, 4] = 255
    assert n_pieces_of_one_id(mask) == 25
    assert n_pieces_of_one_id(np.eye(5, dtype=np.int32)) == 1  # corners touch


def test_no_id_and_several_ids_have_no_pieces_of_one() -> None:
    assert n_pieces_of_one_id(np.zeros((4, 4), np.int32)) == 0
    assert n_pieces_of_one_id(np.array([[1, 0, 1, 0, 2]], np.int32)) == 0
