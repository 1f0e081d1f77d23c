"""Look through an annotation in the background, once the brush rests."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.events import Event
from napari_unet.imaging.checks import Problem, check_annotation, count_annotation
from napari_unet.widgets._painted import painted_of
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari.layers import Labels

    from napari_unet.imaging.checks import AnnotationCounts
    from napari_unet.widgets._painted import Painted

_REST_MS = 500
# Each is looked for in all pixels.
_MOST_NEGATIVE = 20


@dataclass(frozen=True)
class Inspected(Event):
    """What an annotation holds, and what is wrong with it."""

    counts: AnnotationCounts
    n_regions: int
    n_planes: int
    problems: list[Problem]
    n_negative: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of any plane."""
        return self.counts.n_planes == 0


def inspect(painted: Painted) -> Inspected:
    """Count what is painted, and check it."""
    annotation = painted.annotation()
    negative = painted.negative_ids()
    return Inspected(
        counts=count_annotation(annotation),
        n_regions=len(painted.regions),
        n_planes=math.prod(annotation.labels.shape[:-2]),
        problems=[
            *_negative_ids(painted, negative[:_MOST_NEGATIVE]),
            *check_annotation(annotation),
        ],
        n_negative=len(negative),
    )


def _negative_ids(painted: Painted, ids: list[int]) -> Iterator[Problem]:
    labels = np.asarray(painted.labels)
    for i in ids:
        is_here = labels == i
        place = np.unravel_index(int(np.argmax(is_here)), labels.shape)
        yield Problem(
            "negative",
            f"Id {i} is negative: its {np.count_nonzero(is_here)} px are ignored in "
            "training, and not saved",
            tuple(int(k) for k in place),
            i,
        )


class Inspector(QObject):
    """Inspect an annotation when it has not been edited for half a second.

    Signals
    -------
    inspected(Inspected)
        What was found in the annotation that was asked for last.
    failed(Failure)
        It could not be looked through.
    """

    inspected = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._wanted: weakref.ref[Labels] | None = None
        self._looked_at: weakref.ref[Labels] | None = None
        self._runner = Runner(self)
        self._runner.happened.connect(self._on_events)
        self._runner.failed.connect(self.failed)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST_MS)
        self._timer.timeout.connect(self._look)

    @property
    def is_running(self) -> bool:
        """Whether an annotation is being looked through."""
        return self._runner.is_running

    def want(self, labels: Labels | None) -> None:
        """Look at an annotation when it rests; forget it where it is None."""
        self._wanted = None if labels is None else weakref.ref(labels)
        if labels is not None:
            self._timer.start()

    def show_failure(self, failure: Failure) -> None:
        """Tell of a failure of one of our slots."""
        self.failed.emit(failure)

    @guarded
    def _look(self) -> None:
        labels = None if self._wanted is None else self._wanted()
        if labels is None:
            return
        if self._runner.is_running:
            self._timer.start()
            return
        painted = painted_of(labels)
        self._looked_at = self._wanted
        self._runner.run(lambda: _inspecting(painted))

    @guarded
    def _on_events(self, events: list[Event]) -> None:
        wanted = None if self._wanted is None else self._wanted()
        looked_at = None if self._looked_at is None else self._looked_at()
        for event in events:
            if isinstance(event, Inspected) and wanted is looked_at is not None:
                self.inspected.emit(event)


def _inspecting(painted: Painted) -> Generator[Event, None, None]:
    yield inspect(painted)
