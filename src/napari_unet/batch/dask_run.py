"""A folder run whose files are done by the workers of a dask cluster.

The workers read, predict and write, each file to a temporary name; results are put in
place and recorded by the process that runs it, in the same way and in the same ledger
as without a cluster.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import uuid
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.batch.inputs import look_at, read
from napari_unet.batch.outputs import Outcome
from napari_unet.batch.running import known
from napari_unet.batch.working import whole
from napari_unet.errors import ConfigError, ResourceError, UNetError
from napari_unet.events import FileProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    from napari_unet.batch.inputs import Item, Ready
    from napari_unet.batch.job import Job

# Files that wait for each thread of a worker, so that it has always one to do.
_N_AHEAD = 2
_LOOK_EVERY_S = 0.05
_COUNT_EVERY_S = 2.0
_CONNECT_S = 10
# In a worker: what it is to do for each run.
_JOBS: dict[str, Job] = {}


class Cluster:
    """The workers of a dask cluster do the files, one task each.

    Parameters
    ----------
    job : Job
        What was asked for; its output folder is absolute.
    mark : Path
        A file in the output folder: a worker that does not see it can't write there.
    workers : int, optional
        So many processes on this machine, with one thread each.
    scheduler : str, optional
        Address of the scheduler of a cluster that is there, such as
        ``"tcp://host:8786"``.

    Attributes
    ----------
    notes : tuple of str
        What the user should know before the first file.

    Raises
    ------
    ConfigError
        Both, or no workers (NU-C41).
    ResourceError
        dask is not installed (NU-R10), no scheduler answers (NU-R08), a worker does
        not see the output folder or lacks this package (NU-R09).
    """

    def __init__(
        self, job: Job, mark: Path, *, workers: int | None, scheduler: str | None
    ) -> None:
        is_too_few = workers is not None and workers < 1
        if is_too_few or (workers is None) == (scheduler is None):
            raise ConfigError(
                "NU-C41",
                f"{workers} workers and the scheduler {scheduler} were asked for: give "
                "a number of workers from 1, or the address of a scheduler",
            )
        self._job, self._mark, self._run = job, mark, f"napari-unet-{uuid.uuid4().hex}"
        self._where = scheduler or "this machine"
        self._waiting: dict[int, Any] = {}
        self._finished: deque[int] = deque()
        self._lock = threading.Lock()
        self._error: UNetError | None = None
        self._n_threads, self._counted = 1, -_COUNT_EVERY_S
        self._client, self._cluster = _connected(workers, scheduler)
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise
        self.notes: tuple[str, ...] = ()
        if not self._client.nthreads():
            self.notes = (f"{scheduler} has no workers yet: waiting for them",)

    def _set_up(self) -> None:
        """Give each worker, now and later, what there is to do."""
        # What was computed of the job here is of no use there.
        plugin = _plugin(self._run, replace(self._job))
        try:
            self._client.register_plugin(plugin)
            sees = self._client.run(_sees, str(self._mark))
        except Exception as error:
            raise ResourceError(
                "NU-R09",
                f"the workers of {self._where} can't run napari-unet ({error!r}): "
                "install the same version of it on all machines, with "
                'pip install "napari-unet-loop[dask]"',
            ) from error
        for host, is_there in sees.values():
            if not is_there:
                raise _does_not_see(host, self._mark.parent)

    def prepare(self, item: Item, lines: Mapping[str, str]) -> Ready:
        """Look whether a file was done before; it is read by the worker."""
        return look_at(self._job, item, lines)

    def do(
        self, ready: Ready, commit: Callable[[Future[Outcome]], None]
    ) -> Iterator[FileProgress]:
        """Hand a file to the workers, once they have little left to do."""
        index = ready.item.index
        absolute = replace(ready.item, path=ready.item.path.absolute())
        task = self._client.submit(
            do_file,
            self._run,
            str(self._mark),
            replace(ready, item=absolute),
            key=f"{self._run}-{index}",
            pure=False,
        )
        with self._lock:
            self._waiting[index] = task
        task.add_done_callback(lambda task: self._take(task, ready, commit))
        while True:
            yield from self._progress()
            if len(self._waiting) < _N_AHEAD * self._count():
                return
            time.sleep(_LOOK_EVERY_S)

    def _progress(self) -> Iterator[FileProgress]:
        while self._finished:
            yield FileProgress(self._finished.popleft(), 1, 1)
        if self._error is not None:
            raise self._error
        if self._client.status in ("closed", "closing"):
            raise self._lost()

    def _count(self) -> int:
        """Return how many threads there are; that changes while a cluster grows."""
        if time.monotonic() - self._counted > _COUNT_EVERY_S:
            try:
                self._n_threads = max(sum(self._client.nthreads().values()), 1)
            except (OSError, TimeoutError, CancelledError) as error:
                raise self._lost() from error
            self._counted = time.monotonic()
        return self._n_threads

    def _take(
        self, task: Any, ready: Ready, commit: Callable[[Future[Outcome]], None]
    ) -> None:
        """Hand on what became of a file; called in a thread of dask's."""
        from distributed.scheduler import KilledWorker

        item = ready.item
        try:
            outcome = replace(task.result(), item=item)
        except UNetError as error:
            self._error = error
        except KilledWorker as error:
            failed = ResourceError(
                "NU-R07",
                f"the workers that did {item.name} were killed, "
                f"{error.allowed_failures + 1} in turn: give them more memory, or take "
                "smaller tiles",
            )
            outcome = Outcome(item, ready.fingerprint, "failed", 0.0, str(failed))
            commit(known(outcome))
        except BaseException as error:  # noqa: BLE001 - raised where it is told
            self._error = self._error or self._lost()
            self._error.__cause__ = error
        else:
            commit(known(outcome))
            self._finished.append(item.index)
        with self._lock:
            self._waiting.pop(item.index, None)

    def _lost(self) -> ResourceError:
        return ResourceError(
            "NU-R08",
            f"the dask scheduler of {self._where} is gone: start it and the same run "
            "again, which goes on with the files that are not done",
        )

    def is_busy(self) -> bool:
        """Return whether the workers have files to do."""
        for _ in self._progress():
            pass
        return bool(self._waiting)

    def close(self) -> None:
        """End; files that are not done are left as they are."""
        with contextlib.suppress(Exception):
            with self._lock:
                left = list(self._waiting.values())
            self._client.cancel(left, force=True)
            if self._cluster is None:
                self._client.unregister_worker_plugin(self._run)
        with contextlib.suppress(Exception):
            self._client.close(timeout=_CONNECT_S)
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=_CONNECT_S)


