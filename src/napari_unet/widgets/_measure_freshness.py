"""Whether labels are still those that were measured."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.widgets._layers import full_resolution
from napari_unet.widgets._measure_work import Digested, digesting
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from napari.layers import Labels

_REST_MS = 300


class Freshness(QObject):
    """Watch a Labels layer for changes, and for their being undone.

    A stroke is known at once. Undo, and scripts, tell of themselves by events that
    other slices and outlines emit as well: then the pixels are compared, in the
    background, by a digest. Those of lazy labels are not read for it.

    Signals
    -------
    changed()
        `is_stale` may be another.
    failed(Failure)
        The labels could not be compared.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.is_stale = False
        self._layer: weakref.ref[Labels] | None = None
        self._digest: int | None = None
        self._runner = Runner(self)
        self._runner.happened.connect(self._on_digested)
        self._runner.failed.connect(self.failed)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._compare)

    @property
    def is_busy(self) -> bool:
        """Whether pixels are compared, or will be at once."""
        return self._rest.isActive() or self._runner.is_running

    def watch(self, layer: Labels | None, digest: int | None = None) -> None:
        """Watch another layer, or none; `digest` is that of the pixels as measured."""
        before = None if self._layer is None else self._layer()
        if before is not None:
            before.events.paint.disconnect(self._on_painted)
            before.events.set_data.disconnect(self._on_shown)
            before.events.data.disconnect(self._on_shown)
        self._layer = None if layer is None else weakref.ref(layer)
        self._digest, self.is_stale = digest, False
        if layer is not None:
            layer.events.paint.connect(self._on_painted)
            layer.events.set_data.connect(self._on_shown)
            layer.events.data.connect(self._on_shown)
            self._rest.start()  # it may have been painted in while it was measured
        self.changed.emit()

    def show_failure(self, failure: Failure) -> None:
        """Tell of a failure of one of our slots."""
        self.failed.emit(failure)

    @guarded
    def _on_painted(self) -> None:
        self._rest.start()
        self._set_stale(True)

    @guarded
    def _on_shown(self) -> None:
        self._rest.start()

    @guarded
    def _compare(self) -> None:
        layer = None if self._layer is None else self._layer()
        if layer is None or self._digest is None:
            return
        data = full_resolution(layer)
        if not isinstance(data, np.ndarray):
            self._set_stale(True)  # it was an array
        elif not self._runner.run(lambda: digesting(data)):
            self._rest.start()

    @guarded
    def _on_digested(self, events: list[Digested]) -> None:
        self._set_stale(events[-1].digest != self._digest)

    def _set_stale(self, is_stale: bool) -> None:
        if is_stale != self.is_stale:
            self.is_stale = is_stale
            self.changed.emit()
