"""What may be asked of long work while it runs, and the mailbox that it looks into."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Region:
    """A window of one plane of one of the images that training was given.

    Parameters
    ----------
    image : int
        Which image, counted from 0 in the order in which they were given.
    plane : tuple of int
        Which plane of a stack; empty for an image of one plane.
    start : (int, int)
        First row and column, in pixels of the image.
    shape : (int, int)
        Rows and columns.
    source : str
        File or layer of the image.
    """

    image: int
    plane: tuple[int, ...]
    start: tuple[int, int]
    shape: tuple[int, int]
    source: str = ""

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window along Y and X."""
        y, x = (slice(a, a + n) for a, n in zip(self.start, self.shape, strict=True))
        return y, x


@dataclass(frozen=True, eq=False)
class Stroke:
    """What was painted or erased in a window of one plane, as it is now.

    Parameters
    ----------
    region : Region
        Where: the smallest window that holds all that changed.
    labels : ndarray of int32, shape (Y, X) of the region
        Instance ids as they are now; 0 = nothing painted.
    known : ndarray of bool, same shape
        Where something is known by now: painted, or known to be background.
    label_class : mapping of int to int
        Id -> class of the ids in `labels` that are not of class 1.
    """

    region: Region
    labels: NDArray[np.int32] = field(repr=False)
    known: NDArray[np.bool_] = field(repr=False)
    label_class: Mapping[int, int] = field(default_factory=dict)


class Mailbox:
    """What may be asked of running work; the work looks in between two steps.

    Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._go_on = threading.Event()
        self._go_on.set()
        self._lock = threading.Lock()
        self._strokes: list[Stroke] = []
        self._view: Region | None = None
        self._learning_rate: float | None = None
        self._keeps_learning: bool | None = None

    def paint(self, stroke: Stroke) -> None:
        """Hand in what was just painted; it is learned from as soon as possible.

        The arrays are kept, not copied: don't write to them any more.
        """
        with self._lock:
            self._strokes.append(stroke)

    def take_strokes(self) -> list[Stroke]:
        """Return what was painted since the last call, in order."""
        with self._lock:
            taken, self._strokes = self._strokes, []
        return taken

    def look_at(self, view: Region | None) -> None:
        """Say which region the user sees, to be predicted; None for no preview."""
        with self._lock:
            self._view = view

    @property
    def view(self) -> Region | None:
        """The region to be predicted while the work goes on."""
        with self._lock:
            return self._view

    def set_learning_rate(self, peak: float | None) -> None:
        """Give a new peak learning rate; None goes back to that of the settings.

        Raises
        ------
        ValueError
            It is no positive number.
        """
        if peak is not None and not (math.isfinite(peak) and peak > 0):
            raise ValueError(f"the learning rate is {peak}: give a number above 0")
        with self._lock:
            self._learning_rate = peak

    @property
    def learning_rate(self) -> float | None:
        """The peak learning rate that was asked for while running, if any."""
        with self._lock:
            return self._learning_rate

    def keep_learning(self, is_wanted: bool) -> None:
        """Say whether training goes on after its last step, whatever the settings."""
        with self._lock:
            self._keeps_learning = is_wanted

    @property
    def keeps_learning(self) -> bool | None:
        """Whether training is to go on after its last step; None as in the settings."""
        with self._lock:
            return self._keeps_learning

    def stop(self) -> None:
        """Ask the work to end after this step and keep what it has."""
        self._stop.set()
        self._go_on.set()

    def pause(self) -> None:
        """Ask the work to wait after this step."""
        if not self._stop.is_set():
            self._go_on.clear()

    def resume(self) -> None:
        """Let paused work go on."""
        self._go_on.set()

    @property
    def wants_stop(self) -> bool:
        """Whether the work was asked to end."""
        return self._stop.is_set()

    @property
    def wants_pause(self) -> bool:
        """Whether the work was asked to wait."""
        return not self._go_on.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the work may go on; return whether it may."""
        return self._go_on.wait(timeout_s)
