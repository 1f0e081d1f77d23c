"""What passes between training and the viewer while it runs: strokes, view, preview."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.events import Event, TrainingStarted
from napari_unet.widgets._fresh_strokes import Found, FreshStrokes
from napari_unet.widgets._held_back import HeldBackLayer
from napari_unet.widgets._layers import full_resolution, unwrapped
from napari_unet.widgets._live_layer import Drawn, LiveLayer
from napari_unet.widgets._live_view import visible_region
from napari_unet.widgets._painted import painted_of, regions_layer_of
from napari_unet.widgets._worker import Failure, Runner, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from napari.components import ViewerModel
    from napari.layers import Labels, Layer, Shapes

    from napari_unet.events import Mailbox, Region
    from napari_unet.widgets._taken import TrainedLayers

_TICK_MS = 250
# Planes of a stack that may have changed are looked at a few at a time.
_PX_AT_ONCE = 2**23
_CHANGES = ("labels_update", "paint", "set_data", "data", "metadata")


class LiveTraining(QObject):
    """Hands strokes and the visible region to training; shows what it previews.

    Strokes are found by comparing, in the background: undo, fill and scripts tell
    less than they do. All is looked at four times a second, while training runs.

    Signals
    -------
    told(str)
        A sentence that the user should see, each once in a training.
    failed(Failure)
        Something here went wrong; training goes on.
    preview_removed()
        The user took the live layer away.
    """

    told = Signal(str)
    failed = Signal(object)
    preview_removed = Signal()

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = unwrapped(viewer)
        self.live_layer = LiveLayer(self._viewer)
        self.held_back_layer = HeldBackLayer(self._viewer)
        self._is_learning = self._is_previewing = self._is_split_shown = True
        self._mailbox: Mailbox | None = None
        self._grid: weakref.ref[Layer] | None = None
        self._shapes: weakref.ref[Shapes] | None = None
        self._reset()
        self._runner = Runner(self)
        self._runner.happened.connect(self._on_found)
        self._runner.failed.connect(self._on_failed)
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._is_dragged = False
        self._watch_mouse()

    def _reset(self) -> None:
        self._fresh: FreshStrokes | None = None
        self._source = self._name = ""
        self._target: Callable[[], Layer | None] = lambda: None
        self._shape: tuple[int, ...] = ()
        self._due: list[tuple[int, ...]] = []
        self._is_dirty = self._is_layer_known = False
        self._view: Region | None = None
        self._preview: Drawn | None = None
        self._told: set[str] = set()
        self.n_shown = 0

    # -- what the dock says ---------------------------------------------------------

    def begin(self, layers: TrainedLayers, mailbox: Mailbox) -> None:
        """Follow layers that training has just been given."""
        self._reset()
        # None of them is followed any more where there is nothing to lie on.
        self._grid, grid = None, layers.grid()
        if grid is None:
            return
        self._mailbox, self._grid = mailbox, weakref.ref(grid)
        self._source, self._name = layers.source, layers.name
        self._target = layers.target
        self._shape = _shape_of(grid)
        if layers.painted is not None:
            self._fresh = FreshStrokes(layers.painted, layers.source)
            self._listen(grid, "connect")
            self._follow_regions(grid)
        self._timer.start()

    def end(self) -> None:
        """Training has ended: nothing is sent any more, nothing live shown."""
        self._timer.stop()
        grid = self.grid()
        if grid is not None and self._fresh is not None:
            self._listen(grid, "disconnect")
        self._follow_regions(None)
        self._mailbox = self._fresh = self._preview = None
        self._is_layer_known = False
        self.live_layer.remove()

    def set_learning(self, is_learning: bool) -> None:
        """Send strokes or keep them, to be sent once they are wanted."""
        self._is_learning = is_learning

    def set_previewing(self, is_previewing: bool) -> None:
        """Have the visible region predicted and shown, or not."""
        self._is_previewing = is_previewing
        self._is_layer_known = False
        if not is_previewing:
            self._look_at(None)
        self.live_layer.set_visible(is_previewing and self._mailbox is not None)

    def show_split(self, is_shown: bool) -> None:
        """Show or hide what is held back."""
        self._is_split_shown = is_shown
        self.held_back_layer.set_visible(is_shown)

    def take(self, events: Sequence[Event]) -> None:
        """Show what training tells."""
        for event in events:
            if isinstance(event, TrainingStarted):
                self._show_split(event.held_back)
            elif isinstance(event, Drawn):
                self._preview = event
        self._show_preview()

    def grid(self) -> Any:
        """Return the annotation or image that all lies on, None where it is gone."""
        grid = None if self._grid is None else self._grid()
        return grid if grid in self._viewer.layers else None

    def show_failure(self, failure: Failure) -> None:
        """Tell that a slot of this one failed."""
        self.failed.emit(failure)

    # -- strokes ----------------------------------------------------------------------

    def _listen(self, labels: Labels, how: str) -> None:
        for name in _CHANGES:
            getattr(getattr(labels.events, name), how)(self._on_change)

    def _follow_regions(self, labels: Labels | None) -> None:
        before = None if self._shapes is None else self._shapes()
        shapes = None if labels is None else regions_layer_of(labels)
        if shapes is before:
            return
        if before is not None:
            before.events.data.disconnect(self._on_change)
        if shapes is not None:
            shapes.events.data.connect(self._on_change)
        self._shapes = None if shapes is None else weakref.ref(shapes)

    @guarded
    def _on_change(self) -> None:
        # Comes with each move of the brush: all else waits for the next tick.
        self._is_dirty = True

    @guarded
    def _tick(self) -> None:
        grid = self.grid()
        if grid is None or _shape_of(grid) != self._shape:
            what = "image" if self._fresh is None else "annotation"
            self._tell(
                f"The {what} is gone or has another shape: training goes on with what "
                "it has"
            )
            self.end()
            return
        self._look(grid)
        self._show_preview()
        if self._is_learning and not self._runner.is_running:
            self._send_strokes(grid)

    def _send_strokes(self, labels: Labels) -> None:
        if self._is_dirty:
            self._is_dirty = False
            self._follow_regions(labels)
            self._due = self._all_planes(labels)
        if not self._due or self._fresh is None:
            return
        n_px = max(1, int(np.prod(self._shape[-2:])))
        n = max(1, _PX_AT_ONCE // n_px)
        planes, self._due = self._due[:n], self._due[n:]
        painted, look = painted_of(labels), self._fresh.look
        self._runner.run(lambda: look(painted, planes))

    def _all_planes(self, labels: Labels) -> list[tuple[int, ...]]:
        """Return all planes, that on screen first: most strokes are there."""
        planes = list(np.ndindex(self._shape[:-2]))
        point = np.round(labels.world_to_data(self._viewer.dims.point)[:-2])
        now = tuple(int(i) for i in point)
        return sorted(planes, key=lambda plane: plane != now)

    @guarded
    def _on_found(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Found) and self._mailbox is not None:
                for stroke in event.strokes:
                    self._mailbox.paint(stroke)
                if event.n_new_classes:
                    self._tell("Cells of a new class are learned by a new training")

    @guarded
    def _on_failed(self, failure: Failure) -> None:
        self.failed.emit(failure)

    def _tell(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self.told.emit(sentence)

    # -- view and preview -------------------------------------------------------------

    def _look(self, grid: Layer) -> None:
        """Ask for what is on screen, as soon as it stays for a tick."""
        layer = self.live_layer.layer()
        if self._is_layer_known and layer is None:
            self.preview_removed.emit()
        is_wanted = self._is_previewing and (layer is None or layer.visible)
        view = visible_region(self._viewer, grid, self._source) if is_wanted else None
        if view == self._view:
            self._look_at(view)
        self._view = view

    def _look_at(self, view: Region | None) -> None:
        if self._mailbox is not None and self._mailbox.view != view:
            self._mailbox.look_at(view)

    def _show_preview(self) -> None:
        """Show the newest preview, unless the mouse is drawing."""
        grid, preview = self.grid(), self._preview
        if preview is None or grid is None or self._is_dragged:
            return
        self._preview = None
        if self._is_previewing and self._mailbox is not None:
            name, target = f"{self._name} live", self._target()
            self.live_layer.show(preview, grid, name, like=target)
            self._is_layer_known = True
            self.n_shown += 1

    def _show_split(self, regions: tuple[Region, ...]) -> None:
        grid = self.grid()
        if grid is not None:
            self.held_back_layer.show(regions, grid, f"{self._name} held back")
            self.held_back_layer.set_visible(self._is_split_shown)

    def _watch_mouse(self) -> None:
        me = weakref.ref(self)

        def on_drag(viewer: Any, event: Any) -> Generator[None, None, None]:
            live = me()
            if live is None:
                return
            live._is_dragged = True
            yield
            while event.type == "mouse_move":
                yield
            live._is_dragged = False

        self._viewer.mouse_drag_callbacks.append(on_drag)


def _shape_of(layer: Layer) -> tuple[int, ...]:
    # Without that of the colours of a photo.
    return tuple(full_resolution(layer).shape[: layer.ndim])
