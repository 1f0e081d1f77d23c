"""Clicks on the cells of a Labels layer, where they would not paint or edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_unet.widgets._clicks import on_plain_click

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Labels
    from numpy.typing import NDArray

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
        on_plain_click(viewer, self, CellClicks.tell, modes=_IDLE_MODES)

    def tell(self, event: Any, position: tuple[float, ...]) -> None:
        """Look at what lies where the mouse was pressed."""
        labels = self._labels()
        if labels is None:
            return
        value = labels.get_value(
            position,
            view_direction=event.view_direction,
            dims_displayed=event.dims_displayed,
            world=True,
        )
        if labels.multiscale and value is not None:
            value = value[1]
        if value:
            place = np.array(position[-labels.ndim :])
            pixel: NDArray[np.float64] = np.asarray(labels.world_to_data(place))
            self.clicked.emit(int(value), pixel)
