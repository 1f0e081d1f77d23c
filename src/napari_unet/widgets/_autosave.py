"""Keep unsaved annotations where a crash does not reach them.

The `Autosaver` watches layers, and has what is new in them written in the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet, ref

from qtpy.QtCore import QCoreApplication, QEvent, QObject, QTimer, Signal

from napari_unet.errors import UNetError
from napari_unet.events import Event
from napari_unet.widgets._autosave_files import (
    autosave_folder,
    discard_autosave,
    fingerprint,
    new_autosave_path,
    write_autosave,
)
from napari_unet.widgets._layers import unwrapped
from napari_unet.widgets._painted import painted_of, regions_layer_of
from napari_unet.widgets._painting import adopt, image_key, image_of
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from napari.components import ViewerModel
    from napari.layers import Labels
    from qtpy.QtWidgets import QWidget

    from napari_unet.files.annotations import StoredAnnotation
    from napari_unet.widgets._painted import Painted

# Undo and redo emit `set_data` only; so does moving to another slice, which is why
# what is really new is found out by comparing, in the background.
_EDITS = ("paint", "set_data", "data", "metadata", "name")


@dataclass(frozen=True)
class Autosaved(Event):
    """An annotation was looked at, and written if it was new."""

    path: Path


@dataclass(frozen=True, eq=False)
class _Job:
    """One annotation to write, or (`painted` is None) an autosave to discard.

    `number` grows: of two jobs for one path the one that was made later counts, in
    whatever order they are done.
    """

    number: int
    path: Path
    image: str = ""
    layer: str = ""
    painted: Painted | None = None
    saved_digest: str = ""


class _Writer:
    """Does jobs, in any thread, one at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers: dict[Path, int] = {}
        self._digests: dict[Path, str] = {}

    def do(self, job: _Job) -> None:
        with self._lock:
            if job.number <= self._numbers.get(job.path, -1):
                return
            if job.painted is None:
                discard_autosave(job.path)
                self._digests[job.path] = job.saved_digest
            else:
                self._write(job, job.painted.stored())
            self._numbers[job.path] = job.number

    def _write(self, job: _Job, stored: StoredAnnotation) -> None:
        digest = fingerprint(stored)
        is_empty = not stored.annotation.labels.any() and not stored.regions
        if digest == self._digests.get(job.path) or (
            is_empty and not job.path.exists()
        ):
            return
        write_autosave(job.path, stored, image=job.image, layer=job.layer)
        self._digests[job.path] = digest


def _events(writer: _Writer, jobs: Iterable[_Job]) -> Generator[Event, None, None]:
    """Do all jobs, and raise the first fault afterwards."""
    faults = []
    for job in jobs:
        try:
            writer.do(job)
        except UNetError as fault:
            faults.append(fault)
        yield Autosaved(job.path)
    if faults:
        raise faults[0]


@dataclass
class _Watched:
    """What is known of a layer.

    `before` is what it was before its finished regions went, for a moment: napari
    removes all layers when it closes, and these may go first.
    """

    image: str
    path: Path
    is_dirty: bool = False
    before: Painted | None = None


_autosavers: WeakSet[Autosaver] = WeakSet()
_of_viewers: WeakKeyDictionary[ViewerModel, Autosaver] = WeakKeyDictionary()
# A viewer that is closed takes its autosaver with it, but not before all is written.
_writing: set[Autosaver] = set()


def autosaver_of(
    viewer: ViewerModel, *, folder: Path | None = None, delay_s: float = 10.0
) -> Autosaver:
    """Return the autosaver of a viewer; makes it at first, as `Autosaver` says.

    It belongs to no widget: napari drops a dock widget that the user closes, and the
    painting goes on.
    """
    viewer = unwrapped(viewer)
    autosaver = _of_viewers.get(viewer)
    if autosaver is None:
        autosaver = Autosaver(viewer, folder=folder, delay_s=delay_s)
        _of_viewers[viewer] = autosaver
    return autosaver


def adopt_painted(viewer: ViewerModel, labels: Labels) -> None:
    """Make a result that the user corrected an annotation, and autosave it."""
    autosaver, image = autosaver_of(viewer), image_of(viewer, labels)
    if image is not None and not autosaver.is_watched(labels):
        autosaver.watch(labels, image=image_key(image))
    adopt(labels, image)  # after watching: the correction is new


def autosave_all(viewer: ViewerModel) -> None:
    """Write all unsaved annotations of a viewer now, in the background.

    Training calls this when it starts.
    """
    for autosaver in list(_autosavers):
        if autosaver.viewer is unwrapped(viewer):
            autosaver.save_now()


def is_open(path: Path) -> bool:
    """Return whether an autosave belongs to a layer that is open in this napari."""
    return any(autosaver.watches(path) for autosaver in list(_autosavers))


