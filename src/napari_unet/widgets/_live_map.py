"""The weight map of the plane on screen, kept up to date in the background."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.events import Event
from napari_unet.imaging.class_balance import count_classes
from napari_unet.imaging.live_weights import LiveWeights
from napari_unet.imaging.windows import hull, whole

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable

    from numpy.typing import NDArray

    from napari_unet.config import WeightConfig
    from napari_unet.imaging.pixel_weights import PixelWeight
    from napari_unet.imaging.windows import Window
    from napari_unet.widgets._painted import Painted


@dataclass(frozen=True, eq=False)
class Wanted:
    """What should be weighed.

    Parameters
    ----------
    painted : Painted
        The annotation.
    plane : tuple of int
        Index of the plane in its stack; empty for a single plane.
    config : WeightConfig
        The formula and its numbers.
    pixel_size_um : tuple of float or None
        Along (Y, X).
    is_final : bool
        False while a slider is dragged.
    pixel : tuple of int or None
        Index (Y, X) of the pixel to explain.
    other_counts : tuple of int
        Known pixels of each class on the other planes.
    """

    painted: Painted
    plane: tuple[int, ...]
    config: WeightConfig
    pixel_size_um: tuple[float, ...] | None = None
    is_final: bool = True
    pixel: tuple[int, ...] | None = None
    other_counts: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Weighed(Event):
    """What changed: the weights of a window of a plane, and all numbers of it.

    `window` is None where no weight changed.
    """

    maker: LiveMap
    wanted: Wanted
    window: Window | None
    weights: NDArray[np.float32] | None
    class_counts: tuple[int, ...]
    class_factors: tuple[float, ...]
    explained: PixelWeight | None


@dataclass(frozen=True, eq=False)
class Counted(Event):
    """The known pixels of each class on one plane of a stack."""

    plane: tuple[int, ...]
    counts: tuple[int, ...]


class LiveMap:
    """The live weights of one annotation, of one plane at a time.

    For one thread at a time.
    """

    def __init__(self) -> None:
        self._live: LiveWeights | None = None
        self._key: Hashable = None
        self._known_key: Hashable = None

    def weigh(self, wanted: Wanted) -> Generator[Event, None, None]:
        """Bring the map up to date; yield one `Weighed`."""
        labels = np.asarray(wanted.painted.labels[wanted.plane])
        # After an error half-way nothing of it is to be trusted.
        live, self._live = self._live, None
        key = (wanted.plane, labels.shape, wanted.pixel_size_um)
        window: Window | None
        if live is None or key != self._key:
            live, window = self._begin(wanted)
        else:
            window = self._follow(live, wanted, labels)
        self._live, self._key = live, key
        yield Weighed(
            maker=self,
            wanted=wanted,
            window=window,
            weights=None if window is None else live.weights[window].copy(),
            class_counts=live.class_counts,
            class_factors=live.class_factors,
            explained=None if wanted.pixel is None else live.explain(wanted.pixel),
        )

    def _begin(self, wanted: Wanted) -> tuple[LiveWeights, Window]:
        painted, plane = wanted.painted, wanted.plane
        annotation = painted.annotation(plane)
        live = LiveWeights(
            annotation,
            wanted.config,
            pixel_size_um=wanted.pixel_size_um,
            other_counts=wanted.other_counts,
        )
        # An annotation does not tell what a painted pixel is once it is erased, and
        # holds no negative ids, which are ignored.
        labels = np.asarray(painted.labels[plane])
        self._known_key = known_key(painted, plane, labels)
        live.update(labels, known=painted.known(plane))
        return live, whole(annotation.labels.shape)

    def _follow(
        self, live: LiveWeights, wanted: Wanted, labels: NDArray[Any]
    ) -> Window | None:
        painted = wanted.painted
        key = known_key(painted, wanted.plane, labels)
        known = None
        if key != self._known_key:
            known = painted.known(wanted.plane)
            self._known_key = key
        window = live.update(
            labels,
            label_class=painted.label_class,
            known=known,
            area_classes=painted.area_classes,
        )
        window = hull(window, live.set_other_counts(wanted.other_counts))
        changed = live.set_config(wanted.config, is_final=wanted.is_final)
        return hull(window, changed)


class StackCounts:
    """The known pixels of each class, counted again where a plane changed."""

    def __init__(self) -> None:
        self._counted: dict[tuple[int, ...], tuple[Hashable, tuple[int, ...]]] = {}

    def count(self, painted: Painted) -> Generator[Event, None, None]:
        """Yield a `Counted` for each plane."""
        classes = (
            frozenset(painted.label_class.items()),
            painted.area_classes,
            len(painted.class_names),
        )
        for plane in np.ndindex(tuple(painted.labels.shape[:-2])):
            labels = np.ascontiguousarray(painted.labels[plane])
            regions = known_key(painted, plane, labels)
            key = (zlib.crc32(labels.data), regions, classes)
            before, counts = self._counted.get(plane, (None, ()))
            if key != before:
                counts = count_classes(painted.annotation(plane))
                self._counted[plane] = key, counts
            yield Counted(plane, counts)


def known_key(
    painted: Painted, plane: tuple[int, ...], labels: NDArray[Any]
) -> Hashable:
    """Return all that decides where unpainted pixels of a plane are known."""
    vertices = [
        np.asarray(region.vertices).tobytes()
        for region in painted.regions
        if tuple(region.plane) == plane
    ]
    # In a stack, a plane on which nothing is painted was not looked at.
    is_painted = not plane or bool((labels > 0).any())
    counts = painted.unpainted == "background" and is_painted
    return (counts, labels.shape, *vertices)
