"""Clicks that explain pixels."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import _default_shortcuts

from napari_unet.widgets._explain_button import KEY, ExplainButton
from napari_unet.widgets._lines import LineDrawer
from napari_unet.widgets._tools import _BUTTONS


class Event:
    """A mouse event as napari's callbacks are given it; one object for a drag."""

    modifiers = ()

    def __init__(self, *position: float, button: int = 1) -> None:
        self.button = button
        self.move_to(*position, type_="mouse_press")

    def move_to(self, *position: float, type_: str = "mouse_move") -> None:
        self.position, self.pos, self.type = position, position[::-1], type_


def drag(callback, target, *positions, button: int = 1) -> None:
    event = Event(*positions[0], button=button)
    going = callback(target, event)
    next(going, None)
    for position in positions[1:]:
        event.move_to(*position)
        next(going, None)
    event.move_to(*positions[-1], type_="mouse_release")
    next(going, None)


@pytest.fixture
def labels(viewer) -> Labels:
    labels = viewer.add_labels(np.zeros((20, 30), np.int32))
    labels.mode = "paint"
    return labels


@pytest.fixture
def button(qtbot, viewer, labels) -> ExplainButton:
    button = ExplainButton(viewer)
    qtbot.addWidget(button)
    button.watch(labels)
    return button


@pytest.fixture
def asked(button) -> list[tuple[float, ...]]:
    places: list[tuple[float, ...]] = []
    button.asked.connect(places.append)
    return places


def click_plainly(viewer, *positions, button: int = 1) -> None:
    drag(viewer.mouse_drag_callbacks[-1], viewer, *positions, button=button)


@pytest.mark.parametrize("mode", ["paint", "erase", "fill", "polygon", "pick"])
def test_click_with_a_tool_in_hand_explains_nothing(viewer, labels, asked, mode):
    labels.mode = mode
    click_plainly(viewer, (3, 4))
    assert asked == []


@pytest.mark.parametrize("mode", ["pan_zoom", "transform"])
def test_click_without_a_tool_explains(viewer, labels, asked, mode) -> None:
    labels.mode = mode
    click_plainly(viewer, (3, 4))
    click_plainly(viewer, (3, 4), (5, 6))  # a hand that trembles
    click_plainly(viewer, (3, 4), (13, 14))
    click_plainly(viewer, (3, 4), button=2)
    assert asked == [(3, 4), (3, 4)]


def test_mode_ends_by_button_right_click_and_another_annotation(
    viewer, labels, button, asked
) -> None:
    button.click()
    pick = labels.mouse_drag_callbacks[-1]
    drag(pick, labels, (3, 4), (5, 6))
    assert asked == [(3, 4), (5, 6)]
    click_plainly(viewer, (3, 4))  # heard of once only
    assert len(asked) == 2
    drag(pick, labels, (3, 4), button=2)
    assert not button.isChecked()
    for end in (button.click, lambda: button.watch(None)):
        button.click()
        button.watch(labels)  # the same one: it stays
        assert button.isChecked()
        assert labels.mode == "pan_zoom"
        end()
        assert not button.isChecked()
        assert labels.mode == "paint"
    assert not button.isEnabled()
    labels.mode = "pan_zoom"
    click_plainly(viewer, (3, 4))
    assert len(asked) == 2


def test_space_bar_moves_the_camera_meanwhile(labels, button, asked) -> None:
    button.click()
    labels.mouse_pan = True  # as the tool's key does
    drag(labels.mouse_drag_callbacks[-1], labels, (3, 4))
    assert asked == []


def test_button_that_goes_gives_the_mouse_back(qtbot, viewer, labels) -> None:
    button = ExplainButton(viewer)
    button.watch(labels)
    button.click()
    gone = weakref.ref(button)
    button.deleteLater()
    del button
    qtbot.waitUntil(lambda: labels.mode == "paint")
    gc.collect()
    assert gone() is None
    labels.mode = "pan_zoom"
    click_plainly(viewer, (3, 4))


def test_key_is_none_of_napari_s_and_none_of_the_tools(button) -> None:
    key = coerce_keybinding(KEY)
    taken = {coerce_keybinding(k) for keys in _default_shortcuts.values() for k in keys}
    taken |= {*Labels.class_keymap, *ViewerModel.class_keymap}
    assert key not in taken
    assert KEY not in {key for _, key, _, _ in _BUTTONS.values()}
    assert KEY.replace("-", "+") in button.toolTip()


def test_another_tool_on_the_annotation_ends_it(viewer, labels, button) -> None:
    other = LineDrawer(viewer)
    button.click()
    other.start(labels)
    assert not button.isChecked()
    button.click()
    assert other.layer is None
    button.click()
    assert labels.mode == "paint"
