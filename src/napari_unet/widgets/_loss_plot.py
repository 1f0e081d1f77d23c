"""The live curve: loss above, validation score beneath."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyqtgraph as pg
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSizePolicy, QStackedLayout, QWidget

from napari_unet.events import StepDone, StrokesTaken, Validated, scores_in_words
from napari_unet.widgets._controls import plain_label
from napari_unet.widgets._layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari.components import ViewerModel
    from qtpy.QtGui import QShowEvent

    from napari_unet.events import Event

_MOST_POINTS = 4000
_SMOOTHING = 0.95
_HEIGHT_PX = 290


@dataclass
class Curves:
    """What is drawn.

    The training loss is smoothed: an average over about the last 20 steps. `words` are
    the newest scores with what they rest on, `unit` is that of the score where it is no
    share; `stroke_steps` are those at which fresh
    strokes entered, `rates` the learning rates that were asked for, each since a step.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    validated_steps: list[int] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    words: str = ""
    unit: str = ""
    stroke_steps: list[int] = field(default_factory=list)
    rates: list[tuple[int, float]] = field(default_factory=list)
    _sum: float = 0.0
    _weight: float = 0.0

    def add(self, event: Event) -> None:
        """Take what an event tells; others than losses and scores tell nothing."""
        if isinstance(event, StepDone):
            self._sum = _SMOOTHING * self._sum + event.loss
            self._weight = _SMOOTHING * self._weight + 1
            self.steps.append(event.step)
            self.losses.append(self._sum / self._weight)
            if len(self.steps) > _MOST_POINTS:
                # More points than pixels: every second one draws the same curve.
                del self.steps[::2], self.losses[::2]
        elif isinstance(event, Validated):
            self.validated_steps.append(event.step)
            self.validation_losses.append(event.loss)
            self.scores.append(event.score)
            words = (
                scores_in_words(event.scores, is_held_back=event.is_held_back)
                if event.scores
                else ""
            )
            self.unit = "dB" if event.score == event.scores.get("psnr") else ""
            # All of them are held back; the plot is narrow.
            self.words = words.replace("held-back ", "")
        elif isinstance(event, StrokesTaken):
            self.stroke_steps.append(event.step)

    def mark_rate(self, rate: float) -> None:
        """Note that the learning rate is another one from now on."""
        self.rates.append((self.steps[-1] if self.steps else 0, rate))


