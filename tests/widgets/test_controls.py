from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QLabel, QWidget

from napari_unet.widgets._controls import Fold, PathRow, plain_label, rows, scrollable


def test_a_label_shows_markup_as_it_is(qtbot):
    label = plain_label("Note", "<b>a.tif</b>")
    qtbot.addWidget(label)
    assert label.textFormat() == Qt.TextFormat.PlainText


def test_a_long_name_does_not_widen_a_label(qtbot):
    label = plain_label("Note", "x" * 500)
    qtbot.addWidget(label)
    assert label.minimumSizeHint().width() < 100 or label.minimumWidth() == 1


def test_a_fold_opens_and_closes(qtbot):
    content = QLabel("inside")
    fold = Fold("More", content)
    qtbot.addWidget(fold)
    fold.show()
    assert not content.isVisible()
    qtbot.mouseClick(fold.heading, Qt.MouseButton.LeftButton)
    assert content.isVisible()
    qtbot.mouseClick(fold.heading, Qt.MouseButton.LeftButton)
    assert not content.isVisible()


@pytest.mark.parametrize(
    ("mode", "dialogue", "answer"),
    [
        ("folder", "getExistingDirectory", "/data/images"),
        ("open", "getOpenFileName", ("/data/images", "")),
        ("save", "getSaveFileName", ("/data/images", "")),
    ],
)
def test_a_path_is_chosen_by_a_dialogue(qtbot, monkeypatch, mode, dialogue, answer):
    monkeypatch.setattr(QFileDialog, dialogue, lambda *_: answer)
    row = PathRow("Folder", "Where images are", mode=mode)
    qtbot.addWidget(row)
    with qtbot.waitSignal(row.changed):
        qtbot.mouseClick(row.browse, Qt.MouseButton.LeftButton)
    assert row.path() == Path("/data/images")


def test_a_cancelled_dialogue_changes_nothing(qtbot, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    row = PathRow("Folder", "Where images are")
    qtbot.addWidget(row)
    row.set_path("/data/old")
    qtbot.mouseClick(row.browse, Qt.MouseButton.LeftButton)
    assert row.path() == Path("/data/old")


def test_no_text_is_no_path(qtbot):
    row = PathRow("Folder", "Where images are")
    qtbot.addWidget(row)
    row.set_path("  ")
    assert row.path() is None


def test_a_home_is_expanded(qtbot):
    row = PathRow("Folder", "Where images are")
    qtbot.addWidget(row)
    row.set_path("~/images")
    assert row.path() == Path.home() / "images"


def test_rows_of_several_groups_line_up(qtbot):
    groups = [rows(("A", QWidget())), rows(("Longer title", QWidget()))]
    for group in groups:
        qtbot.addWidget(group)
    widths = {group.findChild(QLabel).minimumWidth() for group in groups}
    assert len(widths) == 1


def test_what_scrolls_is_not_cut_off_at_the_side(qtbot):
    area = scrollable(QWidget())
    qtbot.addWidget(area)
    assert area.minimumSizeHint().width() or area.minimumWidth() >= 300


def test_a_label_asks_for_the_lines_that_it_has(qtbot):
    label = plain_label("Name", "some words " * 20)
    qtbot.addWidget(label)
    line = label.fontMetrics().height()
    assert label.minimumSizeHint().height() <= line
    assert label.heightForWidth(200) > 3 * line
    assert label.heightForWidth(5000) < 2 * line
    label.setText("")
    assert label.heightForWidth(200) == line
