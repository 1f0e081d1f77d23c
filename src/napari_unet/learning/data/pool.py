"""Planes that are kept in memory, a changing choice of them, and strokes on them."""

from __future__ import annotations

import contextlib
import math
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import UNetError
from napari_unet.learning.data.fields import Field
from napari_unet.learning.data.painting import repainted
from napari_unet.learning.data.planes import Candidates, Plane

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence
    from concurrent.futures import Future

    from napari_unet.events import Stroke
    from napari_unet.learning.data.fields import Painted

    Place = tuple[int, tuple[int, ...]]

MAX_PLANES = 50
_MAX_BYTES = 2**30
# At first few planes are read, so that training starts at once.
_FIRST_PLANES = 8
_MORE_EACH_STEP = 4
_PX_PER_STEP = 2**17
_RUN = 4
_AHEAD = 6


@dataclass(frozen=True, eq=False)
class Kept:
    """A plane in memory, with what is painted on it and where to draw from it."""

    plane: Plane
    painted: Painted | None
    candidates: Candidates


def _kept(plane: Plane, painted: Painted | None) -> Kept:
    classes = None if painted is None else painted.scaled.class_map()
    return Kept(plane, painted, Candidates.of(plane, classes))


class PlaneStore:
    """Planes of fields, read when they are asked for; the last ones are kept.

    Safe to use from two threads.

    Parameters
    ----------
    fields : sequence of Field or Plane
        All that may be asked for, by its place here.
    """

    def __init__(self, fields: Sequence[Field | Plane]) -> None:
        self.fields = list(fields)
        largest = max((_expected_bytes(f) for f in self.fields), default=1)
        self.capacity = max(4, min(MAX_PLANES, _MAX_BYTES // largest))
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._strokes: dict[Place, list[Stroke]] = {}
        self._reading: set[int] = set()
        self._changed = threading.Condition()
        self._thread: ThreadPoolExecutor | None = None
        self._ahead: list[Future[None]] = []

    def get(self, k: int) -> Kept:
        """Return the plane of the k-th field.

        Raises
        ------
        UNetError
            It can't be read (any more).
        """
        with self._changed:
            self._changed.wait_for(lambda: k not in self._reading)
            if k in self._kept:
                self._kept.move_to_end(k)
                return self._kept[k]
            self._reading.add(k)
        try:
            kept, n_strokes = self._read(k)
            with self._changed:
                # A stroke that came while it was read.
                for stroke in self._strokes_on(k)[n_strokes:]:
                    kept = self._painted(k, kept, stroke)
                self._kept[k] = kept
                while len(self._kept) > self.capacity + _AHEAD:
                    self._kept.popitem(last=False)
            return kept
        finally:
            with self._changed:
                self._reading.discard(k)
                self._changed.notify_all()

    def read_ahead(self, wanted: Sequence[int]) -> None:
        """Read these in the background, unless they are there or it is busy."""
        self._ahead = [future for future in self._ahead if not future.done()]
        missing = [k for k in wanted if k not in self._kept]
        if self._ahead or not missing:
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._ahead = [self._thread.submit(self._try_to_get, k) for k in missing]

    def close(self) -> None:
        """End the thread that reads ahead."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._thread = None

    def paint(self, stroke: Stroke, on: Sequence[int]) -> None:
        """Change the planes of these fields as a stroke says, now or when read."""
        place = (stroke.region.image, stroke.region.plane)
        with self._changed:
            self._strokes.setdefault(place, []).append(stroke)
            for k in on:
                if k in self._kept:
                    self._kept[k] = self._painted(k, self._kept[k], stroke)

    def _try_to_get(self, k: int) -> None:
        # An error is told when the plane is really asked for.
        with contextlib.suppress(UNetError):
            self.get(k)

    def _strokes_on(self, k: int) -> list[Stroke]:
        each = self.fields[k]
        if isinstance(each, Plane):
            return []
        return self._strokes.get((each.view.image, each.view.plane), [])

    def _read(self, k: int) -> tuple[Kept, int]:
        """Return a plane, and how many strokes are painted on it."""
        each = self.fields[k]
        if isinstance(each, Plane):
            return Kept(each, None, Candidates.of(each)), 0
        strokes = list(self._strokes_on(k))
        plane, painted = each.load_with(strokes)
        return _kept(plane, painted), len(strokes)

    def _painted(self, k: int, kept: Kept, stroke: Stroke) -> Kept:
        each = self.fields[k]
        if kept.painted is None or not isinstance(each, Field):
            return kept
        plane, painted = repainted(each, kept.plane, kept.painted, stroke)
        return _kept(plane, painted)


def _expected_bytes(field: Field | Plane) -> int:
    """Return about how many bytes a field takes in memory."""
    height, width = field.shape
    return 32 * height * width


class Rotation:
    """Which fields are drawn from at a step: a few that change, by the step alone.

    All of them in random order, again and again, seen through a window that moves on
    by one field in two steps. Fields with rare classes come in turns, so that each
    class is there as often. Planes of one stack come four at a time, because a file is
    read as a whole.

    Parameters
    ----------
    fields : sequence of Field or Plane
        All that may be drawn from.
    capacity : int
        How many at a time.
    seed : int
        Of the random order.
    """

    def __init__(
        self, fields: Sequence[Field | Plane], capacity: int, seed: int
    ) -> None:
        self._n, self._capacity, self._seed = len(fields), capacity, seed
        # Making a target takes its time, for which no step should have to wait.
        n_px = np.mean([math.prod(each.shape) for each in fields]) if fields else 1
        self._steps_per_plane = max(2, math.ceil(n_px / _PX_PER_STEP))
        self._runs = [_runs(fields, range(len(fields)))]
        kinds = [_kinds(each) for each in fields]
        every = sorted({kind for own in kinds for kind in own})
        if len(every) > 1:
            with_kind = ([k for k, own in enumerate(kinds) if c in own] for c in every)
            self._runs += [_runs(fields, own) for own in with_kind]
        self._orders: dict[tuple[int, int], list[int]] = {}

    def at(self, step: int) -> list[int]:
        """Return the fields to draw from at a step, each once."""
        size = min(self._capacity, _FIRST_PLANES + _MORE_EACH_STEP * max(0, step - 1))
        if self._n <= size:
            return list(range(self._n))
        first = 0 if self._n <= self._capacity else step // self._steps_per_plane
        return list(dict.fromkeys(self._place(first + i) for i in range(size)))

    def _place(self, i: int) -> int:
        turn, stream = divmod(i, len(self._runs))
        runs = self._runs[stream]
        length = sum(map(len, runs))
        epoch, place = divmod(turn, length)
        return self._order(stream, epoch)[place]

    def _order(self, stream: int, epoch: int) -> list[int]:
        key = (stream, epoch)
        if key not in self._orders:
            if len(self._orders) > 4 * len(self._runs):
                self._orders.clear()
            rng = np.random.default_rng([self._seed, 1, stream, epoch])
            runs = self._runs[stream]
            order = [runs[r] for r in rng.permutation(len(runs))]
            self._orders[key] = [k for run in order for k in run]
        return self._orders[key]


def _kinds(each: Field | Plane) -> frozenset[int]:
    return each.kinds if isinstance(each, Field) else frozenset()


def _runs(fields: Sequence[Field | Plane], chosen: Iterable[int]) -> list[list[int]]:
    """Return the chosen fields, those of one image in runs of at most four."""
    by_image: dict[Hashable, list[int]] = {}
    for k in chosen:
        each = fields[k]
        image = each.view.image if isinstance(each, Field) else (k,)
        by_image.setdefault(image, []).append(k)
    return [
        own[start::n_runs]
        for own in by_image.values()
        for n_runs in [-(-len(own) // _RUN)]
        for start in range(n_runs)
    ]
