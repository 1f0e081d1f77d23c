from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError, LabelError
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.weight_maps import (
    border_weights,
    class_weights,
    weight_map,
)


def brute_force(labels, w0=10.0, sigma=5.0, spacing=None):
    """The formula of the paper, pixel by pixel, in float64."""
    size = np.ones(labels.ndim) if spacing is None else np.asarray(spacing, float)
    places = {i: np.argwhere(labels == i) * size for i in np.unique(labels) if i > 0}
    weights = np.zeros(labels.shape)
    if len(places) < 2:
        return weights
    for pixel in np.argwhere(labels <= 0):
        distances = sorted(
            np.sqrt(((cell - pixel * size) ** 2).sum(axis=1)).min()
            for cell in places.values()
        )
        total = distances[0] + distances[1]
        weights[tuple(pixel)] = w0 * math.exp(-(total**2) / (2 * sigma**2))
    return weights


def assert_exact(got, want):
    assert got.dtype == np.float32
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-12)


label_images = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9),
    elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 900]),
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(label_images, st.floats(0.3, 12), st.floats(0, 60))
def test_border_weights_equal_brute_force(labels, sigma, w0):
    got = border_weights(labels, w0=w0, sigma=sigma)
    assert_exact(got, brute_force(labels, w0, sigma))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(label_images, st.data())
def test_border_weights_measure_in_the_unit_of_the_spacing(labels, data):
    size = st.floats(0.1, 4)
    spacing = data.draw(st.tuples(*[size] * labels.ndim))
    got = border_weights(labels, sigma=3, spacing=spacing)
    assert_exact(got, brute_force(labels, 10, 3, spacing))


def scattered_cells(shape, n_cells, seed):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for i in range(n_cells):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        labels[max(y - 3, 0) : y + 4, max(x - 2, 0) : x + 5] = 7 * i + 3
    return labels


@pytest.mark.parametrize("seed", range(3))
def test_border_weights_of_a_field_larger_than_their_reach(seed):
    # 90 px is more than twice the reach at sigma 2: boxes are cropped here.
    labels = scattered_cells((60, 90), 14, seed)
    assert_exact(border_weights(labels, sigma=2), brute_force(labels, sigma=2))


@pytest.mark.parametrize("spacing", [(0.25, 1.0), (2.5, 0.2)])
def test_border_weights_reach_as_far_in_small_pixels(spacing):
    labels = np.zeros((40, 80), np.int32)
    labels[:4, :4], labels[-4:, -4:], labels[-4:, :4] = 1, 2, 3
    got = border_weights(labels, sigma=4, spacing=spacing)
    assert_exact(got, brute_force(labels, sigma=4, spacing=spacing))


def test_border_weight_between_two_discs_has_its_closed_form():
    y, x = np.mgrid[:41, :61]
    left = (y - 20) ** 2 + (x - 15) ** 2 <= 100
    right = (y - 20) ** 2 + (x - 43) ** 2 <= 100
    weights = border_weights(np.where(left, 1, np.where(right, 2, 0)))
    # On the axis: d1 + d2 = 33 - 25, wherever between the discs one stands.
    np.testing.assert_allclose(weights[20, 26:33], 10 * math.exp(-64 / 50), rtol=1e-6)


def test_border_weight_peaks_in_the_narrowest_gap():
    labels = np.zeros((20, 30), int)
    labels[:10, 8:12], labels[10:, 8:15] = 1, 1
    labels[:, 17:22] = 2
    weights = border_weights(labels)
    peak = np.unravel_index(weights.argmax(), weights.shape)
    assert peak[0] >= 10
    assert peak[1] in (15, 16)


def test_border_weights_are_zero_inside_cells():
    labels = scattered_cells((40, 40), 9, 0)
    weights = border_weights(labels)
    assert (weights[labels > 0] == 0).all()
    assert (weights[labels == 0] > 0).any()


@pytest.mark.parametrize("n_cells", [0, 1])
def test_border_weights_are_zero_with_fewer_than_two_cells(n_cells):
    labels = np.zeros((30, 30), np.uint8)
    labels[10:14, 10:14] = n_cells
    assert not border_weights(labels).any()


def test_an_id_in_two_pieces_is_one_cell():
    labels = np.array([[4, 0, 0, 4, 0, 0, 9]])
    assert_exact(border_weights(labels), brute_force(labels))
    assert not border_weights(np.array([[4, 0, 0, 4]])).any()


def test_pieces_far_apart_still_count():
    labels = np.zeros((3, 200), int)
    labels[1, [1, 198]] = 5
    labels[1, [6, 194]] = 8
    assert_exact(border_weights(labels), brute_force(labels))


def test_huge_ids_without_background_give_zeros():
    assert not border_weights(np.array([[1, 2**31 - 1], [5, 5]])).any()


def test_huge_ids_count_as_any_other():
    few = np.array([[3, 0, 0, 4, 0, 9]])
    huge = np.where(few == 9, 2**31 - 1, few)
    np.testing.assert_array_equal(border_weights(huge), border_weights(few))


