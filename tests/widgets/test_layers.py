"""Layers <-> core types."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from napari.utils._proxies import PublicOnlyProxy

from napari_unet.errors import ImageError
from napari_unet.widgets._layers import (
    about,
    axes_choices,
    dropped_alpha,
    image_from_layers,
    layer_choices,
    lies_on,
    note_about,
    show_image,
    show_labels,
    unwrapped,
)

# -- choices -------------------------------------------------------------------


def test_choices_are_the_layers_of_a_kind_topmost_first() -> None:
    viewer = ViewerModel()
    a = viewer.add_image(np.zeros((4, 5)))
    labels = viewer.add_labels(np.zeros((4, 5), np.int32))
    shapes = viewer.add_shapes()
    b = viewer.add_image(np.zeros((4, 5)))
    assert layer_choices(viewer, "image") == [b, a]
    assert layer_choices(viewer, "labels") == [labels]
    assert layer_choices(viewer, "shapes") == [shapes]


def test_shown_weights_are_no_image_to_train_on() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 5)))
    show_image(viewer, "weights", np.zeros((4, 5)), like=image)
    assert layer_choices(viewer, "image") == [image]


# -- one layer -> image --------------------------------------------------------


def test_plane_becomes_one_channel_with_pixel_size_in_micrometres() -> None:
    data = np.arange(20).reshape(4, 5)
    layer = ImageLayer(data, scale=(500, 250), units=("nm", "nm"), name="a")
    image = image_from_layers([layer])
    assert image.axes == "CYX"
    assert image.source == 'image "a"'
    np.testing.assert_array_equal(image.data[0], data)
    assert image.pixel_size_um == pytest.approx((0.5, 0.25))


def test_layer_in_pixels_has_no_pixel_size_whatever_its_scale() -> None:
    assert (
        image_from_layers([ImageLayer(np.ones((4, 5)), scale=(2, 2))]).pixel_size_um
        is None
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float64, bool])
def test_any_real_dtype_is_kept(dtype: type) -> None:
    layer = ImageLayer(np.ones((4, 5), dtype))
    assert image_from_layers([layer]).data.dtype == dtype


def test_rgb_becomes_three_channels_and_alpha_is_told() -> None:
    data = np.random.default_rng(0).integers(0, 255, (6, 7, 4), np.uint8)
    layer = ImageLayer(data, rgb=True, name="stain")
    image = image_from_layers([layer])
    assert image.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(image.data, data.transpose(2, 0, 1)[:3])
    assert dropped_alpha([layer]) == ['The alpha channel of image "stain" is not used.']
    assert dropped_alpha([ImageLayer(data[..., :3], rgb=True)]) == []


def test_multiscale_gives_full_resolution() -> None:
    full = np.random.default_rng(0).random((64, 64))
    layer = ImageLayer([full, full[::2, ::2]], multiscale=True)
    np.testing.assert_array_equal(image_from_layers([layer]).data[0], full)


def test_dask_stays_lazy() -> None:
    layer = ImageLayer(da.zeros((3, 64, 64), chunks=(1, 64, 64)))
    assert isinstance(image_from_layers([layer], "ZYX").data, da.Array)


# -- axes ----------------------------------------------------------------------


def test_unnamed_third_axis_is_refused_with_the_choices() -> None:
    layer = ImageLayer(np.zeros((3, 4, 5)), name="stack")
    assert axes_choices(layer) == ["ZYX", "TYX", "CYX"]
    with pytest.raises(ImageError, match=r'"stack".*ZYX or TYX or CYX.*NU-I09'):
        image_from_layers([layer])


@pytest.mark.parametrize(
    ("axes", "expected", "shape"),
    [("ZYX", "CZYX", (3, 4, 5)), ("TYX", "CTYX", (3, 4, 5)), ("CYX", "CYX", (4, 5))],
)
def test_user_names_the_axes(axes: str, expected: str, shape: tuple[int, ...]) -> None:
    image = image_from_layers([ImageLayer(np.zeros((3, 4, 5)))], axes)
    assert (image.axes, image.shape) == (expected, shape)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("z", "y", "x"), "CZYX"),
        (("T", "Y", "X"), "CTYX"),
        (("channel", "y", "x"), "CYX"),
    ],
)
def test_axis_labels_name_the_axes(labels: tuple[str, ...], expected: str) -> None:
    layer = ImageLayer(np.zeros((3, 4, 5)), axis_labels=labels)
    assert axes_choices(layer) == []
    assert image_from_layers([layer]).axes == expected


def test_axis_labels_in_an_order_we_cannot_use_are_asked_for() -> None:
    layer = ImageLayer(np.zeros((3, 4, 5)), axis_labels=("x", "y", "z"))
    assert axes_choices(layer) == ["ZYX", "TYX", "CYX"]


def test_user_overrules_axis_labels() -> None:
    layer = ImageLayer(np.zeros((3, 4, 5)), axis_labels=("z", "y", "x"))
    assert image_from_layers([layer], "tyx").axes == "CTYX"


@pytest.mark.parametrize("axes", ["YX", "ZZYX", "XYZ"])
def test_axes_that_do_not_fit_are_refused(axes: str) -> None:
    with pytest.raises(ImageError, match=r"can't have the axes .*ZYX or TYX"):
        image_from_layers([ImageLayer(np.zeros((3, 4, 5)))], axes)


def test_rgb_stack_has_no_further_channels() -> None:
    layer = ImageLayer(np.zeros((2, 4, 5, 3), np.uint8), rgb=True)
    assert image_from_layers([layer], "ZYX").data.shape == (3, 2, 4, 5)
    with pytest.raises(ImageError, match="NU-I09"):
        image_from_layers([layer], "CYX")


def test_pixel_size_follows_the_spatial_axes() -> None:
    layer = ImageLayer(
        np.zeros((2, 3, 4, 5)),
        scale=(30, 2, 0.5, 0.25),
        units=("s", "um", "um", "um"),
        axis_labels=("t", "z", "y", "x"),
    )
    assert image_from_layers([layer]).pixel_size_um == pytest.approx((2, 0.5, 0.25))


# -- several layers ------------------------------------------------------------


def test_layers_of_one_shape_become_channels() -> None:
    layers = [ImageLayer(np.full((4, 5), i), name=f"c{i}") for i in range(3)]
    image = image_from_layers(layers)
    assert image.channel_names == ("c0", "c1", "c2")
    assert image.data[:, 0, 0].tolist() == [0, 1, 2]


def test_layers_of_other_shapes_are_refused() -> None:
    layers = [
        ImageLayer(np.zeros((4, 5)), name="a"),
        ImageLayer(np.zeros((4, 6)), name="b"),
    ]
    with pytest.raises(ImageError, match=r'"b" is 4 x 6 but "a" is 4 x 5.*NU-I11'):
        image_from_layers(layers)


def test_colour_layer_beside_others_is_refused() -> None:
    layers = [ImageLayer(np.zeros((4, 5))), ImageLayer(np.zeros((4, 5, 3)), rgb=True)]
    with pytest.raises(ImageError, match="several channels by itself"):
        image_from_layers(layers)


def test_no_layer_is_refused() -> None:
    with pytest.raises(ImageError, match="no image layer is chosen"):
        image_from_layers([])


# -- results -------------------------------------------------------------------


def test_labels_lie_where_the_image_lies() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(
        np.zeros((3, 4, 5)),
        scale=(2, 0.5, 0.25),
        translate=(1, 2, 3),
        units=("um", "um", "um"),
        axis_labels=("c", "y", "x"),
        rotate=0,
    )
    volume = show_labels(viewer, "v", np.zeros((3, 4, 5), np.int32), like=like)
    plane = show_labels(viewer, "p", np.zeros((4, 5), np.int32), like=like)
    for layer in (volume, plane):
        np.testing.assert_array_equal(layer.scale, like.scale[-layer.ndim :])
        np.testing.assert_array_equal(layer.translate, like.translate[-layer.ndim :])
        assert layer.units == like.units[-layer.ndim :]
        assert layer.axis_labels == like.axis_labels[-layer.ndim :]


def test_rotated_image_gets_rotated_labels() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((4, 5)), rotate=30)
    labels = show_labels(viewer, "p", np.zeros((4, 5), np.int32), like=like)
    np.testing.assert_allclose(labels.data_to_world((1, 2)), like.data_to_world((1, 2)))


@pytest.mark.parametrize("ndim", [2, 3])
def test_finer_results_cover_the_pixels_that_they_divide(ndim) -> None:
    viewer = ViewerModel()
    turned = {
        "rotate": 30,
        "shear": [0.2],
        "affine": [[1, 0.1, 5], [0, 2, 7], [0, 0, 1]],
    }
    like = viewer.add_image(
        np.zeros((3, 4, 5)[-ndim:]),
        scale=(2, 0.5, 0.25)[-ndim:],
        translate=(1, 2, 3)[-ndim:],
        **(turned if ndim == 2 else {}),
    )
    fine = (3, 8, 20)[-ndim:]
    times = np.array((1, 2, 4)[-ndim:])
    for _ in range(2):  # a new layer, and one that is updated
        labels = show_labels(viewer, "p", np.zeros(fine, np.int32), like=like)
        for corner in (np.zeros(ndim), np.array(fine)):
            np.testing.assert_allclose(
                labels.data_to_world(corner - 0.5),
                like.data_to_world(corner / times - 0.5),
            )
    assert labels.rotate == pytest.approx(like.rotate)


def test_a_result_that_becomes_finer_is_moved_and_back() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((4, 5)), scale=(2, 2))
    for n in (1, 2, 1):
        shape = (4 * n, 5 * n)
        labels = show_labels(viewer, "p", np.zeros(shape, np.int32), like=like)
        np.testing.assert_array_equal(labels.scale, (2 / n, 2 / n))
        np.testing.assert_array_equal(labels.translate, (1 / n - 1,) * 2)
    assert len(viewer.layers) == 2


def test_results_of_other_shapes_have_the_pixels_of_the_image() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((4, 5)), scale=(2, 2))
    labels = show_labels(viewer, "p", np.zeros((8, 9), np.int32), like=like)
    np.testing.assert_array_equal(labels.scale, like.scale)


def test_second_result_updates_the_first_even_after_renaming() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((4, 5)))
    first = show_image(viewer, "w", np.zeros((4, 5)), like=like, opacity=0.5)
    first.name = "mine"
    first.opacity = 0.9
    second = show_image(viewer, "w", np.ones((4, 5)), like=like, opacity=0.5)
    assert second is first
    assert first.data.all()
    assert first.opacity == 0.9
    assert len(viewer.layers) == 2


def test_results_of_different_names_have_layers_of_their_own() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((4, 5)))
    first = show_image(viewer, "w", np.zeros((4, 5)), like=like)
    assert show_image(viewer, "v", np.ones((4, 5)), like=like) is not first
    assert not first.data.any()


def test_layer_of_the_user_is_never_touched() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((4, 5)))
    mine = viewer.add_labels(np.ones((4, 5), np.int32), name="cells")
    shown = show_labels(viewer, "cells", np.zeros((4, 5), np.int32), like=like)
    assert shown is not mine
    assert shown.name != "cells"
    assert mine.data.all()
    again = show_labels(viewer, "cells", np.full((4, 5), 2, np.int32), like=like)
    assert again is shown


def test_result_with_other_axes_gets_its_own_layer() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((3, 4, 5)))
    first = show_labels(viewer, "p", np.zeros((3, 4, 5), np.int32), like=like)
    assert show_labels(viewer, "p", np.zeros((4, 5), np.int32), like=like) is not first


def test_result_that_the_user_painted_in_is_kept(qtbot) -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((4, 5)), name="nuclei")
    mine = show_labels(viewer, "cells", np.ones((4, 5), np.int32), like=like)
    mine.brush_size = 1
    mine.paint((2, 3), 7)
    again = show_labels(viewer, "cells", np.zeros((4, 5), np.int32), like=like)
    assert again is not mine
    assert mine.data[2, 3] == 7
    assert mine.data.any(axis=1).all()
    assert show_labels(viewer, "cells", np.ones((4, 5), np.int32), like=like) is again


def test_result_that_the_user_replaced_is_kept() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((4, 5)))
    mine = show_labels(viewer, "cells", np.zeros((4, 5), np.int32), like=like)
    mine.data = np.full((4, 5), 3, np.int32)
    again = show_labels(viewer, "cells", np.ones((4, 5), np.int32), like=like)
    assert again is not mine
    assert (mine.data == 3).all()


def test_result_knows_its_image() -> None:
    viewer = ViewerModel()
    like = viewer.add_image(np.zeros((4, 5)))
    shown = show_labels(viewer, "cells", np.zeros((4, 5), np.int32), like=like)
    assert about(shown)["image"]() is like


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"scale": (0.5 + 1e-7, 0.25)}, True),
        ({"translate": (3 + 1e-5, 4)}, True),
        ({"scale": (0.5, 0.5)}, False),
        ({"translate": (3, 4.25)}, False),
    ],
)
def test_labels_lie_on_an_image_of_their_scale_and_place(change, expected) -> None:
    place = {"scale": (0.5, 0.25), "translate": (3, 4)}
    labels = Labels(np.zeros((4, 5), np.int32), **place)
    assert lies_on(labels, ImageLayer(np.zeros((4, 5)), **(place | change))) == expected


def test_labels_lie_on_an_image_with_channels_but_of_their_size() -> None:
    labels = Labels(np.zeros((4, 5), np.int32))
    assert lies_on(labels, ImageLayer(np.zeros((3, 4, 5))))
    assert lies_on(labels, ImageLayer(np.zeros((4, 5, 3)), rgb=True))
    assert not lies_on(labels, ImageLayer(np.zeros((4, 6))))


def test_source_names_every_layer() -> None:
    layers = [ImageLayer(np.zeros((4, 5)), name=name) for name in ("c1", "c2")]
    assert image_from_layers(layers[:1]).source == 'image "c1"'
    assert image_from_layers(layers).source == 'layers "c1", "c2"'


def test_foreign_metadata_is_left_alone() -> None:
    layer = Labels(np.zeros((4, 5), np.int32), metadata={"napari_unet": "mine", "a": 1})
    assert about(layer) == {}
    note_about(layer, unpainted="background")
    assert layer.metadata == {"napari_unet": {"unpainted": "background"}, "a": 1}


# -- napari's proxy ------------------------------------------------------------


def test_proxy_of_a_plugin_gives_the_layers_themselves() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 5)))
    proxy = PublicOnlyProxy(viewer)
    assert layer_choices(proxy, "image")[0] is image
    assert unwrapped(proxy.layers[0]) is image
    labels = np.zeros((4, 5), np.int32)
    shown = show_labels(proxy, "p", labels, like=proxy.layers[0])
    assert show_labels(proxy, "p", labels, like=image) is shown
