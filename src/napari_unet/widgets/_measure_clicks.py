"""Clicks on the cells of a Labels layer, where they would not paint or edit."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_unet.widgets._layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray

_LEFT = 1
_STILL_PX = 3
_IDLE_MODES = ("transform", "pick")


class CellClicks(QObject):
    """Tell of clicks on cells; the mouse is never taken from napari or a tool.

    A click counts where it does not paint, draw or edit: while the camera is moved, and
    in napari's pick mode.

    Parameters
    ----------
    viewer : napari viewer
        Whose canvas is clicked on.
    labels : callable
        Returns the layer to look in, or None where clicks are of no interest.

    Signals
    -------
    clicked(int, ndarray of float64, shape (number of axes,))
        Id of the cell, and where, in pixels of the layer.
    """

    clicked = Signal(int, object)

    def __init__(
        self,
        viewer: ViewerModel,
        labels: Callable[[], Labels | None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._labels = labels
        unwrapped(viewer).mouse_drag_callbacks.append(_telling(self))

    def tell(self, event: Any) -> None:
        """Look at what lies at the place of an event of the mouse."""
        labels = self._labels()
        if labels is None:
            return
        value = labels.get_value(
            event.position,
            view_direction=event.view_direction,
            dims_displayed=event.dims_displayed,
            world=True,
        )
        if labels.multiscale and value is not None:
            value = value[1]
        if value:
            place = np.array(event.position[-labels.ndim :])
            pixel: NDArray[np.float64] = np.asarray(labels.world_to_data(place))
            self.clicked.emit(int(value), pixel)


def _telling(clicks: CellClicks) -> Any:
    # The viewer outlives the dock.
    reference = weakref.ref(clicks)

    def on_press(viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
        start = np.array(event.pos)
        if event.button != _LEFT or event.modifiers or not _is_idle(viewer):
            return
        yield
        while event.type == "mouse_move":
            if np.abs(np.array(event.pos) - start).max() > _STILL_PX:
                return
            yield
        clicks = reference()
        if clicks is not None:
            clicks.tell(event)

    return on_press


def _is_idle(viewer: ViewerModel) -> bool:
    """Return whether a click neither paints, nor draws, nor is a tool's."""
    active = viewer.layers.selection.active
    return active is None or bool(active.mouse_pan) or str(active.mode) in _IDLE_MODES
