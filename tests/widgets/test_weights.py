"""The Weight map dock widget."""

from __future__ import annotations

import gc
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QStyle,
    QStyleOptionSlider,
    QWidget,
)

from napari_unet.config import WeightConfig
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.targets import make_target
from napari_unet.widgets import _live_map as live_map
from napari_unet.widgets import _painting as painting
from napari_unet.widgets._layers import (
    about,
    layer_choices,
    note_about,
    placed_like,
)
from napari_unet.widgets.train import TrainWidget
from napari_unet.widgets.weights import WeightMapWidget

if TYPE_CHECKING:
    from napari.layers import Labels


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


def begin(widget: WeightMapWidget) -> None:
    """Begin the update that is due; its result comes with the next Qt events."""
    widget._updater._timer.stop()
    widget._updater._update()
    assert widget._updater._runner.is_running


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


def test_finished_regions_that_come_back_are_heard_of(qtbot, widget, viewer) -> None:
    painting.set_unpainted(viewer.layers["cells"], "unknown")
    shapes = painting.add_regions(viewer, viewer.layers["cells"], [])
    shapes.add_rectangles(np.array([[10, 10], [10, 30], [20, 30], [20, 10]]))
    shown = show(qtbot, widget)
    whole = shown.data.copy()
    viewer.layers.remove(shapes)
    settle(qtbot, widget)
    np.testing.assert_array_equal(shown.data > 0, two_cells() > 0)
    viewer.layers.append(shapes)
    settle(qtbot, widget)
    np.testing.assert_array_equal(shown.data, whole)
    shapes.data = []
    settle(qtbot, widget)
    np.testing.assert_array_equal(shown.data > 0, two_cells() > 0)


def test_background_brush_is_no_cell(qtbot, widget, viewer) -> None:
    note_about(viewer.layers["cells"], label_class={2: 0})
    shown = show(qtbot, widget)
    assert shown.data.max() == 1


def stack_of_cells(viewer) -> Labels:
    viewer.layers.clear()
    stack = np.stack([two_cells(), np.zeros((30, 40), np.int32), two_cells()[::-1]])
    stack[2, 15:] = 0
    labels = viewer.add_labels(stack, name="stack", scale=(2, 1, 1))
    note_about(labels, unpainted="background")
    viewer.dims.set_current_step(0, 0)
    return labels


def whole_target(labels: Labels, config: WeightConfig | None = None) -> np.ndarray:
    stack = labels.data
    known = (stack > 0).any((1, 2), keepdims=True) | (stack > 0)
    return make_target(Annotation(labels=stack, known=known), config).weights


def test_only_the_slice_on_screen_is_computed(qtbot, make, viewer, monkeypatch) -> None:
    labels = stack_of_cells(viewer)
    planes = []
    live_weights = live_map.LiveWeights

    def spy(annotation, config, **kwargs):
        planes.append(annotation.labels.shape)
        return live_weights(annotation, config, **kwargs)

    monkeypatch.setattr(live_map, "LiveWeights", spy)
    widget = make(viewer)
    shown = show(qtbot, widget)
    labels.visible = False  # its own slicing tells nothing then
    for i in (1, 2):
        viewer.dims.set_current_step(0, i)
        settle(qtbot, widget)
    assert planes == [(30, 40)] * 3
    np.testing.assert_array_equal(shown.data, whole_target(labels))
    assert not shown.data[1].any()  # nothing is painted there


def test_slices_are_balanced_over_the_stack(qtbot, make, viewer) -> None:
    labels = stack_of_cells(viewer)
    widget = make(viewer)
    balanced = WeightConfig(balance_classes=True)
    widget.form.setValue(balanced)
    shown = show(qtbot, widget)
    expected = whole_target(labels, balanced)
    np.testing.assert_array_equal(shown.data[0], expected[0])
    labels.data_setitem((np.full(3, 2), np.arange(3), np.arange(3)), 5)
    settle(qtbot, widget)
    expected = whole_target(labels, balanced)
    np.testing.assert_array_equal(shown.data[0], expected[0])
    viewer.dims.set_current_step(0, 2)
    settle(qtbot, widget)
    np.testing.assert_array_equal(shown.data[2], expected[2])
    known = expected > 0
    n_cell = int((make_target_classes(labels) * known).sum())
    (_, *background), (_, *cell) = widget.balance.texts()
    assert background[0] == f"{known.sum() - n_cell:,}"
    assert cell[0] == f"{n_cell:,}"
    assert cell[2] == cell[3] == f"{known.sum() / (2 * n_cell):.2f}"


