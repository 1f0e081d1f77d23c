"""Tools that correct painted cells."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import _default_shortcuts
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QPushButton, QVBoxLayout, QWidget

from napari_unet.files.annotations import load_annotation
from napari_unet.widgets._autosave import autosaver_of
from napari_unet.widgets._autosave_files import list_autosaves
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import META, about, note_about
from napari_unet.widgets._painting import image_key, new_annotation
from napari_unet.widgets._tools import _BUTTONS, EditTools

CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
ACROSS = np.array([(10.0, 2.0), (10.0, 18.0)])  # cuts cell 4 in two
NAMES = ("background", "cell", "mitosis", "tissue")


def square_cells() -> np.ndarray:
    """Two squares side by side, 4 and 7, and 1 px of cell 9."""
    data = np.zeros((20, 40), np.int32)
    data[5:15, 5:15] = 4
    data[5:15, 20:30] = 7
    data[1, 35] = 9
    return data


def annotate(viewer: ViewerModel, data: np.ndarray, **label_class: int) -> Labels:
    """Add an annotation with classes: `i4=2` makes cell 4 one of class 2."""
    known = {
        "label_class": {int(name[1:]): c for name, c in label_class.items()},
        "class_names": NAMES,
        "area_classes": frozenset({3}),
        "unpainted": "unknown",
    }
    return viewer.add_labels(data, name="cells", metadata={META: known})


@pytest.fixture
def labels(viewer) -> Labels:
    labels = annotate(viewer, square_cells(), i4=2)
    labels.selected_label = 4
    return labels


@pytest.fixture
def tools(qtbot, viewer, labels) -> EditTools:
    return make_tools(qtbot, viewer)


def make_tools(qtbot, viewer) -> EditTools:
    tools = EditTools(viewer, make_box(qtbot, viewer))
    qtbot.addWidget(tools)
    return tools


def make_box(qtbot, viewer) -> LayerBox:
    box = LayerBox(viewer, "labels", "Annotation", "To correct")
    qtbot.addWidget(box)
    return box


def click(button: QPushButton) -> None:
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def failure(tools: EditTools) -> str:
    return "" if tools.failure.isHidden() else tools.failure.summary.text()


# -- one step to undo ----------------------------------------------------------


def check_one_step(labels: Labels, before: np.ndarray) -> None:
    after = labels.data.copy()
    assert (after != before).any()
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    labels.redo()
    np.testing.assert_array_equal(labels.data, after)


@pytest.mark.parametrize("name", ["delete", "grow", "shrink", "fill"])
def test_each_tool_is_one_step_to_undo(qtbot, tools, labels, name) -> None:
    labels.data[9:11, 9:11] = 0
    before = labels.data.copy()
    with qtbot.waitSignal(tools.edited):
        click(tools.buttons[name])
    assert failure(tools) == ""
    assert "cell 4" in tools.message.text()
    check_one_step(labels, before)


def test_tools_do_what_they_say(tools, labels) -> None:
    n = np.count_nonzero(labels.data == 4)
    assert n == 100
    click(tools.buttons["grow"])
    assert np.count_nonzero(labels.data == 4) == 100 + 4 * 10
    labels.undo()
    click(tools.buttons["shrink"])
    assert np.count_nonzero(labels.data == 4) == 8 * 8
    labels.undo()
    labels.data[9, 9] = 0
    click(tools.buttons["fill"])
    np.testing.assert_array_equal(labels.data, square_cells())
    click(tools.buttons["delete"])
    assert not (labels.data == 4).any()
    assert np.count_nonzero(labels.data == 7) == 100


def test_layers_and_files_hear_of_an_edit(tools, labels, viewer) -> None:
    heard = []
    labels.events.paint.connect(lambda event: heard.append("paint"))
    labels.events.labels_update.connect(lambda event: heard.append("labels_update"))
    click(tools.buttons["delete"])
    assert sorted(heard) == ["labels_update", "paint"]


def test_edits_are_autosaved(qtbot, viewer, tmp_path) -> None:
    image = viewer.add_image(np.zeros((20, 40)), name="nuclei")
    labels = new_annotation(viewer, image)
    labels.data = square_cells()
    autosaver = autosaver_of(viewer, folder=tmp_path, delay_s=1000)
    autosaver.watch(labels, image=image_key(image))
    autosaver.flush()
    tools = make_tools(qtbot, viewer)
    labels.selected_label = 7
    click(tools.buttons["delete"])
    tools._split(labels, ACROSS)
    autosaver.flush()
    (found,) = list_autosaves(image_key(image), tmp_path)
    saved = load_annotation(found.path).annotation
    np.testing.assert_array_equal(saved.labels, labels.data)
    assert set(np.unique(saved.labels)) == {0, 4, 9, 11}


# -- classes -------------------------------------------------------------------


def test_new_cell_inherits_the_class_of_its_parent(tools, labels) -> None:
    click(tools.buttons["split"])
    tools._on_line(ACROSS)
    assert tools.message.text() == "Split cell 4."
    assert about(labels)["label_class"] == {4: 2, 11: 2}
    assert set(np.unique(labels.data)) == {0, 4, 7, 9, 11}
    labels.selected_label = 11
    assert "mitosis" in str(labels.features.set_index("index")["class"][11])


def test_plain_cells_are_not_named(tools, labels) -> None:
    click(tools.buttons["split"])
    tools._on_line(ACROSS + np.array([0, 15]))
    assert about(labels)["label_class"] == {4: 2}


def test_cell_that_is_about_to_be_painted_keeps_its_id(tools, labels) -> None:
    labels.selected_label = 10  # “Next cell” was pressed
    click(tools.buttons["split"])
    tools._on_line(ACROSS)
    assert set(np.unique(labels.data)) == {0, 4, 7, 9, 11}


def test_background_and_areas_under_the_line_stay_whole(qtbot, viewer) -> None:
    data = square_cells()
    data[:, 0:4] = 11
    data[15:18, :] = 12
    labels = annotate(viewer, data, i11=0, i12=3)
    tools = make_tools(qtbot, viewer)
    line = np.array([(10.0, -2.0), (10.0, 17.0), (19.0, 17.0)])
    click(tools.buttons["split"])
    tools._on_line(line)
    assert failure(tools) == ""
    assert tools.message.text() == "Split cell 4."
    for i in (11, 12):
        assert ((labels.data == i) == (data == i)).all()
    click(tools.buttons["merge"])
    tools._on_line(line + np.array([2, 0]))
    assert "fewer than two cells" in failure(tools)  # 11 and 12 are none


# -- split and merge -----------------------------------------------------------


def test_merged_cells_have_the_first_id(tools, labels) -> None:
    click(tools.buttons["merge"])
    before = labels.data.copy()
    tools._on_line(np.array([(10.0, 25.0), (10.0, 8.0)]))
    assert tools.message.text() == "Merged cells 7 and 4 into cell 7."
    assert np.count_nonzero(labels.data == 7) == 200
    check_one_step(labels, before)


def test_lines_that_do_nothing_are_told_and_the_mode_stays(tools, labels) -> None:
    click(tools.buttons["split"])
    for line in (ACROSS[:, :] - (0, 6), np.array([(0.0, 0.0), (0.0, 9.0)])):
        tools._on_line(line[:, :] * (1, 0.5))
        assert "NU-L10" in failure(tools)
        assert "from one side of the cell to the other" in failure(tools)
    np.testing.assert_array_equal(labels.data, square_cells())
    assert tools.buttons["split"].isChecked()
    tools._on_line(ACROSS)
    assert failure(tools) == ""
    click(tools.buttons["merge"])
    tools._on_line(np.array([(10.0, 22.0), (10.0, 28.0)]))
    assert "fewer than two cells" in failure(tools)


def test_only_one_tool_is_on_at_a_time(tools, labels) -> None:
    labels.mode = "paint"
    click(tools.buttons["split"])
    assert labels.mode == "pan_zoom"
    click(tools.buttons["merge"])
    assert not tools.buttons["split"].isChecked()
    assert tools.buttons["merge"].isChecked()
    click(tools.buttons["pick"])
    assert tools._line.layer is None
    assert not tools.buttons["merge"].isChecked()
    assert tools.buttons["pick"].isChecked()
    click(tools.buttons["pick"])
    assert tools._picker.layer is None
    assert labels.mode == "paint"
    click(tools.buttons["split"])
    click(tools.buttons["split"])
    assert tools._line.layer is None
    assert labels.mode == "paint"
    assert tools.message.isHidden()


def test_split_and_merge_work_on_the_slice_on_screen(qtbot, viewer) -> None:
    stack = np.stack([square_cells()] * 3)
    labels = annotate(viewer, stack)
    labels.scale = (5, 0.5, 0.5)
    tools = make_tools(qtbot, viewer)
    viewer.dims.set_point(0, 10)
    click(tools.buttons["split"])
    tools._on_line(ACROSS)
    np.testing.assert_array_equal(labels.data[:2], stack[:2])
    assert set(np.unique(labels.data[2])) == {0, 4, 7, 9, 11}
    click(tools.buttons["merge"])
    tools._on_line(np.array([(6.0, 8.0), (6.0, 25.0)]))
    np.testing.assert_array_equal(labels.data[:2], stack[:2])
    labels.n_edit_dimensions = 3
    viewer.dims.set_point(0, 0)
    tools._on_line(np.array([(10.0, 8.0), (10.0, 25.0)]))
    assert failure(tools) == ""
    assert not (labels.data == 7).any()


def test_other_axes_on_screen_are_told(qtbot, viewer) -> None:
    annotate(viewer, np.stack([square_cells()] * 3))
    tools = make_tools(qtbot, viewer)
    viewer.dims.order = (1, 0, 2)
    click(tools.buttons["split"])
    assert "show their last two axes (Y and X) in 2D" in failure(tools)
    assert not tools.buttons["split"].isChecked()
    viewer.dims.order = (0, 2, 1)  # turned, but the same plane
    click(tools.buttons["split"])
    assert failure(tools) == ""
    viewer.dims.ndisplay = 3
    tools._on_line(ACROSS)
    assert "in 2D" in failure(tools)


def test_slice_beside_the_stack_is_told(qtbot, viewer) -> None:
    labels = annotate(viewer, np.stack([square_cells()] * 3))
    viewer.add_image(np.zeros((9, 20, 40)))
    tools = make_tools(qtbot, viewer)
    viewer.dims.set_point(0, 7)
    labels.selected_label = 4
    click(tools.buttons["delete"])
    assert "no slice here" in failure(tools)
    qtbot.waitUntil(lambda: tools.cell_label.text() == "Cell 4 (cell)")


def test_plane_in_a_viewer_of_stacks(qtbot, viewer, labels) -> None:
    viewer.add_image(np.zeros((9, 20, 40)))
    tools = make_tools(qtbot, viewer)
    click(tools.buttons["delete"])
    assert failure(tools) == ""
    assert not (labels.data == 4).any()


# -- the selected cell ---------------------------------------------------------


def test_line_of_the_selected_cell_follows(qtbot, tools, labels) -> None:
    def shows(text: str) -> None:
        qtbot.waitUntil(lambda: tools.cell_label.text() == text)

    shows("Cell 4 (mitosis), 100 px")
    labels.selected_label = 9
    shows("Cell 9 (cell), 1 px")
    labels.paint((1, 35), 3)
    labels.selected_label = 4
    click(tools.buttons["shrink"])
    assert tools.cell_label.text() == "Cell 4 (mitosis), 64 px"
    labels.undo()
    shows("Cell 4 (mitosis), 100 px")
    note_about(labels, label_class={4: 0})
    shows("Background, 100 px")
    note_about(labels, label_class={4: 7})
    shows("Cell 4 (class 7), 100 px")
    labels.selected_label = 30
    shows("Cell 30 (cell), not painted")
    labels.selected_label = 0
    shows("No cell is selected.")


def test_line_of_the_selected_cell_follows_slices(qtbot, viewer) -> None:
    stack = np.stack([square_cells()] * 3)
    stack[1] = 0
    labels = annotate(viewer, stack)
    labels.selected_label = 4
    tools = make_tools(qtbot, viewer)
    viewer.dims.set_point(0, 0)
    qtbot.waitUntil(lambda: tools.cell_label.text() == "Cell 4 (cell), 100 px")
    viewer.dims.set_point(0, 1)
    expected = "Cell 4 (cell), not painted on this slice"
    qtbot.waitUntil(lambda: tools.cell_label.text() == expected)
    labels.n_edit_dimensions = 3
    qtbot.waitUntil(lambda: tools.cell_label.text() == "Cell 4 (cell), 200 px")
    click(tools.buttons["delete"])
    assert not (labels.data == 4).any()


@pytest.mark.parametrize("name", ["delete", "grow", "shrink", "fill"])
def test_without_a_cell_nothing_happens(tools, labels, name) -> None:
    labels.selected_label = 0
    click(tools.buttons[name])
    assert "press “Pick cell”" in failure(tools)
    labels.selected_label = 30
    click(tools.buttons[name])
    assert "NU-L10" in failure(tools)
    np.testing.assert_array_equal(labels.data, square_cells())


def test_cell_without_a_hole_is_told(tools, labels) -> None:
    click(tools.buttons["fill"])
    assert "cell 4 has no hole" in failure(tools)


def test_picked_cell_is_selected(tools, labels) -> None:
    labels.mode = "erase"
    click(tools.buttons["pick"])
    tools._picker.missed.emit()
    assert "Nothing is painted there" in tools.message.text()
    tools._picker.stop()
    tools._picker.picked.emit(7)
    assert labels.selected_label == 7
    assert labels.mode == "erase"
    assert tools.cell_label.text() == "Cell 7 (cell), 100 px"
    assert tools.message.isHidden()


# -- stacks --------------------------------------------------------------------


def test_interpolation_fills_the_slices_between(qtbot, viewer) -> None:
    stack = np.zeros((5, 20, 40), np.int32)
    stack[0, 5:15, 5:15] = stack[4, 5:15, 5:15] = 4
    stack[2, 10, 10] = 8
    labels = annotate(viewer, stack.copy())
    labels.selected_label = 4
    tools = make_tools(qtbot, viewer)
    assert not tools.buttons["interpolate"].isHidden()
    click(tools.buttons["interpolate"])
    assert failure(tools) == ""
    assert all((plane == 4).any() for plane in labels.data)
    assert labels.data[2, 10, 10] == 8
    check_one_step(labels, stack)
    click(tools.buttons["interpolate"])
    assert "NU-L10" in failure(tools)


def test_interpolation_is_for_stacks(tools, labels) -> None:
    assert tools.buttons["interpolate"].isHidden()
    tools._on_key("interpolate")
    np.testing.assert_array_equal(labels.data, square_cells())


# -- the layer -----------------------------------------------------------------


def test_without_an_annotation_the_tools_are_off(qtbot, viewer) -> None:
    tools = make_tools(qtbot, viewer)
    assert not any(button.isEnabled() for button in tools.buttons.values())
    tools._on_key("split")
    tools._draw_lines("split", True)
    assert "NU-L04" in failure(tools)


def test_labels_of_another_origin_become_an_annotation(qtbot, viewer) -> None:
    viewer.add_image(np.zeros((20, 40)), name="nuclei")
    mine = viewer.add_labels(square_cells().astype(np.uint8), name="mine")
    mine.selected_label = 7
    tools = make_tools(qtbot, viewer)
    click(tools.buttons["delete"])
    assert failure(tools) == ""
    assert mine.data.dtype == np.int32
    assert about(mine)["label_class"] == {}
    assert autosaver_of(viewer).is_watched(mine)


def test_switching_annotations_ends_the_line_mode(qtbot, tools, labels, viewer) -> None:
    click(tools.buttons["split"])
    other = annotate(viewer, square_cells())
    assert not tools.buttons["split"].isChecked()
    tools._labels_box.set_layer(other)
    other.selected_label = 7
    click(tools.buttons["split"])
    assert tools._line.layer is other
    tools._labels_box.set_layer(labels)
    assert tools._line.layer is None
    assert tools.buttons["split"].isEnabled()
    click(tools.buttons["delete"])
    assert (other.data == 7).any()


def test_deleting_the_layer_ends_the_line_mode(qtbot, tools, labels, viewer) -> None:
    click(tools.buttons["split"])
    viewer.layers.remove(labels)
    assert tools._line.layer is None
    assert not tools.buttons["split"].isChecked()
    assert not tools.buttons["split"].isEnabled()
    assert tools.cell_label.text() == ""
    assert failure(tools) == ""


def test_hidden_tools_give_the_mouse_back(qtbot, tools, labels) -> None:
    labels.mode = "paint"
    tools.show()
    click(tools.buttons["merge"])
    tools.hide()
    assert tools._line.layer is None
    assert labels.mode == "paint"


def test_destroyed_tools_give_the_mouse_back(qtbot, viewer, labels) -> None:
    labels.mode = "paint"
    tools = EditTools(viewer, make_box(qtbot, viewer))
    click(tools.buttons["merge"])
    assert labels.mode == "pan_zoom"
    reference = weakref.ref(tools)
    with qtbot.waitSignal(tools.destroyed):
        tools.deleteLater()
    del tools

    def is_gone() -> bool:
        gc.collect()
        return reference() is None

    qtbot.waitUntil(is_gone)
    assert labels.mode == "paint"
    labels.selected_label = 7
    viewer.layers.remove(labels)


# -- controls and keys ---------------------------------------------------------


def test_every_button_has_a_tooltip_with_its_key(tools) -> None:
    for name, button in tools.buttons.items():
        assert button.accessibleName() == button.text()
        assert _BUTTONS[name][1].replace("-", "+") in button.toolTip()


def test_keys_are_none_of_napari_s() -> None:
    taken = {
        coerce_keybinding(key) for keys in _default_shortcuts.values() for key in keys
    }
    taken |= {*Labels.class_keymap, *ViewerModel.class_keymap}
    mine = {coerce_keybinding(key) for _, key, _, _ in _BUTTONS.values()}
    assert len(mine) == len(_BUTTONS)
    assert coerce_keybinding("Shift-V") in taken
    assert not mine & taken


# -- the real window -----------------------------------------------------------


def docked_tools(viewer):
    box = LayerBox(viewer, "labels", "Annotation", "To correct")
    tools = EditTools(viewer, box)
    content = QWidget()
    layout = QVBoxLayout(content)
    layout.addWidget(box)
    layout.addWidget(tools)
    return tools, viewer.window.add_dock_widget(content, name="Tools")


def stroke(canvas, *points: QPoint) -> None:
    left = Qt.MouseButton.LeftButton
    QTest.mousePress(canvas, left, pos=points[0])
    for point in points[1:]:
        QTest.mouseMove(canvas, point)
        QApplication.processEvents()
    QTest.mouseRelease(canvas, left, pos=points[-1])
    QApplication.processEvents()


@pytest.mark.gui
def test_mouse_and_keys_correct_cells_on_the_canvas(qtbot, window) -> None:
    viewer = window
    labels = annotate(viewer, square_cells(), i4=2)
    labels.scale, labels.translate = (0.5, 0.5), (7, -3)
    viewer.reset_view()
    labels.mode = "paint"
    tools, dock = docked_tools(viewer)
    canvas = viewer.window._qt_viewer.canvas.native
    QTest.qWait(50)
    zoom, (_, y0, x0) = viewer.scene.camera.zoom, viewer.scene.camera.center
    size = canvas.size()

    def at(y: float, x: float) -> QPoint:
        wy, wx = labels.data_to_world((y, x))
        return QPoint(
            round(size.width() / 2 + (wx - x0) * zoom),
            round(size.height() / 2 + (wy - y0) * zoom),
        )

    QTest.keyClick(canvas, Qt.Key.Key_S, SHIFT)
    assert tools.buttons["split"].isChecked()
    for x in (0, 15):  # one after the other
        stroke(canvas, *(at(10, x + i) for i in (2, 7, 12, 17)))
    after = labels.data.copy()
    assert set(np.unique(after)) == {0, 4, 7, 9, 11, 12}
    assert (after[5:9, 5:15] == after[5, 5]).all()
    assert (after[12:15, 5:15] == after[12, 5]).all()
    assert (after > 0).sum() == 201
    QTest.keyClick(canvas, Qt.Key.Key_Z, CONTROL)
    assert set(np.unique(labels.data)) == {0, 4, 7, 9, 11}
    QTest.keyClick(canvas, Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(labels.data, square_cells())
    for _ in range(2):
        QTest.keyClick(canvas, Qt.Key.Key_Z, CONTROL | SHIFT)
    np.testing.assert_array_equal(labels.data, after)
    QTest.keyClick(tools, Qt.Key.Key_Escape)  # the focus is on the dock
    assert not tools.buttons["split"].isChecked()
    assert labels.mode == "paint"
    click(tools.buttons["pick"])
    stroke(canvas, at(7, 25), at(7, 25))
    assert labels.selected_label == after[7, 25]
    assert labels.mode == "paint"
    click(tools.buttons["merge"])
    stroke(canvas, *(at(y, 10) for y in (7, 9, 11, 13)))
    np.testing.assert_array_equal(labels.data[:, :18] == 4, square_cells()[:, :18] == 4)
    dock.close()
    assert labels.mode == "paint"
    assert failure(tools) == ""


@pytest.mark.gui
def test_window_that_closes_in_the_line_mode(qtbot, window) -> None:
    annotate(window, square_cells())
    tools, _ = docked_tools(window)
    click(tools.buttons["split"])
    line = tools._line
    QTest.qWait(100)
    window.close()
    assert line.layer is None
