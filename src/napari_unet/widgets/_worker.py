"""The only place that starts a thread: a generator of events, run in the background.

Why not napari's `thread_worker`: it swallows a RuntimeError (every fault of torch is
one), and on quitting it abandons the generator before its `finally` has run.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import time
import traceback
from collections import deque
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qtpy.QtCore import QObject, QThreadPool, QTimer, Signal
from superqt.utils import WorkerBase

from napari_unet.errors import UNetError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_unet.events import Event, Mailbox

    MakeEvents = Callable[[], Generator[Event, None, None]]

_DRAW_EVERY_MS = 50
_MOST_WAITING = 500
_LEAST_THREADS = 16
_SWITCH_S = 0.0005
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A fault as the user meets it.

    Parameters
    ----------
    summary : str
        One sentence.
    details : str
        The traceback, to be copied into a report.
    is_bug : bool
        Whether it is none of the faults that napari-unet knows.
    """

    summary: str
    details: str
    is_bug: bool

    @classmethod
    def from_error(cls, error: BaseException) -> Failure:
        """Describe `error`: a UNetError by its own sentence, all else as a bug."""
        details = "".join(traceback.format_exception(error))
        if isinstance(error, UNetError):
            return cls(str(error), details, is_bug=False)
        what = f"{type(error).__name__}: {error}".strip().rstrip(":")
        return cls(
            f"This is a bug, please report it with the details below: {what}",
            details,
            is_bug=True,
        )


class EventWorker(WorkerBase[None]):
    """Run one generator of events to its end, or until it is told to quit.

    Parameters
    ----------
    make_events : callable
        Makes the generator; called in the thread, so heavy imports belong in it.
    mailbox : Mailbox, optional
        The mailbox that the work looks into: quitting wakes paused work through it.
    """

    def __init__(
        self, make_events: MakeEvents, *, mailbox: Mailbox | None = None
    ) -> None:
        super().__init__()
        self._make_events = make_events
        self._mailbox = mailbox
        # Appending and popping at the ends of a deque is atomic: no lock is needed.
        self.events: deque[Event] = deque()
        self.failure: Failure | None = None

    def work(self) -> None:
        """Collect the events; `finished` follows after the generator's `finally`."""
        try:
            with closing(self._make_events()) as events:
                for event in events:
                    self.events.append(event)
                    self._wait_for_the_gui()
                    if self.abort_requested:
                        break
        except BaseException as error:  # noqa: BLE001 - the edge: nothing may escape
            self.failure = Failure.from_error(error)

    def run(self) -> None:
        """Work, and tell so; nobody hears it where the application has ended."""
        with suppress(RuntimeError):  # Qt has deleted the signals
            super().run()

    def _wait_for_the_gui(self) -> None:
        # Events that come faster than they are drawn would pile up, and drawing them
        # would hold up the GUI.
        while len(self.events) >= _MOST_WAITING and not self.abort_requested:
            time.sleep(_DRAW_EVERY_MS / 1000)

    def quit(self) -> None:
        """Abort after the event that is being worked on."""
        super().quit()
        if self._mailbox is not None:
            self._mailbox.stop()


class Runner(QObject):
    """Start work, and hand its events to the GUI thread a few times a second.

    Signals
    -------
    happened(list of Event)
        What came since the last time, in order; at most 20 lists a second, however
        fast the events come.
    failed(Failure)
        The work ended by an error.
    finished()
        Always the last one; the generator is closed and another run may start.
    """

    happened = Signal(list)
    failed = Signal(object)
    finished = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: EventWorker | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(_DRAW_EVERY_MS)
        self._timer.timeout.connect(self._deliver)

    @property
    def is_running(self) -> bool:
        """Whether work has started and not yet finished."""
        return self._worker is not None

    def run(self, make_events: MakeEvents, *, mailbox: Mailbox | None = None) -> bool:
        """Start the work; return False, and do nothing, while other work runs."""
        if self._worker is not None:
            return False
        self._worker = worker = EventWorker(make_events, mailbox=mailbox)
        worker.signals.finished.connect(self._end)
        # The dock or the viewer may go away at any time: then the work is in vain.
        self.destroyed.connect(worker.quit)
        _make_room()
        worker.start()
        self._timer.start()
        return True

    def abort(self) -> None:
        """Ask the work to end at its next event."""
        if self._worker is not None:
            self._worker.quit()

    def _deliver(self) -> None:
        if self._worker is None:
            return
        waiting = self._worker.events
        batch = [waiting.popleft() for _ in range(len(waiting))]
        if batch:
            self.happened.emit(batch)

    def _end(self) -> None:
        self._timer.stop()
        self._deliver()
        worker, self._worker = self._worker, None
        if worker is None:  # pragma: no cover - `finished` comes once
            return
        self.destroyed.disconnect(worker.quit)
        if worker.failure is not None:
            self.failed.emit(worker.failure)
        self.finished.emit()


def _make_room() -> None:
    """Let all that runs at one time have a thread, and the GUI its turn.

    However few cores there are: else strokes, weight maps and autosaves would wait for
    the end of a training. A drawn frame takes Python's lock some hundred times, and
    waits each time until the other thread gives it up: by default for 5 ms where that
    one runs Python alone, as when it imports torch.
    """
    if sys.getswitchinterval() > _SWITCH_S:
        sys.setswitchinterval(_SWITCH_S)
    pool = QThreadPool.globalInstance()
    if pool is not None and pool.maxThreadCount() < _LEAST_THREADS:
        pool.setMaxThreadCount(_LEAST_THREADS)


class ShowsFailures(Protocol):
    """A widget with a place for failures."""

    def show_failure(self, failure: Failure) -> None:
        """Show the failure to the user."""


def guarded(slot: Callable[..., Any]) -> Callable[..., None]:
    """Keep what a slot raises from Qt, which would end the process.

    The widget's `show_failure` is given it instead.
    """
    parameters = inspect.signature(slot).parameters.values()
    n_accepted = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters) - 1

    @functools.wraps(slot)
    def call(self: ShowsFailures, *sent: Any) -> None:
        try:
            # Signals send more than most slots want ("clicked" sends `checked`).
            slot(self, *sent[:n_accepted])
        except Exception as error:  # noqa: BLE001 - the edge to Qt
            _log.debug("%s failed", slot.__qualname__, exc_info=True)
            with suppress(RuntimeError):  # the widget itself may be gone
                self.show_failure(Failure.from_error(error))

    return call