def make_target_classes(labels: Labels) -> np.ndarray:
    return make_target(Annotation.complete(labels.data)).classes


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


def test_weight_under_a_resting_cursor_follows_the_map(qtbot, widget, viewer) -> None:
    shown = show(qtbot, widget)
    viewer.cursor.position = shown.data_to_world((15, 20))
    before = widget.cursor_label.text()
    widget.form.setValue(WeightConfig(w0=40))
    settle(qtbot, widget)
    w = expected(two_cells(), WeightConfig(w0=40))[15, 20]
    assert widget.cursor_label.text() == f"Weight under the cursor: {w:.2f}" != before


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
    settle(qtbot, widget)
    assert not widget.show_button.isChecked()
    assert len(viewer.layers) == 2
    shown = show(qtbot, widget)
    assert shown in viewer.layers
    np.testing.assert_array_equal(shown.data, expected(viewer.layers["cells"].data))


def test_map_hidden_while_it_is_computed_is_whole_when_shown_again(
    qtbot, widget, viewer
) -> None:
    shown = show(qtbot, widget)
    viewer.layers["cells"].paint((15, 20), 3)
    begin(widget)
    widget.show_button.click()
    settle(qtbot, widget)
    assert show(qtbot, widget) is shown
    np.testing.assert_array_equal(shown.data, expected(viewer.layers["cells"].data))


def test_annotation_of_another_shape_has_a_map_of_its_own(
    qtbot, widget, viewer
) -> None:
    labels = viewer.layers["cells"]
    show(qtbot, widget)
    labels.paint((15, 20), 3)
    begin(widget)
    labels.data = two_cells()[:20, :30]
    settle(qtbot, widget)
    assert widget.failure.isHidden()
    shown = widget.shown_layer()
    np.testing.assert_array_equal(shown.data, expected(labels.data))


def test_one_layer_shows_the_map_of_the_chosen_annotation(
    qtbot, widget, viewer
) -> None:
    shown = show(qtbot, widget)
    explain(qtbot, widget, (15, 19))
    lines = widget.lines_layer()
    other = viewer.add_labels(two_cells()[:20, ::-1] * 5, name="other", scale=(2, 2))
    viewer.layers.selection.active = other
    widget.labels_box.set_layer(other)
    assert not shown.visible  # until its own map is there
    assert not lines.visible
    note_about(other, unpainted="background")
    settle(qtbot, widget)
    assert widget.shown_layer() is shown
    assert shown.visible
    assert shown.name == "other weights"
    np.testing.assert_array_equal(shown.data, expected(other.data))
    np.testing.assert_array_equal(shown.scale, other.scale)
    np.testing.assert_array_equal(shown.translate, other.translate)
    assert viewer.layers.index(shown) > viewer.layers.index(other)
    assert viewer.layers.selection.active is other
    explain(qtbot, widget, (10, 19))
    assert widget.lines_layer() is lines
    assert lines.visible
    np.testing.assert_array_equal(lines.scale, other.scale)
    assert len(viewer.layers) == 5
    viewer.layers.remove(other)
    settle(qtbot, widget)
    assert widget.shown_layer() is shown
    np.testing.assert_array_equal(shown.data, expected(two_cells()))
    assert not lines.visible


def test_map_goes_with_the_last_annotation(qtbot, widget, viewer) -> None:
    shown = show(qtbot, widget)
    viewer.layers.remove(viewer.layers["cells"])
    assert not shown.visible
    assert widget.cursor_label.text() == ""


def test_one_layer_shows_planes_and_stacks(qtbot, widget, viewer) -> None:
    shown = show(qtbot, widget)
    stack = viewer.add_labels(np.stack([two_cells(), 0 * two_cells()]), name="stack")
    note_about(stack, unpainted="background")
    widget.labels_box.set_layer(stack)
    settle(qtbot, widget)
    assert widget.shown_layer() is shown
    assert shown.data.shape == (2, 30, 40)
    plane = viewer.layers["cells"]
    widget.labels_box.set_layer(plane)
    settle(qtbot, widget)
    assert widget.shown_layer() is shown
    np.testing.assert_array_equal(shown.data, expected(plane.data))
    np.testing.assert_array_equal(shown.scale, plane.scale)
    assert shown.units == plane.units


