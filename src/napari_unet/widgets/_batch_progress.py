"""How far a folder run is, and how long it takes still; no Qt."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from napari_unet.events import (
    FileDone,
    FileProgress,
    FileStarted,
    FolderFinished,
    FolderStarted,
    Paused,
    counted,
)
from napari_unet.widgets._run_state import WorkAt, WorkDone

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_unet.events import Event

# Of the progress bar for each file: large ones take long.
_PER_FILE = 100
# What was computed in less time tells nothing of the rest.
_LEAST_S = 2.0


def with_progress(
    events: Generator[Event, None, None], clock: Callable[[], float] = time.monotonic
) -> Generator[Event, None, None]:
    """Yield the events of `segment_folder`, and after each where the run stands."""
    progress = Progress(clock)
    with closing(events):
        for event in events:
            yield event
            told = progress.after(event)
            if told is not None:
                yield told


class Progress:
    """Counts the files of a run, and the time that was worked on them.

    Parameters
    ----------
    clock : callable
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._n_files = 0
        self._counts = {"done": 0, "failed": 0, "skipped": 0, "before": 0}
        # Of files that are under way: which share of their tiles is done.
        self._shares: dict[int, float] = {}
        self._began: float | None = None
        self._spent_s = 0.0
        self._is_paused = False

    def after(self, event: Event) -> WorkAt | WorkDone | None:
        """Take in an event; return what is to be shown after it."""
        match event:
            case FolderStarted():
                self._n_files = len(event.paths)
            case FileStarted():
                self._shares[event.index] = 0.0
                self._go(is_paused=self._is_paused)
            case FileProgress():
                self._shares[event.index] = event.n_done / event.n_tiles
            case FileDone():
                self._shares.pop(event.index, None)
                self._counts[_what_became_of(event)] += 1
            case Paused():
                self._go(is_paused=event.is_paused)
            case FolderFinished():
                return WorkDone(self._end())
            case _:
                return None
        n_done = int(_PER_FILE * (self._n_told + sum(self._shares.values())))
        return WorkAt(n_done, _PER_FILE * self._n_files, self._line())

    @property
    def _n_told(self) -> int:
        return sum(self._counts.values())

    def _go(self, *, is_paused: bool) -> None:
        """Let the time count, or stand still."""
        now = self._clock()
        if self._began is not None:
            self._spent_s += now - self._began
        self._began, self._is_paused = (None if is_paused else now), is_paused

    def _line(self) -> str:
        n_before = self._counts["before"]
        parts = [f"{self._n_told} of {counted(self._n_files, 'file')}"]
        if n_before:
            parts[0] += f" ({n_before} done before)"
        left = self._seconds_left()
        if left is not None and not self._is_paused:
            parts.append(f"{in_words(left)} left")
        return f"{'Paused: ' if self._is_paused else ''}{', '.join(parts)}"

    def _seconds_left(self) -> float | None:
        """Return how long the other files take if they take as long; None: unknown."""
        under_way = sum(self._shares.values())
        worked = self._n_told - self._counts["before"] + under_way
        spent = self._spent_s
        if self._began is not None:
            spent += self._clock() - self._began
        if not worked or spent < _LEAST_S:
            return None
        return spent / worked * (self._n_files - self._n_told - under_way)

    def _end(self) -> str:
        n = self._counts
        parts = [f"{counted(n['done'], 'file')} done"]
        words = {"before": "done before", "failed": "failed", "skipped": "skipped"}
        parts += [f"{n[key]} {word}" for key, word in words.items() if n[key]]
        if self._n_told < self._n_files:
            stopped = f"Stopped after {self._n_told} of {self._n_files}: "
            return f"{stopped}{', '.join(parts)}. Run goes on with the rest."
        return ", ".join(parts)


def _what_became_of(event: FileDone) -> str:
    is_before = event.state == "skipped" and event.output is not None
    return "before" if is_before else event.state


def in_words(seconds: float) -> str:
    """Return a time as far as an estimate is worth it.

    Examples
    --------
    >>> in_words(3), in_words(44), in_words(100), in_words(9000)
    ('about 5 s', 'about 45 s', 'about 2 min', 'about 2.5 h')
    """
    if seconds < 58:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    if seconds < 58 * 60:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {seconds / 3600:.1f} h"
