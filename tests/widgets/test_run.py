from __future__ import annotations

import time

import numpy as np
import pytest
from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QLabel

from napari_unet import events as ev
from napari_unet.errors import LabelError
from napari_unet.widgets._run import RunPanel
from napari_unet.widgets._worker import Failure

BUG = Failure("a sentence", "Traceback ...", is_bug=True)
TILE = ev.TileDone(1, 4, (), np.zeros((2, 4, 4), np.float32))


def started(n=10):
    return ev.TrainingStarted(n, 1, 1, "CPU, 2 threads", "a block of each image")


@pytest.fixture
def panel(qtbot):
    panel = RunPanel("Training", start_text="Train", stop_text="Stop", can_pause=True)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def training(mailbox):
    yield started(1000)
    for step in range(1, 1001):
        while mailbox.wants_pause:
            yield ev.Paused(is_paused=True)
            mailbox.wait(0.05)
        yield ev.StepDone(step, 1000, 1.0, 0.1 * step)
        if mailbox.wants_stop:
            break
        time.sleep(0.005)
    yield ev.Finished("model", {"f1": 0.9}, "stopped")


def test_pause_resume_and_stop_by_the_buttons(qtbot, panel):
    mailbox = ev.Mailbox()
    heard = []
    panel.happened.connect(heard.extend)
    panel.run(lambda: training(mailbox), mailbox=mailbox)
    qtbot.waitUntil(lambda: panel.state.n_done > 0, timeout=5000)
    assert not panel.start.isEnabled()

    qtbot.mouseClick(panel.pause, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.state.phase == "paused", timeout=5000)
    assert panel.pause.text() == "Resume"

    qtbot.mouseClick(panel.pause, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.state.phase == "running", timeout=5000)

    with qtbot.waitSignal(panel.ended, timeout=5000):
        qtbot.mouseClick(panel.stop, Qt.MouseButton.LeftButton)
    assert panel.state.phase == "done"
    assert panel.start.isEnabled()
    assert isinstance(heard[-1], ev.Finished)


def test_cancel_without_a_mailbox_aborts(qtbot):
    panel = RunPanel("Prediction", start_text="Predict")
    qtbot.addWidget(panel)
    closed = []

    def endless():
        try:
            while True:
                yield TILE
        finally:
            closed.append(True)

    panel.run(endless)
    qtbot.waitUntil(lambda: panel.state.n_done == 1, timeout=5000)
    with qtbot.waitSignal(panel.ended, timeout=5000):
        qtbot.mouseClick(panel.stop, Qt.MouseButton.LeftButton)
    assert closed == [True]
    assert panel.state.phase == "stopped"
    assert panel.pause.isHidden()


def test_a_runtime_error_is_shown_and_the_panel_works_again(qtbot, panel):
    def torch_like():
        yield started()
        raise RuntimeError("Expected 4D input")

    with qtbot.waitSignal(panel.ended, timeout=5000):
        panel.run(torch_like)
    assert panel.failure.isVisible()
    assert "Expected 4D input" in panel.failure.summary.text()
    assert not panel.failure.details.isVisible()
    qtbot.mouseClick(panel.failure.fold.heading, Qt.MouseButton.LeftButton)
    assert "Traceback" in panel.failure.details.toPlainText()
    qtbot.mouseClick(panel.failure.copy, Qt.MouseButton.LeftButton)
    assert "Expected 4D input" in QGuiApplication.clipboard().text()

    with qtbot.waitSignal(panel.ended, timeout=5000):
        panel.run(lambda: (event for event in [ev.Finished(None, {}, "steps")]))
    assert panel.state.phase == "done"
    assert panel.failure.isHidden()


def test_an_error_sentence_names_layers_as_plain_text(qtbot, panel):
    def work():
        raise LabelError("NU-L04", '<img src="x"> has no annotated cells')
        yield

    with qtbot.waitSignal(panel.ended, timeout=5000):
        panel.run(work)
    assert '<img src="x">' in panel.failure.summary.text()
    labels = panel.findChildren(QLabel)
    assert labels
    assert all(x.textFormat() == Qt.TextFormat.PlainText for x in labels)


def test_a_second_start_changes_nothing(qtbot, panel):
    mailbox = ev.Mailbox()
    with qtbot.waitSignal(panel.ended, timeout=5000):
        panel.run(lambda: training(mailbox), mailbox=mailbox)
        panel.run(lambda: training(ev.Mailbox()))
        panel.abort()
    assert mailbox.wants_stop


def test_a_failure_beside_running_work_does_not_end_it(qtbot, panel):
    mailbox = ev.Mailbox()
    with qtbot.waitSignal(panel.ended, timeout=5000):
        panel.run(lambda: training(mailbox), mailbox=mailbox)
        panel.show_failure(BUG)
        assert panel.state.is_running
        mailbox.stop()
    assert panel.state.phase == "done"


def test_a_failure_at_rest_is_shown(panel):
    panel.show_failure(BUG)
    assert panel.failure.isVisible()
    assert panel.start.isEnabled()


def test_an_error_wears_the_themes_colour_of_errors(panel):
    panel.show_failure(BUG)
    theme = get_theme(get_settings().appearance.theme)
    style = panel.failure.summary.styleSheet()
    assert f"solid {theme.error.as_hex()}" in style


def test_what_is_beneath_does_not_move_when_work_begins(qtbot, panel):
    at_rest = panel.sizeHint().height()
    mailbox = ev.Mailbox()
    with qtbot.waitSignal(panel.ended, timeout=5000):
        panel.run(lambda: training(mailbox), mailbox=mailbox)
        assert panel.bar.isVisible()
        assert panel.sizeHint().height() == at_rest
        mailbox.stop()


def test_every_control_has_a_name_and_a_tooltip(panel):
    for control in (panel.start, panel.pause, panel.stop, panel.bar):
        assert control.accessibleName()
        assert control.toolTip()


def test_a_long_name_may_break_and_is_copied_as_it_is(qtbot, panel):
    name = "n" * 150
    panel.show_failure(Failure(name, "", is_bug=False))
    assert name not in panel.failure.summary.text()
    qtbot.mouseClick(panel.failure.copy, Qt.MouseButton.LeftButton)
    assert name in QGuiApplication.clipboard().text()


def test_what_has_ended_can_be_cleared_and_running_work_can_not(qtbot, panel):
    mailbox = ev.Mailbox()
    with qtbot.waitSignal(panel.ended, timeout=5000):
        panel.run(lambda: training(mailbox), mailbox=mailbox)
        panel.clear()
        assert panel.state.is_running
        mailbox.stop()
    panel.clear()
    assert panel.state.message == ""
    assert not panel.message.isVisible()
