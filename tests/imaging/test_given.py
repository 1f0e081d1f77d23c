"""What callers give wrongly is refused in one sentence, and never computed with."""

from __future__ import annotations

import numpy as np
import pytest

import napari_unet as nu
from napari_unet.errors import ConfigError, ImageError, LabelError
from napari_unet.files.inputs import as_image
from napari_unet.imaging.targets import cut_annotation, separate_touching
from napari_unet.imaging.weight_maps import explain_pixel

PLANE = np.array([[1, 0, 2], [1, 0, 2]])
RAGGED = [[1, 2], [3]]


def refusal(kind, code, call, *args, **kwargs) -> str:
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    assert caught.value.code == code
    message = caught.value.message
    assert "\n" not in message
    assert len(message) < 250
    return message


# --- arrays ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        nu.Annotation,
        nu.Annotation.complete,
        nu.border_weights,
        nu.weight_map,
        nu.make_target,
        separate_touching,
        lambda labels: nu.score(labels, PLANE),
        lambda labels: nu.score(PLANE, labels),
    ],
)
def test_rows_of_several_lengths_are_no_labels(call):
    assert "give rows of one length" in refusal(LabelError, "NU-L01", call, RAGGED)


@pytest.mark.parametrize("call", [as_image, nu.Image])
def test_rows_of_several_lengths_are_no_image(call):
    message = refusal(ImageError, "NU-I07", call, RAGGED)
    assert "rows of numbers of one length" in message


@pytest.mark.parametrize("data", [None, "x", {}, object()])
def test_what_holds_no_numbers_is_no_image(data):
    assert "values" in refusal(ImageError, "NU-I07", nu.Image, data)


def test_an_image_may_be_a_list():
    assert nu.Image([[[1, 2]]]).shape == (1, 2)


def test_labels_may_be_lists():
    expected = nu.weight_map(PLANE)
    np.testing.assert_array_equal(nu.weight_map(PLANE.tolist()), expected)
    assert nu.score(PLANE.tolist(), PLANE).iou == 1


# --- numbers -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w0", "sigma"])
@pytest.mark.parametrize(
    "value",
    ["10", None, 1j, np.ones(3), np.ones((99, 99)), [], {}, 1e300, 1e39, -1, np.nan],
)
def test_what_is_no_height_or_width_is_refused(name, value):
    message = refusal(ConfigError, "NU-C01", nu.border_weights, PLANE, **{name: value})
    assert message.startswith(f"{name} is ")
    assert "give a number from 0" in message or "give a number from 1e-30" in message


@pytest.mark.parametrize("value", [3, np.float32(3), np.int64(3), True])
def test_numbers_of_any_kind_are_heights(value):
    expected = nu.border_weights(PLANE, w0=float(value))
    np.testing.assert_array_equal(nu.border_weights(PLANE, w0=value), expected)


@pytest.mark.parametrize(
    "spacing",
    ["ab", "12", {}, {1: 2}, (1e-300, 1e300), (1, None), [[1, 2], [3]], 1j, 0, -1],
)
def test_what_is_no_size_of_a_pixel_is_refused(spacing):
    message = refusal(ConfigError, "NU-C01", nu.border_weights, PLANE, spacing=spacing)
    assert message.startswith("spacing is ")


@pytest.mark.parametrize("w0", [1e-30, 1e30])
@pytest.mark.parametrize("sigma", [1e-30, 1e30])
@pytest.mark.parametrize("spacing", [1e-30, 1e30, (1e-30, 1e30), (1e30, 1e-30)])
def test_what_is_taken_gives_finite_weights(w0, sigma, spacing):
    weights = nu.border_weights(PLANE, w0=w0, sigma=sigma, spacing=spacing)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("size", [0.5, "xx", "12", {1: 2}, (0.0, 1.0), (1, "a"), 1j])
@pytest.mark.parametrize("call", [nu.weight_map, nu.make_target])
def test_what_is_no_pixel_size_is_refused(call, size):
    message = refusal(
        ConfigError,
        "NU-C01",
        call,
        PLANE,
        nu.WeightConfig(unit="um"),
        pixel_size_um=size,
    )
    assert message.startswith("pixel_size_um is ")


@pytest.mark.parametrize("n_dims", [5, 3, 1, 0, -1, "2", 2.0, [2]])
@pytest.mark.parametrize(
    "call",
    [
        nu.weight_map,
        nu.make_target,
        separate_touching,
        lambda labels, n_dims: cut_annotation(nu.Annotation(labels), n_dims=n_dims),
        lambda labels, n_dims: explain_pixel(
            nu.Annotation(labels), (0, 1), nu.WeightConfig(), n_dims=n_dims
        ),
    ],
)
def test_a_field_has_2_or_3_axes_and_no_more_than_there_are(call, n_dims):
    message = refusal(ConfigError, "NU-C01", call, PLANE, n_dims=n_dims)
    assert "give 2 for planes, or 3 for volumes" in message


