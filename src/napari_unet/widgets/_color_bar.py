"""A colour bar with numbers, for the weight map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPointF, QRect, QSize, Qt
from qtpy.QtGui import QImage, QPainter, QPalette
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_unet.widgets._controls import describe
from napari_unet.widgets._worker import guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image
    from numpy.typing import NDArray
    from qtpy.QtGui import QPaintEvent

    from napari_unet.config import WeightConfig
    from napari_unet.widgets._worker import Failure

_BAR_PX = 14
_LEADER_PX = 7
_SPACE_PX = 8
_N_COLORS = 256


@dataclass(frozen=True)
class Tick:
    """A value, and what is written beside it."""

    value: float
    text: str


def ticks_of(config: WeightConfig, limits: tuple[float, float]) -> tuple[Tick, ...]:
    """Return the numbers that mean something, as far as they are on the bar.

    Where the limits are others, their ends come in place of those.
    """
    low, high = limits
    meanings = [
        Tick(0.0, "0 ignored"),
        *_far_ticks(config),
        Tick(1.0, "1 normal"),
        Tick(1 + config.w0, f"{1 + config.w0:.4g} closest gap"),
    ]
    ticks = [tick for tick in meanings if low <= tick.value <= high]
    if config.w0 == 0 and ticks and ticks[-1].value == 1:
        ticks.pop()
    given = {tick.value for tick in ticks}
    ends = [Tick(value, f"{value:.4g}") for value in limits if value not in given]
    return tuple(sorted([*ticks, *ends], key=lambda tick: tick.value))


def _far_ticks(config: WeightConfig) -> list[Tick]:
    if config.formula != "falk2019" or config.v_bal in (0, 1):
        return []
    return [Tick(config.v_bal, f"{config.v_bal:.4g} far away")]


class ColorBar(QWidget):
    """The colours of an image layer, with what they mean.

    It follows the layer's colormap, contrast limits and gamma: equal steps of colour
    are equally long, not equal steps of weight.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.ticks: tuple[Tick, ...] = ()
        self._config: WeightConfig | None = None
        self._layer: Any = None
        self._colors: NDArray[np.uint8] | None = None
        self._limits, self._gamma = (0.0, 1.0), 1.0
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        describe(
            self,
            "Colours of the weight map",
            "What the colours mean; change them in the layer's controls. With falk2019 "
            "background far from cells weighs little, but is not ignored",
        )

    def sizeHint(self) -> QSize:
        """Return the height of bar, leaders and text."""
        height = _BAR_PX + _LEADER_PX + self.fontMetrics().height() + 2
        return QSize(240, height)

    def minimumSizeHint(self) -> QSize:
        """Return the height; any width will do."""
        return QSize(120, self.sizeHint().height())

    def show_failure(self, failure: Failure) -> None:
        """Show no colours: it is an ornament, and must not stop anything."""
        self._colors = None
        self.update()

    def set_config(self, config: WeightConfig) -> None:
        """Name the numbers that these settings give."""
        self._config = config
        self._look()

    def watch(self, layer: Image | None) -> None:
        """Show the colours of a layer from now on, or none."""
        if layer is self._layer:
            return
        self._listen("disconnect")
        self._layer = layer
        self._listen("connect")
        self._look()

    def _listen(self, how: str) -> None:
        if self._layer is not None:
            events = self._layer.events
            for emitter in (events.colormap, events.contrast_limits, events.gamma):
                getattr(emitter, how)(self._look)

    @guarded
    def _look(self) -> None:
        """Take over what to draw: the layer may be gone when it is drawn."""
        layer = self._layer
        if layer is None or self._config is None:
            self._colors, self.ticks = None, ()
        else:
            self._gamma = float(layer.gamma)
            rgb = np.asarray(layer.colormap.map(np.linspace(0, 1, _N_COLORS)))[:, :3]
            self._colors = np.ascontiguousarray(np.round(255 * rgb).astype(np.uint8))
            low, high = layer.contrast_limits
            self._limits = (float(low), float(high))
            self.ticks = ticks_of(self._config, self._limits)
        self.update()

    def x_of(self, value: float) -> float:
        """Return where a value is on the bar, in pixels from the left."""
        low, high = self._limits
        place = max((value - low) / (high - low), 0.0) ** self._gamma
        return float(place * (self.width() - 1))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the bar, and the numbers beneath it."""
        if self._colors is None:
            return
        painter = QPainter(self)
        n_colors = len(self._colors)
        data = self._colors.tobytes()
        image = QImage(data, n_colors, 1, 3 * n_colors, QImage.Format.Format_RGB888)
        painter.drawImage(QRect(0, 0, self.width(), _BAR_PX), image)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        widths = [self.fontMetrics().horizontalAdvance(t.text) for t in self.ticks]
        lefts = spread(
            [self.x_of(t.value) for t in self.ticks], widths, width=self.width()
        )
        top = _BAR_PX + _LEADER_PX
        for tick, left, width in zip(self.ticks, lefts, widths, strict=True):
            x = min(max(self.x_of(tick.value), 0.5), self.width() - 1.5)
            # A leader, for a text may have to stand aside from its number.
            foot = min(max(x, left + 3), left + width - 3)
            painter.drawLine(QPointF(x, _BAR_PX - 4), QPointF(x, _BAR_PX + 2))
            painter.drawLine(QPointF(x, _BAR_PX + 2), QPointF(foot, top))
            box = QRect(round(left), top, width + 2, self.height() - top)
            painter.drawText(box, Qt.AlignmentFlag.AlignTop, tick.text)
        painter.end()


def spread(
    centres: Sequence[float], widths: Sequence[float], *, width: float
) -> list[float]:
    """Return the left edges of texts near their centres that don't overlap.

    Parameters
    ----------
    centres, widths : sequence of float
        Where each text should stand, from left to right, and how wide it is.
    width : float
        Room in all; where it is too little the last texts overlap.
    """
    lefts: list[float] = []
    least = 0.0
    for centre, w in zip(centres, widths, strict=True):
        lefts.append(max(least, centre - w / 2))
        least = lefts[-1] + w + _SPACE_PX
    most = width
    for i in reversed(range(len(lefts))):
        lefts[i] = max(0.0, min(lefts[i], most - widths[i]))
        most = lefts[i] - _SPACE_PX
    return lefts
