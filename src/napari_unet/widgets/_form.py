"""Any config model as a form: value(), setValue(), valueChanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_unet.errors import ConfigError
from napari_unet.widgets._controls import Fold, plain_label, rows, set_row_visible
from napari_unet.widgets._field_row import FieldRow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

M = TypeVar("M", bound=BaseModel)


class ConfigForm(QWidget, Generic[M]):
    """A form for one config model; each field is one row.

    What nobody set is left out of the value (`model_fields_set`), for others to choose.

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
    planned : collection of str
        Fields that are chosen by themselves until the user sets them: each has a box
        "auto", and `show_choices` shows what was chosen.

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
        planned: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._model = model
        self._hidden_names = frozenset(hidden)
        self._hidden: dict[str, Any] = {}
        self._is_setting = False
        shown = [name for name in model.model_fields if name not in hidden]
        front = shown if fields is None else list(fields)
        fields_of = model.model_fields
        self.rows = {
            name: FieldRow(fields_of[name], is_planned=name in planned)
            for name in shown
        }
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
        set_row_visible(self.rows[name], is_visible)

    def value(self) -> M:
        """Return the model that the form shows.

        Raises
        ------
        ConfigError
            The fields don't go together.
        """
        given = {name: row for name, row in self.rows.items() if row.is_given}
        values = {name: row.value() for name, row in given.items()}
        try:
            return self._model(**{**self._hidden, **values})
        except ValidationError as error:
            reasons = "; ".join(e["msg"] for e in error.errors())
            raise ConfigError("NU-C01", f"{reasons}: change the settings") from error

    def setValue(self, value: M) -> None:
        """Show `value`; `valueChanged` comes once, after all fields are set."""
        self._is_setting = True
        given = value.model_fields_set
        for name, row in self.rows.items():
            row.set_value(getattr(value, name))
            row.is_given = name in given
        self._hidden = {k: getattr(value, k) for k in self._hidden_names & given}
        self._is_setting = False
        self._on_changed()

    def show_choices(self, choices: Mapping[str, tuple[Any, str]]) -> None:
        """Show what was chosen for fields that nobody set, and why.

        Parameters
        ----------
        choices : mapping of str to (value, str)
            Field -> what was chosen for it, and the reason; those of other forms, and
            of fields that the user set, are left out.
        """
        self._is_setting = True
        for name, row in self.rows.items():
            if name in choices and not row.is_given:
                row.show_choice(*choices[name])
        self._is_setting = False

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
