"""The browser of models: what it lists, and what its buttons do."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from qtpy.QtCore import QPoint, Qt, QUrl
from qtpy.QtWidgets import QFileDialog, QMessageBox, QPushButton, QToolButton

from napari_unet.events import Note
from napari_unet.files import model_places as places
from napari_unet.files.model_summaries import ModelSummary
from napari_unet.learning.checkpoint import load_model, save_model
from napari_unet.learning.model import Look
from napari_unet.widgets import _model_files
from napari_unet.widgets import _model_work as work
from napari_unet.widgets import models as module
from napari_unet.widgets._model_limits import limits_of, why_not
from napari_unet.widgets._model_list import Listed
from napari_unet.widgets._run_state import WorkDone
from napari_unet.widgets.models import ModelsWidget


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The user's data, with no model in them, and none shipped."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(places, "SHIPPED_FOLDER", tmp_path / "shipped")
    return tmp_path / "data" / "napari-unet"


@pytest.fixture
def files(tmp_path, tiny_model, home):
    """One model of each kind; a damaged and a missing one were opened as well."""
    known = replace(
        tiny_model,
        scores={"f1": 0.876},
        about="For <b>tests</b>.",
        history=(Look(1, 0.5, 0.4, 0.3),),
    )
    places_of = {
        "shipped": tmp_path / "shipped" / "nuclei.unet",
        "trained": home / "runs" / "20260301-120102" / "best.unet",
        "opened": tmp_path / "mine.unet",
        "damaged": tmp_path / "damaged.unet",
        "missing": tmp_path / "missing.unet",
    }
    for kind in ("shipped", "trained", "opened"):
        places_of[kind].parent.mkdir(parents=True, exist_ok=True)
        save_model(places_of[kind], known)
    places_of["damaged"].write_bytes(places_of["opened"].read_bytes()[:-9])
    for kind in ("opened", "damaged", "missing"):
        places.remember_model(places_of[kind])
    return places_of


@pytest.fixture
def widget(qtbot, viewer, files):
    return shown(qtbot, viewer)


def shown(qtbot, viewer):
    widget = ModelsWidget(viewer)
    qtbot.addWidget(widget)
    widget.show()
    listed(qtbot, widget)
    return widget


def listed(qtbot, widget):
    qtbot.waitUntil(lambda: not widget._lister.is_running, timeout=10_000)


def idle(qtbot, widget):
    qtbot.waitUntil(
        lambda: not (widget.is_busy or widget._lister.is_running), timeout=60_000
    )


def press(qtbot, widget, button):
    """Press a button, and wait for what it starts."""
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    idle(qtbot, widget)


def rows_of(widget):
    tree = widget.list
    groups = [tree.topLevelItem(i) for i in range(tree.topLevelItemCount())]
    return {
        group.text(0): [
            (group.child(i).text(0), group.child(i).text(1))
            for i in range(group.childCount())
        ]
        for group in groups
    }


def failure_of(widget):
    failure = widget.panel.state.failure
    return "" if failure is None else failure.summary


def enabled(widget):
    names = ("use", "tune", "card", "verify", "export", "delete", "open")
    return {name for name in names if getattr(widget, name).isEnabled()}


# -- the list --------------------------------------------------------------------


def test_models_are_listed_by_where_they_come_from(widget):
    assert rows_of(widget) == {
        "Come with napari-unet": [("nuclei", "0.88")],
        "Trained in napari": [("2026-03-01 12:01:02", "0.88")],
        "Opened files": [
            ("mine.unet", "0.88"),
            ("⚠ damaged.unet", ""),
            ("⚠ missing.unet", ""),
        ],
    }


def test_what_is_damaged_or_gone_says_so_in_one_sentence(widget, files):
    widget.list.choose(files["damaged"])
    assert "damaged model file: copy it again" in widget.about.text()
    assert enabled(widget) == {"verify", "delete", "open"}
    widget.list.choose(files["missing"])
    assert "can't be read" in widget.about.text()
    assert enabled(widget) == {"delete", "open"}


def test_the_chosen_model_is_described_and_no_html_is_read(widget, files):
    assert enabled(widget) == {"open"}
    widget.list.choose(files["opened"])
    assert "U-Net; cell; " in widget.about.text()
    assert "For <b>tests</b>." in widget.about.text()
    assert "&lt;b&gt;" in widget.list.currentItem().toolTip(0)
    widget.list.choose(files["shipped"])
    assert "delete" not in enabled(widget)


def test_opening_the_dock_needs_no_torch(files):
    code = (
        "import sys\n"
        "from napari.components import ViewerModel\n"
        "from qtpy.QtWidgets import QApplication\n"
        "app = QApplication([])\n"
        "from napari_unet.widgets.models import ModelsWidget\n"
        "from napari_unet.widgets._model_list import list_models\n"
        "widget = ModelsWidget(ViewerModel())\n"
        "print(len(list(list_models())), 'torch' in sys.modules)\n"
        "import os; sys.stdout.flush(); os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    # None is shipped in this test only.
    n, has_torch = done.stdout.split()
    assert int(n) >= 4
    assert has_torch == "False"


def test_the_choice_stays_when_the_list_is_read_anew(qtbot, widget, files):
    widget.list.choose(files["opened"])
    files["shipped"].unlink()
    widget.refresh()
    widget.refresh()
    qtbot.waitUntil(lambda: len(widget.list.listed) == 4, timeout=10_000)
    assert widget.list.chosen().path == files["opened"]


def test_a_list_that_can_not_be_read_hides_no_other_models(qtbot, viewer, files, home):
    (home / "models.json").write_text("x")
    widget = shown(qtbot, viewer)
    assert set(rows_of(widget)) == {"Come with napari-unet", "Trained in napari"}
    assert any("models.json" in note for note in widget.panel.state.notes)


def test_a_run_that_was_renamed_keeps_its_name(qtbot, viewer, files):
    files["trained"].parent.rename(files["trained"].parent.with_name("my run"))
    widget = shown(qtbot, viewer)
    assert rows_of(widget)["Trained in napari"] == [("my run", "0.88")]


def test_an_opened_file_is_listed_chosen_and_remembered(
    qtbot, widget, tmp_path, files, monkeypatch
):
    new = tmp_path / "new.unet"
    shutil.copy(files["opened"], new)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(new), ""))
    press(qtbot, widget, widget.open)
    assert widget.list.chosen().path == new
    assert new in places.opened_models()


def test_every_control_has_a_name_and_a_tooltip(widget):
    for kind in (QPushButton, QToolButton):
        for control in [*widget.findChildren(kind), *widget.dialog.findChildren(kind)]:
            if control.text():
                assert control.accessibleName(), control.text()
                assert control.toolTip(), control.text()


def test_the_list_stays_where_it_was_scrolled(qtbot, widget, home, files):
    for i in range(60):
        run = home / "runs" / f"20260201-1200{i:02d}"
        run.mkdir()
        shutil.copy(files["opened"], run / "best.unet")
    widget.refresh()
    qtbot.waitUntil(lambda: len(widget.list.listed) == 65, timeout=20_000)
    widget.list.choose(files["shipped"])
    bar = widget.list.verticalScrollBar()
    bar.setValue(bar.maximum() // 2)
    before = bar.value()
    widget.refresh()
    listed(qtbot, widget)
    assert bar.value() == before > 0


def test_a_long_text_moves_no_button(qtbot, widget, files, tiny_model):
    save_model(files["opened"], replace(tiny_model, about="long text " * 2000))
    widget.refresh()
    listed(qtbot, widget)
    before = widget.card.mapTo(widget, QPoint(0, 0))
    widget.list.choose(files["opened"])
    qtbot.wait(20)
    assert widget.card.mapTo(widget, QPoint(0, 0)) == before
    assert len(widget.about.text()) < 500
    press(qtbot, widget, widget.verify)
    assert widget.card.mapTo(widget, QPoint(0, 0)) == before


def summary_of(**changes):
    return replace(
        ModelSummary(
            path=Path("a.unet"),
            written=datetime.now(UTC),
            n_bytes=5000,
            network="unet",
            classes=("cell",),
            f1=None,
            n_train_images=0,
            about="",
            roles=("softmax:background", "softmax:cell"),
        ),
        **changes,
    )


def test_what_is_not_known_is_left_out_and_small_files_have_a_size():
    words = Listed("opened", Path("a.unet"), summary_of()).in_words
    assert words == "U-Net; cell; 5 kB"


@pytest.mark.parametrize(
    ("changes", "not_offered"),
    [
        ({}, set()),
        ({"network": "foreign"}, {"tune", "export"}),
        ({"n_dims": 3}, {"tune"}),
        # Training begins with what fits of these.
        ({"upscale": 2}, set()),
        ({"roles": ("value:denoised",)}, {"use"}),
        ({"roles": ("sigmoid:cell",)}, set()),
    ],
)
def test_what_can_not_be_done_with_a_model_is_not_offered(changes, not_offered):
    summary = summary_of(**changes)
    one = Listed("opened", Path("a.unet"), summary, limits=limits_of(summary))
    reasons = why_not(one, is_busy=False)
    assert {name for name, reason in reasons.items() if reason} == not_offered


# -- verify, export, delete ----------------------------------------------------------


def test_a_model_that_is_whole_is_verified(qtbot, widget, files):
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.verify)
    assert failure_of(widget) == ""
    assert "mine.unet is whole and computes what it did" in widget.panel.state.message


def test_a_damaged_model_is_found_out(qtbot, widget, files):
    widget.list.choose(files["damaged"])
    press(qtbot, widget, widget.verify)
    assert "damaged" in failure_of(widget)


def fake_export(monkeypatch):
    calls = []

    def export(path, target, to, title):
        calls.append((path, target, to, title))
        yield Note("written")
        yield WorkDone(f"Exported: {target}")

    monkeypatch.setattr(work, "export", export)
    return calls


@pytest.mark.parametrize(
    ("name", "chosen", "written", "to"),
    [
        ("a.zip", "bioimage.io package (*.zip)", "a.zip", "bioimageio"),
        ("dots.v1.5", "bioimage.io package (*.zip)", "dots.v1.5.zip", "bioimageio"),
        ("dots.v1.5", "ONNX (*.onnx)", "dots.v1.5.onnx", "onnx"),
        ("a.onnx", "bioimage.io package (*.zip)", "a.onnx", "onnx"),
        ("a.ZIP", "ONNX (*.onnx)", "a.ZIP", "bioimageio"),
        ("a", "", "a.zip", "bioimageio"),
    ],
)
def test_a_model_is_exported_for_other_programs(
    qtbot, widget, files, tmp_path, monkeypatch, name, chosen, written, to
):
    calls = fake_export(monkeypatch)
    answer = (str(tmp_path / name), chosen)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answer)
    widget.list.choose(files["trained"])
    press(qtbot, widget, widget.export)
    assert calls == [
        (files["trained"], tmp_path / written, to, "Trained 2026-03-01 12:01:02")
    ]
    assert widget.panel.state.message == f"Exported: {tmp_path / written}"


def test_nothing_is_replaced_unasked(qtbot, widget, files, tmp_path, monkeypatch):
    calls = fake_export(monkeypatch)
    (tmp_path / "a.onnx").touch()
    answer = (str(tmp_path / "a"), "ONNX (*.onnx)")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answer)
    buttons = QMessageBox.StandardButton
    for reply in (buttons.No, buttons.Yes):
        monkeypatch.setattr(QMessageBox, "question", lambda *_, r=reply: r)
        widget.list.choose(files["opened"])
        press(qtbot, widget, widget.export)
        assert len(calls) == (reply == buttons.Yes)


def answer_deletion(monkeypatch, answer):
    monkeypatch.setattr(_model_files, "ask_deletion", lambda *_, **__: answer)


def test_a_trained_model_goes_to_the_trash(qtbot, widget, files, monkeypatch):
    moved = []

    class Trash:
        def __init__(self, path):
            self.path = path

        def moveToTrash(self):
            moved.append(self.path)
            files["trained"].unlink()
            return True

    monkeypatch.setattr(_model_files, "QFile", Trash)
    answer_deletion(monkeypatch, "file")
    widget.list.choose(files["trained"])
    press(qtbot, widget, widget.delete)
    assert moved == [str(files["trained"])]
    assert "Trained in napari" not in rows_of(widget)


def test_the_system_s_trash_takes_a_model(qtbot, widget, files, monkeypatch):
    answer_deletion(monkeypatch, "file")
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.delete)
    assert failure_of(widget) == ""
    assert not files["opened"].exists()
    assert files["opened"] not in places.opened_models()


def test_a_file_that_can_not_go_to_the_trash_stays(qtbot, widget, files, monkeypatch):
    class NoTrash:
        def __init__(self, path):
            pass

        def moveToTrash(self):
            return False

    monkeypatch.setattr(_model_files, "QFile", NoTrash)
    answer_deletion(monkeypatch, "file")
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.delete)
    assert "could not be moved to the trash" in failure_of(widget)
    assert files["opened"] in places.opened_models()


def test_only_the_entry_may_go_or_nothing(qtbot, widget, files, monkeypatch):
    widget.list.choose(files["opened"])
    answer_deletion(monkeypatch, "nothing")
    press(qtbot, widget, widget.delete)
    assert files["opened"] in places.opened_models()
    answer_deletion(monkeypatch, "entry")
    press(qtbot, widget, widget.delete)
    assert files["opened"].exists()
    assert files["opened"] not in places.opened_models()


def test_what_is_gone_is_taken_off_the_list_without_a_question(
    qtbot, widget, files, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("asked")

    monkeypatch.setattr(_model_files, "ask_deletion", never)
    widget.list.choose(files["missing"])
    press(qtbot, widget, widget.delete)
    assert failure_of(widget) == ""
    assert files["missing"] not in places.opened_models()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Move to trash", "file"),
        ("Only take off the list", "entry"),
        ("Cancel", "nothing"),
    ],
)
def test_the_question_offers_what_can_be_done(widget, files, monkeypatch, text, answer):
    def press_it(box):
        (button,) = [b for b in box.buttons() if b.text().replace("&", "") == text]
        button.click()

    monkeypatch.setattr(QMessageBox, "exec", press_it)
    found = _model_files.ask_deletion(widget, files["opened"], may_forget=True)
    assert found == answer


def test_what_a_trash_left_where_it_was_stays_on_the_list(
    qtbot, widget, files, monkeypatch
):
    class LyingTrash:
        def __init__(self, path):
            pass

        def moveToTrash(self):
            return True

    monkeypatch.setattr(_model_files, "QFile", LyingTrash)
    answer_deletion(monkeypatch, "file")
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.delete)
    assert "could not be moved to the trash" in failure_of(widget)
    assert files["opened"] in places.opened_models()


def test_a_write_protected_folder_is_not_asked_of_the_trash(
    qtbot, widget, files, monkeypatch
):
    monkeypatch.setattr(_model_files.os, "access", lambda *_: False)
    answer_deletion(monkeypatch, "file")
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.delete)
    assert "could not be moved to the trash" in failure_of(widget)
    assert files["opened"].exists()


def test_a_folder_of_a_model_s_name_is_only_taken_off_the_list(
    qtbot, widget, files, monkeypatch, tmp_path
):
    (tmp_path / "folder.unet").mkdir()
    widget.open_file(tmp_path / "folder.unet")
    listed(qtbot, widget)
    answer_deletion(monkeypatch, "file")
    assert enabled(widget) == {"delete", "open"}
    press(qtbot, widget, widget.delete)
    assert (tmp_path / "folder.unet").is_dir()
    assert tmp_path / "folder.unet" not in places.opened_models()


def test_a_shipped_model_that_was_opened_is_not_changed(
    qtbot, widget, files, monkeypatch
):
    widget.open_file(files["shipped"])
    listed(qtbot, widget)
    assert widget.list.chosen().kind == "shipped"
    widget.open_file(files["shipped"].parent / ".." / "shipped" / "nuclei.unet")
    listed(qtbot, widget)
    assert widget.list.chosen().kind == "opened"
    press(qtbot, widget, widget.card)
    assert not widget.dialog.named.isVisible()
    answer_deletion(monkeypatch, "file")
    press(qtbot, widget, widget.delete)
    assert files["shipped"].exists()


def test_deleting_a_trained_model_leaves_no_empty_folder_and_chooses_the_next(
    qtbot, widget, files, monkeypatch
):
    answer_deletion(monkeypatch, "file")
    widget.list.choose(files["trained"])
    press(qtbot, widget, widget.delete)
    assert not files["trained"].parent.exists()
    assert widget.list.chosen().path == files["opened"]


# -- work ----------------------------------------------------------------------------


def waiting_export(monkeypatch):
    """Let exports wait until they are told to end."""
    go_on = threading.Event()

    def export(path, target, to, title):
        go_on.wait(20)
        target.write_text("exported")
        yield WorkDone(f"Exported: {target}")

    monkeypatch.setattr(work, "export", export)
    return go_on


def begin_export(widget, files, target, monkeypatch):
    answer = (str(target), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answer)
    widget.list.choose(files["opened"])
    widget.export.click()


def test_what_can_not_be_cancelled_offers_no_cancel(
    qtbot, widget, files, tmp_path, monkeypatch
):
    go_on = waiting_export(monkeypatch)
    begin_export(widget, files, tmp_path / "a.onnx", monkeypatch)
    assert widget.is_busy
    assert not widget.panel.stop.isVisible()
    assert enabled(widget) == {"use", "tune", "open"}
    assert "Wait until the work has ended" in widget.verify.toolTip()
    go_on.set()
    idle(qtbot, widget)
    assert "export" in enabled(widget)


def test_two_docks_do_not_work_on_one_file(
    qtbot, viewer, widget, files, tmp_path, monkeypatch
):
    go_on = waiting_export(monkeypatch)
    other = shown(qtbot, viewer)
    begin_export(widget, files, tmp_path / "a.onnx", monkeypatch)
    begin_export(other, files, tmp_path / "a.onnx", monkeypatch)
    assert not other.is_busy
    assert any("worked on already" in note for note in other.panel.state.notes)
    answer_deletion(monkeypatch, "file")
    other.delete.click()
    assert files["opened"].exists()
    go_on.set()
    idle(qtbot, widget)
    begin_export(other, files, tmp_path / "a.onnx", monkeypatch)
    assert other.is_busy
    idle(qtbot, other)


def docked(qtbot, window):
    widget = ModelsWidget(window)
    dock = window.window.add_dock_widget(widget, name="Models")
    qtbot.waitUntil(lambda: bool(widget.list.listed), timeout=20_000)
    return widget, dock


@pytest.mark.gui
def test_a_closed_dock_ends_its_work_and_says_so(
    qtbot, window, files, tmp_path, monkeypatch
):
    told = []
    monkeypatch.setattr(module, "show_info", told.append)
    go_on = waiting_export(monkeypatch)
    widget, dock = docked(qtbot, window)
    begin_export(widget, files, tmp_path / "a.onnx", monkeypatch)
    assert widget.is_busy
    gone = weakref.ref(widget)
    dock.destroyOnClose()
    del widget, dock
    gc.collect()
    go_on.set()
    qtbot.waitUntil(lambda: bool(told), timeout=20_000)
    assert f"Exported: {tmp_path / 'a.onnx'}" in told[0]
    assert (tmp_path / "a.onnx").read_text() == "exported"
    assert not module._ENDING
    qtbot.waitUntil(lambda: gc.collect() >= 0 and gone() is None, timeout=20_000)


def test_what_was_told_of_a_model_goes_with_it(qtbot, widget, files):
    widget.list.choose(files["damaged"])
    press(qtbot, widget, widget.verify)
    assert "damaged" in failure_of(widget)
    widget.list.choose(files["opened"])
    assert failure_of(widget) == ""


def test_a_file_that_went_is_marked_once_work_has_met_it(qtbot, widget, files):
    widget.list.choose(files["opened"])
    files["opened"].unlink()
    press(qtbot, widget, widget.verify)
    assert ("⚠ mine.unet", "") in rows_of(widget)["Opened files"]
    assert failure_of(widget) != ""


# -- the card ------------------------------------------------------------------------


def test_the_card_is_shown_with_its_pictures(qtbot, widget, files):
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.card)
    assert failure_of(widget) == ""
    dialog = widget.dialog
    assert dialog.isVisible()
    text = dialog.browser.toPlainText()
    assert "For <b>tests</b>." in text
    assert "F1 of cells" in text
    assert dialog.windowTitle() == "Model card: mine.unet"
    image = dialog.browser.loadResource(2, QUrl("curves.png"))
    assert 0 < image.width() <= dialog.browser.viewport_width()
    assert (
        dialog.browser.loadResource(2, QUrl.fromLocalFile(str(files["opened"]))) is None
    )
    assert dialog.browser.loadResource(2, QUrl("../secret.png")) is None


def test_what_is_written_on_a_card_is_kept_in_the_model(qtbot, widget, files):
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.card)
    dialog = widget.dialog
    assert dialog.named.isVisible()
    dialog.authors.setText("A. One; ; B. Two ")
    dialog.license.setText(" MIT ")
    dialog.about.setPlainText("New.")
    dialog.named.heading.setChecked(True)
    press(qtbot, widget, dialog.store)
    kept = load_model(files["opened"])
    assert (kept.authors, kept.license) == (("A. One", "B. Two"), "MIT")
    assert kept.about == "New."
    assert "A. One, B. Two" in dialog.browser.toPlainText()
    assert "Kept in" in dialog.told.text()


def test_a_licence_that_is_none_is_told_on_the_card(qtbot, widget, files):
    before = files["opened"].read_bytes()
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.card)
    widget.dialog.license.setText("whatever!")
    widget.dialog.named.heading.setChecked(True)
    press(qtbot, widget, widget.dialog.store)
    assert "SPDX" in widget.dialog.told.text()
    assert files["opened"].read_bytes() == before


def test_the_card_of_a_shipped_model_can_be_saved_but_not_changed(
    qtbot, widget, files, tmp_path, monkeypatch
):
    widget.list.choose(files["shipped"])
    press(qtbot, widget, widget.card)
    assert not widget.dialog.named.isVisible()
    folder = str(tmp_path / "card")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: folder)
    press(qtbot, widget, widget.dialog.save)
    names = {path.name for path in (tmp_path / "card").iterdir()}
    assert names == {"README.md", "curves.png"}


def test_the_card_is_of_the_model_it_was_asked_for(qtbot, widget, files):
    shipped = files["shipped"].read_bytes()
    widget.list.choose(files["shipped"])
    widget.card.click()
    widget.list.choose(files["opened"])
    idle(qtbot, widget)
    assert widget.dialog.windowTitle() == "Model card: nuclei"
    assert not widget.dialog.named.isVisible()
    widget.dialog.store_asked.emit()
    idle(qtbot, widget)
    assert files["shipped"].read_bytes() == shipped


@pytest.mark.parametrize("close", ["reject", "close"])
def test_what_was_typed_on_a_card_is_not_lost_unasked(
    qtbot, widget, files, monkeypatch, close
):
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.card)
    dialog, answers = widget.dialog, QMessageBox.StandardButton
    dialog.authors.setText("A. One")
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.No)
    getattr(dialog, close)()
    assert dialog.isVisible()
    widget.card.click()
    assert not widget.is_busy
    assert dialog.authors.text() == "A. One"
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.Yes)
    getattr(dialog, close)()
    assert not dialog.isVisible()


@pytest.mark.gui
def test_what_was_typed_on_a_card_outlives_its_dock(qtbot, window, files, monkeypatch):
    told = []
    monkeypatch.setattr(module, "show_info", told.append)
    widget, dock = docked(qtbot, window)
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.card)
    widget.dialog.authors.setText("A. One")
    widget.dialog.about.setPlainText("Not kept yet.")
    dock.destroyOnClose()
    assert "mine.unet" in told[0]
    again, _ = docked(qtbot, window)
    again.list.choose(files["opened"])
    press(qtbot, again, again.card)
    assert again.dialog.authors.text() == "A. One"
    assert again.dialog.about.toPlainText() == "Not kept yet."
    assert again.dialog.has_typed  # closing asks
    press(qtbot, again, again.dialog.store)
    assert load_model(files["opened"]).about == "Not kept yet."
    assert not again.dialog.has_typed
    press(qtbot, again, again.card)
    assert not again.dialog.has_typed


def test_nothing_is_typed_while_a_card_is_kept_and_enter_keeps_nothing(
    qtbot, widget, files
):
    widget.list.choose(files["opened"])
    press(qtbot, widget, widget.card)
    dialog = widget.dialog
    dialog.named.heading.setChecked(True)
    dialog.authors.setText("A. One")
    qtbot.keyClick(dialog.authors, Qt.Key.Key_Return)
    assert not widget.is_busy
    dialog.store.click()
    assert widget.is_busy
    assert not dialog.authors.isEnabled()
    idle(qtbot, widget)
    assert dialog.authors.isEnabled()
    assert load_model(files["opened"]).authors == ("A. One",)


def test_the_card_of_a_training_is_headed_by_its_time(qtbot, widget, files):
    widget.list.choose(files["trained"])
    press(qtbot, widget, widget.card)
    text = widget.dialog.browser.toPlainText()
    assert text.startswith("Trained 2026-03-01 12:01:02")


def test_a_double_click_shows_the_card(qtbot, widget, files):
    widget.list.choose(files["opened"])
    widget.list.itemDoubleClicked.emit(widget.list.currentItem(), 0)
    idle(qtbot, widget)
    assert widget.dialog.isVisible()


# -- use ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("button", "dock", "choice"),
    [("use", "Predict", "model"), ("tune", "Train", "start_from")],
)
def test_a_model_is_used_in_another_dock(qtbot, widget, files, button, dock, choice):
    opened, chosen = [], []

    class Choice:
        def choose_file(self, path):
            chosen.append(path)

    class Window:
        def add_plugin_dock_widget(self, plugin, name, **kwargs):
            opened.append((plugin, name))
            return self, type("Dock", (), {choice: Choice()})()

        def raise_(self):
            opened.append("in front")

    widget._viewer = type("Viewer", (), {"window": Window()})()
    widget.list.choose(files["opened"])
    press(qtbot, widget, getattr(widget, button))
    assert failure_of(widget) == ""
    assert opened == [("napari-unet-loop", dock), "in front"]
    assert chosen == [files["opened"]]
