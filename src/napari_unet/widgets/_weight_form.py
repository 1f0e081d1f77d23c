"""The form of the weight map: sliders, and the published numbers of each formula."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError
from napari_unet.widgets._form import ConfigForm

if TYPE_CHECKING:
    from collections.abc import Sequence

_SLIDERS = {"w0": (0.0, 50.0), "sigma": (0.5, 25.0)}
_OF_FALK = ("v_bal", "sigma1")


class WeightForm(ConfigForm[WeightConfig]):
    """The settings of the weight map.

    Another formula brings what was last set for it, at first its published numbers.
    What only one formula uses is shown with that one.

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
        self._last: dict[str, WeightConfig] = {}
        super().__init__(WeightConfig, fields=fields, more=more, sliders=_SLIDERS)

    def setValue(self, value: WeightConfig) -> None:
        """Show `value`: its numbers are its own, and those set before are forgotten."""
        self._last = {}
        self._show(value)

    def _show(self, value: WeightConfig) -> None:
        self._formula = value.formula
        super().setValue(value)

    def _on_changed(self) -> None:
        if self._is_setting:
            return
        formula = self.rows["formula"].value()
        for name in _OF_FALK:
            self.set_row_visible(name, formula == "falk2019")
        if formula != self._formula:
            self._show(self._last_of(formula))
            return
        with suppress(ConfigError):  # which the form shows
            self._last[formula] = self.value()
        super()._on_changed()

    def _last_of(self, formula: str) -> WeightConfig:
        now = {name: self.rows[name].value() for name in ("unit", "balance_classes")}
        last = self._last.get(formula)
        if last is None:
            return WeightConfig(formula=formula, **now)
        return last.model_copy(update={"balance_classes": now["balance_classes"]})