def test_fields_of_2_and_3_axes_are_taken():
    stack = np.stack([PLANE, PLANE])
    planes = nu.weight_map(stack, n_dims=np.int64(2))
    np.testing.assert_array_equal(planes[1], nu.weight_map(PLANE))
    np.testing.assert_array_equal(nu.weight_map(stack, n_dims=3), nu.weight_map(stack))


@pytest.mark.parametrize("config", [{"sigma": 3}, {}, "falk2019", 3])
@pytest.mark.parametrize("call", [nu.weight_map, nu.make_target])
def test_settings_are_a_weight_config(call, config):
    message = refusal(ConfigError, "NU-C01", call, PLANE, config)
    assert "give a WeightConfig" in message


# --- what an annotation is made from -------------------------------------------------


@pytest.mark.parametrize("known", [[[0, 1, 0]], np.array([[0.0, 1.0, 0.0]])])
def test_known_may_be_lists_and_zeros_and_ones(known):
    annotation = nu.Annotation([[0, 0, 5]], known=known)
    assert annotation.is_known.tolist() == [[False, True, True]]


@pytest.mark.parametrize(
    ("known", "code", "message"),
    [
        ([["False"]], "NU-L01", "give True"),
        ([[2]], "NU-L01", "give True"),
        ([[0.5]], "NU-L01", "give True"),
        ([[np.nan]], "NU-L01", "give True"),
        ([[None]], "NU-L01", "give True"),
        (RAGGED, "NU-L01", "`known` of annotation is no array"),
        ([True], "NU-L02", r"`known` of shape (1,)"),
        (True, "NU-L02", r"`known` of shape ()"),
    ],
)
def test_what_is_no_truth_is_not_known(known, code, message):
    assert message in refusal(LabelError, code, nu.Annotation, [[0]], known=known)


@pytest.mark.parametrize(
    ("label_class", "message"),
    [
        ([0, 1], "give a mapping"),
        (None, "give a mapping"),
        ("1", "give a mapping"),
        ({1: "cell"}, "uses class 'cell'"),
        ({1: -1}, "uses class -1: classes are whole numbers, from 0"),
        ({1: 1.5}, "uses class 1.5"),
        ({1: None}, "uses class None"),
        ({1: [1]}, "uses class [1]"),
        ({1: 2}, "uses class 2 but only 2 classes"),
        ({"1": 1}, "ids are whole numbers"),
        ({1.5: 1}, "ids are whole numbers"),
    ],
)
def test_classes_of_ids_are_whole_numbers(label_class, message):
    found = refusal(LabelError, "NU-L06", nu.Annotation, [[1]], label_class)
    assert found.startswith("annotation ")
    assert message in found


def test_numpy_numbers_are_classes_and_ids():
    annotation = nu.Annotation([[7]], {np.int32(7): np.int16(0)})
    assert annotation.label_class == {7: 0}
    assert all(type(i) is int for pair in annotation.label_class.items() for i in pair)


@pytest.mark.parametrize(
    ("areas", "message"),
    [
        ({0}, "uses class 0: classes are whole numbers, from 1"),
        ({-1}, "uses class -1"),
        ({1.5}, "uses class 1.5"),
        ({2}, "uses class 2 but only 2 classes"),
        ({"cell"}, "uses class 'cell'"),
        (1, "give a set of classes"),
        ("1", "give a set of classes"),
        (None, "give a set of classes"),
    ],
)
def test_areas_are_classes_above_background(areas, message):
    found = refusal(LabelError, "NU-L06", nu.Annotation, [[1]], area_classes=areas)
    assert message in found


def test_areas_may_be_a_list():
    assert nu.Annotation([[1]], area_classes=[1]).area_classes == frozenset({1})


@pytest.mark.parametrize(
    "colors",
    [
        ("red", "x"),
        ("#fff", "#000"),
        ("#00000g", "#000000"),
        ("#000000\n", "#000000"),
        (1, 2),
        ("#000000",),
        "#000000",
        "",
        None,
        3,
    ],
)
def test_colours_are_six_hex_digits_one_a_class(colors):
    message = refusal(LabelError, "NU-L06", nu.Annotation, [[1]], class_colors=colors)
    assert "class colours" in message


def test_colours_may_be_a_list():
    annotation = nu.Annotation([[1]], class_colors=["#000000", "#Ff8000"])
    assert annotation.class_colors == ("#000000", "#Ff8000")
    assert nu.Annotation([[1]], class_colors=[]).class_colors == ()


@pytest.mark.parametrize(
    "names",
    [("background", "a", "a"), (), "ab", None, 3, ("background", ""), ("a", 3), {}],
)
def test_each_class_has_a_name_of_its_own(names):
    message = refusal(LabelError, "NU-L06", nu.Annotation, [[1]], class_names=names)
    assert "give each class a name of its own" in message


def test_cells_need_a_class_above_background():
    message = refusal(
        LabelError,
        "NU-L06",
        nu.Annotation,
        [[3, 4, 0]],
        {3: 0},
        class_names=["background"],
    )
    assert "uses class 1, as of id 4, but only background has a name" in message
    alone = nu.Annotation([[3, 0]], {3: 0}, class_names=["background"])
    assert nu.weight_map(alone).tolist() == [[1, 0]]
