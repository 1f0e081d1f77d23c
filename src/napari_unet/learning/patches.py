"""Which patches to learn from: where there is something to learn, seeded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from napari_unet.learning.augmentation import Batch
from napari_unet.learning.fields import Field
from napari_unet.learning.painting import fresh_pixels, touches
from napari_unet.learning.planes import Plane as Plane
from napari_unet.learning.pool import PlaneStore, Rotation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_unet.events import Stroke
    from napari_unet.learning.pool import Kept

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
        windows = [self._draw_one(rng, pool, step, size, reach) for _ in range(n)]
        return _stacked(windows)

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

    def _draw_one(
        self, rng: np.random.Generator, pool: _Pool, step: int, size: int, reach: int
    ) -> list[NDArray[np.generic] | None]:
        found = self._draw_fresh(rng, step) or pool.draw(rng)
        plane, place = found
        at = np.unravel_index(place, plane.shape)
        shift = rng.integers(-reach, reach + 1, 2)
        start = [int(at[i]) + int(shift[i]) - size // 2 for i in (0, 1)]
        return window_of(plane, start, size)

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
        self._by_name = {
            name: self._chances(name) for name in ("known", "borders", *self._kinds)
        }

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


def _stacked(windows: Sequence[list[NDArray[np.generic] | None]]) -> Batch:
    image, weights, classes, values = (
        None if parts[0] is None else torch.from_numpy(np.stack(parts))
        for parts in zip(*windows, strict=True)
    )
    if image is None or weights is None:
        raise LookupError("a window lacks its image or its weights")
    return Batch(image=image, classes=classes, weights=weights, values=values)


def window_of(
    plane: Plane, start: Sequence[int], size: int
) -> list[NDArray[np.generic] | None]:
    """Return image, weights, classes and values of a window, mirrored beyond the plane.

    Parameters
    ----------
    plane : Plane
        Of which the target may be finer than the image; the window is the same then.
    start : (int, int)
        First row and column; below 0 it is mirrored.
    size : int
        Side of the window, in pixels of the image.
    """
    target, finer = plane.target, plane.upscale
    where = [_side(first, size, n) for first, n in zip(start, plane.shape, strict=True)]
    image = _cut(plane.image, where)
    if finer > 1:
        where = [
            finer_indices(mirrored_indices(first, size, n), first, n, finer)
            for first, n in zip(start, plane.shape, strict=True)
        ]
    given = (target.weights, target.classes, target.values)
    return [image, *(None if a is None else _cut(a, where) for a in given)]


def _side(start: int, size: int, length: int) -> slice | NDArray[np.intp]:
    is_inside = start >= 0 and start + size <= length
    if is_inside:  # a copy of a view is several times faster than one by index
        return slice(start, start + size)
    return mirrored_indices(start, size, length)


def _cut(
    array: NDArray[np.generic], where: Sequence[slice | NDArray[np.intp]]
) -> NDArray[np.generic]:
    rows, columns = where
    part = array[..., rows, :]
    return part[..., columns]


def mirrored_indices(start: int, size: int, length: int) -> NDArray[np.intp]:
    """Return `size` indices from `start` on, mirrored into [0, length).

    The outermost pixel is not repeated; a single pixel is.
    """
    if length == 1:
        return np.zeros(size, np.intp)
    period = 2 * (length - 1)
    at = np.arange(start, start + size) % period
    return np.minimum(at, period - at)


def finer_indices(
    indices: NDArray[np.intp], start: int, length: int, factor: int
) -> NDArray[np.intp]:
    """Return the indices of the finer pixels that mirrored pixels consist of.

    Parameters
    ----------
    indices : ndarray of intp, shape (n,)
        As `mirrored_indices` returns them.
    start, length : int
        What it was given.
    factor : int
        Finer pixels in a pixel.

    Returns
    -------
    ndarray of intp, shape (n * factor,)
        Within mirrored pixels their order is turned round.
    """
    inner = np.arange(factor)
    period = max(1, 2 * (length - 1))
    is_mirrored = (np.arange(start, start + len(indices)) % period) >= length
    order = np.where(is_mirrored[:, None], inner[::-1], inner)
    return (indices[:, None] * factor + order).ravel()
