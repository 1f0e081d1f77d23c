"""`napari-unet gui`: napari with the dock widgets open."""

import os
import sys
from importlib.util import find_spec

from napari_unet.errors import ResourceError

_INSTALL = 'pip install "napari-unet-loop[gui]"'


def gui() -> None:
    """Open napari with the U-Net widgets: annotate, train, predict.

    ```
    napari-unet gui
    ```
    """
    why_not = can_open_a_window()
    if why_not:
        raise ResourceError("NU-R04", f"napari can't be opened: {why_not}")
    from napari_unet.widgets.window import open_window

    open_window()


def can_open_a_window() -> str:
    """Return why napari can't be opened here and what to do; empty where it can."""
    missing = [name for name in ("napari", "qtpy", "magicgui") if not _is_there(name)]
    if missing:
        return f"{missing[0]} is not installed; install it with {_INSTALL}"
    needs_display = sys.platform.startswith("linux")
    if needs_display and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return "there is no display; run it on a desktop, or under xvfb-run"
    return ""


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
