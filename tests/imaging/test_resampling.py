from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.imaging.resampling import (
    interpolation,
    resample,
    resample_labels,
    scaled_shape,
)

LENGTHS = st.integers(1, 60)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(*[st.integers(2, 60)] * 4)  # torch itself is wrong where a side is 1
def test_it_is_torchs_anti_aliased_interpolation(height, width, rows, columns):
    image = np.random.default_rng(height).random((2, height, width), np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None],
        (rows, columns),
        mode="bilinear",
        align_corners=False,
        antialias=True,
    )
    found = resample(image, (rows, columns))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(LENGTHS, LENGTHS)
def test_each_pixel_gets_the_label_that_is_nearest_to_its_middle(n_old, n_new):
    labels = np.arange(n_old, dtype=np.int16)[:, None] * [1, 1]
    found = resample_labels(labels, (n_new, 2))
    assert found.dtype == labels.dtype
    # In units of 1 / (2 n_old n_new) of the axis all middles are whole numbers.
    middles = (2 * np.arange(n_new) + 1) * n_old
    distances = np.abs(middles[:, None] - (2 * np.arange(n_old) + 1) * n_new)
    nearest = n_old - 1 - distances[:, ::-1].argmin(1)  # of two the later one
    np.testing.assert_array_equal(found, nearest[:, None] * [1, 1])


@given(LENGTHS, LENGTHS, st.integers(0, 59), st.integers(1, 60))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_row_is_the_same_in_any_window(n_old, n_new, start, length):
    rows = slice(min(start, n_new - 1), min(start + length, n_new) or 1)
    rows = slice(rows.start, max(rows.stop, rows.start + 1))
    whole = interpolation(n_old, n_new).toarray()
    np.testing.assert_array_equal(
        interpolation(n_old, n_new, rows).toarray(), whole[rows]
    )


def test_channels_that_sum_to_one_still_do():
    outputs = np.random.default_rng(0).dirichlet([1, 1, 1], (31, 45))
    outputs = np.moveaxis(outputs, -1, 0).astype(np.float32)
    for shape in ((90, 100), (7, 11), (31, 99)):
        np.testing.assert_allclose(resample(outputs, shape).sum(0), 1, atol=1e-6)


def test_the_grid_it_has_is_kept_to_the_bit():
    image = np.random.default_rng(0).random((3, 9, 8), np.float32)
    np.testing.assert_array_equal(resample(image, (9, 8)), image)


def test_volumes_are_interpolated_along_all_axes():
    ramp = np.arange(8, dtype=np.float32)
    volume = ramp[:, None, None] + 10 * ramp[None, :, None] + 100 * ramp
    found = resample(volume, (4, 8, 16))
    assert found.shape == (4, 8, 16)
    # Away from the ends a ramp stays a ramp, with its values at the new middles.
    np.testing.assert_allclose(np.diff(found[:, 0, 0])[1:-1], 2, atol=1e-5)
    np.testing.assert_allclose(np.diff(found[0, 0])[1:-1], 50, rtol=1e-5)


def test_a_coarser_grid_loses_no_bright_line():
    image = np.zeros((64, 64), np.float32)
    image[:, 20] = 1
    small = resample(image, (8, 8))
    assert small.sum(1) == pytest.approx(np.full(8, 1 / 8), rel=0.02)


def test_axes_keep_at_least_one_pixel():
    assert scaled_shape((1, 400, 3), (0.2, 0.25, 3)) == (1, 100, 9)