def test_layer_hidden_by_hand_stays_hidden_while_painting(
    qtbot, widget, viewer
) -> None:
    shown = show(qtbot, widget)
    shown.visible = False
    viewer.layers["cells"].paint((15, 20), 3)
    settle(qtbot, widget)
    assert not shown.visible


def test_closed_dock_hides_the_map_which_the_next_one_shows(
    qtbot, make, viewer
) -> None:
    dock = QWidget()
    qtbot.addWidget(dock)
    first = make(viewer)
    first.setParent(dock)
    shown = show(qtbot, first)
    first.hide()  # behind another tab: the map stays to be painted on
    assert shown.visible
    explain(qtbot, first, (15, 19))
    first.setParent(None)  # as napari does
    assert not shown.visible
    assert not first.lines_layer().visible
    viewer.layers["cells"].paint((15, 20), 3)
    second = make(viewer)
    assert not second.show_button.isChecked()
    assert show(qtbot, second) is shown
    assert shown.visible
    np.testing.assert_array_equal(shown.data, expected(viewer.layers["cells"].data))


def test_no_labels_no_map(qtbot, widget, viewer) -> None:
    show(qtbot, widget)
    viewer.layers.remove(viewer.layers["cells"])
    settle(qtbot, widget)
    assert not widget.show_button.isEnabled()
    assert not widget.show_button.isChecked()


def test_a_fault_is_told_and_the_next_update_begins_anew(
    qtbot, widget, viewer, monkeypatch
) -> None:
    def broken(*args, **kwargs):
        raise RuntimeError("as torch raises them")

    monkeypatch.setattr(live_map, "LiveWeights", broken)
    show(qtbot, widget)
    assert "as torch raises them" in widget.failure.summary.text()
    monkeypatch.undo()
    widget.form.setValue(WeightConfig(w0=2))
    settle(qtbot, widget)
    assert widget.failure.isHidden()
    assert widget.shown_layer().data.max() <= 3


def test_micrometres_need_a_pixel_size(qtbot, make, viewer) -> None:
    labels = viewer.add_labels(two_cells(), name="no size")
    note_about(labels, unpainted="background")
    widget = make(viewer)
    widget.labels_box.set_layer(labels)
    shown = show(qtbot, widget)
    explain(qtbot, widget, (15, 19))
    viewer.cursor.position = (15, 20)
    assert widget.cursor_label.text()
    widget.form.setValue(WeightConfig(sigma=2, unit="um"))
    settle(qtbot, widget)
    told = widget.failure.summary.text()
    assert re.search("no pixel size.*set Unit to px.*NU-C07", told)
    assert not widget.failure.isHidden()
    assert not shown.visible  # it is not that of these settings
    assert not widget.lines_layer().visible
    assert widget.cursor_label.text() == ""
    for hidden in (widget.bar, widget.readout, widget.explain_button):
        assert hidden.isHidden()
    widget.form.setValue(WeightConfig())
    settle(qtbot, widget)
    assert shown.visible
    assert widget.lines_layer().visible
    assert widget.failure.isHidden()
    np.testing.assert_array_equal(shown.data, expected(two_cells()))
    widget.labels_box.set_layer(viewer.layers["cells"])  # of 0.5 µm a pixel
    widget.form.setValue(WeightConfig(sigma=2, unit="um"))
    settle(qtbot, widget)
    assert widget.failure.isHidden()
    np.testing.assert_allclose(
        widget.shown_layer().data, expected(two_cells(), WeightConfig(sigma=4))
    )


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
    assert train.form.weights.value() == WeightConfig(w0=33.0, sigma=7.0)
    train.form.weights.setValue(WeightConfig(w0=2.0))
    shown.show()
    assert shown.form.value() == WeightConfig(w0=2.0)


# -- sliders --------------------------------------------------------------------


def handle_of(slider) -> QPoint:
    option = QStyleOptionSlider()
    slider.initStyleOption(option)
    control, part = QStyle.ComplexControl.CC_Slider, QStyle.SubControl.SC_SliderHandle
    return slider.style().subControlRect(control, option, part, slider).center()


