from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.imaging.windows import (
    blocks,
    box_of,
    boxes,
    grow,
    hull,
    overlap,
    shifted,
    whole,
    within,
)

shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=12)


def drawn(data, shape):
    window = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        window.append(slice(start, data.draw(st.integers(start + 1, n))))
    return tuple(window)


def pixels(window, shape):
    mask = np.zeros(shape, bool)
    if window is not None:
        mask[window] = True
    return mask


@settings(deadline=None, derandomize=True)
@given(shapes, st.integers(1, 200))
def test_blocks_partition_any_shape(shape, n_px):
    n_seen = np.zeros(shape, int)
    for block in blocks(shape, n_px):
        assert n_seen[block].size <= max(n_px * 2, 1)
        n_seen[block] += 1
    assert (n_seen == 1).all()


@settings(deadline=None, derandomize=True)
@given(shapes, st.data())
def test_windows_hold_the_pixels_that_they_should(shape, data):
    a, b = drawn(data, shape), drawn(data, shape)
    in_a, in_b = pixels(a, shape), pixels(b, shape)
    np.testing.assert_array_equal(pixels(overlap(a, b), shape), in_a & in_b)
    assert hull(a, b) == box_of(in_a | in_b)
    assert hull(a, None) == hull(None, a) == a
    assert hull(None, None) is None
    assert shifted(within(a, b), b) == a
    assert shifted(None, b) is None
    assert grow(a, (20,) * len(shape), shape) == whole(shape)
    assert grow(a, (0,) * len(shape), shape) == a


def test_nothing_has_no_box():
    assert box_of(np.zeros((3, 4), bool)) is None


@settings(deadline=None, derandomize=True)
@given(
    hnp.arrays(np.int32, shapes, elements=st.sampled_from([-3, 0, 0, 1, 4, 2**31 - 1]))
)
def test_boxes_are_those_of_each_id(labels):
    expected = {int(i): box_of(labels == i) for i in np.unique(labels) if i > 0}
    assert dict(boxes(labels)) == expected
