from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.files.axes import arrange
from napari_unet.files.lazy_array import LazyArray

MANY = settings(max_examples=100, deadline=None, derandomize=True)


@MANY
@given(st.permutations("TCZYX"), st.data())
def test_it_is_sliced_as_the_arranged_array(axes, data):
    n_axes = data.draw(st.integers(2, 5))
    kept = [a for a in axes if a in "YX"] + [a for a in axes if a not in "YX"]
    names = "".join(a for a in axes if a in kept[:n_axes])
    shape = [data.draw(st.integers(1, 4)) for _ in names]
    stored = np.arange(np.prod(shape)).reshape(shape)
    expected, order = arrange(stored, names)
    lazy, same_order = arrange(LazyArray(stored), names)
    assert (same_order, lazy.shape, lazy.ndim) == (order, expected.shape, expected.ndim)
    key = []
    for n in expected.shape[: data.draw(st.integers(0, expected.ndim))]:
        start = data.draw(st.integers(0, n - 1))
        stop = data.draw(st.integers(start, n))
        step = data.draw(st.sampled_from([None, 2]))
        key.append(data.draw(st.sampled_from([start, slice(start, stop, step)])))
    np.testing.assert_array_equal(lazy[tuple(key)], expected[tuple(key)])
    np.testing.assert_array_equal(np.asarray(lazy), expected)


def test_an_index_beyond_the_end_is_an_error():
    with pytest.raises(IndexError, match="index 4 for an axis of 3"):
        LazyArray(np.zeros((3, 3)))[4]
