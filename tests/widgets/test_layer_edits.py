"""Corrections of painted cells in Labels layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet.errors import LabelError
from napari_unet.imaging.edits import Edit
from napari_unet.widgets._layer_edits import (
    apply_edit,
    as_annotation,
    free_id,
    on_screen,
)
from napari_unet.widgets._layers import META, about
from napari_unet.widgets._painting import redraw

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels


def annotate(viewer: ViewerModel, data: np.ndarray) -> Labels:
    known = {"label_class": {4: 2}, "class_names": ("background", "cell", "mitosis")}
    return viewer.add_labels(data, name="cells", metadata={META: known})


def test_several_values_are_one_step_on_and_off_screen(viewer) -> None:
    stack = annotate(viewer, np.zeros((3, 4, 5), np.int32))
    indices = (np.array([0, 1, 2]), np.array([1, 1, 3]), np.array([1, 2, 4]))
    apply_edit(stack, Edit(indices, np.array([5, 6, 7], np.int32)))
    assert stack.data[indices].tolist() == [5, 6, 7]
    labels_after = stack.data.copy()
    stack.undo()
    assert not stack.data.any()
    stack.redo()
    np.testing.assert_array_equal(stack.data, labels_after)


def test_free_id_at_the_end_of_the_numbers(viewer) -> None:
    most = np.iinfo(np.int32).max
    labels = annotate(viewer, np.array([[0, most]], np.int32))
    labels.selected_label = most
    assert free_id(labels, beside=3) == 1


@pytest.mark.parametrize("parent", range(1, 10))
def test_pieces_of_a_cut_cell_look_different(viewer, parent) -> None:
    data = np.zeros((4, 30), np.int32)
    data[0, 9], data[1:, 5:25] = 9, parent
    labels = annotate(viewer, data)
    redraw(labels)  # by class: there are several
    new = free_id(labels, beside=parent)
    assert new in (10, 11)
    assert not np.allclose(labels.get_color(new), labels.get_color(parent))


def test_edit_of_a_plane_stays_there_and_classes_are_inherited(viewer) -> None:
    stack = annotate(viewer, np.full((3, 4, 5), 4, np.int32))
    seen = []
    stack.events.paint.connect(lambda _: seen.append(about(stack)["label_class"]))
    edit = Edit((np.array([1]), np.array([2])), np.array([8], np.int32), {8: 4, 9: 1})
    apply_edit(stack, edit, (2,))
    assert [tuple(place) for place in np.argwhere(stack.data != 4)] == [(2, 1, 2)]
    assert stack.data[2, 1, 2] == 8
    assert seen == [{4: 2, 8: 2}]  # who hears of the pixels finds the class


def test_plane_and_volume_on_screen(viewer) -> None:
    labels = annotate(viewer, np.zeros((3, 4, 5, 6), np.int32))
    labels.scale = (1, 2, 0.5, 0.5)
    viewer.dims.set_point((0, 1), (2, 6))
    assert on_screen(viewer, labels) == (2, 3)
    assert on_screen(viewer, labels, 3) == (2,)
    viewer.dims.ndisplay = 3
    assert on_screen(viewer, labels, 3) == (2,)
    with pytest.raises(LabelError, match=r"in 2D.*NU-L10"):
        on_screen(viewer, labels)


def test_slice_beside_the_stack_is_refused(viewer) -> None:
    labels = annotate(viewer, np.zeros((3, 4, 5), np.int32))
    viewer.add_image(np.zeros((9, 4, 5)))
    viewer.dims.set_point(0, 7)
    with pytest.raises(LabelError, match=r"no slice here.*NU-L10"):
        on_screen(viewer, labels)


def test_layer_of_another_origin_becomes_an_annotation_once(viewer) -> None:
    mine = viewer.add_labels(np.ones((4, 5), np.uint8))
    assert about(as_annotation(viewer, mine))["label_class"] == {}
    assert mine.data.dtype == np.int32
    data = mine.data
    assert as_annotation(viewer, mine).data is data
