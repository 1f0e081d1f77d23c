"""Tools that take over the mouse on a Labels layer: drawing a line, picking a cell.

A tool is on until it is stopped: by its owner, by Escape or a right click, when another
of napari's tools or another layer is chosen, and when its layer goes. The layer's
former mode comes back then.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.QtCore import QObject, QPointF, Qt, Signal
from qtpy.QtGui import QCursor, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import QApplication, QWidget

from napari_unet.widgets._layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari.components import ViewerModel
    from napari.layers import Labels
    from qtpy.QtGui import QPaintEvent

# The mouse is one: a tool that starts ends that of another dock in its viewer.
_on: WeakKeyDictionary[ViewerModel, weakref.ref[MouseTool]] = WeakKeyDictionary()
_LEFT = 1
# Light upon dark: one of them is seen on any image.
_STROKES = ((Qt.GlobalColor.black, 5.0), (Qt.GlobalColor.yellow, 2.0))


class MouseTool(QObject):
    """Take over the mouse on one layer, until stopped; one at a time in a viewer.

    The wheel zooms, and the camera moves while the space bar is held. It has no
    parent: its owner connects `destroyed` to `stop`.

    Signals
    -------
    stopped()
        The tool is off, for whatever reason.
    """

    stopped = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self._layer: weakref.ref[Labels] | None = None
        self._former_mode = ""

    @property
    def layer(self) -> Labels | None:
        """The layer that the tool is on, or None."""
        return None if self._layer is None else self._layer()

    def start(self, layer: Labels) -> None:
        """Take over the mouse on a layer, which becomes the active one."""
        other = _on.get(self._viewer, lambda: None)()
        if other is not None:
            other.stop()
        self.stop()
        _on[self._viewer] = weakref.ref(self)
        self._viewer.layers.selection.active = layer
        self._former_mode = str(layer.mode)
        layer.mode = "pan_zoom"
        layer.mouse_pan = False
        layer.cursor = "cross"
        self._layer = weakref.ref(layer)
        layer.mouse_drag_callbacks.append(self._drag)
        layer.bind_key("Escape", self._on_escape, overwrite=True)
        # napari's own does nothing in this mode, in which it need not do anything.
        layer.bind_key("Space", self._on_space, overwrite=True)
        layer.events.mode.connect(self._on_other_mode)
        self._viewer.layers.selection.events.active.connect(self._on_active)

    def stop(self) -> None:
        """Give the mouse back; does nothing where the tool is off."""
        if self._layer is None:
            return
        layer, self._layer = self._layer(), None
        self._drop()
        self._viewer.layers.selection.events.active.disconnect(self._on_active)
        if layer is not None:
            layer.events.mode.disconnect(self._on_other_mode)
            layer.mouse_drag_callbacks.remove(self._drag)
            layer.bind_key("Escape", None)
            layer.bind_key("Space", None)
            if str(layer.mode) == "pan_zoom":
                layer.mouse_pan = True
                layer.cursor = "standard"
                layer.mode = self._former_mode
        with suppress(RuntimeError):  # the window goes down, and we went before it
            self.stopped.emit()

    def _drag(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        raise NotImplementedError

    def _drop(self) -> bool:
        """Forget what was begun; return whether there was anything."""
        return False

    def _cancel(self) -> None:
        if not self._drop():
            self.stop()

    def _on_escape(self, _: Any) -> None:
        self._cancel()

    def _on_space(self, layer: Labels) -> Generator[None, None, None]:
        layer.mouse_pan = True
        yield
        layer.mouse_pan = self.layer is not layer and str(layer.mode) == "pan_zoom"

    def _on_other_mode(self) -> None:
        self.stop()

    def _on_active(self) -> None:
        if self._viewer.layers.selection.active is not self.layer:
            self.stop()


class LineDrawer(MouseTool):
    """Draw line after line on a layer, each with one drag of the mouse.

    Escape or a right click drops the line that is being drawn, or else stops.

    Signals
    -------
    drawn(ndarray of float64, shape (n, 2))
        A line of two or more vertices (y, x), along the last two axes of the layer, in
        its pixels.
    """

    drawn = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__(viewer)
        self._vertices: list[tuple[float, float]] = []
        self._ink: _Ink | None = None

    def _drag(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        if layer.mouse_pan:  # the space bar is held
            return
        if event.button != _LEFT:
            self._cancel()
            return
        self._drop()
        self._ink = _Ink.over_canvas(event)
        self._extend(layer, event)
        yield
        while self._vertices:
            self._extend(layer, event)
            if event.type != "mouse_move":
                break
            yield
        line = np.array(self._vertices)
        self._drop()
        if len(line) > 1:
            self.drawn.emit(line)

    def _extend(self, layer: Labels, event: Any) -> None:
        y, x = (float(i) for i in layer.world_to_data(event.position)[-2:])
        if (y, x) not in self._vertices[-1:]:
            self._vertices.append((y, x))
        if self._ink is not None:
            self._ink.extend(*event.pos)

    def _drop(self) -> bool:
        had_any = bool(self._vertices)
        self._vertices = []
        ink, self._ink = self._ink, None
        if ink is not None:
            with suppress(RuntimeError):  # it goes with the canvas
                ink.hide()
                ink.deleteLater()
        return had_any


class CellPicker(MouseTool):
    """Pick one cell by a click.

    Signals
    -------
    picked(int)
        Id of the painted object that was clicked on.
    missed()
        Nothing is painted there; the tool stays on.
    """

    picked = Signal(int)
    missed = Signal()

    def _drag(self, layer: Labels, event: Any) -> Generator[None, None, None]:
        if layer.mouse_pan:  # the space bar is held
            return
        if event.button != _LEFT:
            self._cancel()
            return
        value = layer.get_value(
            event.position,
            view_direction=event.view_direction,
            dims_displayed=event.dims_displayed,
            world=True,
        )
        yield
        while event.type == "mouse_move":
            yield
        # At the release: until then the click belongs to this tool.
        if value:
            self.stop()
            self.picked.emit(int(value))
        else:
            self.missed.emit()


class _Ink(QWidget):
    """The line that is being drawn, upon the canvas.

    A layer for it would show up in the list of layers and in what is saved, and
    couldn't be removed without risking OpenGL.
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._path = QPainterPath()
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_NoSystemBackground)
        self.setGeometry(canvas.rect())
        self.show()

    @classmethod
    def over_canvas(cls, event: Any) -> _Ink | None:
        """Return ink upon the canvas that was clicked on; None without a window."""
        if event.native is None:
            return None
        if hasattr(event.native, "globalPosition"):
            place = event.native.globalPosition().toPoint()
        else:  # Qt 5
            place = QCursor.pos()
        canvas = QApplication.widgetAt(place)
        return None if canvas is None else cls(canvas)

    def extend(self, x: float, y: float) -> None:
        """Draw on to a point of the canvas."""
        if self._path.elementCount():
            self._path.lineTo(QPointF(x, y))
        else:
            self._path.moveTo(QPointF(x, y))
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the line."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for colour, width in _STROKES:
            pen = QPen(colour, width)
            pen.setCapStyle(Qt.PenCapStyle.RoundCap)
            pen.setJoinStyle(Qt.PenJoinStyle.RoundJoin)
            painter.strokePath(self._path, pen)
        painter.end()
