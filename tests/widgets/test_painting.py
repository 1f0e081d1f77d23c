"""Brushes, classes, colours and counts of an annotation."""

from __future__ import annotations

import colorsys

import dask.array as da
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_unet.errors import ImageError, LabelError
from napari_unet.files.annotations import Region, StoredAnnotation
from napari_unet.imaging.arrays import Annotation
from napari_unet.widgets import _finished as finished
from napari_unet.widgets import _painting as painting
from napari_unet.widgets._classes import Classes, note_classes
from napari_unet.widgets._inspection import inspect
from napari_unet.widgets._layers import about, axes_choices, show_labels
from napari_unet.widgets._painted import painted_of, regions_layer_of

SQUARE = [(1.0, 2.0), (1.0, 5.0), (4.0, 5.0), (4.0, 2.0)]


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(
        np.zeros((8, 9)), name="nuclei", scale=(0.5, 0.5), units=("um", "um")
    )
    return viewer


@pytest.fixture
def labels(viewer) -> Labels:
    return painting.new_annotation(viewer, viewer.layers["nuclei"])


def test_new_annotation_lies_on_its_image_ready_to_paint(viewer, labels) -> None:
    image = viewer.layers["nuclei"]
    assert labels.name == "nuclei cells"
    assert (labels.data.dtype, labels.data.shape) == (np.int32, (8, 9))
    np.testing.assert_array_equal(labels.scale, image.scale)
    assert labels.units == image.units
    assert viewer.layers.selection.active is labels
    assert (labels.mode, labels.selected_label) == ("paint", 1)


def test_annotation_of_channels_is_one_plane(viewer) -> None:
    image = viewer.add_image(np.zeros((3, 8, 9)), name="stack", scale=(1, 2, 3))
    with pytest.raises(ImageError, match="NU-I09"):
        painting.new_annotation(viewer, image)
    assert painting.new_annotation(viewer, image, "ZYX").data.shape == (3, 8, 9)
    plane = painting.new_annotation(viewer, image, "CYX")
    assert plane.data.shape == (8, 9)
    assert plane.scale.tolist() == [2, 3]


def test_axes_that_the_user_named_are_known_from_then_on(viewer) -> None:
    image = viewer.add_image(np.zeros((3, 8, 9)), name="stack")
    labels = painting.new_annotation(viewer, image, "TYX")
    assert axes_choices(image) == []
    assert labels.axis_labels == image.axis_labels == ("t", "y", "x")


def test_next_cell_is_one_more_than_any_id(viewer, labels) -> None:
    labels.paint((1, 1), 7)
    assert painting.next_id(labels) == 8


def test_next_cell_never_takes_the_background_brush(viewer, labels) -> None:
    background = painting.background_id(labels)
    assert background == 1
    assert painting.next_id(labels) == 2
    labels.data[0, 0] = 5
    assert painting.background_id(labels) == background


def test_after_the_largest_id_a_free_one_is_found(labels) -> None:
    labels.data[0, 0] = np.iinfo(np.int32).max
    labels.data[0, 1] = 1
    assert painting.next_id(labels) == 2


def test_painting_goes_on_with_the_tool_in_use(viewer, labels) -> None:
    labels.mode = "polygon"
    painting.paint_with(viewer, labels, 3)
    assert (labels.mode, labels.selected_label) == ("polygon", 3)
    labels.mode = "erase"
    painting.paint_with(viewer, labels, 4)
    assert labels.mode == "paint"


def test_background_is_seen_on_grey_and_unlike_any_cell(viewer, labels) -> None:
    plain = Labels(np.zeros((8, 9), np.int32))
    labels.paint((1, 1), 300)
    painting.paint_with(viewer, labels, painting.background_id(labels))
    background, first = labels.colormap.map(np.array([301, 1]))
    np.testing.assert_allclose(background, [0.47, 0.47, 1, 0.55], atol=0.01)
    np.testing.assert_allclose(first, plain.colormap.map(1), atol=1e-3)
    others = labels.colormap.map(np.setdiff1d(np.arange(1, 2000), 301))
    assert (np.ptp(others[:, :3], axis=1) > 0.15).all()
    hues = np.array([colorsys.rgb_to_hsv(*rgb)[0] for rgb in others[:, :3].tolist()])
    assert (np.abs(hues - 240 / 360) > 25 / 360).all()
    assert plain.colormap.map(0)[3] == labels.colormap.map(0)[3] == 0


