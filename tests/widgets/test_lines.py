"""Drawing lines on a Labels layer, and picking a cell, by mouse."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.compat import isalive
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_unet.widgets._lines import CellPicker, LineDrawer, _Ink

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton


class Event:
    """A mouse event as napari's callbacks are given it; one object for a drag."""

    native = None
    view_direction = None
    dims_displayed = (0, 1)

    def __init__(self, *position: float, button: int = 1) -> None:
        self.type, self.button = "mouse_press", button
        self.move_to(*position, type_="mouse_press")

    def move_to(self, *position: float, type_: str = "mouse_move") -> None:
        self.position, self.pos, self.type = position, position[::-1], type_


def press(tool, layer, event):
    """Press a button; return what goes on as the mouse moves."""
    assert tool._drag in layer.mouse_drag_callbacks
    going = tool._drag(layer, event)
    next(going, None)
    return going


def drag(tool, layer, *positions) -> None:
    event = Event(*positions[0])
    going = press(tool, layer, event)
    for position in positions[1:]:
        event.move_to(*position)
        next(going, None)
    event.move_to(*positions[-1], type_="mouse_release")
    next(going, None)


@pytest.fixture
def labels(viewer) -> Labels:
    data = np.zeros((20, 30), np.int32)
    data[5:15, 5:25] = 3
    labels = viewer.add_labels(data, scale=(2, 2), translate=(100, 50))
    labels.mode = "paint"
    return labels


@pytest.fixture
def drawer(qtbot, viewer) -> LineDrawer:
    return LineDrawer(viewer)


@pytest.fixture
def drawn(drawer) -> list[np.ndarray]:
    lines: list[np.ndarray] = []
    drawer.drawn.connect(lines.append)
    return lines


def test_line_is_in_pixels_of_a_scaled_and_moved_layer(drawer, labels, drawn) -> None:
    drawer.start(labels)
    drag(drawer, labels, (100, 50), (110, 60), (110, 60), (120, 80))
    np.testing.assert_allclose(drawn[0], [(0, 0), (5, 5), (10, 15)])
    drag(drawer, labels, (100, 50), (102, 52))
    assert len(drawn) == 2  # it is still on
    assert drawer.layer is labels


def test_line_of_a_stack_is_along_its_last_axes(drawer, viewer, drawn) -> None:
    stack = viewer.add_labels(np.zeros((4, 20, 30), np.int32), scale=(9, 1, 2))
    drawer.start(stack)
    drag(drawer, stack, (18, 3, 4), (18, 5, 8))
    np.testing.assert_allclose(drawn[0], [(3, 2), (5, 4)])


def test_click_alone_is_no_line(drawer, labels, drawn) -> None:
    drawer.start(labels)
    drag(drawer, labels, (100, 50), (100, 50))
    assert drawn == []


@pytest.mark.parametrize("mode", ["paint", "pan_zoom", "erase"])
def test_former_mode_comes_back(drawer, labels, mode) -> None:
    labels.mode = mode
    cursor, callbacks = labels.cursor, list(labels.mouse_drag_callbacks)
    keymap = dict(labels.keymap)
    drawer.start(labels)
    assert labels.mode == "pan_zoom"
    assert not labels.mouse_pan
    drawer.stop()
    drawer.stop()  # a second time changes nothing
    assert labels.mode == mode
    assert labels.mouse_pan == (mode == "pan_zoom")
    assert labels.cursor == cursor
    assert labels.keymap == keymap
    # napari itself appends the callback of the mode anew.
    assert set(labels.mouse_drag_callbacks) == set(callbacks)


def test_other_tool_of_napari_ends_it(qtbot, drawer, labels) -> None:
    drawer.start(labels)
    with qtbot.waitSignal(drawer.stopped):
        labels.mode = "erase"
    assert labels.mode == "erase"
    assert drawer.layer is None
    assert labels.cursor == "circle"


def test_other_active_layer_ends_it(drawer, viewer, labels) -> None:
    drawer.start(labels)
    viewer.add_image(np.zeros((4, 4)))
    assert drawer.layer is None
    assert labels.mode == "paint"


def test_removed_layer_ends_it(drawer, viewer, labels) -> None:
    drawer.start(labels)
    viewer.layers.remove(labels)
    assert drawer.layer is None
    assert drawer._drag not in labels.mouse_drag_callbacks


def test_layer_is_not_kept_alive(drawer) -> None:
    # Held by the tool alone, as after the viewer is gone.
    labels = Labels(np.zeros((4, 4), np.int32))
    drawer._viewer.add_layer(labels)
    drawer.start(labels)
    drawer._layer = lambda: None
    drawer.stop()
    assert drawer.layer is None


def test_right_click_drops_the_line_and_then_ends_it(drawer, labels, drawn) -> None:
    drawer.start(labels)
    event = Event(100, 50)
    going = press(drawer, labels, event)
    press(drawer, labels, Event(100, 50, button=2))
    event.move_to(110, 60)
    with pytest.raises(StopIteration):
        next(going)
    assert drawn == []
    assert drawer.layer is labels
    press(drawer, labels, Event(100, 50, button=2))
    assert drawer.layer is None


