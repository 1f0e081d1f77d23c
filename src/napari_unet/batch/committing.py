"""Results put in place and recorded, many files at once: durable, then written down."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from napari_unet.batch.ledger import Record
from napari_unet.events import FileDone
from napari_unet.files.atomic import put_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from napari_unet.batch.job import Job
    from napari_unet.batch.ledger import Ledger
    from napari_unet.batch.outputs import Outcome
    from napari_unet.errors import SaveError

# A killed run does again what it did in this time, at most.
_GROUP_S = 0.5


class Committer:
    """A thread that puts results in place and records them, in groups.

    A disk needs milliseconds to make anything durable, however much it is. So what is
    finished within half a second is synced together, then given its names, and only
    then recorded; what is told as done is done whatever happens next.

    Parameters
    ----------
    job : Job
        Whose results they are.
    ledger : Ledger
        Where they are recorded; closed at the end.
    """

    def __init__(self, job: Job, ledger: Ledger) -> None:
        self._job, self._ledger = job, ledger
        self._waiting: SimpleQueue[Future[Outcome] | None] = SimpleQueue()
        self._next: Future[Outcome] | None = None
        self._told: deque[FileDone] = deque()
        self._error: BaseException | None = None
        # A daemon: who leaves a run without closing it can still end the program.
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(self, outcome: Future[Outcome]) -> None:
        """Take what will have become of a file; it is told in the order of adding."""
        self._waiting.put(outcome)

    def told(self) -> Iterator[FileDone]:
        """Yield what is done and recorded since the last call.

        Raises
        ------
        SaveError
            The ledger can't be written (NU-S01).
        """
        while self._told:
            yield self._told.popleft()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Commit all that was added, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_last = False
        while not is_last:
            group, is_last = self._group()
            try:
                if self._error is None:
                    self._commit(group)
            except BaseException as error:  # noqa: BLE001 - raised where it is told
                self._error = error
        self._ledger.close()

    def _group(self) -> tuple[list[Outcome], bool]:
        """Return what came within half a second, and whether it is the last of all."""
        group: list[Outcome] = []
        ends = math.inf
        while (left := ends - time.monotonic()) > 0:
            timeout = left if group else None
            try:
                self._next = self._next or self._waiting.get(timeout=timeout)
                if self._next is None:
                    return group, True
                group.append(self._next.result(timeout))
            except (Empty, TimeoutError):
                break
            self._next = None
            if len(group) == 1:
                ends = time.monotonic() + _GROUP_S
        return group, False

    def _commit(self, group: list[Outcome]) -> None:
        """Put the results of a group in place, record them, and then tell."""
        errors = put_in_place([file for outcome in group for file in outcome.files])
        records = [self._record(outcome, errors) for outcome in group]
        new = [r for o, r in zip(group, records, strict=True) if o.before is None]
        self._ledger.add(new)
        self._told.extend(map(self._event, group, records))

    def _event(self, outcome: Outcome, record: Record) -> FileDone:
        name = record.output
        return FileDone(
            outcome.item.index,
            outcome.item.path,
            record.state if outcome.before is None else "skipped",
            None if name is None else self._job.output / name,
            record.n_cells,
            outcome.seconds,
            record.message if outcome.before is None else "done before",
        )

    def _record(self, outcome: Outcome, errors: Mapping[Path, SaveError]) -> Record:
        """Return the record of a file, of whose results some may not be in place."""
        if outcome.before is not None:
            return outcome.before
        state, message, files = outcome.state, outcome.message, outcome.files
        reasons = [str(errors[f.target]) for f in files if f.target in errors]
        if reasons:
            state, message, files = "failed", "; ".join(reasons), ()
        written = {
            file.target.relative_to(self._job.output).as_posix(): file.sha256
            for file in files
        }
        return Record(
            input=outcome.item.name,
            fingerprint=outcome.fingerprint,
            state=state,
            output=next(iter(written), None),
            sha256=written,
            n_cells=0 if reasons else outcome.n_cells,
            message=message,
            seconds=round(outcome.seconds, 3),
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
            **{**self._job.stamp, **outcome.made_with},
        )
