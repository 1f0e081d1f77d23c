from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.config import NormalizationConfig
from napari_unet.errors import ImageError
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.intensity import (
    IntensityRange,
    intensity_range,
    normalize,
)

DTYPES = [*"?bBhHiIqQefd", ">u2", ">f4"]


class Lazy:
    """An array that remembers the largest piece that was read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.largest = 0

    def __getitem__(self, key):
        piece = self.array[key]
        self.largest = max(self.largest, piece.size)
        return piece


def test_percentiles_are_taken_for_each_channel_over_all_planes():
    data = np.random.default_rng(0).normal(size=(2, 3, 40, 50))
    data[1] *= 100
    limits = intensity_range(Image(data, axes="CTYX"))
    for channel in range(2):
        low, high = np.percentile(data[channel], [1, 99.8])
        assert limits.low[channel] == pytest.approx(low, rel=1e-12)
        assert limits.high[channel] == pytest.approx(high, rel=1e-12)


def test_the_percentiles_come_from_the_settings():
    data = np.arange(101.0).reshape(1, 1, 101)
    config = NormalizationConfig(low_percentile=10, high_percentile=50)
    assert intensity_range(Image(data), config) == IntensityRange((10.0,), (50.0,))


@pytest.mark.parametrize(
    "shape", [(1, 3000, 3000), (1, 1, 9_000_000), (1, 9_000_000, 1), (1, 9, 1000, 1000)]
)
def test_large_images_are_sampled_over_the_whole_image(shape, monkeypatch):
    n_values = []
    percentile = np.percentile

    def counting(values, q):
        n_values.append(values.size)
        return percentile(values, q)

    monkeypatch.setattr(np, "percentile", counting)
    data = np.linspace(0, 1000, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    limits = intensity_range(Image(data))
    assert 2**21 < n_values[0] <= 2**22
    assert limits.low[0] == pytest.approx(10, abs=1)
    assert limits.high[0] == pytest.approx(998, abs=1)


def test_large_lazy_images_are_not_read_as_a_whole():
    data = Lazy(np.broadcast_to(np.arange(4000, dtype=np.uint16), (1, 3, 4000, 4000)))
    intensity_range(Image(data, axes="CTYX"))
    assert data.largest <= 2**22 / 3


def test_of_more_planes_than_values_each_gives_one(monkeypatch):
    monkeypatch.setattr("napari_unet.imaging.intensity._MAX_VALUES", 10)
    data = np.arange(101 * 12.0).reshape(1, 101, 3, 4)
    limits = intensity_range(Image(data, axes="CTYX"))
    assert limits == IntensityRange((12.0,), (pytest.approx(99.8 * 12),))


def test_nan_and_infinity_do_not_count():
    data = np.full((1, 10, 101), np.nan)
    data[0, 0] = np.arange(101)
    data[0, 1, :2] = np.inf, -np.inf
    limits = intensity_range(Image(data))
    assert limits == IntensityRange((1.0,), (pytest.approx(99.8),))


def test_a_channel_without_a_finite_pixel_is_refused():
    data = np.ones((2, 4, 4))
    data[1] = np.nan
    with pytest.raises(ImageError, match="well-7 has no finite pixel in channel 2"):
        intensity_range(Image(data, source="well-7"))


def test_few_bright_pixels_on_a_flat_ground_stay_visible():
    data = np.full((1, 100, 100), 7, np.uint16)
    data[0, 50, 50:55] = 900
    limits = intensity_range(Image(data))
    assert limits == IntensityRange((7.0,), (900.0,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_image_becomes_zero(dtype):
    data = np.ones((1, 8, 8), dtype)
    scaled = normalize(data, intensity_range(Image(data)))
    np.testing.assert_array_equal(scaled, np.zeros((1, 8, 8), np.float32))


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_low_becomes_0_and_high_1_in_every_dtype(dtype):
    kind = np.dtype(dtype)
    if kind.kind == "f":
        low, high = float(np.finfo(kind).min), float(np.finfo(kind).max)
    else:
        low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    data = np.array([[low, high]], kind)
    scaled = normalize(data, IntensityRange((float(low),), (float(high),)))
    np.testing.assert_array_equal(scaled, [[0, 1]])
    assert scaled.dtype == np.float32


def test_a_mask_becomes_0_and_1():
    data = np.array([[[False, True]]])
    limits = intensity_range(Image(data), NormalizationConfig(high_percentile=100))
    scaled = normalize(data, limits)
    np.testing.assert_allclose(scaled, [[[0, 1]]], atol=0.02)


def test_a_small_signal_on_a_large_offset_survives():
    data = np.array([[10**9, 10**9 + 5, 10**9 + 10]], np.uint32)
    scaled = normalize(data, IntensityRange((1e9,), (1e9 + 10,)))
    np.testing.assert_array_equal(scaled, [[0, 0.5, 1]])


def test_what_is_beyond_the_range_stays_beyond_it():
    scaled = normalize(np.array([[-1.0, 3.0]]), IntensityRange((0.0,), (1.0,)))
    np.testing.assert_array_equal(scaled, [[-1, 3]])


def test_values_beyond_float32_stay_finite():
    data = np.array([[-1e300, 0.0, 1e-10, 1e300]])
    scaled = normalize(data, IntensityRange((0.0,), (1e-10,)))
    assert np.isfinite(scaled).all()
    np.testing.assert_array_equal(scaled[0, 1:3], [0, 1])


def test_a_range_too_small_to_divide_by_is_constant():
    scaled = normalize(np.array([[0.0, 5e-324]]), IntensityRange((0.0,), (5e-324,)))
    np.testing.assert_array_equal(scaled, [[0, 0]])


def test_nan_and_infinity_become_one_half():
    data = np.array([[np.nan, np.inf, -np.inf, 2], [np.nan, 5, 5, 5]], np.float32)
    scaled = normalize(data, IntensityRange((0.0, 5.0), (2.0, 5.0)))
    np.testing.assert_array_equal(scaled, [[0.5, 0.5, 0.5, 1], [0.5, 0, 0, 0]])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=3, max_dims=3))
    )
)
def test_normalising_never_warns_and_is_finite(data):
    data[..., 0] = 1  # without any finite pixel it is refused
    limits = intensity_range(Image(data))
    assert np.isfinite(normalize(data, limits)).all()


def test_a_tile_is_scaled_as_in_the_whole_image():
    data = np.random.default_rng(1).integers(0, 4096, (2, 64, 64), np.uint16)
    limits = intensity_range(Image(data))
    np.testing.assert_array_equal(
        normalize(data, limits)[:, 10:20, 30:50],
        normalize(data[:, 10:20, 30:50], limits),
    )


def test_the_callers_pixels_stay_as_they_are():
    data = np.array([[1.0, np.nan]])
    data.flags.writeable = False
    normalize(data, IntensityRange((0.0,), (1.0,)))


def test_another_number_of_channels_is_refused():
    with pytest.raises(ImageError, match="3 channels but the intensity range 1"):
        normalize(np.zeros((3, 4, 4)), IntensityRange((0.0,), (1.0,)))


def test_standardised_pixels_have_mean_0_and_standard_deviation_1():
    data = np.random.default_rng(3).normal([[[500.0]], [[-3.0]]], 7.0, (2, 30, 40))
    image = Image(data.astype(np.float32))
    scaled = normalize(
        image.data, intensity_range(image, NormalizationConfig(policy="standardize"))
    )
    np.testing.assert_allclose(scaled.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std((1, 2)), 1, rtol=1e-5)


def test_a_flat_image_standardised_is_0():
    image = Image(np.full((1, 4, 4), 300, np.uint16))
    limits = intensity_range(image, NormalizationConfig(policy="standardize"))
    assert not normalize(image.data, limits).any()
