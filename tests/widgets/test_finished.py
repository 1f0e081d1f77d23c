"""Finished regions."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet.errors import LabelError
from napari_unet.files.annotations import Region
from napari_unet.widgets import _finished as finished
from napari_unet.widgets._painted import painted_of, regions_layer_of


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def test_areas_have_a_layer_of_their_own_once(viewer) -> None:
    labels = viewer.add_labels(np.zeros((8, 9), np.int32), name="a cells", scale=(2, 2))
    shapes = finished.draw_finished(viewer, labels)
    assert shapes.name == "a finished"
    assert shapes.mode == "add_rectangle"
    assert viewer.layers.selection.active is shapes
    np.testing.assert_array_equal(shapes.scale, labels.scale)
    assert finished.draw_finished(viewer, labels, "polygon") is shapes
    assert shapes.mode == "add_polygon"
    viewer.layers.remove(shapes)
    assert finished.draw_finished(viewer, labels) in viewer.layers


@pytest.mark.parametrize("place", [{}, {"scale": (0.5, 0.5), "translate": (7, 3)}])
def test_whole_image_is_known_once(viewer, place) -> None:
    labels = viewer.add_labels(np.zeros((8, 9), np.int32), **place)
    finished.finish_plane(viewer, labels)
    assert painted_of(labels).annotation().is_known.all()
    assert viewer.layers.selection.active is labels
    finished.finish_plane(viewer, labels)
    assert len(regions_layer_of(labels).data) == 1


def test_whole_image_is_known_beside_a_triangle(viewer) -> None:
    labels = viewer.add_labels(np.zeros((8, 9), np.int32))
    finished.add_regions(viewer, labels, [Region((), [(1, 1), (1, 5), (5, 5)])])
    finished.finish_plane(viewer, labels)
    assert painted_of(labels).annotation().is_known.all()


def test_only_the_slice_on_screen_is_finished(viewer) -> None:
    labels = viewer.add_labels(np.zeros((3, 8, 9), np.int32), scale=(2, 1, 1))
    viewer.dims.set_current_step(0, 1)
    finished.finish_plane(viewer, labels)
    known = painted_of(labels).annotation().is_known
    assert known.sum(axis=(1, 2)).tolist() == [0, 72, 0]
    viewer.dims.set_current_step(0, 2)
    finished.finish_plane(viewer, labels)
    assert len(regions_layer_of(labels).data) == 2


def test_no_plane_is_on_screen_in_3d_or_from_the_side(viewer) -> None:
    labels = viewer.add_labels(np.zeros((3, 8, 9), np.int32))
    viewer.dims.ndisplay = 3
    with pytest.raises(LabelError, match=r"show slices of Y and X.*NU-L09"):
        finished.finish_plane(viewer, labels)
    viewer.dims.ndisplay = 2
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(LabelError, match="NU-L09"):
        finished.finish_plane(viewer, labels)
    assert regions_layer_of(labels) is None


class Mouse:
    """A click as napari's callbacks are given it."""

    type, modifiers = "mouse_press", ()

    def __init__(self, *position: float) -> None:
        self.position = self.pos = position


@pytest.mark.parametrize("zoom", [0.1, 1.0, 20.0])
def test_click_is_no_region_and_takes_no_other_with_it(qtbot, viewer, zoom) -> None:
    labels = viewer.add_labels(np.zeros((30, 40), np.int32))
    tiny = [(9.0, 9.0), (9.0, 10.0), (10.0, 10.0)]  # as a file may hold
    shapes = finished.add_regions(viewer, labels, [Region((), tiny)])
    finished.draw_finished(viewer, labels)
    camera = getattr(viewer, "scene", viewer).camera
    # As the canvas does.
    camera.zoom, shapes.scale_factor = zoom, 1 / zoom
    (callback,) = shapes.mouse_drag_callbacks
    for _ in callback(shapes, Mouse(3.0, 3.0)):
        assert len(shapes.data) == 2
    qtbot.waitUntil(lambda: len(shapes.data) == 1)
    assert viewer.status == "a click draws no finished region: drag the mouse"
    finished.finish_plane(viewer, labels)
    assert len(shapes.data) == 2
