"""Keys of the viewer and of layers that lead to a dock widget.

The manifest's key bindings are not honoured by napari, and a layer's own keys go
before those of the viewer: a key that napari knows for a layer is bound on that layer.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from qtpy.compat import isalive
from qtpy.QtCore import QObject

from napari_unet.widgets._layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import MethodType


@dataclass(frozen=True)
class _Bound:
    """What a key leads to: a method of a widget, and what it is given."""

    reference: weakref.ref[Any]
    method: Callable[..., Any]
    given: tuple[Any, ...]

    def widget(self) -> Any:
        """Return the widget, or None once it is gone, or Qt has deleted it."""
        widget = self.reference()
        is_qt = isinstance(widget, QObject)
        is_deleted = is_qt and not isalive(widget)  # type: ignore[no-untyped-call]
        return None if is_deleted else widget


# Of viewers and layers, by key; the last one is called.
_bound: WeakKeyDictionary[Any, dict[str, list[_Bound]]] = WeakKeyDictionary()


def bind_key(target: Any, key: str, method: Callable[..., Any], *given: Any) -> None:
    """Call a widget's method when a key is pressed.

    Parameters
    ----------
    target : napari viewer or layer
        Outlives the widget, which it does not keep alive. Of several widgets that
        bound a key the last one is called; once it is gone, the one before it, and in
        the end the key is napari's again.
    key : str
        As napari names it, such as ``"Control-1"``.
    method : bound method
        Of the widget.
    *given
        What it is given.
    """
    target, of_widget = unwrapped(target), cast("MethodType", method)
    widget, function = of_widget.__self__, of_widget.__func__
    others = [one for one in _living(target, key) if one.widget() is not widget]
    bound = _Bound(weakref.ref(widget), function, given)
    _bound.setdefault(target, {})[key] = [*others, bound]

    def press(pressed_on: Any) -> None:
        found = _living(unwrapped(pressed_on), key)
        if found:
            found[-1].method(found[-1].widget(), *found[-1].given)
        else:
            pressed_on.bind_key(key, None)

    target.bind_key(key, press, overwrite=True)


def _living(target: Any, key: str) -> list[_Bound]:
    """Return what a key leads to, without the widgets that are gone."""
    found = _bound.get(target, {}).get(key, [])
    return [one for one in found if one.widget() is not None]
