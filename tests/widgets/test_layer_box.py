"""The box to choose a layer from."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import show_labels
from napari_unet.widgets._painting import new_annotation


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 5)), name="a")
    viewer.add_image(np.zeros((4, 5)), name="b")
    viewer.add_labels(np.zeros((4, 5), np.int32), name="cells")
    return viewer


@pytest.fixture
def box(qtbot, viewer) -> LayerBox:
    box = LayerBox(viewer, "image", "Image", "The image")
    qtbot.addWidget(box)
    return box


def entries(box: LayerBox) -> list[str]:
    return [box.itemText(i) for i in range(box.count())]


def test_offers_layers_of_its_kind_the_topmost_chosen(box, viewer) -> None:
    assert entries(box) == ["b", "a"]
    assert box.layer() is viewer.layers["b"]
    assert (box.accessibleName(), box.toolTip()) == ("Image", "The image")


def test_choice_survives_new_renamed_and_moved_layers(box, viewer) -> None:
    a = viewer.layers["a"]
    box.set_layer(a)
    changes = []
    box.layer_changed.connect(lambda: changes.append(box.layer()))
    viewer.add_image(np.zeros((4, 5)), name="c")
    a.name = "renamed"
    assert entries(box) == ["c", "b", "renamed"]
    viewer.layers.move(0, 3)
    assert box.layer() is a
    assert entries(box) == ["c", "renamed", "b"]
    assert changes == []


def test_removed_layer_gives_way_to_the_topmost(box, viewer) -> None:
    box.set_layer(viewer.layers["a"])
    changes = []
    box.layer_changed.connect(lambda: changes.append(box.layer()))
    del viewer.layers["a"]
    assert changes == [viewer.layers["b"]]
    viewer.layers.clear()
    assert box.layer() is None
    assert changes[-1] is None


def test_choosing_by_hand_tells_once(box, qtbot, viewer) -> None:
    with qtbot.waitSignal(box.layer_changed):
        box.setCurrentIndex(1)
    assert box.layer() is viewer.layers["a"]


def test_layer_that_is_not_offered_is_not_chosen(box, viewer) -> None:
    box.set_layer(viewer.layers["cells"])
    assert box.layer() is viewer.layers["b"]


def test_new_annotation_is_chosen_but_no_result_of_ours(qtbot, viewer) -> None:
    box = LayerBox(viewer, "labels", "Annotation", "")
    qtbot.addWidget(box)
    annotation = new_annotation(viewer, viewer.layers["a"])
    show_labels(viewer, "result", np.zeros((4, 5), np.int32), like=annotation)
    assert box.layer() is annotation
    viewer.layers.remove(annotation)
    assert box.layer() is viewer.layers["result"]


def test_choice_by_hand_stays_when_there_is_a_new_annotation(qtbot, viewer) -> None:
    box = LayerBox(viewer, "labels", "Annotation", "")
    qtbot.addWidget(box)
    QTest.keyClick(box, Qt.Key.Key_Home)
    box.activated.emit(0)
    new_annotation(viewer, viewer.layers["a"])
    assert box.layer() is viewer.layers["cells"]


def test_only_accepted_layers_are_offered(qtbot, viewer) -> None:
    box = LayerBox(
        viewer, "image", "Image", "", accepts=lambda layer: layer.name == "a"
    )
    qtbot.addWidget(box)
    assert entries(box) == ["a"]


def test_box_that_is_gone_is_not_refreshed(qtbot, viewer) -> None:
    box = LayerBox(viewer, "image", "Image", "")
    box.deleteLater()
    qtbot.wait(10)
    viewer.add_image(np.zeros((4, 5)))
    del box
    gc.collect()
    viewer.add_image(np.zeros((4, 5)))
