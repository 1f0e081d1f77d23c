"""A box to choose a layer of the viewer from, always up to date."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_unet.widgets._controls import describe
from napari_unet.widgets._layers import about, layer_choices, unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_unet.widgets._layers import Kind

_MIN_CHARACTERS = 12


class LayerBox(QComboBox):
    """Choose one layer of a kind; a layer that goes takes its entry with it.

    Until the user (or `set_layer`) chooses, it is the topmost annotation that is
    chosen, or else the topmost layer.

    Parameters
    ----------
    viewer : napari viewer
        Whose layers are offered, the topmost first.
    kind : {"image", "labels", "shapes"}
        Which of them.
    name, tooltip : str
        Accessible name, and what the choice is for.
    accepts : callable, optional
        Is given a layer and says whether it is offered.

    Signals
    -------
    layer_changed()
        Another layer is chosen, by hand or because the layers changed.
    """

    layer_changed = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        kind: Kind,
        name: str,
        tooltip: str,
        *,
        accepts: Callable[[Layer], bool] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = unwrapped(viewer)
        self._kind = kind
        self._accepts = accepts
        self._layers: list[weakref.ref[Layer]] = []
        self._last: weakref.ref[Layer] | None = None
        self._is_chosen = False
        describe(self, name, tooltip)
        # Long names must not widen the dock.
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(_MIN_CHARACTERS)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        events = self._viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered):
            emitter.connect(self.refresh)
        self.currentIndexChanged.connect(self._on_index)
        self.activated.connect(self._on_activated)
        self.refresh()

    def layer(self) -> Any:
        """Return the chosen layer, or None."""
        index = self.currentIndex()
        return self._layers[index]() if 0 <= index < len(self._layers) else None

    def set_layer(self, layer: Layer) -> None:
        """Choose a layer; does nothing with one that is not offered."""
        offered = [reference() for reference in self._layers]
        if unwrapped(layer) in offered:
            self._is_chosen = True
            self.setCurrentIndex(offered.index(unwrapped(layer)))

    def refresh(self, event: Any = None) -> None:
        """Offer what is in the viewer now; the choice stays where it can."""
        try:
            chosen = self.layer()
        except RuntimeError:  # the box is gone, its slot not yet
            return
        layers = layer_choices(self._viewer, self._kind)
        if self._accepts is not None:
            layers = [layer for layer in layers if self._accepts(layer)]
        self.blockSignals(True)
        self.clear()
        self.addItems([str(layer.name) for layer in layers])
        self._layers = [weakref.ref(layer) for layer in layers]
        for layer in layers:
            layer.events.name.connect(self.refresh)
        self._is_chosen = self._is_chosen and chosen in layers
        if not self._is_chosen:
            annotations = [layer for layer in layers if "label_class" in about(layer)]
            chosen = next(iter(annotations or layers), None)
        self.setCurrentIndex(layers.index(chosen) if layers else -1)
        self.blockSignals(False)
        self._on_index()

    def _on_activated(self) -> None:
        self._is_chosen = True

    def _on_index(self) -> None:
        layer = self.layer()
        last = None if self._last is None else self._last()
        if layer is not last:
            self._last = None if layer is None else weakref.ref(layer)
            self.layer_changed.emit()
