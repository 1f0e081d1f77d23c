"""Keys that lead to a widget."""

from __future__ import annotations

import gc

import numpy as np
from napari.layers import Labels
from qtpy.compat import isalive
from qtpy.QtWidgets import QWidget

from napari_unet.widgets._keys import bind_key


class Widget:
    def __init__(self) -> None:
        self.pressed: list[int] = []

    def press(self, k: int) -> None:
        self.pressed.append(k)


def press(layer: Labels, key: str) -> None:
    (bound,) = [f for k, f in layer.keymap.items() if str(k) == key]
    bound(layer)


def test_key_calls_the_widget_with_what_was_given() -> None:
    layer, widget = Labels(np.zeros((2, 2), int)), Widget()
    bind_key(layer, "1", widget.press, 1)
    bind_key(layer, "Control-1", widget.press, 11)
    press(layer, "1")
    press(layer, "Ctrl+1")
    assert widget.pressed == [1, 11]


def test_key_is_napari_s_again_once_the_widget_is_gone() -> None:
    layer, widget = Labels(np.zeros((2, 2), int)), Widget()
    bind_key(layer, "1", widget.press, 1)
    del widget
    gc.collect()
    press(layer, "1")
    assert not layer.keymap


def test_key_goes_back_to_the_widget_before_once_the_last_is_gone() -> None:
    layer, first, last = Labels(np.zeros((2, 2), int)), Widget(), Widget()
    bind_key(layer, "1", first.press, 1)
    bind_key(layer, "1", last.press, 2)
    press(layer, "1")
    assert (first.pressed, last.pressed) == ([], [2])
    del last
    gc.collect()
    press(layer, "1")
    press(layer, "1")
    assert first.pressed == [1, 1]


def test_widget_that_binds_again_is_the_last_and_is_called_once() -> None:
    layer, first, last = Labels(np.zeros((2, 2), int)), Widget(), Widget()
    bind_key(layer, "1", first.press, 1)
    bind_key(layer, "1", last.press, 2)
    bind_key(layer, "1", first.press, 3)
    press(layer, "1")
    assert (first.pressed, last.pressed) == ([3], [])


def test_widget_that_qt_has_deleted_is_gone(qtbot) -> None:
    class Window(QWidget):
        pressed = 0

        def press(self) -> None:
            self.pressed += 1

    layer, first, last = Labels(np.zeros((2, 2), int)), Widget(), Window()
    bind_key(layer, "1", first.press, 1)
    bind_key(layer, "1", last.press)
    last.deleteLater()
    qtbot.waitUntil(lambda: not isalive(last))
    press(layer, "1")
    assert (first.pressed, last.pressed) == ([1], 0)