def test_class_shows_on_hover(viewer, labels) -> None:
    painting.paint_with(viewer, labels, painting.background_id(labels))
    labels.brush_size = 2
    labels.paint((3, 3), 1)
    assert labels.get_status((3, 3))["value"] == "1; class: background"
    painting.paint_with(viewer, labels, painting.next_id(labels))
    labels.paint((6, 6), 2)
    assert labels.get_status((6, 6))["value"] == "2; class: cell"
    assert labels.get_status((0, 0))["value"] == "0; class: not painted"


def test_next_cells_cost_no_new_colours_and_names(viewer, labels) -> None:
    changes = []
    labels.events.colormap.connect(lambda _: changes.append("colormap"))
    labels.events.features.connect(lambda _: changes.append("features"))
    for i in range(2, 10):
        labels.data[0, 0] = i
        painting.paint_with(viewer, labels, painting.next_id(labels))
    assert changes == []
    painting.paint_with(viewer, labels, painting.background_id(labels))
    assert set(changes) == {"colormap", "features"}


def test_huge_ids_make_no_huge_table(viewer, labels) -> None:
    labels.data[0, 0] = 2**30
    painting.paint_with(viewer, labels, painting.next_id(labels))
    assert len(labels.features) <= 10_002


def test_finished_area_has_a_layer_of_its_own_once(viewer, labels) -> None:
    shapes = finished.draw_finished(viewer, labels)
    assert shapes.name == "nuclei finished"
    assert shapes.mode == "add_rectangle"
    assert viewer.layers.selection.active is shapes
    np.testing.assert_array_equal(shapes.scale, labels.scale)
    assert regions_layer_of(labels) is shapes
    assert finished.draw_finished(viewer, labels) is shapes


def test_deleted_finished_layer_is_made_anew(viewer, labels) -> None:
    viewer.layers.remove(finished.draw_finished(viewer, labels))
    assert finished.draw_finished(viewer, labels) in viewer.layers


def test_stored_annotation_opens_with_classes_and_regions(viewer) -> None:
    ids = np.zeros((8, 9), np.int32)
    ids[0] = 3
    stored = StoredAnnotation(
        Annotation(labels=ids, label_class={3: 0, 4: 1}),
        [Region((), SQUARE)],
        "background",
    )
    image = viewer.layers["nuclei"]
    labels = painting.open_annotation(viewer, image, stored, name="mine")
    assert labels.name == "mine"
    assert about(labels)["label_class"] == {3: 0}
    assert about(labels)["unpainted"] == "background"
    regions = painted_of(labels).regions
    np.testing.assert_allclose(regions[0].vertices, SQUARE, rtol=1e-6)
    assert viewer.layers.selection.active is labels


def test_stored_region_opens_on_its_slice(viewer) -> None:
    image = viewer.add_image(np.zeros((3, 8, 9)), name="stack")
    annotation = Annotation(labels=np.zeros((3, 8, 9), np.int32))
    stored = StoredAnnotation(annotation, [Region((2,), SQUARE)], None)
    labels = painting.open_annotation(viewer, image, stored, name="mine")
    assert painted_of(labels).regions[0].plane == (2,)
    assert about(labels)["unpainted"] == "unknown"


def test_annotation_of_another_image_is_refused(viewer) -> None:
    stored = StoredAnnotation(
        Annotation(labels=np.zeros((3, 3), np.int32), source="x.tif")
    )
    with pytest.raises(LabelError, match=r'x.tif .*"nuclei" is of shape \(8, 9\)'):
        painting.open_annotation(viewer, viewer.layers["nuclei"], stored, name="x")


