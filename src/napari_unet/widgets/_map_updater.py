"""Watches an annotation, and has its weight map brought up to date."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError
from napari_unet.widgets._layers import (
    about,
    full_resolution,
    pixel_size_um_of,
    unwrapped,
)
from napari_unet.widgets._live_map import (
    Counted,
    LiveMap,
    StackCounts,
    Wanted,
    Weighed,
)
from napari_unet.widgets._painted import painted_of, regions_layer_of
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Shapes

    from napari_unet.events import Event
    from napari_unet.widgets._painted import Painted

_STROKES = ("labels_update", "paint", "set_data")
_OTHERS = ("data", "metadata", "scale", "units")
_UPDATE_AFTER_MS = 30
_REST_MS = 300


class MapUpdater(QObject):
    """Weigh the plane on screen after each change, one at a time.

    What changes while it is weighed is seen when that has ended: the map follows the
    brush as fast as it can be computed, and no update waits for another.

    Signals
    -------
    weighed(Weighed)
        The map changed, or the numbers beside it.
    failed(Failure)
        It could not be brought up to date.
    """

    weighed = Signal(object)
    failed = Signal(object)

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = unwrapped(viewer)
        self._labels: weakref.ref[Labels] | None = None
        self._regions: weakref.ref[Shapes] | None = None
        self._is_active = self._is_due = False
        self._config, self._is_final = WeightConfig(), True
        self._pixel: tuple[int, ...] | None = None
        self._reset()
        self._runner, self._counter = Runner(self), Runner(self)
        self._timer = self._single_shot(_UPDATE_AFTER_MS, self._update)
        self._rest = self._single_shot(_REST_MS, self._on_rest)
        self._runner.happened.connect(self._on_weighed)
        self._runner.failed.connect(self._on_failed)
        self._runner.finished.connect(self._on_finished)
        self._counter.happened.connect(self._on_counted)
        self._counter.failed.connect(self._on_failed)
        self._counter.finished.connect(self._on_counts_ended)
        self._viewer.dims.events.current_step.connect(self._on_plane)

    @property
    def is_busy(self) -> bool:
        """Whether an update is due or being computed."""
        waiting = self._timer.isActive() or self._rest.isActive() or self._is_due
        return waiting or self._runner.is_running or self._counter.is_running

    def labels(self) -> Labels | None:
        """Return the annotation, or None where there is none any more."""
        return None if self._labels is None else self._labels()

    def watch(self, labels: Labels | None) -> None:
        """Follow another annotation, or none."""
        before = self.labels()
        if before is not None:
            self._listen(before, "disconnect")
        self._labels = None if labels is None else weakref.ref(labels)
        self._reset()
        if labels is not None:
            self._listen(labels, "connect")
        self._ask()

    def set_active(self, is_active: bool) -> None:
        """Begin or cease to weigh."""
        self._is_active = is_active
        self._ask()

    def set_config(self, config: WeightConfig, *, is_final: bool) -> None:
        """Take other settings; not final ones come while a slider is dragged."""
        self._config, self._is_final = config, is_final
        self._ask()

    def explain(self, position: tuple[int, ...] | None) -> None:
        """Explain a pixel, an index of the labels, with each update from now on."""
        self._pixel = position
        self._ask()

    def begin_anew(self) -> None:
        """Send the whole map with the next update: what was sent is lost."""
        self._map = LiveMap()

    def plane(self) -> tuple[int, ...]:
        """Return the index of the plane on screen in its stack."""
        labels = self.labels()
        if labels is None:
            return ()
        point = labels.world_to_data(self._viewer.dims.point)[:-2]
        last = np.array(labels.data.shape[:-2]) - 1
        return tuple(int(i) for i in np.clip(np.round(point), 0, last))

    def show_failure(self, failure: Failure) -> None:
        """Tell that a slot of this one failed."""
        self.failed.emit(failure)

    # -- what changed -------------------------------------------------------------

    def _single_shot(self, ms: int, slot: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(ms)
        timer.timeout.connect(slot)
        return timer

    def _reset(self) -> None:
        self._map, self._stack = LiveMap(), StackCounts()
        self._painted: Painted | None = None
        self._counts: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._are_counts_due = True
        self._pixel = None

    def _listen(self, labels: Labels, how: str) -> None:
        for names, slot in ((_STROKES, self._on_stroke), (_OTHERS, self._on_other)):
            for name in names:
                getattr(getattr(labels.events, name), how)(slot)

    @guarded
    def _on_stroke(self) -> None:
        self._are_counts_due = True
        self._ask()

    @guarded
    def _on_plane(self) -> None:
        self._ask()

    @guarded
    def _on_other(self) -> None:
        # Finished regions are read vertex by vertex: not anew with each stroke.
        self._painted = None
        self._are_counts_due = True
        self._ask()

    def _ask(self) -> None:
        labels = self.labels()
        if labels is None or not self._is_active:
            return
        self._is_due = True
        # Not started anew by each move of the brush: the map follows the stroke.
        if not (self._timer.isActive() or self._runner.is_running):
            self._timer.start()
        is_stack = labels.ndim > 2
        if is_stack and self._are_counts_due:
            self._counter.abort()
        if not self._is_final or (is_stack and self._are_counts_due):
            self._rest.start()

    # -- work ---------------------------------------------------------------------

    @guarded
    def _update(self) -> None:
        labels = self.labels()
        if labels is None or not self._is_active:
            self._is_due = False
        elif not self._runner.is_running:
            self._is_due = False
            wanted = self._wanted(labels)
            weigh = self._map.weigh
            self._runner.run(lambda: weigh(wanted))

    def _wanted(self, labels: Labels) -> Wanted:
        plane = self.plane()
        pixel_size_um = pixel_size_um_of(labels, "?" * len(plane) + "YX")
        if self._config.unit == "um" and pixel_size_um is None:
            raise ConfigError(
                "NU-C07",
                f'sigma is in micrometres but labels "{labels.name}" have no pixel '
                "size, and napari has no control for it: set Unit to px, or annotate "
                "an image whose file says how large its pixels are",
            )
        others = [counts for at, counts in self._counts.items() if at != plane]
        n = max(map(len, others), default=0)
        total = (sum(c[i] for c in others if i < len(c)) for i in range(n))
        pixel = self._pixel
        is_here = pixel is not None and pixel[:-2] == plane
        return Wanted(
            painted=self._painted_now(labels),
            plane=plane,
            config=self._config,
            pixel_size_um=pixel_size_um,
            is_final=self._is_final,
            pixel=pixel[-2:] if is_here and pixel is not None else None,
            other_counts=tuple(total),
        )

    def _painted_now(self, labels: Labels) -> Painted:
        if self._painted is None:
            self._painted = painted_of(labels)
            self._follow_regions(regions_layer_of(labels))
        label_class = dict(about(labels).get("label_class", {}))
        return replace(
            self._painted, labels=full_resolution(labels), label_class=label_class
        )

    def _follow_regions(self, shapes: Shapes | None) -> None:
        before = None if self._regions is None else self._regions()
        if shapes is before:
            return
        if before is not None:
            before.events.data.disconnect(self._on_other)
        if shapes is not None:
            shapes.events.data.connect(self._on_other)
        self._regions = None if shapes is None else weakref.ref(shapes)

    @guarded
    def _on_rest(self) -> None:
        labels = self.labels()
        if labels is None or not self._is_active:
            return
        if not self._is_final:
            self._is_final = True
            self._ask()
        if labels.ndim > 2 and self._are_counts_due:
            if self._counter.is_running:
                self._rest.start()
                return
            self._are_counts_due = False
            painted, count = self._painted_now(labels), self._stack.count
            self._counter.run(lambda: count(painted))

    # -- what came of it ------------------------------------------------------------

    @guarded
    def _on_weighed(self, events: list[Event]) -> None:
        labels = self.labels()
        for event in events:
            # Others are of an annotation that is not watched any more.
            if not isinstance(event, Weighed) or event.maker is not self._map:
                continue
            shape = event.wanted.painted.labels.shape
            if labels is None or not self._is_active or shape != labels.data.shape:
                self.begin_anew()
            else:
                self.weighed.emit(event)

    @guarded
    def _on_failed(self, failure: Failure) -> None:
        self.failed.emit(failure)

    @guarded
    def _on_finished(self) -> None:
        if self._is_due:
            self._timer.start()

    @guarded
    def _on_counted(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Counted):
                self._counts[event.plane] = event.counts

    @guarded
    def _on_counts_ended(self) -> None:
        self._ask()
