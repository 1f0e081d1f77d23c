"""What is painted in layers -> annotation."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from napari.layers import Labels, Shapes
from napari.utils._proxies import PublicOnlyProxy

from napari_unet.config import WeightConfig
from napari_unet.errors import LabelError
from napari_unet.files.formats import FORMATS
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.targets import make_target
from napari_unet.widgets._annotation_formats import saving, to_save
from napari_unet.widgets._layers import about, note_about
from napari_unet.widgets._live_map import LiveMap, Wanted
from napari_unet.widgets._painted import (
    check_lies_on,
    check_shape,
    link_regions,
    painted_of,
    regions_from_shapes,
    regions_layer_of,
)

RECTANGLE = [[2, 3], [2, 6], [5, 6], [5, 3]]


def image_of(shape: tuple[int, ...]) -> Image:
    return Image(np.zeros((1, *shape), np.float32))


def known_with(layer: Labels, shapes: Shapes) -> np.ndarray:
    """Return what is known where `shapes` are the finished regions of a layer."""
    viewer = ViewerModel()
    link_regions(viewer, layer, shapes)
    return painted_of(layer).annotation().is_known


def test_annotation_is_a_copy_and_unknown_where_nothing_is_painted() -> None:
    layer = Labels(np.eye(4, dtype=np.int32), name="cells")
    annotation = painted_of(layer).annotation()
    layer.data[0, 1] = 7
    assert annotation.labels[0, 1] == 0
    assert annotation.source == 'labels "cells"'
    np.testing.assert_array_equal(annotation.is_known, np.eye(4, dtype=bool))


def test_background_brush_is_class_0() -> None:
    labels = np.zeros((4, 4), np.int32)
    labels[0] = 5
    labels[1] = 2
    layer = Labels(labels)
    note_about(layer, label_class={5: 0})
    annotation = painted_of(layer).annotation()
    assert annotation.class_map()[:, 0].tolist() == [0, 1, 0, 0]
    assert annotation.is_known[:, 0].tolist() == [True, True, False, False]


def test_unpainted_background_holds_on_slices_with_paint_only() -> None:
    labels = np.zeros((3, 4, 4), np.int32)
    labels[1, 0, 0] = 1
    layer = Labels(labels)
    note_about(layer, unpainted="background")
    annotation = painted_of(layer).annotation()
    assert annotation.is_known.all(axis=(1, 2)).tolist() == [False, True, False]
    assert not annotation.is_known[0].any()


def test_unpainted_background_holds_on_an_empty_plane() -> None:
    layer = Labels(np.zeros((4, 4), np.int32))
    note_about(layer, unpainted="background")
    assert painted_of(layer).annotation().is_known.all()


def test_labels_of_another_shape_are_refused() -> None:
    layer = Labels(np.zeros((4, 5), np.int32), name="cells")
    with pytest.raises(
        LabelError, match=r'"cells" is 4 x 5 but image is 4 x 4.*NU-L02'
    ):
        check_shape(painted_of(layer), image_of((4, 4)))


def test_finished_rectangle_is_known_through_both_transforms() -> None:
    # Pixel (y, x) of the labels lies at world 0.5 (y, x) + (10, 20).
    layer = Labels(np.zeros((8, 9), np.int32), scale=(0.5, 0.5), translate=(10, 20))
    world = np.array(RECTANGLE) * 0.5 + (10, 20)
    shapes = Shapes([world / 4], shape_type="rectangle", scale=(4, 4))
    known = known_with(layer, shapes)
    expected = np.zeros((8, 9), bool)
    expected[2:6, 3:7] = True
    np.testing.assert_array_equal(known, expected)


def test_finished_polygon_and_ellipse_are_areas_and_a_line_is_none() -> None:
    layer = Labels(np.zeros((20, 20), np.int32))
    shapes = Shapes()
    shapes.add_polygons(np.array([[0, 0], [0, 6], [6, 0]]))
    shapes.add_ellipses(np.array([[10, 10], [10, 18], [18, 18], [18, 10]]))
    shapes.add_lines(np.array([[0, 19], [19, 19]]))
    known = known_with(layer, shapes)
    y, x = np.indices((20, 20))
    triangle = y + x <= 6
    disc = (y - 14) ** 2 + (x - 14) ** 2
    assert known[triangle].all()
    assert known[disc <= 3.9**2].all()
    assert not known[~triangle & (disc > 16)].any()


def test_finished_region_of_a_stack_is_on_its_slice() -> None:
    layer = Labels(np.zeros((3, 8, 9), np.int32), scale=(2, 1, 1))
    corners = np.array([[1, *corner] for corner in RECTANGLE])
    shapes = Shapes([corners], shape_type="rectangle", scale=(2, 1, 1))
    known = known_with(layer, shapes)
    assert known.sum(axis=(1, 2)).tolist() == [0, 16, 0]


def test_flat_region_counts_on_every_slice_where_it_shows() -> None:
    layer = Labels(np.zeros((3, 8, 9), np.int32))
    regions = regions_from_shapes(Shapes([RECTANGLE], shape_type="rectangle"), layer)
    assert [plane for plane, _ in regions] == [(0,), (1,), (2,)]


def test_region_outside_the_stack_is_left_out() -> None:
    corners = np.array([[7, *corner] for corner in RECTANGLE])
    shapes = Shapes([corners], shape_type="rectangle")
    assert regions_from_shapes(shapes, Labels(np.zeros((3, 8, 9), np.int32))) == []


def test_region_across_slices_is_refused_or_left_out() -> None:
    corners = np.array([[0, 3, 0], [2, 3, 0], [2, 3, 5], [0, 3, 5]])
    shapes = Shapes([corners], shape_type="polygon", name="done")
    labels = Labels(np.zeros((3, 8, 9), np.int32))
    with pytest.raises(LabelError, match='"done" is not on one slice'):
        regions_from_shapes(shapes, labels)
    assert regions_from_shapes(shapes, labels, skip_crossing=True) == []


def test_linked_regions_survive_renaming_and_end_with_their_layer() -> None:
    viewer = ViewerModel()
    labels = viewer.add_labels(np.zeros((8, 9), np.int32))
    shapes = viewer.add_shapes([RECTANGLE], shape_type="rectangle")
    other = viewer.add_shapes()
    link_regions(viewer, labels, shapes)
    shapes.name = "something else"
    viewer.layers.remove(other)
    assert painted_of(labels).annotation().is_known.sum() == 16
    viewer.layers.remove(shapes)
    assert about(labels)["regions"] is None
    assert not painted_of(labels).annotation().is_known.any()


def test_regions_that_come_back_are_linked_again_unless_there_are_others() -> None:
    viewer = ViewerModel()
    layer = viewer.add_labels(np.zeros((10, 20), np.int32))
    first = viewer.add_shapes(RECTANGLE, shape_type="rectangle")
    link_regions(viewer, layer, first)
    viewer.layers.remove(first)
    assert regions_layer_of(layer) is None
    viewer.add_layer(first)
    assert regions_layer_of(layer) is first
    viewer.layers.remove(first)
    second = viewer.add_shapes(RECTANGLE, shape_type="rectangle")
    link_regions(viewer, layer, second)
    viewer.add_layer(first)
    assert regions_layer_of(layer) is second


def test_link_does_not_keep_removed_labels_alive() -> None:
    viewer = ViewerModel()
    shapes = viewer.add_shapes()
    link_regions(viewer, Labels(np.zeros((8, 9), np.int32)), shapes)
    gc.collect()
    viewer.layers.remove(shapes)  # the slot finds no labels any more


def test_regions_are_linked_through_proxies() -> None:
    viewer = ViewerModel()
    viewer.add_labels(np.zeros((8, 9), np.int32))
    viewer.add_shapes([RECTANGLE], shape_type="rectangle")
    proxy = PublicOnlyProxy(viewer)
    link_regions(proxy, proxy.layers[0], proxy.layers[1])
    gc.collect()
    known = painted_of(viewer.layers[0]).annotation().is_known
    assert known.sum() == 16


def test_plane_of_a_stack_is_as_it_is_in_the_stack() -> None:
    labels = np.zeros((4, 8, 9), np.int32)
    labels[1, 0, 0] = 1
    layer = Labels(labels)
    note_about(layer, unpainted="background")
    viewer = ViewerModel()
    corners = np.array([[2, *corner] for corner in RECTANGLE])
    shapes = Shapes([corners], shape_type="rectangle")
    link_regions(viewer, layer, shapes)
    painted = painted_of(layer)
    whole = painted.annotation()
    for z in range(4):
        plane = painted.annotation((z,))
        np.testing.assert_array_equal(plane.labels, whole.labels[z])
        np.testing.assert_array_equal(plane.is_known, whole.is_known[z])
    assert whole.is_known.sum(axis=(1, 2)).tolist() == [0, 72, 16, 0]


@pytest.mark.parametrize("place", [{"scale": (2, 2)}, {"translate": (0, 5)}])
def test_labels_that_lie_elsewhere_are_refused(place) -> None:
    labels = Labels(np.ones((4, 4), np.int32), name="mine")
    there = ImageLayer(np.zeros((4, 4)), name="nuclei")
    check_lies_on(labels, there)
    elsewhere = ImageLayer(np.zeros((4, 4)), name="nuclei", **place)
    with pytest.raises(LabelError, match=r'"mine" lie elsewhere .*"nuclei".*NU-L02'):
        check_lies_on(labels, elsewhere)


def test_classes_travel_with_what_is_painted() -> None:
    labels = np.zeros((4, 4), np.int32)
    labels[0], labels[1] = 5, 2
    layer = Labels(labels)
    note_about(
        layer,
        label_class={5: 2},
        class_names=("background", "cell", "tissue"),
        class_colors=("#000000", "#111111", "#222222"),
        area_classes=frozenset({2}),
    )
    annotation = painted_of(layer).annotation()
    assert annotation.class_map()[:, 0].tolist() == [2, 1, 0, 0]
    assert annotation.class_names[2] == "tissue"
    assert annotation.class_colors[2] == "#222222"
    assert annotation.cells()[:, 0].tolist() == [0, 2, 0, 0]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_negative_ids_are_ignored_at_every_door(dtype, tmp_path) -> None:
    data = np.zeros((12, 12), dtype)
    data[1:4, 1:4], data[7:10, 7:10] = 2, -5
    layer = Labels(data, name="cells")
    note_about(layer, unpainted="background")
    painted, ignored = painted_of(layer), data == -5
    annotation = painted.annotation()
    np.testing.assert_array_equal(annotation.is_known, ~ignored)
    assert painted.negative_ids() == [-5]
    (weighed,) = LiveMap().weigh(Wanted(painted, (), WeightConfig()))
    target = make_target(annotation)
    for weights in (weighed.weights, target.weights):
        np.testing.assert_array_equal(weights == 0, ignored)
    events = saving(tmp_path / "x.tif", FORMATS["tiff"], to_save(layer))
    (saved,) = events
    assert 'labels "cells" has negative ids (-5)' in saved.notes[0]


def test_erased_negative_id_is_unpainted_in_the_live_map() -> None:
    layer = Labels(np.full((8, 9), -1, np.int32))
    layer.data[0, 0] = 3
    note_about(layer, unpainted="background")
    live = LiveMap()
    list(live.weigh(Wanted(painted_of(layer), (), WeightConfig())))
    layer.data[4, 4] = 0
    (after,) = live.weigh(Wanted(painted_of(layer), (), WeightConfig()))
    assert after.class_counts == (1, 1)


def test_slice_with_negative_ids_only_was_not_looked_at() -> None:
    layer = Labels(np.zeros((2, 4, 4), np.int32))
    layer.data[0, 1, 1], layer.data[1, 1, 1] = -1, 1
    note_about(layer, unpainted="background")
    known = painted_of(layer).annotation().is_known
    assert known.sum(axis=(1, 2)).tolist() == [0, 16]
