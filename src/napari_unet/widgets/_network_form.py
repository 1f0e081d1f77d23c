"""The form of the network: what an architecture leaves no choice of is shown so."""

from __future__ import annotations

from typing import Any

from napari_unet.config import FIXED_BY_ARCHITECTURE, NetworkConfig
from napari_unet.widgets._form import ConfigForm

# What the images and the classes decide; training works on planes, at their own size.
_HIDDEN = ("in_channels", "out_channels", "n_dims", "upscale", "adds_image")
_OF_TRANS_UNET = ("transformer_layers", "pretrained")
_EVER_FIXED = {name for fixed in FIXED_BY_ARCHITECTURE.values() for name in fixed}


class NetworkForm(ConfigForm[NetworkConfig]):
    """The shape of the network, folded away.

    An architecture that takes only one value of a field shows it, greyed out, and says
    why in its tooltip; another architecture brings back what was set before.
    """

    def __init__(self) -> None:
        # What was set before an architecture fixed it, and whether anybody had set it.
        self._free: dict[str, tuple[Any, bool]] = {}
        super().__init__(
            NetworkConfig,
            fields=(),
            hidden=_HIDDEN,
            more="Network",
            planned=("base_width", "depth"),
        )

    def setValue(self, value: NetworkConfig) -> None:
        """Show `value`; what was set before is forgotten."""
        self._free = {}
        super().setValue(value)

    def _on_changed(self) -> None:
        if self._is_setting:
            return
        architecture = self.rows["architecture"].value()
        self._is_setting = True
        for name in _EVER_FIXED & set(self.rows):
            self._fit_row(name, architecture)
        self._is_setting = False
        for name in _OF_TRANS_UNET:
            self.set_row_visible(name, architecture == "trans_unet")
        super()._on_changed()

    def _fit_row(self, name: str, architecture: str) -> None:
        fixed = FIXED_BY_ARCHITECTURE.get(architecture, {})
        row = self.rows[name]
        if name in fixed:
            self._free.setdefault(name, (row.value(), row.is_given))
            row.set_value(fixed[name])
        elif name in self._free:
            value, is_given = self._free.pop(name)
            row.set_value(value)
            row.is_given = is_given
        row.setEnabled(name not in fixed)
        reason = f" {architecture} takes no other value." if name in fixed else ""
        for widget in (row, row.editor.native):
            widget.setToolTip(row.tooltip + reason)
