from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.errors import ImageError, LabelError
from napari_unet.imaging.arrays import Annotation, Image, Target, as_label_ids


def test_an_image_names_its_axes_where_there_is_one_way():
    assert Image(np.zeros((1, 4, 5))).axes == "CYX"
    assert Image(np.zeros((2, 3, 4, 5))).axes == "CZYX"


def test_an_image_tells_its_shape_in_parts():
    image = Image(np.zeros((2, 7, 3, 4, 5)), axes="CTZYX")
    assert image.n_channels == 2
    assert image.shape == (7, 3, 4, 5)
    assert image.stack_shape == (7, 3)
    assert image.plane_shape == (4, 5)


def test_planes_come_with_their_place_in_the_stack():
    data = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    planes = list(Image(data).planes())
    assert [index for index, _ in planes] == [(0,), (1,), (2,)]
    for (z,), plane in planes:
        np.testing.assert_array_equal(plane, data[:, z])


def test_a_flat_image_is_one_plane():
    data = np.arange(20).reshape(1, 4, 5)
    ((index, plane),) = Image(data).planes()
    assert index == ()
    np.testing.assert_array_equal(plane, data)


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "i8", "f2", "f8"])
def test_an_image_takes_every_real_dtype(dtype):
    assert Image(np.zeros((1, 2, 2), dtype)).data.dtype == dtype


@pytest.mark.parametrize("dtype", [complex, object, "U3"])
def test_values_that_are_no_real_numbers_are_refused(dtype):
    with pytest.raises(ImageError, match=r"photo has .* values, which are not"):
        Image(np.zeros((1, 2, 2), dtype), source="photo")


@pytest.mark.parametrize("shape", [(), (5,), (5, 5), (1, 2, 3, 4, 5)])
def test_axes_are_not_guessed(shape):
    with pytest.raises(ImageError, match=r"has \d axes"):
        Image(np.zeros(shape))


@pytest.mark.parametrize("axes", ["CZYX", "YXC", "CCX", "CXY", "YX", "CYZX"])
def test_axes_that_do_not_fit_are_refused(axes):
    with pytest.raises(ImageError, match="does not fit the axes"):
        Image(np.zeros((1, 2, 3)), axes=axes)


def test_an_empty_image_is_refused():
    with pytest.raises(ImageError, match=r"empty image \(1, 0, 3\)"):
        Image(np.zeros((1, 0, 3)))


# --- annotations -------------------------------------------------------------------


def test_only_what_is_painted_is_known_at_first():
    annotation = Annotation(np.array([[0, 1], [2, 0]]))
    np.testing.assert_array_equal(annotation.is_known, [[False, True], [True, False]])


def test_a_complete_annotation_is_known_everywhere():
    assert Annotation.complete(np.array([[0, 1]])).is_known.all()


def test_finished_regions_are_known_and_so_is_paint_outside():
    known = np.array([[True, False, False]])
    annotation = Annotation(np.array([[0, 0, 4]]), known=known)
    np.testing.assert_array_equal(annotation.is_known, [[True, False, True]])


def test_negative_ids_are_ignored_pixels():
    annotation = Annotation.complete(np.array([[-1, 0, 3]]))
    np.testing.assert_array_equal(annotation.labels, [[0, 0, 3]])
    np.testing.assert_array_equal(annotation.is_known, [[False, True, True]])


def test_classes_follow_the_ids():
    annotation = Annotation(
        np.array([[0, 5], [7, 9]]),
        label_class={5: 0, 9: 2},
        class_names=("background", "cell", "debris"),
    )
    np.testing.assert_array_equal(annotation.class_map(), [[0, 0], [1, 2]])
    assert annotation.class_map().dtype == np.int16


def test_an_annotation_can_not_change_under_its_reader():
    labels, known, classes = np.array([[1, 0]]), np.array([[True, True]]), {1: 0}
    annotation = Annotation(labels, label_class=classes, known=known)
    labels[:], known[:], classes[1] = 9, False, 1
    np.testing.assert_array_equal(annotation.labels, [[1, 0]])
    assert annotation.is_known.all()
    assert annotation.label_class == {1: 0}
    with pytest.raises(TypeError, match="item assignment"):
        annotation.label_class[1] = 1


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(LabelError, match=r"\(1, 2\) but `known` of shape \(2, 1\)"):
        Annotation(np.zeros((1, 2), int), known=np.zeros((2, 1), bool))


