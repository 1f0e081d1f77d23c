"""Clicks on the canvas that do nothing else: no brush, no shape, no tool of ours."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from napari_unet.widgets._layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

    from napari.components import ViewerModel

_LEFT = 1
_STILL_PX = 3
_Owner = TypeVar("_Owner")


def on_plain_click(
    viewer: ViewerModel,
    owner: _Owner,
    tell: Callable[[_Owner, Any, tuple[float, ...]], object],
    *,
    modes: Collection[str] = ("transform",),
) -> None:
    """Tell the owner of clicks, as long as it lives; napari keeps the mouse.

    Parameters
    ----------
    viewer : napari viewer
        Whose canvas is clicked on.
    owner : object
        Whom to tell; it is not kept alive.
    tell : callable
        Gets the owner, the event of the release, which was within 3 px of the press,
        and the place of the world that was pressed.
    modes : collection of str
        Modes of the active layer in which a click does nothing either, beside those
        that move the camera.
    """
    # The viewer outlives the dock.
    reference = weakref.ref(owner)

    def on_press(viewer: ViewerModel, event: Any) -> Generator[None, None, None]:
        start, position = np.array(event.pos), tuple(event.position)
        active = viewer.layers.selection.active
        is_idle = active is None or active.mouse_pan or str(active.mode) in modes
        if event.button != _LEFT or event.modifiers or not is_idle:
            return
        yield
        while event.type == "mouse_move":
            if np.abs(np.array(event.pos) - start).max() > _STILL_PX:
                return
            yield
        now = reference()
        if now is not None:
            tell(now, event, position)

    unwrapped(viewer).mouse_drag_callbacks.append(on_press)