class LossPlot(QWidget):
    """Training and validation loss (logarithmic) above the validation score.

    Drawn in the viewer's colours, and only while it can be seen.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self._viewer = unwrapped(viewer)
        self.curves = Curves()
        self._build()
        self._viewer.events.theme.connect(self._on_theme)
        self._on_theme()

    def add(self, events: Iterable[Event]) -> None:
        """Take events and draw them."""
        for event in events:
            self.curves.add(event)
        self._render()

    def mark_rate(self, rate: float) -> None:
        """Mark that the learning rate is another one from now on."""
        self.curves.mark_rate(rate)
        self._render()

    def clear(self) -> None:
        """Forget all curves."""
        self.curves = Curves()
        self._render()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Draw what came while hidden."""
        super().showEvent(event)
        self._render()

    def _build(self) -> None:
        self.empty = plain_label("Loss curve", "No training yet")
        self.graphs = pg.GraphicsLayoutWidget()
        self.graphs.setAccessibleName("Loss curve")
        self.graphs.setToolTip(
            "Training loss (smoothed) and validation loss above, score of the "
            "held-back pixels beneath. Triangles: fresh strokes entered; dashed lines: "
            "the learning rate was changed"
        )
        self.loss = self.graphs.addPlot(row=0, col=0, enableMenu=False)
        self.loss.getAxis("left").logTickStrings = _plain_numbers
        self.score = self.graphs.addPlot(row=1, col=0, enableMenu=False)
        self.loss.setLogMode(y=True)
        self.loss.setLabel("left", "loss")
        self.score.setLabel("left", "score")
        self.score.setLabel("bottom", "step")
        self.score.setYRange(0, 1)
        self.score.setXLink(self.loss)
        self.training_line = self.loss.plot()
        self.validation_line = self.loss.plot(symbol="o")
        self.score_line = self.score.plot(symbol="o")
        # At the foot of the score, where no curve should be for long.
        self.stroke_marks = self.score.plot(pen=None, symbol="t1")
        self._rate_lines: list[pg.InfiniteLine] = []
        for plot in (self.loss, self.score):
            plot.setMouseEnabled(x=False, y=False)
            # The menu has no parent, and would outlive the plot.
            plot.ctrlMenu.setParent(self, plot.ctrlMenu.windowFlags())
            plot.hideButtons()
            # One width, so that both plots begin at the same step.
            plot.getAxis("left").setWidth(48)
            plot.getAxis("left").enableAutoSIPrefix(False)
        self.loss.getAxis("bottom").setStyle(showValues=False)
        # Its own size, 640 x 480, would widen the dock.
        ignored = QSizePolicy.Policy.Ignored
        self.graphs.setSizePolicy(ignored, ignored)
        self.setFixedHeight(_HEIGHT_PX)
        self._stack = QStackedLayout(self)
        self._stack.addWidget(self.empty)
        self._stack.addWidget(self.graphs)

    def _render(self) -> None:
        if not self.isVisible():
            return
        curves = self.curves
        self._stack.setCurrentIndex(1 if curves.steps else 0)
        self.training_line.setData(curves.steps, curves.losses)
        self.validation_line.setData(curves.validated_steps, curves.validation_losses)
        self.score_line.setData(curves.validated_steps, curves.scores)
        strokes = curves.stroke_steps
        self.stroke_marks.setData(strokes, [0.04] * len(strokes))
        self._render_scale()
        self._render_words()
        self._render_rates()

    def _render_scale(self) -> None:
        """Show shares from 0 to 1, and what has a unit as far as it goes."""
        unit, scores = self.curves.unit, self.curves.scores
        self.score.setLabel("left", f"PSNR ({unit})" if unit else "score")
        if unit or not all(0 <= score <= 1 for score in scores):
            self.score.enableAutoRange(y=True)
        else:
            self.score.setYRange(0, 1)

    def _render_words(self) -> None:
        self.loss.setTitle(self._legend(), size="8pt")
        self.score.setTitle(self.curves.words or None, color=self._text, size="8pt")

    def _legend(self) -> str:
        parts = [("—", self._line, "training"), ("●", self._accent, "validation")]
        if self.curves.stroke_steps:
            parts.append(("▲", self._mark, "strokes"))
        # Above the plot: a legend inside would lie on the curves.
        return " &nbsp; ".join(
            f'<span style="color:{color}">{sign} {word}</span>'
            for sign, color, word in parts
        )

    def _render_rates(self) -> None:
        if len(self._rate_lines) > len(self.curves.rates):
            for line in self._rate_lines:
                self.loss.removeItem(line)
            self._rate_lines = []
        for step, rate in self.curves.rates[len(self._rate_lines) :]:
            # By itself it changes to the side of the line where there is room.
            options = {"position": 0.9, "color": self._text}
            line = pg.InfiniteLine(
                step, label=f"rate {rate:.2g}", labelOpts=options, pen=self._rate_pen()
            )
            self.loss.addItem(line, ignoreBounds=True)
            self._rate_lines.append(line)

    def _rate_pen(self) -> Any:
        return pg.mkPen(self._line, style=Qt.PenStyle.DashLine)

    def _on_theme(self, event: Any = None) -> None:
        theme = get_theme(self._viewer.theme)
        self._text, self._line, self._accent, self._mark = (
            color.as_hex()
            for color in (theme.text, theme.icon, theme.warning, theme.current)
        )
        self.graphs.setBackground(theme.background.as_hex())
        for plot in (self.loss, self.score):
            for side in ("left", "bottom"):
                plot.getAxis(side).setPen(self._line)
                plot.getAxis(side).setTextPen(self._text)
        self.training_line.setPen(self._line, width=1)
        for marked in (self.validation_line, self.score_line):
            marked.setPen(self._accent, width=2)
            marked.setSymbolBrush(self._accent)
            marked.setSymbolPen(self._accent)
            marked.setSymbolSize(5)
        self.stroke_marks.setSymbolBrush(self._mark)
        self.stroke_marks.setSymbolPen(self._mark)
        self.stroke_marks.setSymbolSize(7)
        for line in self._rate_lines:
            line.setPen(self._rate_pen())
            line.label.setColor(self._text)
        self._render_words()


def _plain_numbers(exponents: Iterable[float], *_: float) -> list[str]:
    """Mark 0.1 as "0.1", where pyqtgraph writes a power of ten; only 1, 2 and 5."""
    return [
        f"{10**exponent:.3g}" if round(10 ** (exponent % 1)) in {1, 2, 5, 10} else ""
        for exponent in exponents
    ]
