"""Which patches to learn from: where there is something to learn, seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from napari_unet.learning.augmentation import Batch
from napari_unet.learning.data.fields import Field
from napari_unet.learning.data.painting import fresh_pixels, touches
from napari_unet.learning.data.planes import Plane
from napari_unet.learning.data.pool import PlaneStore, Rotation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_unet.events import Stroke
    from napari_unet.learning.data.pool import Kept

# Shares of the patches that are drawn around a painted object, and around a border
# between close cells; the others around anything known.
_PAINTED_SHARE, _BORDER_SHARE = 0.5, 0.2
_FRESH_SHARE, _FRESH_STEPS = 0.5, 50
_LEAST_FRESH_SHARE = 0.01
_N_AHEAD = 6


@dataclass(frozen=True)
class _Fresh:
    """A stroke on a field, and after which step it came."""

    k: int
    stroke: Stroke
    step: int

    def share(self, step: int) -> float:
        """Return its share of the patches: a half, halved every 50 steps."""
        share = _FRESH_SHARE * 0.5 ** max(0, (step - self.step - 1) // _FRESH_STEPS)
        return share if share > _LEAST_FRESH_SHARE else 0.0


class PatchSource:
    """Draws windows at random, where there is something to learn.

    Half of them lie around a painted object, each class about as often; a fifth
    around a border between close cells; the others around anything known. Planes
    count by the square root of what they have of it, so that a large image does not
    silence a small one. While a stroke is fresh half of the windows lie around it, and
    every 50 steps half as many. Windows that reach beyond a plane see it mirrored.

    Parameters
    ----------
    fields : sequence of Field or Plane
        At least one with a weight above 0. Fields are read when they are needed, and
        at most 50 of them are kept in memory.
    spare : sequence of Field
        Planes on which nothing is known yet, for strokes.
    seed : int
        Decides what is drawn, with the step and the strokes so far.
    """

    def __init__(
        self,
        fields: Sequence[Field | Plane],
        *,
        spare: Sequence[Field] = (),
        seed: int = 0,
    ) -> None:
        self._store = PlaneStore([*fields, *spare])
        self._rotation = Rotation(fields, self._store.capacity, seed)
        self._n, self._seed = len(fields), seed
        self._painted_late: list[int] = []
        self._fresh: list[_Fresh] = []
        self._pool: tuple[list[int], _Pool] | None = None

    def draw(
        self, step: int | np.random.Generator, *, n: int, size: int, reach: int
    ) -> Batch:
        """Return `n` windows of side `size` as a batch on the CPU.

        Parameters
        ----------
        step : int or numpy.random.Generator
            Training step, from 1 on: what is drawn depends on seed, step and the
            strokes so far alone. Or random numbers, and all fields are drawn from.
        n : int
            Number of windows.
        size : int
            Side of a window, in pixels.
        reach : int
            The chosen pixel lies within `reach` pixels of the window's middle.

        Raises
        ------
        UNetError
            A file that is learned from changed or vanished (NU-F11).
        """
        if isinstance(step, np.random.Generator):
            rng, chosen, step = step, list(range(self._n)), 0
        else:
            rng = np.random.default_rng([self._seed, step])
            chosen = self._rotation.at(step)
        pool = self._pool_of([*chosen, *self._painted_late])
        if step:
            self._store.read_ahead(self._rotation.at(step + _N_AHEAD))
        return _cut([self._choose(rng, pool, step, reach) for _ in range(n)], size)

    def apply(self, stroke: Stroke, step: int) -> int:
        """Take a stroke that came after a step; it is learned from in the next.

        Returns
        -------
        int
            On how many fields it lies: 0 where it lies on held-back pixels only, which
            are never learned from.
        """
        fields = self._store.fields
        on = [
            k
            for k, each in enumerate(fields)
            if isinstance(each, Field) and touches(each, stroke)
        ]
        self._store.paint(stroke, on)
        self._pool = None
        self._fresh = [fresh for fresh in self._fresh if fresh.share(step + 1)]
        self._fresh += [_Fresh(k, stroke, step) for k in on]
        late = (k for k in on if k >= self._n and k not in self._painted_late)
        self._painted_late += late
        return len(on)

    def close(self) -> None:
        """End the thread that reads ahead."""
        self._store.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _pool_of(self, chosen: list[int]) -> _Pool:
        if self._pool is None or self._pool[0] != chosen:
            self._pool = (chosen, _Pool([self._store.get(k) for k in chosen]))
        return self._pool[1]

    def _choose(
        self, rng: np.random.Generator, pool: _Pool, step: int, reach: int
    ) -> tuple[Plane, list[int]]:
        """Return a plane and the middle of a window on it."""
        plane, place = self._draw_fresh(rng, step) or pool.draw(rng)
        at = np.unravel_index(place, plane.shape)
        shift = rng.integers(-reach, reach + 1, 2)
        return plane, [int(at[i]) + int(shift[i]) for i in (0, 1)]

    def _draw_fresh(
        self, rng: np.random.Generator, step: int
    ) -> tuple[Plane, int] | None:
        """Return a pixel of a stroke that is fresh, if it is its turn."""
        shares = np.array([fresh.share(step) for fresh in self._fresh])
        if not shares.any() or rng.random() >= shares.max():
            return None
        fresh = self._fresh[int(rng.choice(len(shares), p=shares / shares.sum()))]
        each, plane = self._store.fields[fresh.k], self._store.get(fresh.k).plane
        if isinstance(each, Plane):
            return None
        pixels = fresh_pixels(each, fresh.stroke, plane)
        return (plane, int(rng.choice(pixels))) if pixels.size else None


class _Pool:
    """The planes that are drawn from at a step, and with what chances."""

    def __init__(self, kept: Sequence[Kept]) -> None:
        self._kept = [k for k in kept if k.candidates.counts["known"]]
        kinds = sorted({c for k in self._kept for c in k.candidates.painted})
        self._kinds = [kind for kind in kinds if self._chances(kind) is not None]
        names: list[str | int] = ["known", "borders", *self._kinds]
        self._by_name = {name: self._chances(name) for name in names}

    def _chances(self, name: str | int) -> NDArray[np.float64] | None:
        counts = [k.candidates.counts.get(name, 0) for k in self._kept]
        roots = np.sqrt(np.array(counts, np.float64))
        total = roots.sum()
        return np.cumsum(roots / total) if total else None

    def draw(self, rng: np.random.Generator) -> tuple[Plane, int]:
        """Return a plane and a pixel of it, as a flat index."""
        which = rng.random()
        has_borders = self._by_name["borders"] is not None
        if which < _BORDER_SHARE and has_borders:
            return self._pick(rng, "borders", lambda kept: kept.candidates.borders)
        if which < _BORDER_SHARE + _PAINTED_SHARE and self._kinds:
            kind = self._kinds[int(rng.integers(len(self._kinds)))]
            return self._pick(rng, kind, lambda kept: kept.candidates.painted[kind])
        return self._pick(rng, "known", lambda kept: kept.candidates.known)

    def _pick(
        self,
        rng: np.random.Generator,
        name: str | int,
        of: Callable[[Kept], NDArray[np.int64]],
    ) -> tuple[Plane, int]:
        chances = self._by_name[name]
        if chances is None:
            raise LookupError(f"nothing to draw of {name}")
        k = min(int(np.searchsorted(chances, rng.random(), "right")), len(chances) - 1)
        kept = self._kept[k]
        places = of(kept)
        return kept.plane, int(places[int(rng.integers(len(places)))])


def _cut(chosen: Sequence[tuple[Plane, list[int]]], size: int) -> Batch:
    """Return windows of side `size` around these pixels, mirrored beyond the planes."""
    first = chosen[0][0]
    target = first.target
    finer = size * first.upscale
    n = len(chosen)
    image = np.empty((n, len(first.image), size, size), np.float32)
    weights = np.empty((n, finer, finer), np.float32)
    classes = values = None
    if target.classes is not None:
        classes = np.empty((n, finer, finer), np.int16)
    if target.values is not None:
        values = np.empty((n, len(target.values), finer, finer), np.float32)
    for i, (plane, middle) in enumerate(chosen):
        corner = [place - size // 2 for place in middle]
        target = plane.target
        _fill(image[i], plane.image, corner, 1)
        _fill(weights[i], target.weights, corner, plane.upscale)
        if classes is not None and target.classes is not None:
            _fill(classes[i], target.classes, corner, plane.upscale)
        if values is not None and target.values is not None:
            _fill(values[i], target.values, corner, plane.upscale)
    return Batch(
        image=torch.from_numpy(image),
        classes=None if classes is None else torch.from_numpy(classes),
        weights=torch.from_numpy(weights),
        values=None if values is None else torch.from_numpy(values),
        values_follow_image=first.values_follow_image,
    )


def _fill(
    out: NDArray[np.generic],
    array: NDArray[np.generic],
    corner: Sequence[int],
    factor: int,
) -> None:
    """Copy a window of an array (..., Y, X); its corner is in pixels of the image."""
    rows, columns = (
        mirrored(start, n_out // factor, n // factor, factor)
        for start, n_out, n in zip(
            corner, out.shape[-2:], array.shape[-2:], strict=True
        )
    )
    for to_rows, of_rows in rows:
        for to_columns, of_columns in columns:
            out[..., to_rows, to_columns] = array[..., of_rows, of_columns]


def mirrored(
    start: int, size: int, length: int, factor: int = 1
) -> list[tuple[slice, slice]]:
    """Return a window of an axis, mirrored into [0, length), as slices of it.

    The outermost pixel is not repeated; a single pixel is. Slices are several times
    faster than indices.

    Parameters
    ----------
    start, size : int
        First pixel and number of pixels.
    length : int
        Pixels that there are.
    factor : int
        Finer pixels in each pixel, of which the slices are; those of mirrored pixels
        are turned round as well.

    Returns
    -------
    list of (slice, slice)
        Where to in the window, and from where.

    Examples
    --------
    >>> mirrored(-2, 5, 9)
    [(slice(0, 2, None), slice(2, 0, -1)), (slice(2, 5, None), slice(0, 3, None))]
    """
    if length == 1:
        ones = (slice(i * factor, (i + 1) * factor) for i in range(size))
        return [(one, slice(0, factor)) for one in ones]
    if start >= 0 and start + size <= length:
        return [
            (slice(0, size * factor), slice(start * factor, (start + size) * factor))
        ]
    found, at, period = [], 0, 2 * (length - 1)
    while at < size:
        phase = (start + at) % period
        is_forward = phase < length - 1
        first = phase if is_forward else period - phase
        n = min(length - 1 - phase if is_forward else first, size - at)
        source = slice(first * factor, (first + n) * factor)
        if not is_forward:
            last = (first - n + 1) * factor
            source = slice((first + 1) * factor - 1, last - 1, -1)
        found.append((slice(at * factor, (at + n) * factor), source))
        at += n
    return found
