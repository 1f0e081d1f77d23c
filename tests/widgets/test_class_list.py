"""The list of classes."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox, QLineEdit, QVBoxLayout, QWidget

from napari_unet.imaging.checks import ClassCount
from napari_unet.widgets import _class_list as module
from napari_unet.widgets._class_list import COLOR, COUNT, KEY, KIND, NAME, ClassList
from napari_unet.widgets._classes import LONGEST_NAME, Classes

TWO = Classes(("background", "T cell", "tissue"), (), frozenset({2}))


@pytest.fixture
def classes(qtbot) -> ClassList:
    """A list whose edits are shown, as Annotate does."""
    shown = ClassList()
    qtbot.addWidget(shown)
    shown.edited.connect(lambda new: shown.show_classes(new, 1, by_class=True))
    shown.show_classes(TWO, 1, by_class=False)
    return shown


def texts(classes: ClassList, column: int) -> list[str]:
    table = classes.table
    return [table.item(i, column).text() for i in range(table.rowCount())]


def test_each_class_shows_its_key_name_and_kind(classes) -> None:
    assert texts(classes, KEY) == ["G", "1", "2"]
    assert texts(classes, NAME) == ["background", "T cell", "tissue"]
    kinds = [classes.table.cellWidget(i, KIND) for i in range(3)]
    assert kinds[0] is None
    assert [kind.currentText() for kind in kinds[1:]] == ["cells", "area"]
    assert classes.table.currentRow() == 1


def test_counts_are_of_cells_and_areas_are_there_or_not(classes) -> None:
    counts = [ClassCount(name, 0, 9) for name in TWO.names]
    counts[1] = ClassCount("T cell", 1234, 99)
    classes.show_counts(counts)
    assert texts(classes, COUNT) == ["•", "1,234", "•"]
    classes.show_counts([ClassCount(name, 0, 0) for name in TWO.names])
    assert texts(classes, COUNT) == ["", "", ""]
    classes.show_counts([ClassCount("x", 1, 1)] * 9)  # of before a class was removed


def test_clicked_class_is_painted(qtbot, classes) -> None:
    with qtbot.waitSignal(classes.chosen) as caught:
        point = classes.table.visualItemRect(classes.table.item(2, NAME)).center()
        QTest.mouseClick(classes.table.viewport(), Qt.MouseButton.LeftButton, pos=point)
    assert caught.args == [2]


def test_name_is_edited_in_place(qtbot, classes) -> None:
    classes.table.editItem(classes.table.item(1, NAME))
    (editor,) = classes.table.findChildren(QLineEdit)
    assert editor.maxLength() == LONGEST_NAME
    assert editor.accessibleName()
    editor.clear()
    QTest.keyClicks(editor, "<b>G1</b>")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: texts(classes, NAME)[1] == "<b>G1</b>")


@pytest.mark.parametrize("name", ["", "tissue"])
def test_refused_name_is_told_and_taken_back(qtbot, classes, name) -> None:
    with qtbot.waitSignal(classes.failed) as caught:
        classes.table.item(1, NAME).setText(name)
    assert "NU-L06" in caught.args[0].summary
    assert texts(classes, NAME)[1] == "T cell"


def test_colour_is_chosen_by_a_click(classes, monkeypatch) -> None:
    for answer, expected in (("#123456", "#123456"), ("", "#123456")):
        color = QColor(answer)
        monkeypatch.setattr(module.QColorDialog, "getColor", lambda *_, c=color: c)
        classes.table.cellClicked.emit(1, COLOR)
        assert classes._classes.colors[1] == expected


def test_kind_is_chosen(classes) -> None:
    kind = classes.table.cellWidget(1, KIND)
    kind.setCurrentIndex(1)
    kind.activated.emit(1)
    assert classes._classes.areas == {1, 2}


def test_scrolling_over_a_kind_does_not_change_it(qtbot, classes) -> None:
    from qtpy.QtCore import QPoint, QPointF
    from qtpy.QtGui import QWheelEvent

    kind = classes.table.cellWidget(1, KIND)
    nothing = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    event = QWheelEvent(
        QPointF(1, 1),
        QPointF(1, 1),
        QPoint(0, -120),
        QPoint(0, -120),
        *nothing,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    kind.wheelEvent(event)
    assert kind.currentText() == "cells"
    assert not event.isAccepted()


def test_added_class_is_painted_and_named_at_once(qtbot, classes) -> None:
    with qtbot.waitSignal(classes.chosen) as caught:
        QTest.mouseClick(classes.add_button, Qt.MouseButton.LeftButton)
    assert caught.args == [3]
    assert texts(classes, NAME)[3] == "class 3"
    assert classes.table.findChildren(QLineEdit)


def test_class_that_is_needed_can_t_be_removed(qtbot, classes) -> None:
    with qtbot.waitSignal(classes.removal_wanted) as caught:
        QTest.mouseClick(classes.remove_button, Qt.MouseButton.LeftButton)
    assert caught.args == [1]
    classes.show_classes(TWO, 0, by_class=True)
    assert not classes.remove_button.isEnabled()
    classes.show_classes(Classes(), 1, by_class=True)
    assert not classes.remove_button.isEnabled()


def test_coloring_is_chosen(qtbot, classes) -> None:
    with qtbot.waitSignal(classes.coloring_chosen) as caught:
        classes.coloring_box.setCurrentIndex(1)
        classes.coloring_box.activated.emit(1)
    assert caught.args == ["class"]


def test_thirty_classes_scroll_within_a_dock(classes) -> None:
    many = Classes(("background", *(f"class {i}" for i in range(1, 31))))
    low = classes.table.height()
    classes.show_classes(many, 30, by_class=True)
    assert texts(classes, KEY)[9:12] == ["9", "", ""]
    assert low < classes.table.height() < 8 * classes.table.rowHeight(0)
    assert classes.minimumSizeHint().width() <= 320


def test_letters_and_digits_go_on_to_napari(qtbot, classes) -> None:
    pressed = []

    class Window(QWidget):
        def keyPressEvent(self, event) -> None:
            pressed.append(event.text())

    window = Window()
    qtbot.addWidget(window)
    QVBoxLayout(window).addWidget(classes)
    QTest.keyClicks(classes.table, "g2")
    assert pressed == ["g", "2"]
    QTest.keyClick(classes.table, Qt.Key.Key_Down)
    assert classes.table.currentRow() == 2
    classes.setParent(None)


def test_every_control_is_named(classes) -> None:
    for control in classes.findChildren(QComboBox):
        assert control.accessibleName()
        assert control.toolTip()
