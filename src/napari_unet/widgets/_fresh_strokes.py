"""What was painted since training began, found by comparing with what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_unet.events import Event, Region, Stroke
from napari_unet.imaging.windows import box_of, shifted
from napari_unet.widgets._live_map import known_key

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable, Iterable, Mapping

    from numpy.typing import NDArray

    from napari_unet.imaging.windows import Window
    from napari_unet.widgets._painted import Painted

    Index = tuple[int, ...]

# Changes further apart than this come as strokes of their own.
_BLOCK_PX = 64


@dataclass(frozen=True, eq=False)
class Found(Event):
    """The strokes of one look at some planes; `n_new_classes` were left out."""

    strokes: tuple[Stroke, ...]
    n_new_classes: int = 0


@dataclass(eq=False)
class _Sent:
    """One plane as it was last sent.

    `known` is None while nothing has changed there: a stack has many planes.
    """

    labels: NDArray[Any]
    label_class: Mapping[int, int]
    known_key: Hashable
    known: NDArray[np.bool_] | None = None
    is_own: bool = False

    def own_labels(self) -> NDArray[Any]:
        """Return an array to write to: at first it is the one that training has."""
        if not self.is_own:
            self.labels, self.is_own = self.labels.copy(), True
        return self.labels


class FreshStrokes:
    """Finds what changed in an annotation: strokes, undo, fill, tools and scripts.

    For one thread at a time, which needs not be that of the GUI: what is painted
    while it looks is found by this look or by the next one.

    Parameters
    ----------
    sent : Painted
        The annotation as training got it; its array must not be written to any more,
        nor is it here.
    source : str
        Name of the image.
    """

    def __init__(self, sent: Painted, source: str) -> None:
        self._begun = sent
        self._source = source
        self._sent: dict[Index, _Sent] = {}

    def look(
        self, painted: Painted, planes: Iterable[Index]
    ) -> Generator[Event, None, None]:
        """Compare some planes; yield one `Found`."""
        # Training has learned to tell so many classes; more need another network.
        n_classes = len(self._begun.class_names)
        new = [i for i, kind in painted.label_class.items() if kind >= n_classes]
        strokes: list[Stroke] = []
        for plane in planes:
            strokes += self._strokes(painted, plane, new)
        kinds = {painted.label_class[i] for i in new}
        yield Found(tuple(strokes), len(kinds))

    def _strokes(
        self, painted: Painted, plane: Index, new: list[int]
    ) -> Iterable[Stroke]:
        raw = np.asarray(painted.labels[plane])
        sent = self._sent.get(plane) or self._as_begun(plane)
        self._sent[plane] = sent
        changed = raw != sent.labels
        moved = _moved(painted.label_class, sent.label_class)
        if moved:
            changed |= np.isin(raw, moved)
        key = known_key(painted, plane, raw)
        if key != sent.known_key:
            known = painted.known(plane)
            changed |= known != self._known(sent, plane)
            sent.known, sent.known_key = known, key
        sent.label_class = painted.label_class
        windows = windows_of(changed)
        return [self._stroke(raw, sent, plane, window, new) for window in windows]

    def _as_begun(self, plane: Index) -> _Sent:
        begun = self._begun
        labels = np.asarray(begun.labels[plane])
        return _Sent(labels, begun.label_class, known_key(begun, plane, labels))

    def _known(self, sent: _Sent, plane: Index) -> NDArray[np.bool_]:
        if sent.known is None:
            sent.known = self._begun.known(plane)
        return sent.known

    def _stroke(
        self,
        raw: NDArray[Any],
        sent: _Sent,
        plane: Index,
        window: Window,
        new: list[int],
    ) -> Stroke:
        # Read once: painting goes on meanwhile.
        here = raw[window].copy()
        sent.own_labels()[window] = here
        is_new = np.isin(here, new)
        labels = np.where(is_new, 0, np.maximum(here, 0)).astype(np.int32)
        # Negative ids are ignored, as those of classes that are new.
        free = self._known(sent, plane)[window]
        known = (free & (here >= 0) & ~is_new) | (labels > 0)
        ids = np.unique(labels).tolist() if sent.label_class else []
        kinds = {i: sent.label_class[i] for i in ids if sent.label_class.get(i, 1) != 1}
        region = Region(
            image=0,
            plane=plane,
            start=(window[0].start, window[1].start),
            shape=(here.shape[0], here.shape[1]),
            source=self._source,
        )
        return Stroke(region, labels, known, kinds)


def windows_of(changed: NDArray[np.bool_]) -> list[Window]:
    """Return windows of a plane that hold all True pixels; far ones get their own."""
    if not changed.any():
        return []
    blocks = changed
    for axis, n in enumerate(changed.shape):
        blocks = np.logical_or.reduceat(blocks, np.arange(0, n, _BLOCK_PX), axis=axis)
    pieces, _ = ndimage.label(blocks, np.ones((3, 3)))
    windows = []
    for piece in ndimage.find_objects(pieces):
        rough = tuple(
            slice(side.start * _BLOCK_PX, min(side.stop * _BLOCK_PX, n))
            for side, n in zip(piece, changed.shape, strict=True)
        )
        exact = shifted(box_of(changed[rough]), rough)
        # A piece that is no rectangle may reach into the box of another one.
        if exact is not None:
            windows.append(exact)
    return windows


def _moved(now: Mapping[int, int], before: Mapping[int, int]) -> list[int]:
    """Return the ids that belong to another class than before."""
    return [i for i in {*now, *before} if now.get(i, 1) != before.get(i, 1)]
