from __future__ import annotations

import threading

import pytest
from qtpy.QtCore import QObject, QThread, QThreadPool, QTimer, Signal
from superqt.utils import WorkerBase

from napari_unet.errors import ImageError
from napari_unet.events import Mailbox, Note, StepDone
from napari_unet.widgets._worker import EventWorker, Failure, Runner, guarded


def two_notes():
    yield Note("one")
    yield Note("two")


class Listener(QObject):
    """Remembers what a runner told, in order, and in which thread."""

    def __init__(self, runner):
        super().__init__()
        self.told = []
        self.threads = set()
        runner.happened.connect(lambda events: self.hear("happened", events))
        runner.failed.connect(lambda failure: self.hear("failed", failure))
        runner.finished.connect(lambda: self.hear("finished", None))

    def hear(self, kind, what):
        self.told.append((kind, what))
        self.threads.add(QThread.currentThread())

    @property
    def kinds(self):
        return [kind for kind, _ in self.told]

    @property
    def events(self):
        return [e for kind, what in self.told if kind == "happened" for e in what]


@pytest.fixture
def runner(qtbot):
    return Runner()


@pytest.fixture
def listener(runner):
    return Listener(runner)


def finish(qtbot, runner, make_events, **kwargs):
    with qtbot.waitSignal(runner.finished, timeout=5000):
        assert runner.run(make_events, **kwargs)


def test_events_arrive_in_order_and_on_the_gui_thread(qtbot, qapp, runner, listener):
    finish(qtbot, runner, two_notes)
    assert listener.events == [Note("one"), Note("two")]
    assert listener.kinds[-1] == "finished"
    assert listener.threads == {qapp.thread()}


def test_events_are_made_in_another_thread(qtbot, runner):
    seen = []

    def work():
        seen.append(threading.get_ident())
        yield Note("one")

    finish(qtbot, runner, work)
    assert seen != [threading.get_ident()]


def test_a_runtime_error_reaches_the_user_as_a_bug_and_work_can_start_again(
    qtbot, runner, listener
):
    def work():
        yield Note("one")
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    finish(qtbot, runner, work)
    assert listener.kinds == ["happened", "failed", "finished"]
    failure = listener.told[1][1]
    assert failure.is_bug
    assert "mat1 and mat2" in failure.summary
    assert "Traceback" in failure.details
    finish(qtbot, runner, two_notes)
    assert listener.events[-1] == Note("two")


def test_a_known_error_is_told_in_its_own_sentence(qtbot, runner, listener):
    def work():
        raise ImageError("NU-I08", "a.tif has no finite pixel: choose another image")
        yield

    finish(qtbot, runner, work)
    failure = listener.told[0][1]
    assert failure.summary == "a.tif has no finite pixel: choose another image [NU-I08]"
    assert not failure.is_bug


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, RecursionError])
def test_nothing_escapes_the_thread(qtbot, runner, listener, kind):
    def work():
        raise kind("out")
        yield

    finish(qtbot, runner, work)
    assert listener.kinds == ["failed", "finished"]


def test_an_error_before_the_first_event_is_told(qtbot, runner, listener):
    def no_generator():
        raise ValueError("no such module")

    finish(qtbot, runner, no_generator)
    assert listener.kinds == ["failed", "finished"]


def test_abort_runs_the_generators_finally_before_finished(qtbot, runner):
    closed = []

    def endless():
        try:
            while True:
                yield Note("tick")
        finally:
            closed.append(True)

    runner.finished.connect(lambda: closed.append("finished"))
    with qtbot.waitSignal(runner.finished, timeout=5000):
        runner.run(endless)
        QTimer.singleShot(30, runner.abort)
    assert closed == [True, "finished"]


def test_abort_wakes_paused_work(qtbot, runner):
    mailbox = Mailbox()
    mailbox.pause()

    def waits():
        while mailbox.wants_pause:
            mailbox.wait(60)
        yield Note("awake")

    with qtbot.waitSignal(runner.finished, timeout=5000):
        runner.run(waits, mailbox=mailbox)
        QTimer.singleShot(30, runner.abort)
    assert mailbox.wants_stop


def test_other_work_is_refused_while_work_runs(qtbot, runner, listener):
    go_on = threading.Event()

    def waits():
        go_on.wait(5)
        yield Note("first")

    with qtbot.waitSignal(runner.finished, timeout=5000):
        assert runner.run(waits)
        assert runner.is_running
        assert not runner.run(two_notes)
        go_on.set()
    assert listener.events == [Note("first")]
    assert not runner.is_running


def test_a_flood_of_events_comes_in_few_batches(qtbot, runner, listener):
    def flood():
        for step in range(1, 5001):
            yield StepDone(step, 5000, 1.0, 1.0)

    finish(qtbot, runner, flood)
    assert len(listener.events) == 5000
    assert listener.kinds.count("happened") < 100


def test_work_ends_when_its_runner_is_destroyed(qtbot):
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield Note("tick")
        finally:
            closed.set()

    owner = QObject()
    Runner(owner).run(endless)
    qtbot.wait(20)
    owner.deleteLater()
    qtbot.waitUntil(closed.is_set, timeout=5000)


def test_work_collects_events_without_a_thread():
    worker = EventWorker(two_notes)
    worker.work()
    assert list(worker.events) == [Note("one"), Note("two")]
    assert worker.failure is None


def test_aborted_work_stops_after_one_event_and_closes():
    closed = []

    def work():
        try:
            yield Note("one")
            yield Note("two")
        finally:
            closed.append(True)

    worker = EventWorker(work, mailbox=Mailbox())
    worker.quit()
    worker.work()
    assert list(worker.events) == [Note("one")]
    assert closed == [True]


def test_work_that_outlives_the_application_ends_quietly(monkeypatch):
    def deleted(worker):
        raise RuntimeError("wrapped C/C++ object of type WorkerBaseSignals is deleted")

    monkeypatch.setattr(WorkerBase, "run", deleted)
    EventWorker(two_notes).run()


class Asks(QObject):
    clicked = Signal(bool)

    def __init__(self):
        super().__init__()
        self.failures = []
        self.seen = []
        self.clicked.connect(self.take_none)
        self.clicked.connect(self.take_one)

    def show_failure(self, failure):
        self.failures.append(failure)

    @guarded
    def take_none(self):
        raise KeyError("layer")

    @guarded
    def take_one(self, checked):
        self.seen.append(checked)


def test_a_guarded_slot_shows_what_it_raises_instead_of_ending_the_process(qtbot):
    asks = Asks()
    asks.clicked.emit(True)
    assert asks.seen == [True]
    assert len(asks.failures) == 1
    assert "KeyError" in asks.failures[0].summary


def test_a_failure_names_an_error_without_text():
    assert Failure.from_error(ValueError()).summary.endswith("ValueError")


def test_work_does_not_wait_for_other_work_where_cores_are_few(qtbot):
    pool = QThreadPool.globalInstance()
    before = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    go_on = threading.Event()

    def long():
        yield Note("first")
        go_on.wait(10)

    def short():
        yield Note("second")

    runners = [Runner(), Runner()]
    try:
        runners[0].run(long)
        with qtbot.waitSignal(runners[1].finished, timeout=5000):
            runners[1].run(short)
        assert runners[0].is_running
        with qtbot.waitSignal(runners[0].finished, timeout=5000):
            go_on.set()
    finally:
        go_on.set()
        pool.setMaxThreadCount(before)
