"""Sliders beside numbers, by themselves and in a form."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent

from napari_unet.config import WeightConfig
from napari_unet.widgets._form import ConfigForm
from napari_unet.widgets._slider import NumberSlider


@pytest.fixture
def slider(qtbot):
    slider = NumberSlider(0.5, 25)
    qtbot.addWidget(slider)
    return slider


@pytest.fixture
def form(qtbot):
    form = ConfigForm(WeightConfig, sliders={"sigma": (0.5, 25)})
    qtbot.addWidget(form)
    return form


def test_ends_are_the_range_and_steps_are_round(slider) -> None:
    heard = []
    slider.number_changed.connect(heard.append)
    for i in (slider.maximum(), slider.minimum(), 45):
        slider.setValue(i)
    assert heard == [25, 0.5, 5]


@pytest.mark.parametrize(
    ("number", "at"), [(0.01, 0.5), (0.5, 0.5), (7.33, 7.3), (25, 25), (180, 25)]
)
def test_a_number_beyond_the_ends_shows_at_the_end(slider, number, at) -> None:
    heard = []
    slider.number_changed.connect(heard.append)
    slider.show_number(number)
    assert slider.number() == at
    assert heard == []  # the number itself is left as it is


def test_wheel_scrolls_the_form_and_not_the_number(slider) -> None:
    slider.show_number(5)
    where = QPointF(10, 5)
    event = QWheelEvent(
        where,
        where,
        QPoint(),
        QPoint(0, 120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    slider.wheelEvent(event)
    assert slider.number() == 5
    assert not event.isAccepted()


def test_moving_the_slider_changes_the_field_and_is_told_once(form) -> None:
    heard = []
    form.valueChanged.connect(heard.append)
    form.rows["sigma"].slider.setValue(100)
    assert heard == [WeightConfig(sigma=10.5)]
    assert form.value().sigma == 10.5


def test_typing_beyond_the_slider_works(form) -> None:
    row = form.rows["sigma"]
    row.editor.native.setValue(123.4)
    assert form.value().sigma == 123.4
    assert row.slider.number() == 25
    form.setValue(WeightConfig(sigma=7.77))
    assert form.value().sigma == 7.77
    assert row.slider.number() == 7.8


def test_form_knows_while_it_is_dragged(form) -> None:
    released = []
    form.released.connect(lambda: released.append(form.is_dragged))
    assert not form.is_dragged
    form.rows["sigma"].slider.setSliderDown(True)
    assert form.is_dragged
    form.rows["sigma"].slider.setSliderDown(False)
    assert released == [False]


def test_rows_can_be_hidden_and_put_above(qtbot, form) -> None:
    form.show()
    form.set_row_visible("w0", False)
    assert not form.rows["w0"].isVisible()
    assert form.value().w0 == 10
    above = NumberSlider(0, 1)
    form.insert_row("Above", above)
    qtbot.waitUntil(above.isVisible)
    assert above.geometry().top() < form.rows["formula"].geometry().top()