def test_adopting_makes_small_ids_int32_and_keeps_ours(viewer) -> None:
    small = viewer.add_labels(np.full((8, 9), 255, np.uint8))
    painting.adopt(small)
    assert small.data.dtype == np.int32
    assert painting.next_id(small) == 256
    painting.background_id(small)
    before = about(small)
    painting.adopt(small)
    assert about(small) == before


def test_labels_of_dask_are_read_to_paint_in(viewer) -> None:
    lazy = viewer.add_labels(da.full((8, 9), 4, dtype=np.int32))
    assert inspect(painted_of(lazy)).counts.n_cells == 1
    painting.adopt(lazy)
    assert isinstance(lazy.data, np.ndarray)
    assert painting.next_id(lazy) == 5


def test_labels_in_several_resolutions_are_refused(viewer) -> None:
    levels = [np.zeros((8, 8), np.int32), np.zeros((4, 4), np.int32)]
    pyramid = viewer.add_labels(levels, name="mine", multiscale=True)
    with pytest.raises(LabelError, match=r'"mine" come in several res.*NU-L07'):
        painting.adopt(pyramid)


def test_new_annotation_of_a_stack_is_not_looked_through(viewer, monkeypatch) -> None:
    image = viewer.add_image(np.zeros((3, 8, 9)), name="stack")

    def looks(*args, **kwargs):
        raise AssertionError("the GUI would wait")

    for name in ("as_label_ids", "next_id"):
        monkeypatch.setattr(painting, name, looks)
    labels = painting.new_annotation(viewer, image, "ZYX")
    assert (labels.data.shape, labels.selected_label) == ((3, 8, 9), 1)


def test_adopted_prediction_is_not_overwritten_by_the_next(viewer) -> None:
    ids = np.ones((8, 9), np.int32)
    image = viewer.layers["nuclei"]
    prediction = show_labels(viewer, "prediction", ids, like=image)
    painting.adopt(prediction)
    again = show_labels(viewer, "prediction", ids * 2, like=image)
    assert again is not prediction
    assert (prediction.data == 1).all()


def test_labels_are_of_their_image_or_of_one_at_the_same_place(viewer, labels) -> None:
    nuclei = viewer.layers["nuclei"]
    place = {"scale": (0.5, 0.5), "units": ("um", "um")}
    above = viewer.add_image(np.zeros((8, 9)), name="above", **place)
    mine = viewer.add_labels(np.zeros((8, 9), np.int32), **place)
    assert painting.image_of(viewer, labels, above) is nuclei
    assert painting.image_of(viewer, mine) is above
    assert painting.image_of(viewer, mine, nuclei) is nuclei
    viewer.layers.remove(nuclei)
    assert painting.image_of(viewer, labels) is above
    mine.scale = (1, 1)
    assert painting.image_of(viewer, mine, above) is None


def test_image_is_known_by_its_file_else_by_name_and_shape(tmp_path) -> None:
    from napari.layers._source import layer_source

    with layer_source(path=str(tmp_path / "a.tif")):
        of_file = Image(np.zeros((4, 5)), name="x")
    assert painting.image_key(of_file) == str((tmp_path / "a.tif").resolve())
    assert painting.image_key(Image(np.zeros((4, 5)), name="x")) == "x (4, 5)"


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_adopting_keeps_negative_ids_in_sight_but_paints_no_class_with_them(
    viewer, dtype
) -> None:
    layer = viewer.add_labels(np.array([[0, 3], [-5, -7]], dtype))
    painting.adopt(layer)
    assert layer.data.dtype == np.int32
    np.testing.assert_array_equal(layer.data, [[0, 3], [-5, -7]])
    note_classes(layer, Classes(("background", "tissue", "cell"), (), frozenset({1})))
    assert painting.brush_id(layer, 1) == 3
    layer.data[0, 1] = 0
    assert not painting.is_used(layer, 1)
