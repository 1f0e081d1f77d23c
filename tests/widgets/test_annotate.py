"""The Annotate dock widget."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.compat import isalive
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QDockWidget,
    QLineEdit,
    QMainWindow,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import SaveError
from napari_unet.files.annotations import load_annotation
from napari_unet.files.images import write_labels
from napari_unet.widgets._autosave_files import list_autosaves
from napari_unet.widgets._classes import Classes, classes_of, note_classes
from napari_unet.widgets._layers import about, show_labels
from napari_unet.widgets._painted import painted_of, regions_layer_of
from napari_unet.widgets._painting import image_key, new_annotation
from napari_unet.widgets.annotate import AnnotateWidget

LONG_S = 1000.0
RECTANGLE = np.array([[10, 10], [10, 20], [20, 20], [20, 10]])


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((40, 50)), name="nuclei")
    return viewer


@pytest.fixture
def make(qtbot, viewer, tmp_path):
    def make(of=viewer) -> AnnotateWidget:
        widget = AnnotateWidget(of, folder=tmp_path / "autosave", delay_s=LONG_S)
        qtbot.addWidget(widget, before_close_func=lambda w: settle(qtbot, w))
        return widget

    return make


@pytest.fixture
def widget(make) -> AnnotateWidget:
    return make()


def settle(qtbot, widget: AnnotateWidget) -> None:
    def is_idle() -> bool:
        files = widget.files
        return not (
            widget._inspector.is_running
            or widget._autosaver.is_writing
            or files._saver.is_running
        )

    qtbot.waitUntil(is_idle)


def click(widget: QAbstractButton) -> None:
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)


def press(target, key: str) -> None:
    (bound,) = [f for k, f in target.keymap.items() if str(k) == key]
    bound(target)


def failure(widget: AnnotateWidget) -> str:
    box = widget.files.failure
    return "" if box.isHidden() else box.summary.text()


# -- painting ------------------------------------------------------------------


def test_without_an_image_nothing_can_be_painted(qtbot, make) -> None:
    widget = make(ViewerModel())
    assert not widget.new_button.isEnabled()
    assert not widget.paint_tools.next_button.isEnabled()
    assert "New annotation" in widget.count_label.text()


def test_every_control_has_a_tooltip_and_an_accessible_name(widget) -> None:
    controls = widget.findChildren((QAbstractButton, QComboBox))
    named = [c for c in controls if c.parent() and not c.objectName().startswith("qt_")]
    assert len(named) > 10
    for control in named:
        assert control.accessibleName(), control
        assert control.toolTip(), control.accessibleName()


def test_new_annotation_is_chosen_and_painted_with(widget, viewer) -> None:
    click(widget.new_button)
    labels = viewer.layers["nuclei cells"]
    assert widget.annotation() is labels
    assert widget.paint_tools.brush_label.text() == "Painting: cell 1"


def test_works_behind_napari_s_proxy(make, viewer, qtbot) -> None:
    widget = make(PublicOnlyProxy(viewer))
    click(widget.new_button)
    click(widget.paint_tools.rectangle_button)
    gc.collect()
    assert regions_layer_of(viewer.layers["nuclei cells"]) is not None
    assert failure(widget) == ""


def test_buttons_choose_the_brush(widget, viewer) -> None:
    click(widget.new_button)
    labels = widget.annotation()
    labels.paint((5, 5), 1)
    click(widget.paint_tools.next_button)
    assert widget.paint_tools.brush_label.text() == "Painting: cell 2"
    click(widget.paint_tools.background_button)
    assert widget.paint_tools.brush_label.text() == "Painting: background"
    assert about(labels)["label_class"] == {2: 0}
    click(widget.paint_tools.next_button)
    assert labels.selected_label == 3
    click(widget.paint_tools.rectangle_button)
    assert widget.paint_tools.brush_label.text() == "Drawing: finished region"


def test_key_works_while_a_finished_area_is_drawn(widget, viewer) -> None:
    click(widget.new_button)
    click(widget.paint_tools.rectangle_button)
    labels = widget.annotation()
    labels.paint((0, 0), 1)
    press(viewer, "N")
    assert viewer.layers.selection.active is labels
    assert labels.selected_label == 2
    press(viewer, "G")
    assert widget.paint_tools.brush_label.text() == "Painting: background"
    press(labels, "M")
    assert labels.selected_label == 3


def test_unpainted_is_unknown_until_it_is_said_to_be_background(widget, viewer) -> None:
    click(widget.new_button)
    labels = widget.annotation()
    assert widget.unpainted_box.currentData() == "unknown"
    assert not painted_of(labels).annotation().is_known.any()
    widget.unpainted_box.setCurrentIndex(1)
    widget.unpainted_box.activated.emit(1)
    assert painted_of(labels).annotation().is_known.all()
    click(widget.new_button)  # another annotation starts unknown
    assert widget.unpainted_box.currentData() == "unknown"
    widget.labels_box.set_layer(labels)
    assert widget.unpainted_box.currentData() == "background"


def test_counts_follow_painting_and_undo(qtbot, widget, viewer) -> None:
    click(widget.new_button)
    labels = widget.annotation()
    labels.paint((5, 5), 1)
    labels.paint((25, 25), 2)
    click(widget.paint_tools.rectangle_button)
    regions_layer_of(labels).add_rectangles(RECTANGLE)

    def shows(text: str) -> None:
        qtbot.waitUntil(lambda: widget.count_label.text() == text)

    shows("2 cells, 1 finished region")
    labels.undo()
    shows("1 cell, 1 finished region")
    regions_layer_of(labels).data = []
    shows("1 cell, 0 finished regions")


def test_stack_asks_for_its_axes_and_counts_slices(qtbot, widget, viewer) -> None:
    assert not widget._form.isRowVisible(widget.axes_box)
    viewer.add_image(np.zeros((3, 40, 50)), name="stack")
    widget.image_box.set_layer(viewer.layers["stack"])
    assert widget._form.isRowVisible(widget.axes_box)
    click(widget.new_button)
    assert "NU-I09" in failure(widget)
    widget.axes_box.setCurrentText("ZYX")
    click(widget.new_button)
    assert failure(widget) == ""
    widget.annotation().paint((1, 5, 5), 1)
    expected = "1 cell, 0 finished regions, 1 of 3 slices annotated"
    qtbot.waitUntil(lambda: widget.count_label.text() == expected)


def test_any_labels_layer_becomes_an_annotation_when_painted(widget, viewer) -> None:
    mine = viewer.add_labels(np.ones((40, 50), np.uint8), name="mine")
    assert widget.annotation() is mine
    click(widget.paint_tools.next_button)
    assert mine.data.dtype == np.int32
    assert mine.selected_label == 2


def test_negative_ids_are_told_before_anything_is_done(qtbot, widget, viewer) -> None:
    data = np.zeros((40, 50), np.int32)
    data[5:15, 5:15], data[20:30, 5:15] = 1, -5
    mine = viewer.add_labels(data, name="mine")
    text = "1 cell, 0 finished regions, 1 negative id (ignored, not saved: see Check)"
    qtbot.waitUntil(lambda: widget.count_label.text() == text)
    assert "Id -5" in widget.check_list.list.item(0).text()
    mine.selected_label = -5
    expected = "Chosen: id -5, which is negative and ignored"
    qtbot.waitUntil(lambda: widget.paint_tools.brush_label.text() == expected)
    qtbot.waitUntil(lambda: "negative" in widget.edit_tools.cell_label.text())


def test_labels_chosen_in_the_layer_list_are_painted_in(widget, viewer) -> None:
    click(widget.new_button)
    first = widget.annotation()
    click(widget.new_button)
    viewer.layers.selection.active = first
    assert widget.annotation() is first
    widget.labels_box.setCurrentIndex(0)
    widget.labels_box.activated.emit(0)
    assert viewer.layers.selection.active is widget.annotation() is not first


def test_result_does_not_take_the_place_of_the_annotation(widget, viewer) -> None:
    click(widget.new_button)
    labels = widget.annotation()
    image = viewer.layers["nuclei"]
    viewer.layers.selection.active = image
    result = show_labels(viewer, "cells", np.ones((40, 50), np.int32), like=image)
    assert viewer.layers.selection.active is result
    assert widget.annotation() is labels
    viewer.layers.selection.active = image
    show_labels(viewer, "cells", np.ones((40, 50), np.int32), like=image)
    assert widget.annotation() is labels


def test_corrected_result_is_the_annotation(widget, viewer) -> None:
    click(widget.new_button)
    image = viewer.layers["nuclei"]
    result = show_labels(viewer, "cells", np.ones((40, 50), np.int32), like=image)
    result.paint((5, 5), 3)
    assert widget.annotation() is result
    press(result, "M")
    assert result.selected_label == 4


def test_image_chosen_in_the_layer_list_is_annotated(widget, viewer) -> None:
    viewer.add_image(np.zeros((20, 30)), name="other")
    nuclei = viewer.layers["nuclei"]
    viewer.layers.selection.active = nuclei
    assert widget.image_box.layer() is nuclei
    click(widget.new_button)
    assert about(widget.annotation())["image"]() is nuclei


def test_adopted_labels_are_of_the_image_that_they_lie_on(
    widget, viewer, tmp_path
) -> None:
    mine = viewer.add_labels(np.ones((40, 50), np.int32), name="mine")
    viewer.add_image(np.zeros((40, 50)), name="moved", translate=(0, 7))
    viewer.layers.selection.active = mine
    assert widget.image_box.layer() is viewer.layers["moved"]
    click(widget.paint_tools.next_button)
    nuclei = viewer.layers["nuclei"]
    assert about(mine)["image"]() is nuclei
    mine.paint((5, 5), 2)
    widget._autosaver.flush()
    assert len(list_autosaves(image_key(nuclei), tmp_path / "autosave")) == 1


def test_removed_annotation_leaves_the_widget_usable(qtbot, widget, viewer) -> None:
    click(widget.new_button)
    widget.annotation().paint((5, 5), 1)
    viewer.layers.remove(widget.annotation())
    settle(qtbot, widget)
    assert widget.annotation() is None
    press(viewer, "N")
    assert "there is no annotation yet" in failure(widget)
    click(widget.new_button)
    assert failure(widget) == ""


def test_viewer_does_not_keep_the_widget(qtbot, viewer, tmp_path) -> None:
    widget = AnnotateWidget(viewer, folder=tmp_path)
    reference = weakref.ref(widget)
    widget.deleteLater()
    qtbot.wait(10)
    del widget
    gc.collect()
    assert reference() is None
    press(viewer, "N")
    viewer.add_labels(np.zeros((4, 5), np.int32))


# -- files ---------------------------------------------------------------------


def test_saved_annotation_loads_with_all_that_it_means(
    qtbot, widget, viewer, tmp_path
) -> None:
    image = viewer.layers["nuclei"]
    image.units, image.scale = ("um", "um"), (0.5, 0.5)
    click(widget.new_button)
    labels = widget.annotation()
    labels.paint((5, 5), 1)
    click(widget.paint_tools.background_button)
    labels.paint((25, 25), labels.selected_label)
    click(widget.paint_tools.rectangle_button)
    regions_layer_of(labels).add_rectangles(RECTANGLE)
    before = painted_of(labels).annotation()
    widget.files.save_to(tmp_path / "mine")
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Saved"))
    viewer.layers.remove(regions_layer_of(labels))
    viewer.layers.remove(labels)
    widget.files.load_from(tmp_path / "mine.tif")
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Loaded"))
    after = painted_of(widget.annotation()).annotation()
    np.testing.assert_array_equal(after.labels, before.labels)
    np.testing.assert_array_equal(after.is_known, before.is_known)
    np.testing.assert_array_equal(after.class_map(), before.class_map())
    assert widget.annotation().name == "mine"
    assert widget.files.ask_box.isHidden()


def test_tiff_alone_asks_what_is_not_painted(qtbot, widget, viewer, tmp_path) -> None:
    click(widget.new_button)
    widget.annotation().paint((5, 5), 1)
    widget.files.save_to(tmp_path / "mine.tif")
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Saved"))
    (tmp_path / "mine.json").unlink()
    widget.files.load_from(tmp_path / "mine.tif")
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Loaded"))
    assert not widget.files.ask_box.isHidden()
    assert about(widget.annotation())["unpainted"] == "unknown"
    click(widget.files.background_button)
    assert widget.files.ask_box.isHidden()
    assert widget.unpainted_box.currentData() == "background"
    widget.files.load_from(tmp_path / "mine.tif")
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Loaded"))
    click(widget.files.unknown_button)
    assert about(widget.annotation())["unpainted"] == "unknown"


def test_dialogues_lead_to_the_same(qtbot, widget, viewer, tmp_path, monkeypatch):
    from napari_unet.widgets import _annotation_files as module

    path = str(tmp_path / "mine.tif")
    for name in ("getSaveFileName", "getOpenFileName"):
        monkeypatch.setattr(module.QFileDialog, name, lambda *a: (path, ""))
    click(widget.files.save_button)  # no annotation: disabled
    click(widget.new_button)
    widget.annotation().paint((5, 5), 1)
    click(widget.files.save_button)
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Saved"))
    click(widget.files.load_button)
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Loaded"))
    assert [layer.name for layer in viewer.layers][-1] == "mine"


def choose_to_save_as(monkeypatch, path, *, replace: bool) -> list[str]:
    """Answer both dialogues; return what is asked."""
    from napari_unet.widgets import _annotation_files as module

    asked = []

    def question(parent, title, text):
        asked.append(text)
        button = module.QMessageBox.StandardButton
        return button.Yes if replace else button.No

    chosen = (str(path), "")
    monkeypatch.setattr(module.QFileDialog, "getSaveFileName", lambda *a: chosen)
    monkeypatch.setattr(module.QMessageBox, "question", question)
    return asked


@pytest.mark.parametrize("replace", [False, True])
def test_file_that_the_dialogue_did_not_see_is_asked_about(
    qtbot, widget, tmp_path, monkeypatch, replace
) -> None:
    raw = tmp_path / "raw.tif"
    raw.write_bytes(b"pixels")
    asked = choose_to_save_as(monkeypatch, tmp_path / "raw", replace=replace)
    click(widget.new_button)
    click(widget.files.save_button)
    settle(qtbot, widget)
    assert asked == [f"{raw} is there already. Replace it?"]
    assert (raw.read_bytes() != b"pixels") == replace


def test_file_that_the_dialogue_asked_about_is_replaced(
    qtbot, widget, tmp_path, monkeypatch
) -> None:
    raw = tmp_path / "raw.tif"
    raw.write_bytes(b"pixels")
    asked = choose_to_save_as(monkeypatch, raw, replace=False)
    click(widget.new_button)
    click(widget.files.save_button)
    settle(qtbot, widget)
    assert asked == []
    assert raw.read_bytes() != b"pixels"


@pytest.mark.parametrize("name", ["raw", "raw.tif", "../raw.tif"])
def test_file_of_an_open_image_is_never_replaced(
    qtbot, make, tmp_path, monkeypatch, name
) -> None:
    from napari.layers._source import layer_source

    raw = tmp_path / "raw.tif"
    raw.write_bytes(b"pixels")
    viewer = ViewerModel()
    with layer_source(path=str(raw)):
        viewer.add_image(np.zeros((4, 5)), name="nuclei")
    (tmp_path / "folder").mkdir()
    start = tmp_path / "folder" if name.startswith("..") else tmp_path
    choose_to_save_as(monkeypatch, start / name, replace=True)
    widget = make(viewer)
    click(widget.new_button)
    click(widget.files.save_button)
    settle(qtbot, widget)
    assert 'the file of the open layer "nuclei"' in failure(widget)
    assert "NU-S03" in failure(widget)
    assert raw.read_bytes() == b"pixels"


def test_only_annotations_are_replaced_unasked(qtbot, widget, tmp_path) -> None:
    raw = tmp_path / "raw.tif"
    raw.write_bytes(b"pixels")
    click(widget.new_button)
    with pytest.raises(SaveError, match=r"no annotation of ours.*NU-S03"):
        widget.files.save_to(raw)
    for _ in range(2):
        widget.files.save_to(tmp_path / "mine")
        settle(qtbot, widget)
        assert failure(widget) == ""


def test_file_of_another_image_is_refused(qtbot, widget, viewer, tmp_path, monkeypatch):
    click(widget.new_button)
    widget.files.save_to(tmp_path / "mine.tif")
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Saved"))
    viewer.add_image(np.zeros((7, 7)), name="other")
    widget.image_box.set_layer(viewer.layers["other"])
    from napari_unet.widgets import _annotation_files as module

    path = str(tmp_path / "mine.tif")
    monkeypatch.setattr(module.QFileDialog, "getOpenFileName", lambda *a: (path, ""))
    click(widget.files.load_button)
    qtbot.waitUntil(lambda: "NU-L02" in failure(widget))


def test_folder_that_is_not_there_is_told(qtbot, widget, tmp_path) -> None:
    click(widget.new_button)
    widget.files.save_to(tmp_path / "no" / "mine.tif")
    qtbot.waitUntil(lambda: "NU-S01" in failure(widget))
    assert widget.files.message.text() == ""


# -- unsaved annotations -------------------------------------------------------


def leave_unsaved(qtbot, make, viewer) -> None:
    """Paint in one session of napari, and leave it without saving."""
    widget = make()
    click(widget.new_button)
    widget.annotation().paint((5, 5), 1)
    click(widget.paint_tools.rectangle_button)
    regions_layer_of(widget.annotation()).add_rectangles(RECTANGLE)
    widget._autosaver.flush()
    settle(qtbot, widget)


@pytest.fixture
def next_session(qtbot, make, viewer):
    leave_unsaved(qtbot, make, viewer)
    after = ViewerModel()
    after.add_image(np.zeros((40, 50)), name="nuclei")
    after.add_image(np.zeros((40, 50)), name="other")
    viewer.layers.clear()  # as closing does
    return after


def test_unsaved_annotation_is_offered_for_its_image_only(make, next_session) -> None:
    widget = make(next_session)
    assert widget.image_box.layer().name == "other"
    assert widget.files.offer_box.isHidden()
    widget.image_box.set_layer(next_session.layers["nuclei"])
    assert not widget.files.offer_box.isHidden()
    text = widget.files.offer_label.text()
    assert text.startswith("An unsaved annotation of “nuclei” from 20")


def test_restored_annotation_is_as_it_was(make, next_session) -> None:
    widget = make(next_session)
    widget.image_box.set_layer(next_session.layers["nuclei"])
    click(widget.files.restore_button)
    labels = widget.annotation()
    assert labels.name == "nuclei cells"
    assert labels.data[5, 5] == 1
    known = painted_of(labels).annotation().is_known
    assert known[10:21, 10:21].all()
    assert widget.files.offer_box.isHidden()


def test_restored_annotation_stays_safe_until_it_is_saved(
    qtbot, make, next_session, tmp_path
) -> None:
    widget = make(next_session)
    widget.image_box.set_layer(next_session.layers["nuclei"])
    key = image_key(next_session.layers["nuclei"])
    click(widget.files.restore_button)
    assert len(list_autosaves(key, tmp_path / "autosave")) == 1
    widget.annotation().paint((25, 25), 2)
    widget._autosaver.flush()
    (found,) = list_autosaves(key, tmp_path / "autosave")
    assert load_annotation(found.path).annotation.labels[25, 25] == 2
    widget.files.save_to(tmp_path / "mine.tif")
    qtbot.waitUntil(lambda: not list_autosaves(key, tmp_path / "autosave"))


def test_discarded_annotation_is_gone(make, next_session, tmp_path) -> None:
    widget = make(next_session)
    widget.image_box.set_layer(next_session.layers["nuclei"])
    click(widget.files.discard_button)
    assert widget.files.offer_box.isHidden()
    assert list((tmp_path / "autosave").iterdir()) == []


def test_ignored_offer_is_not_overwritten(qtbot, make, next_session, tmp_path) -> None:
    widget = make(next_session)
    widget.image_box.set_layer(next_session.layers["nuclei"])
    key = image_key(next_session.layers["nuclei"])
    click(widget.new_button)
    widget.annotation().paint((30, 30), 1)
    widget._autosaver.flush()
    assert len(list_autosaves(key, tmp_path / "autosave")) == 2
    assert not widget.files.offer_box.isHidden()


def test_painting_is_safe_after_the_dock_is_closed(
    qtbot, viewer, make, tmp_path
) -> None:
    widget = AnnotateWidget(viewer, folder=tmp_path / "autosave", delay_s=0.2)
    click(widget.new_button)
    labels = widget.annotation()
    settle(qtbot, widget)
    widget.deleteLater()
    qtbot.wait(10)
    del widget
    gc.collect()
    labels.paint((5, 5), 1)
    key = image_key(viewer.layers["nuclei"])
    qtbot.waitUntil(lambda: len(list_autosaves(key, tmp_path / "autosave")) == 1)
    again = make()
    assert again.annotation() is labels
    assert again.files.offer_box.isHidden()
    labels.paint((25, 25), 2)
    again._autosaver.flush()
    (found,) = list_autosaves(key, tmp_path / "autosave")
    assert load_annotation(found.path).annotation.labels[25, 25] == 2


def test_annotation_of_another_widget_is_safe_when_this_one_opens(
    viewer, make, tmp_path
) -> None:
    labels = new_annotation(viewer, viewer.layers["nuclei"])
    widget = make()
    labels.paint((5, 5), 1)
    widget._autosaver.flush()
    key = image_key(viewer.layers["nuclei"])
    assert len(list_autosaves(key, tmp_path / "autosave")) == 1


# -- the real window -----------------------------------------------------------


def test_closing_the_window_of_the_dock_writes_at_once(
    qtbot, widget, viewer, tmp_path
) -> None:
    window, dock = QMainWindow(), QDockWidget()
    qtbot.addWidget(window)
    dock.setWidget(widget)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    dock.setFloating(True)
    window.show()
    click(widget.new_button)
    widget.annotation().paint((5, 5), 1)
    window.close()
    key = image_key(viewer.layers["nuclei"])
    assert len(list_autosaves(key, tmp_path / "autosave")) == 1
    settle(qtbot, widget)
    widget.setParent(None)


def stroke(canvas, *points: tuple[int, int]) -> None:
    from qtpy.QtWidgets import QApplication

    left = Qt.MouseButton.LeftButton
    QTest.mousePress(canvas, left, pos=QPoint(*points[0]))
    for point in points[1:]:
        QTest.mouseMove(canvas, QPoint(*point))
        QApplication.processEvents()
    QTest.mouseRelease(canvas, left, pos=QPoint(*points[-1]))
    QApplication.processEvents()


@pytest.mark.gui
def test_mouse_and_keys_paint_cells_background_and_a_finished_region(
    qtbot, window, tmp_path
) -> None:
    viewer = window
    viewer.add_image(np.zeros((100, 100)), name="nuclei")
    widget = AnnotateWidget(viewer, folder=tmp_path, delay_s=LONG_S)
    viewer.window.add_dock_widget(widget, name="Annotate")
    canvas = viewer.window._qt_viewer.canvas.native
    centre = canvas.rect().center()
    x, y = centre.x(), centre.y()
    click(widget.new_button)
    labels = widget.annotation()
    labels.brush_size = 6
    QTest.qWait(50)
    stroke(canvas, (x - 60, y), (x - 55, y), (x - 50, y))
    QTest.keyClick(canvas, Qt.Key.Key_N)
    assert labels.selected_label == 2
    stroke(canvas, (x + 60, y), (x + 55, y), (x + 50, y))
    QTest.keyClick(canvas, Qt.Key.Key_M)
    assert labels.selected_label == 3
    QTest.keyClick(canvas, Qt.Key.Key_G)
    stroke(canvas, (x, y + 50), (x + 10, y + 50), (x + 20, y + 50))
    assert sorted(np.unique(labels.data)) == [0, 1, 2, 3]
    click(widget.paint_tools.rectangle_button)
    stroke(canvas, (x - 80, y - 40), (x, y), (x + 80, y + 20))
    shapes = regions_layer_of(labels)
    assert shapes.shape_type == ["rectangle"]
    annotation = painted_of(labels).annotation()
    assert annotation.class_map().max() == 1
    assert annotation.is_known.sum() > (labels.data > 0).sum()
    QTest.keyClick(canvas, Qt.Key.Key_N)
    assert viewer.layers.selection.active is labels
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert sorted(np.unique(labels.data)) == [0, 1, 2]
    expected = "2 cells, 1 finished region"
    qtbot.waitUntil(lambda: widget.count_label.text() == expected)
    assert widget.minimumSizeHint().width() <= 400
    settle(qtbot, widget)
    key = image_key(viewer.layers["nuclei"])
    viewer.close()
    assert len(list_autosaves(key, tmp_path)) == 1


@pytest.mark.gui
def test_keys_paint_and_text_fields_keep_what_is_typed(qtbot, window, tmp_path) -> None:
    viewer = window
    image = viewer.add_image(np.zeros((100, 100)), name="nuclei")
    widget = AnnotateWidget(viewer, folder=tmp_path, delay_s=LONG_S)
    viewer.window.add_dock_widget(widget, name="Annotate")
    fields = QWidget()
    layout = QVBoxLayout(fields)
    text, number = QLineEdit(), QSpinBox()
    layout.addWidget(text)
    layout.addWidget(number)
    viewer.window.add_dock_widget(fields, name="fields")
    canvas = viewer.window._qt_viewer.canvas.native
    click(widget.new_button)
    labels = widget.annotation()
    note_classes(labels, Classes(("background", "a", "b")))
    QTest.keyClick(canvas, Qt.Key.Key_2)
    assert about(labels)["label_class"] == {1: 2}
    QTest.keyClicks(text, "G1eN")
    QTest.keyClicks(number, "12g")
    assert text.text() == "G1eN"
    assert number.value() == 12
    assert about(labels)["label_class"] == {1: 2}
    assert (labels.selected_label, labels.mode) == (1, "paint")
    QTest.keyClick(canvas, Qt.Key.Key_1, Qt.KeyboardModifier.ControlModifier)
    assert about(labels)["label_class"] == {1: 1}
    # The digits of napari's images would move the image.
    viewer.layers.selection.active = image
    QTest.keyClick(canvas, Qt.Key.Key_2)
    assert image.mode == "pan_zoom"
    assert viewer.layers.selection.active is labels
    click(widget.paint_tools.rectangle_button)
    QTest.keyClick(canvas, Qt.Key.Key_E)
    assert (viewer.layers.selection.active, labels.mode) == (labels, "erase")
    settle(qtbot, widget)


def test_ways_to_annotate_are_told_until_something_is_painted(
    qtbot, widget, viewer
) -> None:
    assert not widget.ways_label.isHidden()
    click(widget.new_button)
    qtbot.waitUntil(lambda: widget.count_label.text().startswith("0 cells"))
    assert not widget.ways_label.isHidden()
    widget.annotation().paint((5, 5), 1)
    qtbot.waitUntil(widget.ways_label.isHidden)


def test_problems_are_counted_in_the_heading(qtbot, widget) -> None:
    click(widget.new_button)
    labels = widget.annotation()
    heading = widget.check_fold.heading
    labels.paint((5, 5), 1)  # without background there is nothing to learn
    qtbot.waitUntil(lambda: heading.text() == "Check before training (1)")
    widget.unpainted_box.setCurrentIndex(1)
    widget.unpainted_box.activated.emit(1)
    qtbot.waitUntil(lambda: heading.text() == "Check before training")


def test_another_slice_is_no_edit(widget, viewer) -> None:
    stack = viewer.add_image(np.zeros((3, 40, 50)), name="stack")
    widget.image_box.set_layer(stack)
    widget.axes_box.setCurrentText("ZYX")
    click(widget.new_button)
    widget._on_shown()
    widget._inspector._timer.stop()
    viewer.dims.set_current_step(0, 2)
    assert not widget._inspector._timer.isActive()
    widget.annotation().paint((2, 5, 5), 1)
    widget._inspector._timer.stop()
    widget.annotation().undo()
    assert widget._inspector._timer.isActive()


def test_saved_classes_load_as_they_were(qtbot, widget, viewer, tmp_path) -> None:
    click(widget.new_button)
    labels = widget.annotation()
    classes = Classes(("background", "<b>a</b>", "tissue"), (), frozenset({2}))
    note_classes(labels, classes.recolored(1, "#123456"))
    labels.paint((5, 5), 1)
    press(viewer, "2")
    labels.paint((25, 25), labels.selected_label)
    widget.files.save_to(tmp_path / "mine.tif")
    qtbot.waitUntil(lambda: widget.files.message.text().startswith("Saved"))
    widget.files.load_from(tmp_path / "mine.tif")
    qtbot.waitUntil(lambda: widget.annotation() is not labels)
    loaded = widget.annotation()
    assert classes_of(loaded) == classes_of(labels)
    assert painted_of(loaded).annotation().class_map()[25, 25] == 2
    assert loaded.get_status((5, 5))["value"] == "1; class: <b>a</b>"


# -- errors --------------------------------------------------------------------


def shown_failures(widget: AnnotateWidget) -> int:
    parts = (widget.files, widget.edit_tools, widget.check_list)
    return sum(not part.failure.isHidden() for part in parts)


@pytest.mark.parametrize("action", ["paint", "key", "tool", "region", "correct"])
def test_error_is_over_with_the_next_action(widget, viewer, action) -> None:
    click(widget.new_button)
    labels = widget.annotation()
    labels.paint((5, 5), 1)
    press(viewer, "7")
    assert "there is no class 7" in failure(widget)
    actions = {
        "paint": lambda: labels.paint((20, 20), 1),
        "key": lambda: press(viewer, "N"),
        "tool": lambda: click(widget.paint_tools.rectangle_button),
        "region": lambda: click(widget.paint_tools.plane_button),
        "correct": lambda: widget.edit_tools.buttons["grow"].click(),
    }
    actions[action]()
    assert shown_failures(widget) == 0


def test_error_of_a_correction_is_over_with_the_next_action(widget, viewer) -> None:
    click(widget.new_button)
    labels = widget.annotation()
    widget.edit_tools.buttons["grow"].click()
    assert "NU-L10" in widget.edit_tools.failure.summary.text()
    assert shown_failures(widget) == 1
    labels.paint((5, 5), 1)
    assert shown_failures(widget) == 0


def test_one_error_is_shown_at_a_time(widget, viewer, tmp_path) -> None:
    click(widget.new_button)
    (tmp_path / "mine.tif").write_bytes(b"")
    for fail in (
        lambda: press(viewer, "7"),
        lambda: widget.edit_tools.buttons["grow"].click(),
        lambda: press(viewer, "7"),
    ):
        fail()
        assert shown_failures(widget) == 1
    widget.edit_tools.buttons["grow"].click()
    with pytest.raises(SaveError):
        widget.files.save_to(tmp_path / "mine.tif")
    assert shown_failures(widget) == 0  # a slot would show it now


def test_labels_in_several_resolutions_say_what_is_wrong(widget, viewer) -> None:
    data = np.zeros((40, 50), np.int32)
    data[5:15, 5:15] = 1
    viewer.add_labels([data, data[::2, ::2]], name="pyramid", multiscale=True)
    for button in widget.edit_tools.buttons.values():
        button.click()
        assert "NU-L07" in widget.edit_tools.failure.summary.text()
    assert widget.edit_tools.cell_label.text() == "Cell 1 (cell), 100 px"


# -- several docks -------------------------------------------------------------


def test_key_leads_to_the_first_dock_again_once_the_second_is_gone(
    qtbot, make, viewer, tmp_path
) -> None:
    first = make()
    click(first.new_button)
    labels = first.annotation()
    labels.paint((5, 5), 1)
    second = AnnotateWidget(viewer, folder=tmp_path / "autosave", delay_s=LONG_S)
    settle(qtbot, second)
    second.deleteLater()
    qtbot.waitUntil(lambda: not isalive(second))
    for target in (viewer, labels):
        labels.selected_label = 1
        press(target, "N")
        assert labels.selected_label == 2
    press(viewer, "Shift+S")
    assert first.edit_tools.buttons["split"].isChecked()


def test_lines_of_one_dock_end_those_of_the_other(make, viewer) -> None:
    first, second = make(), make()
    click(first.new_button)
    second.labels_box.set_layer(first.annotation())
    buttons = [w.edit_tools.buttons["split"] for w in (first, second)]
    for button in buttons:
        button.click()
    assert [button.isChecked() for button in buttons] == [False, True]
    press(first.annotation(), "Escape")
    assert not any(button.isChecked() for button in buttons)


def test_question_is_asked_about_the_chosen_annotation_only(
    qtbot, widget, viewer, tmp_path
) -> None:
    for name in ("a.tif", "b.tif"):
        write_labels(tmp_path / name, np.ones((40, 50), np.int32))
        widget.files.load_from(tmp_path / name)
        qtbot.waitUntil(lambda: widget.files.message.text().startswith("Loaded"))
    assert widget.files._ask_label.text() == "What is not painted in b.tif?"
    widget.labels_box.set_layer(viewer.layers["a"])
    assert widget.files._ask_label.text() == "What is not painted in a.tif?"
    click(widget.files.background_button)
    assert widget.files.ask_box.isHidden()
    assert about(viewer.layers["a"])["unpainted"] == "background"
    widget.labels_box.set_layer(viewer.layers["b"])
    assert not widget.files.ask_box.isHidden()
    assert about(viewer.layers["b"])["unpainted"] == "unknown"
    click(widget.new_button)
    assert widget.files.ask_box.isHidden()


@pytest.mark.gui
def test_click_is_no_finished_region_and_delete_removes_one(
    qtbot, window, tmp_path
) -> None:
    viewer = window
    viewer.add_image(np.zeros((100, 100)), name="nuclei")
    widget = AnnotateWidget(viewer, folder=tmp_path, delay_s=LONG_S)
    viewer.window.add_dock_widget(widget, name="Annotate")
    canvas = viewer.window._qt_viewer.canvas.native
    x, y = canvas.rect().center().x(), canvas.rect().center().y()
    click(widget.new_button)
    click(widget.paint_tools.rectangle_button)
    shapes = regions_layer_of(widget.annotation())
    QTest.qWait(50)
    stroke(canvas, (x, y))
    qtbot.waitUntil(lambda: not len(shapes.data))
    stroke(canvas, (x, y), (x + 1, y + 1), (x + 60, y + 1), (x + 60, y + 1))
    qtbot.waitUntil(lambda: not len(shapes.data))
    stroke(canvas, (x, y), (x + 30, y + 30), (x + 60, y + 60))
    QTest.qWait(50)
    assert len(shapes.data) == 1
    shapes.mode = "select"
    stroke(canvas, (x + 30, y + 30))
    QTest.keyClick(canvas, Qt.Key.Key_Delete)
    assert len(shapes.data) == 0
    settle(qtbot, widget)
