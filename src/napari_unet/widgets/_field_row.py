"""One field of a config model as a row of a form."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from magicgui.widgets import create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLineEdit, QSizePolicy, QWidget

from napari_unet.widgets._controls import describe
from napari_unet.widgets._slider import NumberSlider

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_HUGE = 10**9
_SMALL = 0.1
_NUMBER_PX = 112
_WORDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class FieldRow(QWidget):
    """One field: a magicgui widget, and a tick box where another value is allowed.

    `float | None` and `Literal["exact"] | int` are a number that may be left open:
    the box, ticked, stands for None or "exact". A planned field has a box "auto".

    Signals
    -------
    changed()
        Its value is another one.
    refused(str)
        Something typed was not taken; says what may be typed.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(self, field: FieldInfo, *, is_planned: bool = False) -> None:
        super().__init__()
        self.title = field.title or ""
        self.tooltip = field.description or ""
        if _bounds(field):
            self.tooltip += f" Allowed: {_allowed(field)}."
        self._field = field
        self._kind, self._open_value = _split(field.annotation)
        self._has_open = self._kind is not field.annotation
        self._is_planned, self._is_given = is_planned, False
        options: dict[str, float] = {}
        if self._kind is int:
            # magicgui's own range, 0 to 999, would refuse many a value.
            low, high = _range(field, margin=1)
            # It compares as floats: 2**63 - 1 would be above itself.
            options = {"min": int(low), "max": int(float(high))}
        # Any: what kind of magicgui widget it is depends on the field.
        self.editor: Any = create_widget(annotation=self._kind, options=options)
        self.open_box = QCheckBox(self._open_value or "not set")
        self.auto_box = QCheckBox("auto")
        self.slider: NumberSlider | None = None
        self._was_rejected = self._is_unfinished = False
        self._build()
        self.setToolTip(self.tooltip)
        if self._has_open and self._kind in (int, float):
            low, _ = _range(field, margin=1)
            self._show_number((field.examples or [max(low, 1)])[0])

    @property
    def is_given(self) -> bool:
        """Whether the value was set, by the user or by `set_value`."""
        return not self.auto_box.isChecked() if self._is_planned else self._is_given

    @is_given.setter
    def is_given(self, is_given: bool) -> None:
        self._is_given = is_given
        if self._is_planned:
            self.auto_box.setChecked(not is_given)
            if not is_given:
                # What was chosen for other images holds no longer.
                self._show_editor(is_shown=False)

    def value(self) -> Any:
        """Return the field's value."""
        is_open = self._has_open and self.open_box.isChecked()
        return self._open_value if is_open else self.editor.value

    def set_value(self, value: Any) -> None:
        """Show `value`, every digit of it."""
        is_open = self._has_open and value == self._open_value
        self.open_box.setChecked(is_open)
        if not is_open:
            self._show_number(value)
        self.is_given = True

    def show_choice(self, value: Any, why: str) -> None:
        """Show, greyed out, what was chosen for a planned field, and why."""
        if self._is_planned and not self.is_given:
            self._show_number(value)
            self._show_editor(is_shown=True)
            for widget in (self, self.editor.native, self.auto_box):
                widget.setToolTip(f"{why}\n\n{self.tooltip}")

    def add_slider(self, low: float, high: float) -> NumberSlider:
        """Put a slider beside the number."""
        self.slider = slider = NumberSlider(low, high)
        describe(slider, f"{self.title} slider", self.tooltip)
        layout = self.layout()
        if isinstance(layout, QHBoxLayout):
            layout.insertWidget(1, slider, 1)
            layout.setStretchFactor(self.editor.native, 1)
        self.editor.native.setMinimumWidth(_NUMBER_PX)
        slider.number_changed.connect(self._show_number)
        self.editor.changed.connect(slider.show_number)
        slider.show_number(self.editor.value)
        return slider

    def _show_number(self, value: Any) -> None:
        if self._kind is float:
            n_decimals = _n_decimals(value)
            native = self.editor.native
            native.setDecimals(n_decimals)
            native.setRange(*_range(self._field, margin=10.0**-n_decimals))
        self.editor.value = value

    def _build(self) -> None:
        native = self.editor.native
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.auto_box, self.open_box):
            layout.addWidget(widget)
        layout.addWidget(native, 1)
        # Where the editor is hidden, the boxes stay to the left.
        layout.addStretch()
        # Spin boxes ask for the width of their greatest value.
        native.setMinimumWidth(70)
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        # What is beneath must not jump when a number is shown.
        policy.setRetainSizeWhenHidden(True)
        native.setSizePolicy(policy)
        describe(native, self.title, self.tooltip)
        for box in (self.auto_box, self.open_box):
            describe(box, f"{self.title}: {box.text()}", self.tooltip)
        self.open_box.setVisible(self._has_open)
        self.auto_box.setVisible(self._is_planned)
        self.editor.changed.connect(lambda _: self._on_edited())
        self.open_box.toggled.connect(self._on_open)
        self.auto_box.toggled.connect(self._on_auto)
        self._line: QLineEdit | None = native.findChild(QLineEdit)
        if self._line is not None and _bounds(self._field):
            # A spin box takes no key that leads out of its range, and puts what is
            # still out of it in the end back to what it was, without a word.
            self._line.inputRejected.connect(self._on_rejected)
            self._line.textEdited.connect(self._on_typed)
            native.editingFinished.connect(self._on_typing_ended)

    def _show_editor(self, *, is_shown: bool) -> None:
        self.editor.native.setVisible(is_shown)

    def _on_edited(self) -> None:
        self._is_given = True
        self.changed.emit()

    def _on_rejected(self) -> None:
        self._was_rejected = True
        self._refuse()

    def _on_typed(self) -> None:
        line = self._line
        self._is_unfinished = line is not None and not line.hasAcceptableInput()

    def _on_typing_ended(self) -> None:
        # Once more after a key was rejected: the number may have changed since.
        if self._was_rejected or self._is_unfinished:
            self._was_rejected = self._is_unfinished = False
            self._refuse()

    def _refuse(self) -> None:
        decimals = ""
        if self._kind is float:
            decimals = f", up to {self.editor.native.decimals()} decimals"
        self.refused.emit(f"{self.title}: {_allowed(self._field)}{decimals}")

    def _on_open(self, is_open: bool) -> None:
        self.editor.native.setEnabled(not is_open)
        self._on_edited()

    def _on_auto(self, is_auto: bool) -> None:
        # The number that was chosen stays to begin with, or to be looked at.
        self.editor.native.setEnabled(not is_auto)
        self._show_editor(is_shown=True)
        self.changed.emit()


