"""One run over some files: reading, predicting and writing at the same time."""

from __future__ import annotations

import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from napari_unet.batch.committing import Committer
from napari_unet.batch.inputs import make_ready, sentence
from napari_unet.batch.ledger import Ledger
from napari_unet.batch.outputs import Outcome
from napari_unet.batch.working import predicted
from napari_unet.events import FileDone, FileStarted, Paused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_unet.batch.inputs import Item, Ready
    from napari_unet.batch.job import Job
    from napari_unet.batch.ledger import State
    from napari_unet.events import Event, FileProgress
    from napari_unet.mailbox import Mailbox

# Images that are read and wait for the network.
_N_AHEAD = 2
# Threads that find cells and write, and images that may wait for them.
_N_WRITERS, _N_WAITING = min(4, os.cpu_count() or 1), 2
_LOOK_EVERY_S = 0.1


class Doer(Protocol):
    """What does the files of a run: this process, or others.

    Attributes
    ----------
    notes : tuple of str
        What the user should know before the first file.
    """

    notes: tuple[str, ...]

    def prepare(self, item: Item, lines: Mapping[str, str]) -> Ready:
        """Return what `do` needs of a file; called in a thread, some files ahead."""

    def do(
        self, ready: Ready, commit: Callable[[Future[Outcome]], None]
    ) -> Iterator[FileProgress]:
        """Do a file, and give what becomes of it to `commit`, now or later."""

    def is_busy(self) -> bool:
        """Return whether something was not given to `commit` yet."""

    def close(self) -> None:
        """End, without what was not begun; it may be called again."""


class Here:
    """Does the files in this process: it predicts, threads find cells and write."""

    notes: tuple[str, ...] = ()

    def __init__(self, job: Job) -> None:
        self._job = job
        self._writers = ThreadPoolExecutor(_N_WRITERS)
        self._writing: deque[Future[Outcome]] = deque()

    def prepare(self, item: Item, lines: Mapping[str, str]) -> Ready:
        """Read a file; see `napari_unet.batch.inputs.make_ready`."""
        return make_ready(self._job, item, lines)

    def do(
        self, ready: Ready, commit: Callable[[Future[Outcome]], None]
    ) -> Iterator[FileProgress]:
        """Predict one file; the rest is done by the writers."""
        spent, start = ready.seconds, time.monotonic()
        which = (ready.item, ready.fingerprint)
        try:
            rest = yield from predicted(self._job, ready)
        except Exception as error:  # noqa: BLE001 - the per-file edge: the rest goes on
            spent += time.monotonic() - start
            commit(known(Outcome(*which, "failed", spent, sentence(error))))
            return
        # Outputs are large: few of them may wait.
        while len(self._writing) >= _N_WRITERS + _N_WAITING:
            self._writing.popleft().result()
        spent += time.monotonic() - start
        self._writing.append(self._writers.submit(rest, spent))
        commit(self._writing[-1])

    def is_busy(self) -> bool:
        """Return False: all is given to `commit` at once."""
        return False

    def close(self) -> None:
        """Write what the network has seen: it is not lost, even in a closed run."""
        self._writers.shutdown()


class Run:
    """One run over some files.

    Parameters
    ----------
    job : Job
        What was asked for.
    items : sequence of Item
        The files, in order.
    lines : mapping of str to str
        Of the ledgers that are there, by input.
    mailbox : Mailbox
        Where the run is asked to pause or stop.
    doer : Doer
        What does the files; closed at the end.

    Attributes
    ----------
    counts : dict of str to int
        How many files were told with each state.
    """

    def __init__(
        self,
        job: Job,
        items: Sequence[Item],
        lines: Mapping[str, str],
        mailbox: Mailbox,
        doer: Doer,
    ) -> None:
        self._job, self._items, self._lines = job, items, lines
        self._mailbox, self._doer = mailbox, doer
        self.counts = {"done": 0, "failed": 0, "skipped": 0}

    def events(self, ledger: Path) -> Iterator[Event]:
        """Do all files, or as many as there are until a stop is asked for."""
        committer = Committer(self._job, Ledger(ledger))
        reader = ThreadPoolExecutor(1)
        try:
            for ready in self._read_ahead(reader):
                yield from self._told(committer)
                yield from self._paused(committer)
                if self._mailbox.wants_stop:
                    break
                yield from self._one(ready, committer)
            while self._doer.is_busy():
                yield from self._told(committer)
                time.sleep(_LOOK_EVERY_S)
        finally:
            reader.shutdown(cancel_futures=True)
            self._doer.close()
            committer.close()
        yield from self._told(committer)

    def _read_ahead(self, pool: ThreadPoolExecutor) -> Iterator[Ready]:
        waiting: deque[Future[Ready]] = deque()
        for item in self._items:
            waiting.append(pool.submit(self._doer.prepare, item, self._lines))
            if len(waiting) > _N_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _told(self, committer: Committer) -> Iterator[FileDone]:
        for done in committer.told():
            self.counts[done.state] += 1
            yield done

    def _paused(self, committer: Committer) -> Iterator[Event]:
        if not self._mailbox.wants_pause:
            return
        yield Paused(is_paused=True)
        while not self._mailbox.wait(_LOOK_EVERY_S):
            yield from self._told(committer)
        yield Paused(is_paused=False)

    def _one(self, ready: Ready, committer: Committer) -> Iterator[Event]:
        """Do one file, as far as that is not done later or elsewhere."""
        item = ready.item
        which = (item, ready.fingerprint)
        if ready.before is not None:
            committer.add(known(Outcome(*which, "skipped", 0.0, before=ready.before)))
            return
        yield FileStarted(item.index, item.path)
        if ready.problem:
            state: State = "failed" if item.is_image else "skipped"
            outcome = Outcome(*which, state, ready.seconds, ready.problem)
            committer.add(known(outcome))
            return
        work = self._doer.do(ready, committer.add)
        for event in work:
            yield event
            if ready.is_large:  # it may take hours
                yield from self._told(committer)
                yield from self._paused(committer)
                if self._mailbox.wants_stop:
                    break


def known(outcome: Outcome) -> Future[Outcome]:
    """Return what is known at once as what would be known later."""
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future
