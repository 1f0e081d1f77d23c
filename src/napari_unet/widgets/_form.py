"""Any config model as a form: value(), setValue(), valueChanged."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, get_args, get_origin

from magicgui.widgets import create_widget
from pydantic import BaseModel, ValidationError
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import ConfigError
from napari_unet.widgets._controls import Fold, describe, plain_label, rows
from napari_unet.widgets._slider import NumberSlider

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic.fields import FieldInfo

M = TypeVar("M", bound=BaseModel)
_HUGE = 10**9
_SMALL = 0.1
_NUMBER_PX = 112
_WORDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


class ConfigForm(QWidget, Generic[M]):
    """A form for one config model; each field is one row.

    Parameters
    ----------
    model : type of pydantic model
        Its fields' titles, descriptions, bounds and defaults make the rows.
    fields : sequence of str, optional
        Fields in front, in this order; the rest is folded away under `more`. None
        shows all.
    hidden : sequence of str
        Fields that the form keeps but does not show.
    more : str
        Heading of what is folded away.
    sliders : mapping of str to (float, float)
        Fields that get a slider beside their number, and its range; a number beyond
        it can be typed.

    Signals
    -------
    valueChanged(object)
        The new value, whenever it is a valid one; while a slider is dragged as well.
    released()
        A slider was let go.
    """

    valueChanged = Signal(object)
    released = Signal()

    def __init__(
        self,
        model: type[M],
        *,
        fields: Sequence[str] | None = None,
        hidden: Sequence[str] = (),
        more: str = "More settings",
        sliders: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        super().__init__()
        self._model = model
        self._hidden = {name: model.model_fields[name].default for name in hidden}
        self._is_setting = False
        shown = [name for name in model.model_fields if name not in hidden]
        front = shown if fields is None else list(fields)
        self.rows = {name: FieldRow(model.model_fields[name]) for name in shown}
        self._build(front, [name for name in shown if name not in front], more)
        for row in self.rows.values():
            row.changed.connect(self._on_changed)
            row.refused.connect(self._on_refused)
        for name, (low, high) in (sliders or {}).items():
            self.rows[name].add_slider(low, high).sliderReleased.connect(self.released)
        self.setValue(model())

    @property
    def is_dragged(self) -> bool:
        """Whether the mouse holds a slider."""
        sliders = [row.slider for row in self.rows.values() if row.slider is not None]
        return any(slider.isSliderDown() for slider in sliders)

    def insert_row(self, title: str, control: QWidget) -> None:
        """Put a control that is no field above the fields, in line with them."""
        label = QLabel(title)
        label.setToolTip(control.toolTip())
        layout = self._front.layout()
        if isinstance(layout, QFormLayout):
            layout.insertRow(0, label, control)

    def set_row_visible(self, name: str, is_visible: bool) -> None:
        """Show or hide a field with its title; its value is kept."""
        row = self.rows[name]
        group = row.parentWidget()
        layout = None if group is None else group.layout()
        if isinstance(layout, QFormLayout):
            layout.setRowVisible(row, is_visible)

    def value(self) -> M:
        """Return the model that the form shows.

        Raises
        ------
        ConfigError
            The fields don't go together.
        """
        values = {name: row.value() for name, row in self.rows.items()}
        try:
            return self._model(**{**self._hidden, **values})
        except ValidationError as error:
            reasons = "; ".join(e["msg"] for e in error.errors())
            raise ConfigError("NU-C01", f"{reasons}: change the settings") from error

    def setValue(self, value: M) -> None:
        """Show `value`; `valueChanged` comes once, after all fields are set."""
        self._is_setting = True
        for name, row in self.rows.items():
            row.set_value(getattr(value, name))
        self._hidden = {name: getattr(value, name) for name in self._hidden}
        self._is_setting = False
        self._on_changed()

    def _build(self, front: Sequence[str], rest: Sequence[str], more: str) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._front = self._rows_widget(front)
        layout.addWidget(self._front)
        self.more = Fold(more, self._rows_widget(rest))
        self.more.setVisible(bool(rest))
        self.problem = plain_label("Problem with the settings")
        layout.addWidget(self.more)
        layout.addWidget(self.problem)

    def _rows_widget(self, names: Sequence[str]) -> QWidget:
        widget = rows(*((self.rows[name].title, self.rows[name]) for name in names))
        widget.setVisible(bool(names))
        return widget

    def _on_changed(self) -> None:
        if self._is_setting:
            return
        try:
            value = self.value()
        except ConfigError as error:
            self.problem.setText(error.message)
            self.problem.show()
        else:
            self.problem.hide()
            self.valueChanged.emit(value)

    def _on_refused(self, what: str) -> None:
        self.problem.setText(what)
        self.problem.show()


class FieldRow(QWidget):
    """One field: a magicgui widget, and a tick box where another value is allowed.

    `float | None` and `Literal["exact"] | int` are a number that may be left open:
    the box, ticked, stands for None or "exact".

    Signals
    -------
    changed()
        Its value is another one.
    refused(str)
        Something typed was not taken; says what may be typed.
    """

    changed = Signal()
    refused = Signal(str)

    def __init__(self, field: FieldInfo) -> None:
        super().__init__()
        self.title = field.title or ""
        self.tooltip = field.description or ""
        if _bounds(field):
            self.tooltip += f" Allowed: {_allowed(field)}."
        self._field = field
        self._kind, self._open_value = _split(field.annotation)
        self._has_open = self._kind is not field.annotation
        options: dict[str, float] = {}
        if self._kind is int:
            # magicgui's own range, 0 to 999, would refuse many a value.
            low, high = _range(field, margin=1)
            # It compares as floats: 2**63 - 1 would be above itself.
            options = {"min": int(low), "max": int(float(high))}
        # Any: what kind of magicgui widget it is depends on the field.
        self.editor: Any = create_widget(annotation=self._kind, options=options)
        self.open_box = QCheckBox(self._open_value or "not set")
        self.slider: NumberSlider | None = None
        self._was_rejected = self._is_unfinished = False
        self._build()
        self.setToolTip(self.tooltip)
        if self._has_open:
            low, _ = _range(field, margin=1)
            self._show_number((field.examples or [max(low, 1)])[0])

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
        layout.addWidget(self.open_box)
        layout.addWidget(native, 1)
        # Spin boxes ask for the width of their greatest value.
        native.setMinimumWidth(70)
        native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        describe(native, self.title, self.tooltip)
        describe(self.open_box, f"{self.title}: {self.open_box.text()}", self.tooltip)
        self.open_box.setVisible(self._has_open)
        self.editor.changed.connect(lambda _: self.changed.emit())
        self.open_box.toggled.connect(self._on_open)
        self._line: QLineEdit | None = native.findChild(QLineEdit)
        if self._line is not None and _bounds(self._field):
            # A spin box takes no key that leads out of its range, and puts what is
            # still out of it in the end back to what it was, without a word.
            self._line.inputRejected.connect(self._on_rejected)
            self._line.textEdited.connect(self._on_typed)
            native.editingFinished.connect(self._on_typing_ended)

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
        self.changed.emit()


def _split(annotation: Any) -> tuple[Any, str | None]:
    """Return the type of the number, and what stands for leaving it open.

    A type that is no union comes back as it is.
    """
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, None
    parts = get_args(annotation)
    (kind,) = (part for part in parts if part in (int, float))
    (other,) = (part for part in parts if part is not kind)
    return kind, None if other is NoneType else get_args(other)[0]


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
