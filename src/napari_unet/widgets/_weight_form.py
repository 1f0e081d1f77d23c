"""The form of the weight map: sliders, and the published numbers of each formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.config import WeightConfig
from napari_unet.widgets._form import ConfigForm

if TYPE_CHECKING:
    from collections.abc import Sequence

_SLIDERS = {"w0": (0.0, 50.0), "sigma": (0.5, 25.0)}
_OF_FALK = ("v_bal", "sigma1")


class WeightForm(ConfigForm[WeightConfig]):
    """The settings of the weight map.

    Another formula brings its published numbers, in pixels. What only one formula
    uses is shown with that one.

    Parameters
    ----------
    fields : sequence of str, optional
        Fields in front; None shows all.
    more : str
        Heading of what is folded away.
    """

    def __init__(
        self, *, fields: Sequence[str] | None = None, more: str = "More settings"
    ) -> None:
        self._formula: str | None = None
        super().__init__(WeightConfig, fields=fields, more=more, sliders=_SLIDERS)

    def setValue(self, value: WeightConfig) -> None:
        """Show `value`: its numbers are its own."""
        self._formula = value.formula
        super().setValue(value)

    def _on_changed(self) -> None:
        if self._is_setting:
            return
        formula = self.rows["formula"].value()
        for name in _OF_FALK:
            self.set_row_visible(name, formula == "falk2019")
        if formula != self._formula:
            balance = self.rows["balance_classes"].value()
            self.setValue(WeightConfig(formula=formula, balance_classes=balance))
        else:
            super()._on_changed()