def _connected(workers: int | None, scheduler: str | None) -> tuple[Any, Any]:
    """Return the client, and the cluster if it is one of our own."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ResourceError(
            "NU-R10",
            "dask is not installed, which workers need: pip install "
            '"napari-unet-loop[dask]", or run without them',
        ) from error
    if scheduler is None:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            # Too little memory is met with smaller tiles.
            memory_limit=0,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )
        return Client(cluster, set_as_default=False), cluster
    try:
        return Client(scheduler, timeout=_CONNECT_S, set_as_default=False), None
    except (OSError, ValueError, TypeError) as error:
        raise ResourceError(
            "NU-R08",
            f"no dask scheduler answers at {scheduler}: start one with dask scheduler, "
            "and give the address that it prints, such as tcp://host:8786",
        ) from error


def _plugin(run: str, job: Job) -> Any:
    """Return what gives each worker its job; also one that joins, or begins again."""
    from distributed import WorkerPlugin

    class Plugin(WorkerPlugin):
        name = run

        def setup(self, worker: Any) -> None:
            del worker
            keep_job(run, job)

        def teardown(self, worker: Any) -> None:
            del worker
            drop_job(run)

    return Plugin()


def keep_job(run: str, job: Job) -> None:
    """Keep in this worker what is to be done for a run."""
    _JOBS[run] = job


def drop_job(run: str) -> None:
    """Forget in this worker a run that ended."""
    _JOBS.pop(run, None)


def _sees(mark: str) -> tuple[str, bool]:
    return socket.gethostname(), os.path.exists(mark)


def _does_not_see(host: str, folder: Path) -> ResourceError:
    return ResourceError(
        "NU-R09",
        f"the worker on {host} does not see {folder}: put images and results on a disk "
        "that all machines share, under the same path",
    )


def do_file(run: str, mark: str, ready: Ready) -> Outcome:
    """Do one file in a worker; its results wait for their names.

    Parameters
    ----------
    run : str
        Which run it belongs to.
    mark : str
        A file in the output folder.
    ready : Ready
        The file, not yet read.

    Raises
    ------
    ResourceError
        The output folder is not seen from here (NU-R09).
    """
    if not _sees(mark)[1]:
        raise _does_not_see(socket.gethostname(), Path(mark).parent)
    job = _JOBS[run]
    return replace(whole(job, read(job, ready)), made_with=job.made_with)
