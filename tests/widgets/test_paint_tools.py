"""Classes, brushes and finished regions, and their keys."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QMessageBox

from napari_unet.widgets import _paint_tools as module
from napari_unet.widgets._classes import Classes, class_of, classes_of, note_classes
from napari_unet.widgets._layers import about
from napari_unet.widgets._paint_tools import PaintTools
from napari_unet.widgets._painted import painted_of
from napari_unet.widgets._painting import new_annotation

CLASSES = Classes(("background", "T cell", "B cell", "tissue"), (), frozenset({3}))


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((40, 50)), name="nuclei")
    return viewer


@pytest.fixture
def labels(viewer):
    labels = new_annotation(viewer, viewer.layers["nuclei"])
    note_classes(labels, CLASSES)
    return labels


@pytest.fixture
def tools(qtbot, viewer, labels) -> PaintTools:
    tools = PaintTools(viewer, lambda: labels)
    qtbot.addWidget(tools)
    tools.bind_keys(viewer)
    tools.failures = []
    tools.failed.connect(lambda failure: tools.failures.append(failure.summary))
    labels.events.selected_label.connect(lambda: tools.show_annotation(labels))
    labels.events.mode.connect(lambda: tools.show_annotation(labels))
    labels.events.metadata.connect(lambda: tools.show_annotation(labels))
    tools.show_annotation(labels)
    return tools


def press(target, key: str) -> None:
    (bound,) = [f for k, f in target.keymap.items() if str(k) == key]
    bound(target)


def paint(labels, at: tuple[int, int]) -> int:
    labels.brush_size = 4
    labels.paint(at, labels.selected_label)
    return int(labels.selected_label)


def test_digit_starts_a_new_cell_of_its_class(tools, viewer, labels) -> None:
    press(viewer, "2")
    first = paint(labels, (5, 5))
    assert tools.brush_label.text() == f"Painting: cell {first} (B cell)"
    assert tools.class_list.table.currentRow() == 2
    press(viewer, "2")
    second = paint(labels, (5, 15))
    press(viewer, "1")
    third = paint(labels, (5, 25))
    assert len({first, second, third}) == 3
    annotation = painted_of(labels).annotation()
    assert annotation.class_map()[5, [5, 15, 25]].tolist() == [2, 2, 1]


def test_id_that_nobody_painted_is_used_and_not_skipped(tools, viewer, labels) -> None:
    for key in "12121":
        press(viewer, key)
    assert labels.selected_label == 1
    assert class_of(labels, 1) == 1


def test_area_and_background_have_one_id_each(tools, viewer, labels) -> None:
    ids = {}
    for key in ("3", "G"):
        press(viewer, key)
        ids[key] = paint(labels, (5, 5) if key == "3" else (25, 25))
        press(viewer, "1")
        paint(labels, (15, 5))
        press(viewer, key)
        assert labels.selected_label == ids[key]
    assert tools.brush_label.text() == "Painting: background"
    press(viewer, "3")
    assert tools.brush_label.text() == "Painting: tissue"
    cells = painted_of(labels).annotation().cells()
    assert not np.isin(list(ids.values()), cells).any()


def test_first_class_as_area_keeps_the_id_that_is_painted(
    tools, viewer, labels
) -> None:
    first = paint(labels, (5, 5))
    note_classes(labels, Classes(("background", "tissue"), (), frozenset({1})))
    press(viewer, "G")
    paint(labels, (25, 25))
    press(viewer, "1")
    assert labels.selected_label == first


def test_next_cell_is_of_the_class_of_the_one_that_is_chosen(
    tools, viewer, labels
) -> None:
    press(viewer, "2")
    second = paint(labels, (5, 5))
    press(viewer, "1")
    paint(labels, (5, 15))
    press(viewer, "N")
    assert class_of(labels, labels.selected_label) == 1
    labels.selected_label = second  # picked
    press(viewer, "N")
    assert class_of(labels, labels.selected_label) == 2
    press(viewer, "G")
    press(viewer, "N")
    assert class_of(labels, labels.selected_label) == 2


def test_class_that_is_not_there_is_told(tools, viewer, labels) -> None:
    press(viewer, "7")
    assert "there is no class 7, only 3" in tools.failures[0]
    assert labels.mode == "paint"


def test_painted_cell_gets_another_class(tools, viewer, labels) -> None:
    i = paint(labels, (5, 5))
    press(viewer, "Ctrl+2")
    assert class_of(labels, i) == 2
    assert labels.get_status((5, 5))["value"] == f"{i}; class: B cell"
    assert viewer.status == f"cell {i} is of class B cell now"


def test_cell_under_the_mouse_goes_before_the_selected_one(
    tools, viewer, labels
) -> None:
    first = paint(labels, (5, 5))
    press(viewer, "N")
    second = paint(labels, (5, 25))
    viewer.mouse_over_canvas = True
    viewer.cursor.position = (5, 5)
    press(viewer, "Ctrl+2")
    assert (class_of(labels, first), class_of(labels, second)) == (2, 1)
    viewer.cursor.position = (30, 30)
    press(viewer, "Ctrl+2")
    assert class_of(labels, second) == 2


def test_background_does_not_become_a_cell(tools, viewer, labels) -> None:
    press(viewer, "G")
    i = paint(labels, (5, 5))
    press(viewer, "Ctrl+1")
    assert "no cell is chosen" in tools.failures[0]
    assert class_of(labels, i) == 0


def test_undone_cell_keeps_its_class(tools, viewer, labels) -> None:
    press(viewer, "2")
    i = paint(labels, (5, 5))
    labels.undo()
    assert not labels.data.any()
    labels.redo()
    assert labels.data[5, 5] == i
    assert class_of(labels, i) == 2


def test_eraser_takes_what_is_painted_away(tools, viewer, labels) -> None:
    press(viewer, "E")
    assert (labels.mode, tools.brush_label.text()) == ("erase", "Erasing")
    assert tools.eraser_button.isChecked()
    press(viewer, "1")
    assert labels.mode == "paint"
    assert not tools.eraser_button.isChecked()
    labels.mode = "pan_zoom"
    assert tools.brush_label.text() == "Chosen: cell 1 (T cell)"


@pytest.mark.parametrize("answer", [True, False])
def test_removed_class_leaves_its_cells_to_the_first(
    tools, viewer, labels, monkeypatch, answer
) -> None:
    asked = []
    monkeypatch.setattr(
        module, "_confirmed", lambda _, question: asked.append(question) or answer
    )
    press(viewer, "2")
    i = paint(labels, (5, 5))
    n_painted = np.count_nonzero(labels.data)
    tools.class_list.removal_wanted.emit(2)
    assert "“B cell” is painted" in asked[0]
    assert "make what is painted “T cell”" in asked[0]
    assert (len(classes_of(labels)) == 3) == answer
    assert class_of(labels, i) == (1 if answer else 2)
    assert np.count_nonzero(labels.data) == n_painted


def test_first_class_is_removed_for_the_second(
    tools, viewer, labels, monkeypatch
) -> None:
    monkeypatch.setattr(module, "_confirmed", lambda *_: True)
    first = paint(labels, (5, 5))
    press(viewer, "2")
    second = paint(labels, (5, 25))
    tools.class_list.removal_wanted.emit(1)
    assert classes_of(labels).names == ("background", "B cell", "tissue")
    assert class_of(labels, first) == class_of(labels, second) == 1


def test_class_that_is_not_painted_goes_unasked(tools, labels, monkeypatch) -> None:
    monkeypatch.setattr(module, "_confirmed", lambda *_: pytest.fail("asked"))
    tools.class_list.removal_wanted.emit(1)
    tools.class_list.removal_wanted.emit(2)
    assert classes_of(labels).names == ("background", "B cell")
    tools.class_list.removal_wanted.emit(1)
    assert "always there" in tools.failures[0]


@pytest.mark.parametrize("button", ["Yes", "Cancel"])
def test_question_shows_html_as_it_is(tools, monkeypatch, button) -> None:
    answer = getattr(QMessageBox.StandardButton, button)
    seen = []
    monkeypatch.setattr(
        QMessageBox, "exec", lambda box: seen.append(box.textFormat()) or answer
    )
    assert module._confirmed(tools, "<b>x</b>?") == (button == "Yes")
    assert seen == [Qt.TextFormat.PlainText]


def test_edits_of_the_list_are_kept_with_the_layer(tools, labels) -> None:
    QTest.mouseClick(tools.class_list.add_button, Qt.MouseButton.LeftButton)
    assert about(labels)["class_names"][4] == "class 4"
    assert class_of(labels, labels.selected_label) == 4
    tools.class_list.coloring_chosen.emit("cell")
    assert about(labels)["color_by"] == "cell"


def test_finished_areas_are_drawn_or_take_the_whole_image(
    tools, viewer, labels
) -> None:
    for button, mode in (
        (tools.rectangle_button, "add_rectangle"),
        (tools.polygon_button, "add_polygon"),
    ):
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        assert viewer.layers.selection.active.mode == mode
        tools.show_annotation(labels)
        assert tools.brush_label.text() == "Drawing: finished region"
    QTest.mouseClick(tools.plane_button, Qt.MouseButton.LeftButton)
    assert painted_of(labels).annotation().is_known.all()
