"""Keys of the viewer and of layers that lead to a dock widget.

The manifest's key bindings are not honoured by napari, and a layer's own keys go
before those of the viewer: a key that napari knows for a layer is bound on that layer.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def bind_key(target: Any, key: str, method: Callable[..., Any], *given: Any) -> None:
    """Call a widget's method when a key is pressed.

    Parameters
    ----------
    target : napari viewer or layer
        Outlives the widget, which it does not keep alive: once the widget is gone,
        the key is napari's again.
    key : str
        As napari names it, such as ``"Control-1"``.
    method : bound method
        Of the widget.
    *given
        What it is given.
    """
    reference = weakref.WeakMethod(method)

    def press(pressed_on: Any) -> None:
        found = reference()
        if found is None:
            pressed_on.bind_key(key, None)
        else:
            found(*given)

    target.bind_key(key, press, overwrite=True)
