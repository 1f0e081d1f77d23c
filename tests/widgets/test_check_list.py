"""The list of what should be looked at in an annotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

from napari_unet.errors import LabelError
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.checks import Problem, check_annotation
from napari_unet.widgets._check_list import CheckList, go_to, repair
from napari_unet.widgets._inspection import inspect
from napari_unet.widgets._layer_box import LayerBox
from napari_unet.widgets._layers import META, about
from napari_unet.widgets._painted import painted_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

SPECK, HOLE, PIECES, CUT = 9, 4, 5, 7
UNTRUSTED = "<b>bold</b><img src='x'>"


def painted() -> np.ndarray:
    """Return a plane with a hole, a cell in two pieces, a speck and a cut cell."""
    data = np.zeros((60, 80), np.int32)
    data[5:15, 5:15] = HOLE
    data[9:11, 9:11] = 0
    data[30:40, 5:15] = data[30:33, 20:25] = PIECES
    data[50, 70] = SPECK
    data[50:60, 40:50] = CUT
    return data


def annotate(viewer: ViewerModel, data: np.ndarray, **place) -> Labels:
    known = {
        "label_class": {PIECES: 2},
        "class_names": ("background", "cell", "mitosis"),
        "unpainted": "background",
    }
    return viewer.add_labels(data, name="cells", metadata={META: known}, **place)


def problems_of(labels: Labels, n_dims: int = 2) -> list[Problem]:
    return check_annotation(Annotation.complete(labels.data), n_dims=n_dims)


@pytest.fixture
def labels(viewer) -> Labels:
    return annotate(viewer, painted(), scale=(0.5, 0.5), translate=(100, -30))


@pytest.fixture
def checks(qtbot, viewer, labels) -> CheckList:
    checks = make_list(qtbot, viewer)
    checks.show_problems(problems_of(labels))
    return checks


def make_list(qtbot, viewer) -> CheckList:
    box = LayerBox(viewer, "labels", "Annotation", "To correct")
    qtbot.addWidget(box)
    checks = CheckList(viewer, box)
    qtbot.addWidget(checks)
    return checks


def row_of(checks: CheckList, kind: str) -> int:
    return [problem.kind for problem in checks._problems].index(kind)


def choose(checks: CheckList, kind: str) -> Problem:
    row = row_of(checks, kind)
    checks.list.setCurrentRow(row)
    return checks._problems[row]


def failure(checks: CheckList) -> str:
    return "" if checks.failure.isHidden() else checks.failure.summary.text()


def click_row(checks: CheckList, row: int) -> None:
    rect = checks.list.visualItemRect(checks.list.item(row))
    QTest.mouseClick(
        checks.list.viewport(), Qt.MouseButton.LeftButton, pos=rect.center()
    )


# -- the list ------------------------------------------------------------------


def test_notes_come_last_and_look_different(checks) -> None:
    assert checks.heading.text() == "3 problems, 1 note:"
    assert (checks.n_problems, checks.n_notes) == (3, 1)
    items = [checks.list.item(row) for row in range(checks.list.count())]
    assert "cut by the image border" in items[-1].text()
    first, last = (item.foreground().color() for item in (items[0], items[-1]))
    assert last.alpha() < first.alpha()
    icons = [item.icon().pixmap(16).toImage() for item in items]
    assert icons[0] == icons[1] != icons[-1]


def test_list_says_what_was_found(qtbot, viewer, labels) -> None:
    checks = make_list(qtbot, viewer)
    assert checks.heading.isHidden()
    assert checks.list.isHidden()
    assert checks.repair_button.isHidden()
    with qtbot.waitSignal(checks.changed):
        checks.show_problems([])
    assert checks.heading.text() == "Nothing found."
    assert checks.list.isHidden()
    cut = Problem("cut", "Cell 3 is cut", (0, 0), 3, is_note=True)
    checks.show_problems([cut])
    assert checks.heading.text() == "1 note:"
    assert checks.repair_button.isHidden()
    checks.show_problems([Problem("hole", "a hole", (0, 0), 3), cut, cut])
    assert checks.heading.text() == "1 problem, 2 notes:"


def test_long_lists_are_cut_short(qtbot, viewer, labels) -> None:
    checks = make_list(qtbot, viewer)
    many = [Problem("speck", f"Cell {i}", (0, 0), i) for i in range(1, 251)]
    checks.show_problems(many)
    assert checks.list.count() == 200
    assert not checks.more.isHidden()
    assert checks.more.text() == "… and 50 more"
    assert checks.n_problems == 250
    checks.show_problems(many[:200])
    assert checks.more.isHidden()


def test_text_is_shown_as_it_is(qtbot, viewer, labels) -> None:
    checks = make_list(qtbot, viewer)
    checks.show_problems([Problem("hole", UNTRUSTED, (0, 0), 3)])
    item = checks.list.item(0)
    assert item.text() == UNTRUSTED
    assert item.toolTip() == ""  # Qt takes those for HTML


def test_another_annotation_empties_the_list(qtbot, checks, viewer, labels) -> None:
    checks._labels_box.set_layer(labels)
    other = annotate(viewer, painted())
    assert checks.list.count() == 4
    with qtbot.waitSignal(checks.changed):
        checks._labels_box.set_layer(other)
    assert checks.heading.isHidden()
    assert checks.list.count() == 0
    checks._labels_box.set_layer(labels)
    checks.show_problems(problems_of(labels))
    viewer.layers.remove(labels)
    assert checks.list.count() == 0
    assert failure(checks) == ""


def test_notes_stay_faded_in_another_theme(qtbot, checks) -> None:
    checks.setStyleSheet("QListWidget { color: #ff0000; }")
    checks.ensurePolished()
    note = checks.list.item(checks.list.count() - 1).foreground().color()
    assert (note.red(), note.green()) == (255, 0)
    assert note.alpha() < 255


def test_controls_have_names_and_tooltips(checks) -> None:
    for control in (checks.list, checks.repair_button):
        assert control.accessibleName()
        assert control.toolTip()


def test_looking_again_leaves_the_chosen_row(qtbot, checks, viewer, labels) -> None:
    chosen = choose(checks, "speck")
    row = checks.list.currentRow()
    viewer.scene.camera.center = (0, 0, 0)
    with qtbot.assertNotEmitted(checks.changed):
        checks.show_problems(problems_of(labels))
    assert checks.list.currentRow() == row
    labels.data_setitem(np.nonzero(labels.data == PIECES), 0)
    with qtbot.waitSignal(checks.changed):
        checks.show_problems(problems_of(labels))
    assert checks._chosen() == chosen
    assert checks.list.currentRow() == row - 1
    assert checks.repair_button.text() == "Repair: delete it"
    assert viewer.scene.camera.center == (0, 0, 0)
    labels.data_setitem(np.nonzero(labels.data == SPECK), 0)
    checks.show_problems(problems_of(labels))
    assert checks.list.currentRow() == -1
    assert checks.repair_button.text() == "Repair"


def test_list_stays_scrolled(qtbot, viewer, labels) -> None:
    checks = make_list(qtbot, viewer)
    many = [Problem("speck", f"Cell {i}", (0, 0), i) for i in range(1, 51)]
    checks.show_problems(many)
    checks.show()
    checks.list.scrollToBottom()
    scrolled_to = checks.list.verticalScrollBar().value()
    assert scrolled_to > 0
    checks.show_problems([*many[1:], many[0]])
    assert checks.list.verticalScrollBar().value() == scrolled_to


# -- going there ---------------------------------------------------------------


def test_click_goes_to_the_place(checks, viewer, labels) -> None:
    checks.resize(340, 400)
    checks.show()
    viewer.add_image(np.zeros((4, 4)))
    problem = checks._problems[row_of(checks, "hole")]
    click_row(checks, row_of(checks, "hole"))
    camera = viewer.scene.camera
    expected = labels.data_to_world(problem.position)
    np.testing.assert_allclose(camera.center[-2:], expected)
    assert labels.selected_label == HOLE
    assert viewer.layers.selection.active is labels
    camera.center = (0, 0, 0)
    click_row(checks, row_of(checks, "hole"))  # again
    np.testing.assert_allclose(camera.center[-2:], expected)


def test_cell_takes_up_a_quarter_of_the_view(viewer) -> None:
    data = np.zeros((900, 900), np.int32)
    data[100:200, 300:350] = 1
    labels = annotate(viewer, data, scale=(2, 2))
    viewer.scene.camera.zoom = 0.1
    go_to(viewer, labels, (150, 320), cell=1)
    camera = viewer.scene.camera
    height, width = viewer.canvas.size
    assert 100 * 2 * camera.zoom == pytest.approx(min(height, width) / 2)
    camera.zoom = 50
    go_to(viewer, labels, (150, 320), cell=1)
    assert camera.zoom == 50


def test_speck_is_shown_with_what_is_around_it(viewer, labels) -> None:
    viewer.scene.camera.zoom = 0.1
    go_to(viewer, labels, (50, 70), cell=SPECK)
    n_px = min(viewer.canvas.size) / viewer.scene.camera.zoom / 0.5
    assert n_px == pytest.approx(40)


def test_without_a_cell_the_zoom_stays(viewer, labels) -> None:
    viewer.scene.camera.zoom = 0.1
    go_to(viewer, labels, (5, 6))
    assert viewer.scene.camera.zoom == 0.1
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], (102.5, -27))


def test_problem_without_a_place_moves_nothing(checks, viewer, labels) -> None:
    checks.show_problems([Problem("no background", "paint some")])
    before = viewer.scene.camera.center
    checks.list.setCurrentRow(0)
    assert viewer.scene.camera.center == before
    assert not checks.repair_button.isEnabled()
    checks.repair_button.clicked.emit()
    assert failure(checks) == ""


def test_slice_of_a_stack_is_set(viewer) -> None:
    stack = np.zeros((2, 5, 60, 80), np.int32)
    stack[1, 3] = painted()
    labels = annotate(viewer, stack, scale=(1, 4, 0.5, 0.5), translate=(0, 10, 0, 0))
    viewer.add_image(np.zeros((3, 2, 30, 60, 80)))  # with one more axis
    viewer.dims.set_point(0, 2)
    go_to(viewer, labels, (1, 3, 9, 9), cell=HOLE)
    assert viewer.dims.point[:3] == (2, 1, 22)
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], (4.5, 4.5))
    viewer.dims.order = (0, 1, 3, 2, 4)
    go_to(viewer, labels, (1, 3, 20, 8), cell=HOLE)
    assert viewer.dims.point[3] == 10
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], (22, 4))


# -- repairs -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pieces", "speck", "hole"])
def test_repair_is_one_step_and_takes_the_problem_away(
    qtbot, checks, labels, kind
) -> None:
    problem = choose(checks, kind)
    assert checks.repair_button.text().startswith("Repair: ")
    with qtbot.waitSignal(checks.fixed):
        checks.repair_button.click()
    assert failure(checks) == ""
    assert kind not in {problem.kind for problem in problems_of(labels)}
    assert len(problems_of(labels)) == 3
    assert problem not in checks._problems
    assert checks.heading.text() == "2 problems, 1 note:"
    assert checks.repair_button.text() == "Repair"
    assert not checks.repair_button.isEnabled()
    labels.undo()
    np.testing.assert_array_equal(labels.data, painted())


def test_pieces_inherit_the_class(checks, labels) -> None:
    choose(checks, "pieces")
    checks.repair_button.click()
    new = int(labels.data[31, 22])
    assert new not in (0, PIECES)
    assert about(labels)["label_class"] == {PIECES: 2, new: 2}


def test_notes_have_no_repair(checks) -> None:
    choose(checks, "cut")
    assert not checks.repair_button.isEnabled()


@pytest.mark.parametrize("kind", ["pieces", "speck", "hole"])
def test_what_is_not_there_any_more_is_told(checks, labels, kind) -> None:
    problem = choose(checks, kind)
    labels.data = np.where(painted() == problem.cell, 0, painted())
    checks.repair_button.click()
    assert "NU-L10" in failure(checks)
    assert len(checks._problems) == 4
    choose(checks, "cut")
    assert failure(checks) == ""


def test_hole_that_was_filled_is_told(labels) -> None:
    labels.data[9:11, 9:11] = HOLE
    with pytest.raises(LabelError, match=r"no hole any more.*NU-L10"):
        repair(labels, Problem("hole", "a hole", (9, 9), HOLE))


def test_what_has_no_place_is_not_repaired(labels) -> None:
    with pytest.raises(LabelError, match=r"paint it.*NU-L10"):
        repair(labels, Problem("hole", "a hole", None, HOLE))


@pytest.mark.parametrize("n_dims", [2, 3])
def test_repair_in_a_stack_keeps_to_its_plane_or_volume(qtbot, viewer, n_dims) -> None:
    stack = np.zeros((5, 60, 80), np.int32)
    stack[1:4] = painted()
    stack[2, 30:33, 20:25] = 0
    if n_dims == 3:  # closed above and below, too
        stack[[1, 3], 9:11, 9:11] = HOLE
    labels = annotate(viewer, stack.copy())
    checks = make_list(qtbot, viewer)
    checks.show_problems(problems_of(labels, n_dims), n_dims=n_dims)
    for kind in ("hole", "pieces"):
        choose(checks, kind)
        checks.repair_button.click()
        assert failure(checks) == ""
    changed = np.unique(np.nonzero(labels.data != stack)[0]).tolist()
    assert changed == {2: [1], 3: [1, 2, 3]}[n_dims]
    choose(checks, "speck")
    checks.repair_button.click()
    assert not (labels.data == SPECK).any()
    for _ in range(3):
        labels.undo()
    np.testing.assert_array_equal(labels.data, stack)


def test_labels_of_another_origin_are_repaired_as_an_annotation(qtbot, viewer) -> None:
    mine = viewer.add_labels(painted(), name="mine")
    checks = make_list(qtbot, viewer)
    checks.show_problems(problems_of(mine))
    choose(checks, "speck")
    checks.repair_button.click()
    assert failure(checks) == ""
    assert about(mine)["label_class"] == {}


# -- the real window -----------------------------------------------------------


@pytest.mark.gui
def test_click_and_repair_in_the_window(qtbot, window) -> None:
    viewer = window
    stack = np.zeros((3, 400, 400), np.int32)
    stack[2, :60, 300:380] = painted()
    labels = annotate(viewer, stack, scale=(3, 0.5, 0.5))
    box = LayerBox(viewer, "labels", "Annotation", "To correct")
    checks, content = CheckList(viewer, box), QWidget()
    layout = QVBoxLayout(content)
    layout.addWidget(box)
    layout.addWidget(checks)
    viewer.window.add_dock_widget(content, name="Check")
    checks.show_problems(problems_of(labels))
    QApplication.processEvents()
    before = viewer.scene.camera.zoom
    click_row(checks, row_of(checks, "hole"))
    QApplication.processEvents()
    assert viewer.dims.current_step[0] == 2
    assert viewer.scene.camera.zoom > before
    # What is in the middle of the canvas is the hole.
    canvas = viewer.window._qt_viewer.canvas.native
    middle = canvas.rect().center()
    QTest.mouseMove(canvas, middle + QPoint(1, 1))
    QApplication.processEvents()
    at = np.round(labels.world_to_data(viewer.cursor.position)).astype(int)
    assert at.tolist() == [2, 9, 309]
    QTest.mouseClick(checks.repair_button, Qt.MouseButton.LeftButton)
    assert labels.data[2, 9, 309] == HOLE
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert labels.data[2, 9, 309] == 0
    QTest.qWait(100)


def test_negative_id_is_gone_to_and_becomes_a_cell_in_one_step(qtbot, viewer) -> None:
    data = painted()
    data[20:24, 60:64] = -5
    labels = annotate(viewer, data)
    before = labels.data.copy()
    checks = make_list(qtbot, viewer)
    checks.show_problems(inspect(painted_of(labels)).problems)
    problem = choose(checks, "negative")
    assert problem.message.startswith("Id -5 is negative: its 16 px are ignored")
    assert (problem.position, labels.selected_label) == ((20, 60), -5)
    QTest.mouseClick(checks.repair_button, Qt.MouseButton.LeftButton)
    new = int(before.max()) + 1
    np.testing.assert_array_equal(labels.data, np.where(before == -5, new, before))
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)
    with pytest.raises(LabelError, match="id -6 is not painted any more"):
        repair(labels, Problem("negative", "", (0, 0), -6))


def click_on(checks: CheckList, row: int) -> None:
    at = checks.list.visualItemRect(checks.list.item(row)).center()
    QTest.mouseClick(checks.list.viewport(), Qt.MouseButton.LeftButton, pos=at)


def test_cut_cells_share_a_row_and_each_click_goes_to_the_next(qtbot, viewer) -> None:
    data = painted()
    data[0:6, 60:66], data[20:26, 74:80] = 11, 12
    labels = annotate(viewer, data)
    checks = make_list(qtbot, viewer)
    checks.show()
    checks.show_problems(problems_of(labels))
    row = checks.list.count() - 1
    assert checks.list.item(row).text().startswith("3 cells are cut by the image")
    assert (checks.n_notes, row) == (3, checks.n_problems)
    gone_to = []
    for _ in range(4):
        click_on(checks, row)
        gone_to.append(labels.selected_label)
    assert gone_to[:3] == [11, 12, CUT]
    assert gone_to[3] == 11
    click_on(checks, 0)
    click_on(checks, 0)
    click_on(checks, row)
    assert labels.selected_label == 11


def test_no_row_is_cut_in_half(qtbot, viewer, labels) -> None:
    checks = make_list(qtbot, viewer)
    checks.resize(300, 400)
    checks.show()
    many = [
        Problem("speck", f"Cell {i} is only 2 px" + " of many" * (i % 3) * 9, (0, 0), i)
        for i in range(1, 30)
    ]
    for n in (2, 29):
        checks.show_problems(many[:n])
        QApplication.processEvents()
        view = checks.list.viewport().rect()
        rects = [checks.list.visualItemRect(checks.list.item(i)) for i in range(n)]
        seen = [rect for rect in rects if rect.intersects(view)]
        assert seen
        assert all(view.contains(rect) for rect in seen)
