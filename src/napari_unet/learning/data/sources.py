"""The pairs that training was given: read again and again, kept where there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import FolderError
from napari_unet.files.lazy import check_unchanged, stamp_of
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.learning.data.pairs import check_several, open_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.files.lazy import Stamp
    from napari_unet.learning.data.pairs import AnnotationLike, ImageLike, LazyPair

_MAX_KEPT = 50
_MAX_KEPT_BYTES = 2**29


class Sources:
    """Pairs as they were given, opened one by one when they are asked for.

    The last ones are kept, 50 of them and half a GiB at most, but always one: data
    sets that are small are read once. Safe to use from two threads.

    Parameters
    ----------
    images, annotations
        As `train` takes them.
    is_regression : bool
        The annotations are images to be made.

    Raises
    ------
    ConfigError
        They are no two lists of one length (NU-C03).
    """

    def __init__(
        self,
        images: Sequence[ImageLike],
        annotations: Sequence[AnnotationLike | ImageLike],
        *,
        is_regression: bool = False,
    ) -> None:
        what = "target" if is_regression else "annotation"
        check_several(images, annotations, what=what)
        self._given = list(zip(images, annotations, strict=True))
        self.is_regression = is_regression
        self.notes: list[str] = []
        self._stamps: dict[int, Stamp] = {}
        self._kept: OrderedDict[int, tuple[LazyPair, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self._given)

    def leave_out(self, index: int, why: str) -> None:
        """Take out a pair; the pairs behind it are counted from one less."""
        del self._given[index]
        self._stamps = {
            i - (i > index): s for i, s in self._stamps.items() if i != index
        }
        self._kept = OrderedDict(
            (i - (i > index), kept) for i, kept in self._kept.items() if i != index
        )
        self.notes.append(why)

    def extend(self, other: Sources) -> None:
        """Add the pairs of another, to be counted on from here."""
        first = len(self._given)
        self._given += other._given
        self.notes += other.notes
        self._stamps |= {first + i: stamp for i, stamp in other._stamps.items()}
        self._kept |= {first + i: kept for i, kept in other._kept.items()}
        self._drop_oldest()

    def open(self, index: int) -> LazyPair:
        """Return a pair, read if it is not kept.

        Raises
        ------
        FolderError
            NU-F11: its files changed or vanished since they were first read.
        UNetError
            As the readers of files.
        """
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index][0]
            is_again = index in self._stamps
            given = self._given[index]
            if is_again:
                check_unchanged(self._stamps[index], stamp_of(*given))
            pair = open_pair(
                *given,
                is_regression=self.is_regression,
                notes=None if is_again else self.notes,
            )
            if not is_again:
                self._stamps[index] = stamp_of(*given)
            self._kept[index] = (pair, _n_bytes(pair))
            self._drop_oldest()
            return pair

    def _drop_oldest(self) -> None:
        total = sum(n for _, n in self._kept.values())
        while len(self._kept) > _MAX_KEPT or total > _MAX_KEPT_BYTES:
            if len(self._kept) == 1:
                return
            total -= self._kept.popitem(last=False)[1][1]


def reading_again(source: str, error: Exception) -> FolderError:
    """Return the error for a lazy array that can't be read any more (NU-F11)."""
    return FolderError(
        "NU-F11",
        f"{source} can't be read any more while it is learned from ({error}): put it "
        "back and train again",
    )


def _n_bytes(pair: LazyPair) -> int:
    """Return the bytes that a pair takes in memory; lazy data take none."""
    found = 0
    for part in (pair.image, pair.annotation):
        if isinstance(part, Annotation):
            found += part.labels.nbytes + part.is_known.nbytes
        elif isinstance(part, Image) and type(part.data) is np.ndarray:
            found += part.data.nbytes
    return found