def _split(annotation: Any) -> tuple[Any, str | None]:
    """Return the type of the editor, and what stands for leaving it open.

    A type that is no union comes back as it is.
    """
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, None
    parts = get_args(annotation)
    if NoneType in parts:
        (kind,) = (part for part in parts if part is not NoneType)
        return kind, None
    (kind,) = (part for part in parts if part in (int, float))
    (other,) = (part for part in parts if part is not kind)
    return kind, get_args(other)[0]


def _range(field: FieldInfo, *, margin: float) -> tuple[float, float]:
    """Return the least and greatest value; bounds that don't belong lose `margin`."""
    bounds = _bounds(field)
    low = bounds.get("ge", bounds.get("gt", -_HUGE) + margin)
    high = bounds.get("le", bounds.get("lt", _HUGE) - margin)
    return low, high


def _bounds(field: FieldInfo) -> dict[str, float]:
    bounds: dict[str, float] = {}
    for bound in field.metadata:  # Ge(ge=0), Lt(lt=1), ...
        bounds |= asdict(bound)
    return bounds


def _allowed(field: FieldInfo) -> str:
    """Return in words which numbers a field takes; "" where it takes any."""
    bounds = _bounds(field)
    return ", ".join(
        f"{words} {bounds[key]:g}" for key, words in _WORDS.items() if key in bounds
    )


def _n_decimals(value: float) -> int:
    """Return how many decimals to offer: all digits of `value`, and room to type.

    Two, and for small numbers such as learning rates two more than they have.
    """
    exponent = Decimal(repr(float(value))).normalize().as_tuple().exponent
    n_own = max(0, -int(exponent))
    return max(2, n_own + 2 if abs(value) < _SMALL else n_own)