def test_line_that_escape_dropped_is_not_drawn_at_the_release(
    drawer, labels, drawn
) -> None:
    drawer.start(labels)
    event = Event(100, 50)
    going = press(drawer, labels, event)
    event.move_to(110, 60)
    next(going)
    drawer._on_escape(labels)
    event.move_to(120, 70, type_="mouse_release")
    next(going, None)
    assert drawn == []
    drawer._on_escape(labels)
    assert drawer.layer is None


def test_space_bar_moves_the_camera_instead(drawer, labels, drawn) -> None:
    drawer.start(labels)
    held = drawer._on_space(labels)
    next(held)
    assert labels.mouse_pan
    drag(drawer, labels, (100, 50), (120, 80))
    assert drawn == []
    next(held, None)
    assert not labels.mouse_pan
    held = drawer._on_space(labels)
    next(held)
    drawer.stop()
    next(held, None)
    assert labels.mode == "paint"
    assert not labels.mouse_pan


def test_click_picks_a_cell_and_gives_the_brush_back(qtbot, viewer, labels) -> None:
    picker, picked, missed = CellPicker(viewer), [], []
    picker.picked.connect(picked.append)
    picker.missed.connect(lambda: missed.append(True))
    picker.start(labels)
    drag(picker, labels, (100, 50), (100, 52))
    assert missed == [True]
    drag(picker, labels, (120, 70), (120, 72))
    assert picked == [3]
    assert labels.mode == "paint"
    assert labels.selected_label == 1  # left to the owner
    picker.start(labels)
    press(picker, labels, Event(120, 70, button=2))
    assert picker.layer is None
    picker.start(labels)
    held = picker._on_space(labels)
    next(held)
    drag(picker, labels, (120, 70), (120, 72))
    assert picked == [3]


# -- the real window -----------------------------------------------------------


@pytest.mark.gui
def test_mouse_and_keys_draw_on_the_canvas(qtbot, window, tmp_path) -> None:
    viewer = window
    labels = viewer.add_labels(np.zeros((100, 100), np.int32), scale=(3, 3))
    labels.mode = "paint"
    drawer, lines = LineDrawer(viewer), []
    drawer.drawn.connect(lines.append)
    drawer.start(labels)
    canvas = viewer.window._qt_viewer.canvas.native
    centre = canvas.rect().center()
    QTest.qWait(50)
    zoom = viewer.scene.camera.zoom
    QTest.mousePress(canvas, LEFT, pos=centre)
    for x in (10, 20, 30):
        QTest.mouseMove(canvas, centre + QPoint(x, 0))
        QApplication.processEvents()
    ink = canvas.findChild(_Ink)
    assert ink.geometry() == canvas.rect()
    middle = ink.grab().toImage().pixelColor(centre + QPoint(15, 0))
    assert middle.getRgb()[:3] == (255, 255, 0)
    QTest.mouseRelease(canvas, LEFT, pos=centre + QPoint(30, 0))
    qtbot.waitUntil(lambda: canvas.findChild(_Ink) is None)
    (line,) = lines
    assert np.ptp(line[:, 0]) == 0
    np.testing.assert_allclose(np.ptp(line[:, 1]), 30 / zoom / 3, rtol=1e-3)
    assert not labels.data.any()
    before = viewer.scene.camera.center
    QTest.keyPress(canvas, Qt.Key.Key_Space)
    QTest.mousePress(canvas, LEFT, pos=centre)
    for x in (10, 20, 30):
        QTest.mouseMove(canvas, centre + QPoint(x, 0))
        QApplication.processEvents()
    QTest.mouseRelease(canvas, LEFT, pos=centre + QPoint(30, 0))
    QTest.keyRelease(canvas, Qt.Key.Key_Space)
    assert viewer.scene.camera.center != before
    assert len(lines) == 1
    assert drawer.layer is labels
    QTest.mousePress(canvas, LEFT, pos=centre)
    QTest.mouseMove(canvas, centre + QPoint(9, 0))
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    QTest.mouseRelease(canvas, LEFT, pos=centre + QPoint(9, 0))
    assert len(lines) == 1
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert drawer.layer is None
    assert labels.mode == "paint"
    drawer.start(labels)
    QTest.mousePress(canvas, LEFT, pos=centre)
    QTest.qWait(100)  # napari's own throttled slots must be done
    viewer.close()


def test_tool_ends_that_of_another_dock(qtbot, labels, drawer, viewer) -> None:
    other = CellPicker(viewer)
    drawer.start(labels)
    with qtbot.waitSignal(drawer.stopped):
        other.start(labels)
    assert (drawer.layer, other.layer) == (None, labels)
    assert drawer._drag not in labels.mouse_drag_callbacks
    other._cancel()
    assert labels.mode == "paint"


def test_tool_that_qt_has_deleted_gives_the_mouse_back(qtbot, labels, drawer) -> None:
    drawer.start(labels)
    drawer.deleteLater()
    qtbot.waitUntil(lambda: not isalive(drawer))
    drawer.stop()
    assert labels.mode == "paint"
