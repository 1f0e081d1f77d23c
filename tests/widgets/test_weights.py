"""The Weight map dock widget."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QComboBox

from napari_unet.config import WeightConfig
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.targets import make_target
from napari_unet.widgets import _painting as painting
from napari_unet.widgets import weights as module
from napari_unet.widgets._layers import note_about, placed_like
from napari_unet.widgets.train import TrainWidget
from napari_unet.widgets.weights import WeightMapWidget


def two_cells() -> np.ndarray:
    labels = np.zeros((30, 40), np.int32)
    labels[5:25, 5:18] = 1
    labels[5:25, 22:35] = 2
    return labels


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(
        np.zeros((30, 40)), scale=(0.5, 0.5), units=("um", "um"), translate=(3, 4)
    )
    viewer.add_labels(
        two_cells(), name="cells", **placed_like(viewer.layers[0], ndim=2)
    )
    note_about(viewer.layers["cells"], unpainted="background")
    return viewer


@pytest.fixture
def make(qtbot):
    def make(viewer) -> WeightMapWidget:
        widget = WeightMapWidget(viewer)
        qtbot.addWidget(widget, before_close_func=lambda w: settle(qtbot, w))
        return widget

    return make


@pytest.fixture
def widget(make, viewer) -> WeightMapWidget:
    return make(viewer)


def settle(qtbot, widget: WeightMapWidget) -> None:
    qtbot.waitUntil(lambda: not widget.is_busy)


def show(qtbot, widget: WeightMapWidget):
    QTest.mouseClick(widget.show_button, Qt.MouseButton.LeftButton)
    settle(qtbot, widget)
    return widget.shown_layer()


def expected(labels: np.ndarray, config: WeightConfig | None = None) -> np.ndarray:
    return make_target(Annotation.complete(labels), config).weights


def test_map_is_not_shown_before_it_is_asked_for(qtbot, widget, viewer) -> None:
    viewer.layers["cells"].paint((2, 2), 3)
    settle(qtbot, widget)
    assert len(viewer.layers) == 2


def test_shows_the_weights_that_training_uses(qtbot, widget, viewer) -> None:
    shown = show(qtbot, widget)
    np.testing.assert_array_equal(shown.data, expected(two_cells()))
    assert shown.name == "cells weights"
    assert tuple(shown.contrast_limits) == (0, 11)


def test_map_lies_on_its_annotation_which_is_painted_on(qtbot, widget, viewer) -> None:
    labels = viewer.layers["cells"]
    viewer.layers.selection.active = labels
    shown = show(qtbot, widget)
    np.testing.assert_array_equal(shown.scale, labels.scale)
    np.testing.assert_array_equal(shown.translate, labels.translate)
    assert shown.units == labels.units
    assert shown.blending == "additive"
    assert list(viewer.layers)[1:] == [labels, shown]
    assert viewer.layers.selection.active is labels


def test_touching_cells_are_shown_cut(qtbot, widget, viewer) -> None:
    touching = two_cells()
    touching[5:25, 18:22] = 1
    viewer.layers["cells"].data = touching
    shown = show(qtbot, widget)
    assert shown.data[10, 21] > 9
    np.testing.assert_array_equal(shown.data, expected(touching))


def test_follows_painting_and_undo_in_place(qtbot, widget, viewer) -> None:
    labels = viewer.layers["cells"]
    shown = show(qtbot, widget)
    labels.brush_size = 3
    drawn = []
    shown.events.set_data.connect(drawn.append)
    labels.paint((15, 20), 3)
    settle(qtbot, widget)
    assert drawn
    np.testing.assert_array_equal(shown.data, expected(labels.data))
    assert not np.array_equal(shown.data, expected(two_cells()))
    labels.undo()
    settle(qtbot, widget)
    np.testing.assert_array_equal(shown.data, expected(two_cells()))
    assert len(viewer.layers) == 3
    assert widget.shown_layer() is shown


def test_follows_the_settings(qtbot, widget, viewer) -> None:
    shown = show(qtbot, widget)
    config = WeightConfig(w0=40, sigma=3)
    widget.form.setValue(config)
    settle(qtbot, widget)
    np.testing.assert_array_equal(shown.data, expected(two_cells(), config))
    assert tuple(shown.contrast_limits) == (0, 41)
    balanced = WeightConfig(balance_classes=True)
    widget.form.setValue(balanced)
    settle(qtbot, widget)
    np.testing.assert_array_equal(shown.data, expected(two_cells(), balanced))


def test_unknown_pixels_weigh_nothing(qtbot, widget, viewer) -> None:
    shown = show(qtbot, widget)
    painting.set_unpainted(viewer.layers["cells"], "unknown")
    settle(qtbot, widget)
    np.testing.assert_array_equal(shown.data > 0, two_cells() > 0)
    shapes = painting.add_regions(viewer, viewer.layers["cells"], [])
    settle(qtbot, widget)
    shapes.add_rectangles(np.array([[10, 10], [10, 30], [20, 30], [20, 10]]))
    settle(qtbot, widget)
    assert (shown.data[10:21, 10:31] > 0).all()


def test_background_brush_is_no_cell(qtbot, widget, viewer) -> None:
    note_about(viewer.layers["cells"], label_class={2: 0})
    shown = show(qtbot, widget)
    assert shown.data.max() == 1


def test_only_the_slice_on_screen_is_computed(qtbot, make, viewer, monkeypatch) -> None:
    viewer.layers.clear()
    stack = np.stack([two_cells(), np.zeros((30, 40), np.int32), two_cells()[::-1]])
    labels = viewer.add_labels(stack, name="stack", scale=(2, 1, 1))
    note_about(labels, unpainted="background")
    shapes = []
    make_target_ = module.make_target

    def spy(annotation, config):
        shapes.append(annotation.labels.shape)
        return make_target_(annotation, config)

    monkeypatch.setattr(module, "make_target", spy)
    widget = make(viewer)
    viewer.dims.set_current_step(0, 0)
    shown = show(qtbot, widget)
    labels.visible = False  # its own slicing tells nothing then
    for i in (1, 2):
        viewer.dims.set_current_step(0, i)
        settle(qtbot, widget)
    assert set(shapes) == {(30, 40)}
    whole = Annotation(
        labels=stack, known=(stack > 0).any((1, 2), keepdims=True) | (stack > 0)
    )
    np.testing.assert_array_equal(shown.data, make_target_(whole).weights)
    assert not shown.data[1].any()  # nothing is painted there
    shapes.clear()
    widget.form.setValue(WeightConfig(balance_classes=True))
    settle(qtbot, widget)
    assert set(shapes) == {stack.shape}


def test_weight_under_the_cursor_is_told(qtbot, widget, viewer) -> None:
    shown = show(qtbot, widget)
    viewer.cursor.position = shown.data_to_world((15, 20))
    w = expected(two_cells())[15, 20]
    assert widget.cursor_label.text() == f"Weight under the cursor: {w:.2f}"
    shown.data[0, 0] = 0
    viewer.cursor.position = shown.data_to_world((0, 0))
    assert widget.cursor_label.text().endswith("0.00 (ignored)")
    viewer.cursor.position = (-100, -100)
    assert widget.cursor_label.text() == ""
    QTest.mouseClick(widget.show_button, Qt.MouseButton.LeftButton)
    viewer.cursor.position = shown.data_to_world((15, 20))
    assert widget.cursor_label.text() == ""


def test_button_hides_and_shows_the_map(qtbot, widget, viewer) -> None:
    shown = show(qtbot, widget)
    QTest.mouseClick(widget.show_button, Qt.MouseButton.LeftButton)
    assert not shown.visible
    viewer.layers["cells"].paint((15, 20), 3)
    assert show(qtbot, widget) is shown
    assert shown.visible
    np.testing.assert_array_equal(shown.data, expected(viewer.layers["cells"].data))


def test_deleted_map_is_not_made_again_by_itself(qtbot, widget, viewer) -> None:
    viewer.layers.remove(show(qtbot, widget))
    viewer.layers["cells"].paint((15, 20), 3)
    settle(qtbot, widget)
    assert not widget.show_button.isChecked()
    assert len(viewer.layers) == 2
    assert show(qtbot, widget) in viewer.layers


def test_other_annotation_gets_a_map_of_its_own(qtbot, widget, viewer) -> None:
    first = show(qtbot, widget)
    other = viewer.add_labels(two_cells()[:, ::-1] * 5, name="other")
    widget.labels_box.set_layer(other)
    settle(qtbot, widget)
    assert widget.shown_layer().name == "other weights"
    assert not first.visible
    viewer.layers.remove(other)
    settle(qtbot, widget)
    assert widget.shown_layer() is first
    assert first.visible


def test_no_labels_no_map(qtbot, widget, viewer) -> None:
    show(qtbot, widget)
    viewer.layers.remove(viewer.layers["cells"])
    settle(qtbot, widget)
    assert not widget.show_button.isEnabled()
    assert not widget.show_button.isChecked()


def test_labels_with_fractions_are_told(qtbot, widget, viewer, monkeypatch) -> None:
    def broken(*args):
        raise RuntimeError("as torch raises them")

    monkeypatch.setattr(module, "make_target", broken)
    show(qtbot, widget)
    assert "as torch raises them" in widget.failure.summary.text()
    monkeypatch.undo()
    widget.form.setValue(WeightConfig(w0=2))
    settle(qtbot, widget)
    assert widget.shown_layer().data.max() <= 3


def test_works_behind_napari_s_proxy(qtbot, make, viewer) -> None:
    widget = make(PublicOnlyProxy(viewer))
    assert show(qtbot, widget) in viewer.layers
    gc.collect()
    assert widget.shown_layer() is not None


def test_every_control_has_a_tooltip_and_an_accessible_name(widget) -> None:
    controls = widget.findChildren((QAbstractButton, QComboBox))
    for control in controls:
        if control.parent() is not None and not control.objectName().startswith("qt_"):
            assert control.accessibleName(), control
            assert control.toolTip(), control.accessibleName()


@pytest.mark.gui
def test_map_shows_on_the_canvas_while_cells_are_painted(qtbot, window) -> None:
    viewer = window
    labels = viewer.add_labels(two_cells(), name="cells")
    note_about(labels, unpainted="background")
    widget = WeightMapWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Weight map")
    show(qtbot, widget)
    labels.visible = False
    with_map = viewer.screenshot(canvas_only=True, flash=False)
    widget.show_button.click()
    without = viewer.screenshot(canvas_only=True, flash=False)
    centre = tuple(n // 2 for n in with_map.shape[:2])
    assert with_map[centre][:3].sum() > without[centre][:3].sum()
    assert widget.minimumSizeHint().width() <= 400
    settle(qtbot, widget)


def test_settings_tried_here_are_those_that_train_uses(qtbot, viewer):
    cells = viewer.layers["cells"]
    shown, train = WeightMapWidget(viewer), TrainWidget(viewer)
    qtbot.addWidget(shown)
    qtbot.addWidget(train)
    assert shown.labels_box.layer() is cells
    shown.form.setValue(WeightConfig(w0=33.0, sigma=7.0))
    train.show()
    assert train.weights.value() == WeightConfig(w0=33.0, sigma=7.0)
    train.weights.setValue(WeightConfig(w0=2.0))
    shown.show()
    assert shown.form.value() == WeightConfig(w0=2.0)