def test_map_follows_a_slider_while_it_is_dragged(qtbot, widget, viewer) -> None:
    labels = viewer.layers["cells"]
    shown = show(qtbot, widget)
    widget.resize(400, 700)
    widget.show()
    noted = []
    labels.events.metadata.connect(noted.append)
    for name in ("w0", "sigma"):
        slider, left = widget.form.rows[name].slider, Qt.MouseButton.LeftButton
        start = handle_of(slider)
        before, n_noted = shown.data.copy(), len(noted)
        QTest.mousePress(slider, left, pos=start)
        seen = []
        for i in range(1, 6):
            QTest.mouseMove(slider, start + QPoint(4 * i, 0))
            qtbot.wait(60)
            seen.append(shown.data[15, 20])
        assert slider.isSliderDown()
        assert sorted(seen) == seen  # higher, wider: more weight in the gap
        assert seen[-1] > before[15, 20]
        assert len(noted) == n_noted  # files and other docks hear of the last one
        QTest.mouseRelease(slider, left, pos=start + QPoint(20, 0))
        settle(qtbot, widget)
        assert about(labels)["weights"] == widget.form.value() != WeightConfig()
        exact = expected(two_cells(), widget.form.value())
        np.testing.assert_array_equal(shown.data, exact)
    assert tuple(shown.contrast_limits) == (0, 1 + widget.form.value().w0)
    assert widget.bar.ticks[-1].value == 1 + widget.form.value().w0


def test_map_becomes_exact_while_the_slider_rests(qtbot, widget, viewer) -> None:
    wide = np.zeros((20, 150), np.int32)  # a gap wider than sigma 5 looks for cells
    wide[:, :30], wide[:, 110:] = 1, 2
    viewer.layers["cells"].data = wide
    shown = show(qtbot, widget)
    assert shown.data[10, 60] == 1
    slider = widget.form.rows["sigma"].slider
    slider.setSliderDown(True)
    slider.setValue(slider.maximum())
    settle(qtbot, widget)
    exact = expected(wide, WeightConfig(sigma=25))
    assert exact[10, 60] > 1
    np.testing.assert_array_equal(shown.data, exact)
    slider.setSliderDown(False)
    settle(qtbot, widget)


def test_limits_that_the_user_set_stay_until_w0_changes(qtbot, widget, viewer) -> None:
    shown = show(qtbot, widget)
    shown.contrast_limits = (0, 5)
    viewer.layers["cells"].paint((15, 20), 3)
    settle(qtbot, widget)
    assert tuple(shown.contrast_limits) == (0, 5)
    assert [tick.value for tick in widget.bar.ticks] == [0, 1, 5]


# -- read-out -------------------------------------------------------------------


def explain(qtbot, widget, place) -> str:
    widget.explain(tuple(widget.shown_layer().data_to_world(place)))
    settle(qtbot, widget)
    return widget.readout.text()


def test_pixel_is_explained_as_it_is_shown(qtbot, widget, viewer) -> None:
    labels = viewer.layers["cells"]
    viewer.layers.selection.active = labels
    shown = show(qtbot, widget)
    text = explain(qtbot, widget, (15, 19))
    assert f"Pixel (y 15, x 19): w = {shown.data[15, 19]:.2f}" in text
    assert "d1: 2.0 px to cell 1" in text
    assert "d2: 3.0 px to cell 2" in text
    assert "10·exp(−(2.0 + 3.0)² / (2·5²)) = 6.07" in text
    lines = widget.lines_layer()
    assert [line.tolist() for line in lines.data] == [
        [[15, 19], [15, 17]],
        [[15, 19], [15, 22]],
    ]
    assert set(lines.shape_type) == {"line"}
    assert viewer.layers.selection.active is labels
    np.testing.assert_array_equal(lines.scale, labels.scale)
    np.testing.assert_array_equal(lines.translate, labels.translate)
    assert lines not in layer_choices(viewer, "shapes")


def test_explanation_follows_painting_in_place(qtbot, widget, viewer) -> None:
    labels = viewer.layers["cells"]
    shown = show(qtbot, widget)
    explain(qtbot, widget, (15, 19))
    lines = widget.lines_layer()
    labels.brush_size = 1
    labels.paint((15, 20), 7)
    settle(qtbot, widget)
    assert "d1: 1.0 px to cell 7" in widget.readout.text()
    assert f"w = {shown.data[15, 19]:.2f}" in widget.readout.text()
    labels.paint((15, 19), 7)
    settle(qtbot, widget)
    assert "this is cell 7, no gap" in widget.readout.text()
    assert widget.lines_layer() is lines
    assert len(lines.data) == 0
    labels.undo()
    labels.undo()
    settle(qtbot, widget)
    assert len(lines.data) == 2
    assert lines in viewer.layers


