"""Start, pause and stop, progress and messages: one widget, drawn from one state."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from napari.settings import get_settings
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import (
    QHBoxLayout,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet import events as ev
from napari_unet.widgets._controls import Fold, describe, plain_label
from napari_unet.widgets._run_state import (
    RunState,
    StopAsked,
    WorkEnded,
    WorkFailed,
    WorkStarted,
    reduce,
)
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_unet.widgets._worker import MakeEvents


_LONG = re.compile(r"[^\s/\\-]{40}")
_MAY_BREAK = "\u200b"


class FailureBox(QWidget):
    """One sentence, with the traceback folded away beneath it, to be copied."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.summary = plain_label("What went wrong")
        self.summary.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.details = QPlainTextEdit()
        self.details.setReadOnly(True)
        self.details.setMaximumHeight(160)
        describe(self.details, "Details of the error", "For a report of the problem")
        self.copy = QPushButton("Copy details")
        describe(self.copy, "Copy details", "Copy message and details, for a report")
        self.copy.clicked.connect(self._copy)
        self.fold = Fold("Details", self.details, self.copy)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.summary)
        layout.addWidget(self.fold)
        self.show_failure(None)

    def show_failure(self, failure: Failure | None) -> None:
        """Show the failure, or nothing."""
        self.setVisible(failure is not None)
        if failure is not None:
            theme = get_theme(get_settings().appearance.theme)
            # A bar beside it: as text, the dark theme's red is too dark to read.
            colour = theme.error.as_hex()
            self.summary.setStyleSheet(
                f"border-left: 5px solid {colour}; padding-left: 6px"
            )
            self.summary.setText(wrapping(f"Error: {failure.summary}"))
            self.details.setPlainText(failure.details)

    def _copy(self) -> None:
        summary = self.summary.text().replace(_MAY_BREAK, "")
        text = f"{summary}\n\n{self.details.toPlainText()}"
        clipboard = QGuiApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(text)


class RunPanel(QWidget):
    """Start, pause and stop one piece of work at a time, and show how it goes.

    Parameters
    ----------
    what : str
        Name of the work, such as "Training".
    start_text, stop_text : str
        On the buttons.
    can_pause : bool
        Whether the work looks into its mailbox: then stop asks it to end in order
        (training keeps its best model), and pause is offered. Otherwise stop aborts.

    Signals
    -------
    start_asked()
        The user pressed start; the owner calls `run`.
    happened(list of Event)
        Events of the work, on the GUI thread.
    ended()
        The work has ended, well or not, and another run may start.
    """

    start_asked = Signal()
    happened = Signal(list)
    ended = Signal()

    def __init__(
        self,
        what: str,
        *,
        start_text: str,
        stop_text: str = "Cancel",
        can_pause: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.state = RunState()
        self._what = what
        self._mailbox: ev.Mailbox | None = None
        self._runner = Runner(self)
        self._build(start_text, stop_text, can_pause)
        self._connect()
        self._render(self.state)

    def run(
        self,
        make_events: MakeEvents,
        *,
        mailbox: ev.Mailbox | None = None,
        what: str = "",
    ) -> None:
        """Run the work in the background; does nothing while other work runs.

        `what` names the work where it is not always the same.
        """
        if self._runner.is_running:
            return
        self._mailbox = mailbox
        self._take([WorkStarted(what or self._what)])
        self._runner.run(make_events, mailbox=mailbox)

    def abort(self) -> None:
        """End the work at its next event."""
        if self._runner.is_running:
            self._take([StopAsked()])
            self._runner.abort()

    def ask_stop(self) -> None:
        """Ask the work to end in order and to keep what it has, where it can."""
        if not self._runner.is_running:
            return
        if self._mailbox is None:
            self.abort()
            return
        self._take([StopAsked()])
        self._mailbox.stop()

    def tell(self, message: str, *, is_warning: bool = False) -> None:
        """Show a sentence among the notes."""
        self._take([ev.Note(message, is_warning=is_warning)])

    def clear(self) -> None:
        """Show nothing any more of work that has ended."""
        if not self._runner.is_running:
            self.state = RunState()
            self._render(self.state)

    def show_failure(self, failure: Failure) -> None:
        """Show an error that did not come from the running work."""
        if self.state.is_running:
            self.state = replace(self.state, failure=failure)
        else:
            self.state = reduce(self.state, WorkFailed(failure))
        self._render(self.state)

    def _build(self, start_text: str, stop_text: str, can_pause: bool) -> None:
        self.start = QPushButton(start_text)
        self.pause = QPushButton("Pause")
        self.stop = QPushButton(stop_text)
        describe(self.start, start_text, f"Start: {self._what.lower()}")
        describe(self.pause, "Pause", "Wait after this step, or go on")
        stop_tip = "End after this step; the best model is kept"
        describe(self.stop, stop_text, stop_tip if can_pause else "End the work now")
        self.message = plain_label("Progress message")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(12)
        describe(self.bar, f"{self._what} progress", "How much is done")
        self.notes = plain_label("Notes")
        self.failure = FailureBox()

        buttons = QHBoxLayout()
        for button in (self.start, self.pause, self.stop):
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        for widget in (self.message, self.bar, self.notes, self.failure):
            layout.addWidget(widget)
        self.pause.setVisible(can_pause)
        # What is beneath must not jump when work begins.
        for widget in (self.message, self.bar):
            policy = widget.sizePolicy()
            policy.setRetainSizeWhenHidden(True)
            widget.setSizePolicy(policy)

    def _connect(self) -> None:
        self.start.clicked.connect(self.start_asked.emit)
        self.pause.clicked.connect(self._toggle_pause)
        self.stop.clicked.connect(self._on_stop)
        self._runner.happened.connect(self._on_happened)
        self._runner.failed.connect(self._on_failed)
        self._runner.finished.connect(self._on_finished)

    def _render(self, state: RunState) -> None:
        self.start.setEnabled(not state.is_running)
        can_wait = self._mailbox is not None
        self.pause.setEnabled(can_wait and state.phase in {"running", "paused"})
        self.pause.setText("Resume" if state.phase == "paused" else "Pause")
        self.stop.setEnabled(state.phase in {"running", "paused"})
        self.bar.setVisible(state.is_running)
        # A bar from 0 to 0 moves to and fro: at work, extent not known.
        self.bar.setRange(0, state.n_total)
        self.bar.setValue(state.n_done)
        for label, text in (
            (self.message, state.message),
            (self.notes, "\n".join(state.notes)),
        ):
            label.setText(wrapping(text))
            label.setVisible(bool(text))
        self.failure.show_failure(state.failure)

    def _take(self, events: Iterable[ev.Event]) -> None:
        for event in events:
            self.state = reduce(self.state, event)
        self._render(self.state)

    @guarded
    def _toggle_pause(self) -> None:
        if self._mailbox is None:
            return
        if self._mailbox.wants_pause:
            self._mailbox.resume()
        else:
            self._mailbox.pause()

    @guarded
    def _on_stop(self) -> None:
        self.ask_stop()

    @guarded
    def _on_happened(self, events: list[ev.Event]) -> None:
        self._take(events)
        self.happened.emit(events)

    @guarded
    def _on_failed(self, failure: Failure) -> None:
        self._take([WorkFailed(failure)])

    @guarded
    def _on_finished(self) -> None:
        self._take([WorkEnded()])
        self._mailbox = None
        self.ended.emit()


def wrapping(text: str) -> str:
    """Return a text whose long names may break, or a label would cut them off."""
    return _LONG.sub(rf"\g<0>{_MAY_BREAK}", text)
