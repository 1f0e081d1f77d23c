from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError, LabelError
from napari_unet.imaging import weight_maps, windows
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.weight_formulas import Formula, grid_of
from napari_unet.imaging.weight_maps import (
    border_weights,
    class_weights,
    explain_pixel,
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


# --- the whole map --------------------------------------------------------------


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


# --- both formulas, against the definition ------------------------------------------


def map_by_definition(annotation, config, size=None):
    """Both formulas as published, pixel by pixel, in float64."""
    cells, classes = annotation.cells(), annotation.class_map()
    size = np.ones(cells.ndim) if size is None else np.asarray(size)
    places = {i: np.argwhere(cells == i) * size for i in np.unique(cells) if i > 0}
    factors = class_weights(annotation) if config.balance_classes else [1.0] * 99
    weights = np.zeros(cells.shape)
    for pixel in np.argwhere(annotation.is_known):
        kind = classes[tuple(pixel)]
        d1, d2 = sorted(
            [np.sqrt(((p - pixel * size) ** 2).sum(1)).min() for p in places.values()]
            + [math.inf, math.inf]
        )[:2]
        weight = 1.0
        if config.formula == "falk2019" and kind == 0:
            fall = math.exp(-(d1**2) / (2 * config.sigma1**2))
            weight = config.v_bal + (1 - config.v_bal) * fall
        weight *= factors[kind]
        if kind == 0:
            weight += config.w0 * math.exp(-((d1 + d2) ** 2) / (2 * config.sigma**2))
        weights[tuple(pixel)] = weight
    return weights


@st.composite
def annotations(draw):
    """Cells that touch, in pieces, on the border; areas; painted background."""
    labels = draw(label_images)
    return Annotation(
        labels,
        label_class={3: draw(st.integers(0, 2))},
        known=draw(hnp.arrays(bool, labels.shape)),
        class_names=("background", "cell", "debris"),
        area_classes=draw(st.sampled_from([frozenset(), frozenset({2})])),
    )


configs = st.builds(
    WeightConfig,
    formula=st.sampled_from(["ronneberger2015", "falk2019"]),
    w0=st.floats(0, 60),
    sigma=st.floats(0.3, 12),
    unit=st.sampled_from(["px", "um"]),
    v_bal=st.floats(0.01, 1),
    sigma1=st.floats(0.3, 12),
    balance_classes=st.booleans(),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(annotations(), configs, st.data())
def test_both_formulas_equal_their_definition(annotation, config, data):
    n_axes = annotation.labels.ndim
    pixel_size_um = data.draw(st.tuples(*[st.floats(0.1, 4)] * n_axes))
    size = pixel_size_um if config.unit == "um" else None
    want = map_by_definition(annotation, config, size)
    got = weight_map(annotation, config, pixel_size_um=pixel_size_um)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=0)
    grid = grid_of(config, n_axes, pixel_size_um, source="x")
    exact = weight_maps._weigh(annotation, Formula(config, grid, np.float64), n_axes)
    np.testing.assert_allclose(exact, want, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(got == 0, ~annotation.is_known)


@pytest.mark.parametrize("formula", ["ronneberger2015", "falk2019"])
def test_the_whole_weight_is_exact_far_from_cells_as_well(formula):
    labels = scattered_cells((70, 110), 6, 3)
    config = WeightConfig(formula=formula, sigma=3, sigma1=6)
    annotation = Annotation.complete(labels)
    want = map_by_definition(annotation, config)
    np.testing.assert_allclose(weight_map(annotation, config), want, rtol=1e-6)
    grid = grid_of(config, 2, None, source="x")
    exact = weight_maps._weigh(annotation, Formula(config, grid, np.float64), 2)
    np.testing.assert_allclose(exact, want, rtol=1e-12)


@pytest.mark.parametrize("formula", ["ronneberger2015", "falk2019"])
def test_a_map_of_several_blocks_is_that_of_one(formula, monkeypatch):
    labels = scattered_cells((70, 110), 20, 4)
    config = WeightConfig(formula=formula, sigma=3, sigma1=6)
    in_one = weight_map(labels, config), border_weights(labels, sigma=3)
    monkeypatch.setattr(weight_maps, "SMALL_BLOCK_PX", 900)
    monkeypatch.setattr(
        weight_maps, "blocks", lambda shape, n=2000: windows.blocks(shape, n)
    )
    in_many = weight_map(labels, config), border_weights(labels, sigma=3)
    np.testing.assert_array_equal(in_many[0], in_one[0])
    np.testing.assert_array_equal(in_many[1], in_one[1])


def test_falk2019_beside_two_discs_has_its_closed_form():
    y, x = np.mgrid[:41, :201]
    left = (y - 20) ** 2 + (x - 15) ** 2 <= 100
    right = (y - 20) ** 2 + (x - 43) ** 2 <= 100
    labels = np.where(left, 1, np.where(right, 2, 0))
    weights = weight_map(labels, WeightConfig.falk2019())
    assert (weights[labels > 0] == 1).all()
    far = 0.1 + 0.9 * math.exp(-((100 - 53) ** 2) / 200)
    np.testing.assert_allclose(weights[20, 100], far, rtol=1e-6)
    middle = 0.1 + 0.9 * math.exp(-16 / 200) + 50 * math.exp(-64 / 72)
    np.testing.assert_allclose(weights[20, 29], middle, rtol=1e-6)
    np.testing.assert_allclose(weights[20, 200], 0.1, rtol=1e-6)


def test_without_any_cell_background_weighs_v_bal_in_falk2019():
    weights = weight_map(np.zeros((5, 5), int), WeightConfig.falk2019())
    np.testing.assert_array_equal(weights, np.float32(0.1))


def test_micrometres_weigh_as_pixels_of_that_size():
    labels = scattered_cells((40, 40), 8, 5)
    in_um = WeightConfig.falk2019().model_copy(
        update={"unit": "um", "sigma": 1.5, "sigma1": 2.5}
    )
    in_px = WeightConfig.falk2019()  # sigma 6 and sigma1 10: 4 px to the micrometre
    got = weight_map(labels, in_um, pixel_size_um=(0.25, 0.25))
    np.testing.assert_allclose(got, weight_map(labels, in_px), rtol=1e-6)


def test_pixels_do_not_care_for_the_pixel_size():
    labels = scattered_cells((40, 40), 8, 5)
    got = weight_map(labels, pixel_size_um=(0.5, 0.25))
    np.testing.assert_array_equal(got, weight_map(labels))


def test_planes_of_a_stack_take_the_pixel_size_along_y_and_x():
    stack = np.stack([scattered_cells((20, 20), 5, seed) for seed in range(2)])
    config = WeightConfig(unit="um", sigma=2)
    got = weight_map(stack, config, n_dims=2, pixel_size_um=(9.0, 0.5, 0.25))
    for plane, weights in zip(stack, got, strict=True):
        alone = weight_map(plane, config, pixel_size_um=(0.5, 0.25))
        np.testing.assert_array_equal(weights, alone)


@pytest.mark.parametrize("size", [None, (0.5,), ()])
def test_micrometres_need_a_pixel_size(size):
    annotation = Annotation(np.array([[1, 0]]), source="a.tif")
    with pytest.raises(ConfigError, match=r"a\.tif has no pixel size") as caught:
        weight_map(annotation, WeightConfig(unit="um"), pixel_size_um=size)
    assert caught.value.code == "NU-C07"


def test_a_pixel_size_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="pixel_size_um is"):
        weight_map(
            np.array([[1, 0]]), WeightConfig(unit="um"), pixel_size_um=(0.0, 1.0)
        )


def test_areas_get_no_border_weight_and_give_none():
    labels = np.array([[1, 1, 0, 2, 2, 0, 3, 3]])
    annotation = Annotation(
        labels,
        label_class={2: 2},
        known=np.ones(labels.shape, bool),
        class_names=("background", "cell", "tissue"),
        area_classes=frozenset({2}),
    )
    want = 1 + brute_force(np.where(labels == 2, 0, labels))
    assert_exact(weight_map(annotation), np.where(labels == 2, 1, want))


def test_areas_far_from_cells_count_in_full_in_falk2019():
    annotation = Annotation(
        np.array([[1, 0, 0, 0, 2, 0]]),
        label_class={2: 2},
        known=np.ones((1, 6), bool),
        class_names=("background", "cell", "tissue"),
        area_classes=frozenset({2}),
    )
    weights = weight_map(annotation, WeightConfig.falk2019())
    assert weights[0, 4] == 1
    # Background beside the area is as far from a cell as it is.
    far = 0.1 + 0.9 * math.exp(-25 / 200)
    np.testing.assert_allclose(weights[0, 5], far, rtol=1e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(label_images, st.sampled_from([1, 2, 3, 900]))
def test_a_cell_that_nobody_painted_changes_nothing_elsewhere(labels, erased):
    known = np.random.default_rng(0).random(labels.shape) < 0.5
    known &= labels != erased
    without = np.where(labels == erased, 0, labels)
    weights = weight_map(Annotation(without, known=known))
    others = 1 + brute_force(without)
    assert_exact(weights, np.where(known | (without > 0), others, 0))
    assert (weights[labels == erased] == 0).all()


# --- one pixel, explained -------------------------------------------------------------


@settings(max_examples=150, deadline=None, derandomize=True)
@given(annotations(), configs, st.data())
def test_an_explained_pixel_has_the_weight_of_the_map(annotation, config, data):
    n_axes = annotation.labels.ndim
    sizes = st.sampled_from([0.5, 0.5, 0.3, 1.0, 2.0])
    size = {"pixel_size_um": data.draw(st.tuples(*[sizes] * n_axes))}
    weights = weight_map(annotation, config, **size)
    sides = [st.integers(0, n - 1) for n in weights.shape]
    position = data.draw(st.tuples(*sides))
    pixel = explain_pixel(annotation, position, config, n_dims=n_axes, **size)
    assert pixel.weight == weights[position]
    assert pixel.is_known == annotation.is_known[position]
    assert pixel.class_index == annotation.class_map()[position]
    factors = class_weights(annotation)
    expected = factors[pixel.class_index] if config.balance_classes else 1.0
    assert pixel.class_weight == pytest.approx(expected)


def test_an_explained_pixel_names_both_cells_and_where_they_are_nearest():
    labels = np.zeros((9, 20), int)
    labels[2:5, 2:5], labels[5:8, 12:15], labels[0, 19] = 7, 900, 3
    pixel = explain_pixel(Annotation.complete(labels), (4, 8), WeightConfig())
    assert (pixel.d1, pixel.first, pixel.first_at) == (4.0, 7, (4, 4))
    assert pixel.d2 == pytest.approx(math.hypot(1, 4))
    assert (pixel.second, pixel.second_at) == (900, (5, 12))
    term = 10 * math.exp(-((4 + math.hypot(1, 4)) ** 2) / 50)
    assert pixel.border == pytest.approx(term, rel=1e-6)
    assert pixel.weight == pytest.approx(1 + term, rel=1e-6)


def test_inside_a_cell_its_own_distance_is_zero_and_the_border_term_too():
    labels = np.array([[1, 1, 0, 0, 2]])
    pixel = explain_pixel(Annotation.complete(labels), (0, 0), WeightConfig())
    assert (pixel.d1, pixel.first, pixel.d2, pixel.second) == (0.0, 1, 4.0, 2)
    assert (pixel.border, pixel.weight, pixel.class_index) == (0.0, 1.0, 1)


def test_cells_beyond_reach_are_not_named():
    labels = np.zeros((1, 100), int)
    labels[0, 0], labels[0, 99] = 1, 2
    annotation = Annotation.complete(labels)
    near = explain_pixel(annotation, (0, 30), WeightConfig())
    assert (near.first, near.second, near.d2, near.second_at) == (1, None, None, None)
    far = explain_pixel(annotation, (0, 50), WeightConfig())
    assert (far.first, far.d1, far.first_at, far.weight) == (None, None, None, 1.0)


def test_cells_beyond_reach_are_not_named_across_a_corner_either():
    labels = np.zeros((40, 40), int)
    labels[0, 0] = 1  # 35 px away along both axes, 49.5 px in all
    pixel = explain_pixel(Annotation.complete(labels), (35, 35), WeightConfig())
    assert (pixel.first, pixel.d1) == (None, None)


def test_cells_are_named_even_if_w0_is_zero():
    annotation = Annotation.complete(np.array([[1, 0, 0, 2]]))
    pixel = explain_pixel(annotation, (0, 1), WeightConfig(w0=0))
    assert (pixel.d1, pixel.d2, pixel.border) == (1.0, 2.0, 0.0)


def test_an_unknown_pixel_weighs_nothing_whatever_lies_beside():
    annotation = Annotation(np.array([[1, 0, 2]]))
    pixel = explain_pixel(annotation, (0, 1), WeightConfig())
    assert not pixel.is_known
    assert (pixel.weight, pixel.border, pixel.d1, pixel.d2) == (0.0, 0.0, 1.0, 1.0)


def test_a_pixel_of_a_stack_is_explained_in_its_own_plane():
    stack = np.zeros((2, 3, 12), int)
    stack[0, 1, 0], stack[0, 1, 8], stack[1, 1, 5] = 1, 2, 3
    pixel = explain_pixel(Annotation.complete(stack), (0, 1, 3), WeightConfig())
    assert (pixel.first, pixel.second) == (1, 2)
    assert (pixel.first_at, pixel.second_at) == ((1, 0), (1, 8))


def test_factors_that_are_known_are_not_counted_again():
    annotation = Annotation.complete(np.array([[1, 0, 0]]))
    config = WeightConfig(balance_classes=True)
    pixel = explain_pixel(annotation, (0, 0), config, factors=(0.5, 4.0))
    assert (pixel.class_weight, pixel.weight) == (4.0, 4.0)