def test_ignored_pixels_and_places_outside_are_told(qtbot, widget, viewer) -> None:
    painting.set_unpainted(viewer.layers["cells"], "unknown")
    show(qtbot, widget)
    before = explain(qtbot, widget, (-5, 3))
    assert "Click on a pixel" in before
    text = explain(qtbot, widget, (15, 20))
    assert "ignored, nothing is known here" in text
    assert widget.lines_layer() is None


def test_pixel_of_a_stack_is_explained_on_its_slice(qtbot, make, viewer) -> None:
    stack_of_cells(viewer)
    widget = make(viewer)
    viewer.dims.set_current_step(0, 2)
    shown = show(qtbot, widget)
    text = explain(qtbot, widget, (2, 10, 19))
    assert f"Pixel (z 2, y 10, x 19): w = {shown.data[2, 10, 19]:.2f}" in text
    assert {point[0] for line in widget.lines_layer().data for point in line} == {2}
    viewer.dims.set_current_step(0, 0)
    settle(qtbot, widget)
    assert widget.readout.text() == text


def test_explanation_goes_with_its_map(qtbot, widget, viewer) -> None:
    show(qtbot, widget)
    explain(qtbot, widget, (15, 19))
    lines = widget.lines_layer()
    QTest.mouseClick(widget.show_button, Qt.MouseButton.LeftButton)
    assert not lines.visible
    widget.explain((10, 10))
    settle(qtbot, widget)
    show(qtbot, widget)
    assert lines.visible
    viewer.layers.remove(lines)
    assert "d1" in explain(qtbot, widget, (15, 21))
    assert widget.lines_layer() in viewer.layers


# -- what goes while the map is computed ------------------------------------------


@pytest.mark.parametrize("name", ["cells", "cells weights", "pixel explained"])
def test_layers_may_go_while_the_map_is_computed(qtbot, widget, viewer, name) -> None:
    show(qtbot, widget)
    explain(qtbot, widget, (15, 19))
    viewer.layers["cells"].paint((15, 20), 3)
    begin(widget)
    viewer.layers.remove(viewer.layers[name])
    settle(qtbot, widget)
    assert widget.failure.isHidden()
    assert widget.show_button.isChecked() == (name == "pixel explained")


def test_dock_may_go_while_the_map_is_computed(qtbot, viewer) -> None:
    widget = WeightMapWidget(viewer)
    show(qtbot, widget)
    viewer.layers["cells"].paint((15, 20), 3)
    begin(widget)
    gone = []
    widget.destroyed.connect(lambda: gone.append(1))
    widget.deleteLater()
    del widget
    qtbot.waitUntil(lambda: bool(gone))
    viewer.layers["cells"].paint((15, 21), 3)
    viewer.dims.set_current_step(0, 0)
    viewer.cursor.position = (1, 1)
    QApplication.processEvents()
    viewer.layers.clear()


# -- the real window ------------------------------------------------------------


class Mouse:
    """The mouse on the canvas of a window, which looks at 30 x 40 pixels."""

    def __init__(self, viewer) -> None:
        self.canvas = viewer.window._qt_viewer.canvas.native
        self.camera = viewer.scene.camera
        self.camera.center, self.camera.zoom = (15, 20), 8

    def at(self, y: float, x: float) -> QPoint:
        y, x = np.subtract((y, x), self.camera.center[-2:]) * self.camera.zoom
        middle = self.canvas.rect().center()
        return QPoint(round(middle.x() + x), round(middle.y() + y))

    def click(self, place) -> None:
        QTest.mouseMove(self.canvas, self.at(*place))
        QTest.mouseClick(self.canvas, Qt.MouseButton.LeftButton, pos=self.at(*place))

    def key(self, key, *held) -> None:
        QTest.keyClick(self.canvas, key, *held)

    def drag(self, *places) -> None:
        left, no_key = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        QTest.mousePress(self.canvas, left, no_key, self.at(*places[0]))
        points = [self.at(*place) for place in places]
        for point in points[1:]:
            QTest.mouseMove(self.canvas, point)
            QApplication.processEvents()
        QTest.mouseRelease(self.canvas, left, no_key, points[-1])