def test_negative_ids_are_no_cells():
    labels = np.array([[-1, 0, 0, 2]])
    assert not border_weights(labels).any()


def test_cells_on_the_image_border_count():
    labels = np.zeros((12, 12), int)
    labels[0, :], labels[:, 0], labels[-1, 3:] = 1, 2, 3
    assert_exact(border_weights(labels), brute_force(labels))


def test_a_float_spacing_holds_for_all_axes():
    labels = np.array([[1, 0, 0, 2]])
    np.testing.assert_array_equal(
        border_weights(labels, spacing=0.5),
        border_weights(labels, spacing=(0.5, 0.5)),
    )


def test_a_tiny_w0_gives_zeros():
    assert not border_weights(np.array([[1, 0, 2]]), w0=1e-13).any()


def test_border_weights_leave_the_labels_alone():
    labels = np.array([[1, 0, 2**31 - 1]])
    labels.flags.writeable = False
    border_weights(labels)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"w0": -1}, "w0 is -1"),
        ({"w0": math.nan}, "w0 is nan"),
        ({"sigma": 0}, "sigma is 0"),
        ({"sigma": math.inf}, "sigma is inf"),
        ({"spacing": 0}, "spacing is 0"),
        ({"spacing": (1, -1)}, "spacing is"),
        ({"spacing": (1, 1, 1)}, "each of the 2 axes"),
        ({"spacing": (1, math.nan)}, "spacing is"),
    ],
)
def test_settings_out_of_range_are_refused(settings_, message):
    with pytest.raises(ConfigError, match=message):
        border_weights(np.ones((3, 3), int), **settings_)


def test_fractions_are_no_labels():
    with pytest.raises(LabelError, match="not whole numbers"):
        border_weights(np.array([[0.5, 1.0]]))


# --- the whole map ---------------------------------------------------------------


def test_the_map_is_one_plus_the_border_term():
    labels = scattered_cells((40, 40), 8, 1)
    got = weight_map(labels, WeightConfig(w0=20, sigma=3))
    assert_exact(got, 1 + brute_force(labels, 20, 3))


def test_the_map_of_an_array_takes_its_unpainted_pixels_as_background():
    labels = scattered_cells((30, 30), 4, 2)
    np.testing.assert_array_equal(
        weight_map(labels), weight_map(Annotation.complete(labels))
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(label_images, st.data())
def test_the_map_is_zero_exactly_where_nothing_is_known(labels, data):
    known = data.draw(hnp.arrays(bool, labels.shape))
    annotation = Annotation(labels, known=known)
    weights = weight_map(annotation)
    assert (weights[~annotation.is_known] == 0).all()
    assert (weights[annotation.is_known] >= 1).all()


def test_negative_ids_of_an_array_are_ignored():
    weights = weight_map(np.array([[1, 0, -1, 0, 2]]))
    assert weights[0, 2] == 0
    assert (weights[0, [0, 1, 3, 4]] > 0).all()


def test_painted_background_is_no_cell_but_gets_the_border_weight():
    labels = np.array([[1, 0, 5, 0, 2, 0, 0, 5, 0]])
    got = weight_map(Annotation(labels, label_class={5: 0}))
    want = 1 + brute_force(np.where(labels == 5, 0, labels))
    assert_exact(got, np.where(labels > 0, want, 0))


def test_planes_of_a_stack_are_fields_of_their_own_with_n_dims_2():
    stack = np.stack([scattered_cells((20, 20), 5, seed) for seed in range(3)])
    got = weight_map(stack, n_dims=2)
    np.testing.assert_array_equal(got, np.stack([weight_map(p) for p in stack]))
    assert not np.array_equal(got, weight_map(stack))


def test_balanced_classes_have_the_same_sum_of_weights():
    labels = np.zeros((10, 10), int)
    labels[:2], labels[2, :5] = 1, 2
    annotation = Annotation(
        labels,
        label_class={2: 2},
        known=np.ones(labels.shape, bool),
        class_names=("background", "cell", "debris"),
    )
    weights = weight_map(annotation, WeightConfig(w0=0, balance_classes=True))
    sums = [weights[annotation.class_map() == kind].sum() for kind in range(3)]
    np.testing.assert_allclose(sums, 100 / 3, rtol=1e-6)
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)


def test_class_weights_are_capped():
    labels = np.zeros((100, 100), int)
    labels[0, 0] = 1
    assert class_weights(Annotation.complete(labels)) == (10_000 / (2 * 9_999), 10.0)


def test_classes_that_do_not_occur_have_weight_1():
    assert class_weights(Annotation(np.array([[1, 1]]))) == (1.0, 1.0)
    assert class_weights(Annotation(np.array([[0, 0]]))) == (1.0, 1.0)


def test_class_weights_leave_out_what_is_unknown():
    labels = np.array([[1, 0, 0, 0]])
    known = np.array([[False, True, False, False]])
    assert class_weights(Annotation(labels, known=known)) == (1.0, 1.0)