def test_a_class_without_a_name_is_refused():
    with pytest.raises(LabelError, match="uses class 2 but only 2 classes"):
        Annotation(np.ones((2, 2), int), label_class={1: 2})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(["u1", "i1", "u2", ">i4", "i8"]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=2),
            elements=st.integers(-100 if "i" in dtype else 0, 100),
        )
    )
)
def test_ids_survive_every_integer_dtype(labels):
    got = as_label_ids(labels, source="x")
    np.testing.assert_array_equal(got, np.where(labels > 0, labels, 0))
    assert got.dtype == np.int32
    assert not np.shares_memory(got, labels)


def test_whole_floats_and_masks_are_labels():
    np.testing.assert_array_equal(
        as_label_ids(np.array([[0.0, 3.0]]), source="x"), [[0, 3]]
    )
    np.testing.assert_array_equal(
        as_label_ids(np.array([[False, True]]), source="x"), [[0, 1]]
    )


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_fractions_are_no_ids(value):
    with pytest.raises(LabelError, match=r"m\.tif holds values that are not whole"):
        as_label_ids(np.array([[0.0, value]]), source="m.tif")


def test_words_are_no_ids():
    with pytest.raises(LabelError, match="has <U1 values"):
        as_label_ids(np.array([["a"]]), source="m.tif")


@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.uint64, np.float64])
def test_the_highest_id_is_that_of_int32(dtype):
    assert as_label_ids(np.array([[2**31 - 1]], dtype), source="x").max() == 2**31 - 1


def test_float32_holds_ids_up_to_the_last_below_2_to_the_31():
    last = np.nextafter(np.float32(2**31), np.float32(0))
    got = as_label_ids(np.array([[-last, last]]), source="x")
    assert got.tolist() == [[0, 2**31 - 128]]


@pytest.mark.parametrize("dtype", ["u4", "i8", ">i8", "u8", "f4", ">f4", "f8", "g"])
@pytest.mark.parametrize("power", [31, 32, 62, 63, 120])
def test_ids_beyond_int32_are_refused(dtype, power):
    number = 2**power
    if np.dtype(dtype).kind != "f":
        number = min(number, int(np.iinfo(dtype).max))
    for copy in (True, False):
        with pytest.raises(LabelError, match="ids above 2147483647"):
            as_label_ids(np.array([[0, number]], dtype), source="x", copy=copy)


@pytest.mark.parametrize("copy", [True, False])
def test_the_highest_float16_is_an_id(copy):
    array = np.array([[65504, -65504]], np.float16)
    assert as_label_ids(array, source="x", copy=copy).tolist() == [[65504, 0]]


@pytest.mark.parametrize("shape", [(3,), (0, 3), ()])
def test_what_is_no_field_is_no_label_image(shape):
    with pytest.raises(LabelError, match="is no label image"):
        as_label_ids(np.zeros(shape, int), source="x")


def test_a_target_may_have_classes_only():
    target = Target(np.zeros((2, 2), np.int16), np.ones((2, 2), np.float32))
    assert target.values is None


def test_cells_are_what_is_neither_background_nor_area():
    labels = np.array([[1, 2, 3, 0, 7]])
    annotation = Annotation(
        labels,
        label_class={2: 0, 3: 2},
        class_names=("background", "cell", "tissue"),
        area_classes=frozenset({2}),
    )
    assert annotation.cells().tolist() == [[1, 0, 0, 0, 7]]


def test_unnamed_ids_are_areas_where_class_1_is_one():
    annotation = Annotation(
        np.array([[1, 2, 0]]),
        label_class={2: 2},
        class_names=("background", "membrane", "cell"),
        area_classes=frozenset({1}),
    )
    assert annotation.cells().tolist() == [[0, 2, 0]]


@pytest.mark.parametrize(
    "classes", [{"area_classes": frozenset({2})}, {"class_colors": ("#ff0000",)}]
)
def test_classes_that_do_not_fit_are_refused(classes):
    with pytest.raises(LabelError, match="class"):
        Annotation(np.ones((2, 2), int), **classes)