@pytest.fixture
def docked(qtbot, window):
    labels = window.add_labels(two_cells(), name="cells")
    note_about(labels, unpainted="background")
    widget = WeightMapWidget(window)
    window.window.add_dock_widget(widget, name="Weight map")
    show(qtbot, widget)
    yield widget
    settle(qtbot, widget)


@pytest.mark.gui
def test_click_explains_and_drag_does_not(qtbot, window, docked) -> None:
    mouse = Mouse(window)
    shown = docked.shown_layer()
    centre = window.scene.camera.center
    mouse.drag((15, 20), (13, 17), (11, 13))
    settle(qtbot, docked)
    assert "Click on a pixel" in docked.readout.text()
    assert window.scene.camera.center != centre  # the drag has moved the picture
    mouse.click((10, 19))
    settle(qtbot, docked)
    told = f"Pixel (y 10, x 19): w = {shown.data[10, 19]:.2f}"
    assert told in docked.readout.text()
    assert len(docked.lines_layer().data) == 2
    mouse.click((10, 21))
    settle(qtbot, docked)
    assert "Pixel (y 10, x 21)" in docked.readout.text()


@pytest.mark.gui
def test_strokes_change_the_map_and_clicks_paint(qtbot, window, docked) -> None:
    mouse, labels = Mouse(window), window.layers["cells"]
    labels.mode, labels.brush_size, labels.selected_label = "paint", 3, 5
    shown = docked.shown_layer()
    mouse.drag((2, 3), (2, 8), (2, 14))
    settle(qtbot, docked)
    assert (labels.data[2, 4:14] == 5).all()
    np.testing.assert_array_equal(shown.data, expected(labels.data))
    mouse.click((15, 20))
    settle(qtbot, docked)
    assert labels.data[15, 20] == 5
    np.testing.assert_array_equal(shown.data, expected(labels.data))
    assert "Click on a pixel" in docked.readout.text()
    assert window.layers.selection.active is labels


@pytest.mark.gui
def test_explaining_with_a_brush_in_hand_never_paints(qtbot, window, docked) -> None:
    mouse, labels = Mouse(window), window.layers["cells"]
    labels.mode = "paint"
    before = labels.data.copy()
    docked.explain_button.click()
    mouse.click((10, 19))
    settle(qtbot, docked)
    assert "Pixel (y 10, x 19)" in docked.readout.text()
    centre = window.scene.camera.center
    mouse.drag((10, 19), (12, 20), (14, 21))
    settle(qtbot, docked)
    assert "Pixel (y 14, x 21)" in docked.readout.text()
    assert window.scene.camera.center == centre
    np.testing.assert_array_equal(labels.data, before)
    mouse.key(Qt.Key.Key_Escape)
    assert not docked.explain_button.isChecked()
    assert labels.mode == "paint"
    mouse.click((10, 19))
    assert not np.array_equal(labels.data, before)
    settle(qtbot, docked)
    assert "Pixel (y 14, x 21)" in docked.readout.text()


@pytest.mark.gui
def test_key_switches_explaining(window, docked) -> None:
    mouse, labels = Mouse(window), window.layers["cells"]
    labels.mode = "erase"
    shift = Qt.KeyboardModifier.ShiftModifier
    mouse.key(Qt.Key.Key_W, shift)
    assert docked.explain_button.isChecked()
    assert labels.mode == "pan_zoom"
    mouse.key(Qt.Key.Key_W, shift)
    assert not docked.explain_button.isChecked()
    assert labels.mode == "erase"


@pytest.mark.gui
def test_click_that_adds_a_shape_explains_nothing(qtbot, window, docked) -> None:
    window.add_shapes().mode = "add_polygon"
    Mouse(window).click((10, 19))
    settle(qtbot, docked)
    assert "Click on a pixel" in docked.readout.text()


@pytest.mark.gui
def test_closing_the_dock_by_its_button_hides_the_map(qtbot, window) -> None:
    labels = window.add_labels(two_cells(), name="cells")
    widget = WeightMapWidget(window)
    dock = window.window.add_dock_widget(widget, name="Weight map")
    shown = show(qtbot, widget)
    labels.mode = "paint"
    widget.explain_button.click()
    assert labels.mode == "pan_zoom"
    dock.title.close_button.click()
    assert not shown.visible
    assert labels.mode == "paint"
    settle(qtbot, widget)
    with qtbot.waitSignal(widget.destroyed):
        widget.deleteLater()