class Autosaver(QObject):
    """Write annotations some seconds after they were edited, and when they go.

    Parameters
    ----------
    viewer : napari viewer
        Its layers may be watched; one that is removed is written once more.
    folder : Path, optional
        Where to write; `autosave_folder()` by default.
    delay_s : float
        Time from an edit to the writing, in seconds.

    Signals
    -------
    failed(Failure)
        An autosave could not be written; it is tried again after the delay.
    """

    failed = Signal(object)

    def __init__(
        self,
        viewer: ViewerModel,
        *,
        folder: Path | None = None,
        delay_s: float = 10.0,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = ref(unwrapped(viewer))
        self.folder = autosave_folder() if folder is None else folder
        self._watched: WeakKeyDictionary[Labels, _Watched] = WeakKeyDictionary()
        self._writer = _Writer()
        self._waiting: list[_Job] = []
        self._in_work: list[_Job] = []
        self._to_repeat: list[_Job] = []
        self._n_jobs = 0
        self._runner = Runner(self)
        self._runner.failed.connect(self._on_failed)
        self._runner.finished.connect(self._start)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(round(delay_s * 1000))
        self._timer.timeout.connect(self._on_timeout)
        self._moment = QTimer(self)
        self._moment.setSingleShot(True)
        self._moment.setInterval(0)
        self._moment.timeout.connect(self._on_moment_over)
        events = unwrapped(viewer).layers.events
        events.removing.connect(self._on_removing)
        events.removed.connect(self._on_removed)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._on_closing)
        _autosavers.add(self)

    @property
    def viewer(self) -> ViewerModel | None:
        """The viewer, or None once it is gone."""
        return self._viewer()

    @property
    def is_writing(self) -> bool:
        """Whether something is being written in the background."""
        return self._runner.is_running

    @property
    def remaining_s(self) -> float:
        """Seconds until the next writing; -1 where none is due."""
        left_ms = self._timer.remainingTime()
        return left_ms / 1000 if left_ms >= 0 else -1.0

    def watch(
        self,
        labels: Labels,
        *,
        image: str,
        path: Path | None = None,
        saved_digest: str = "",
    ) -> None:
        """Autosave a layer from now on.

        Parameters
        ----------
        labels : napari Labels layer
            An annotation.
        image : str
            Key of its image.
        path : Path, optional
            Autosave that it was restored from, to go on with.
        saved_digest : str
            Fingerprint of what the user has in a file already.
        """
        path = path or new_autosave_path(image, self.folder)
        self._watched[labels] = _Watched(image, path)
        if saved_digest:
            self._add(_Job(self._next_number(), path, saved_digest=saved_digest))
        for name in _EDITS:
            getattr(labels.events, name).connect(self._on_edit)
        self._start()

    def is_watched(self, labels: Labels) -> bool:
        """Return whether a layer is autosaved."""
        return labels in self._watched

    def watches(self, path: Path) -> bool:
        """Return whether an autosave belongs to a layer that is open now."""
        return any(watched.path == path for watched in self._watched.values())

    def mark_saved(self, labels: Labels, saved_digest: str) -> None:
        """Note that the user has a file with this content: nothing to offer."""
        watched = self._watched.get(labels)
        if watched is not None:
            number = self._next_number()
            self._add(_Job(number, watched.path, saved_digest=saved_digest))
            self._start()

    def save_now(self) -> None:
        """Write what was edited, in the background."""
        self._collect()
        self._start()

    def flush(self) -> None:
        """Write what was edited before returning: for closing."""
        self._collect()
        jobs, self._waiting = [*self._in_work, *self._waiting], []
        for _ in _events(self._writer, jobs):
            pass

    def guard(self, window: QWidget) -> None:
        """Write what was edited when this window closes."""
        window.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Look for the closing of a guarded window; never holds an event back."""
        if event is not None and event.type() == QEvent.Type.Close:
            self._on_closing()
        return False

    def show_failure(self, failure: Failure) -> None:
        """Tell of a failure of one of our slots."""
        self.failed.emit(failure)

    def _next_number(self) -> int:
        self._n_jobs += 1
        return self._n_jobs

    def _add(self, job: _Job) -> None:
        self._waiting.append(job)

    def _collect(self) -> None:
        self._timer.stop()
        self._waiting, self._to_repeat = [*self._to_repeat, *self._waiting], []
        for labels, watched in list(self._watched.items()):
            if watched.is_dirty:
                self._collect_one(labels, watched)

    def _collect_one(self, labels: Labels, watched: _Watched) -> None:
        watched.is_dirty = False
        job = _Job(
            self._next_number(),
            watched.path,
            watched.image,
            str(labels.name),
            watched.before or painted_of(labels),
        )
        self._add(job)

    def _start(self) -> None:
        if self._runner.is_running:
            return
        if not self._waiting:
            _writing.discard(self)
            return
        _writing.add(self)
        self._in_work, self._waiting = self._waiting, []
        jobs = list(self._in_work)
        self._runner.run(lambda: _events(self._writer, jobs))

    @guarded
    def _on_edit(self) -> None:
        # Not only the edited one: a Shapes layer may belong to any of them.
        for labels, watched in list(self._watched.items()):
            watched.is_dirty = True
            shapes = regions_layer_of(labels)
            if shapes is not None:
                shapes.events.data.connect(self._on_edit)
        # Not started anew by each stroke: long painting is written in between.
        if not self._timer.isActive():
            self._timer.start()

    @guarded
    def _on_timeout(self) -> None:
        self.save_now()

    @guarded
    def _on_removing(self, event: Any) -> None:
        layer = event.source[event.index]
        for labels, watched in list(self._watched.items()):
            if layer is regions_layer_of(labels):
                watched.before = painted_of(labels)
                self._moment.start()

    @guarded
    def _on_moment_over(self) -> None:
        for watched in self._watched.values():
            watched.before = None

    @guarded
    def _on_removed(self, event: Any) -> None:
        watched = self._watched.pop(event.value, None)
        if watched is not None and watched.is_dirty:
            self._collect_one(event.value, watched)
            self._start()

    @guarded
    def _on_closing(self) -> None:
        self.flush()

    @guarded
    def _on_failed(self, failure: Failure) -> None:
        # Those that were done before the fault are known to the writer.
        self._to_repeat += self._in_work
        self._timer.start()
        self.failed.emit(failure)
