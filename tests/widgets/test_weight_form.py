"""The settings of the weight map."""

from __future__ import annotations

import pytest

from napari_unet.config import WeightConfig
from napari_unet.widgets._weight_form import WeightForm


@pytest.fixture
def form(qtbot):
    form = WeightForm()
    qtbot.addWidget(form)
    form.show()
    return form


def test_another_formula_brings_its_published_numbers(form) -> None:
    form.setValue(WeightConfig(w0=3, sigma=2, balance_classes=True))
    heard = []
    form.valueChanged.connect(heard.append)
    form.rows["formula"].editor.value = "falk2019"
    expected = WeightConfig.falk2019().model_copy(update={"balance_classes": True})
    assert heard == [expected]
    assert (form.value().w0, form.value().sigma) == (50, 6)


def test_going_back_to_a_formula_restores_what_was_set_for_it(form) -> None:
    own = WeightConfig(w0=3, sigma=2, unit="um")
    form.setValue(own)
    formula = form.rows["formula"].editor
    formula.value = "falk2019"
    assert form.value() == WeightConfig(formula="falk2019", unit="um")
    form.rows["v_bal"].editor.value = 0.3
    form.rows["unit"].editor.value = "px"
    form.rows["balance_classes"].editor.value = True
    of_falk = form.value()
    formula.value = "ronneberger2015"
    assert form.value() == own.model_copy(update={"balance_classes": True})
    formula.value = "falk2019"
    assert form.value() == of_falk


def test_settings_of_one_annotation_are_not_brought_to_another(form) -> None:
    form.setValue(WeightConfig(w0=3))
    form.setValue(WeightConfig.falk2019())
    form.rows["formula"].editor.value = "ronneberger2015"
    assert form.value() == WeightConfig()


def test_what_is_set_is_kept_whatever_the_formula(form) -> None:
    value = WeightConfig(formula="falk2019", w0=7, sigma=3, v_bal=0.4, sigma1=20)
    form.setValue(value)
    assert form.value() == value
    form.rows["w0"].slider.setValue(100)
    assert form.value() == value.model_copy(update={"w0": 10.0})


def test_fields_of_the_other_formula_are_hidden(form) -> None:
    for formula, is_shown in (("falk2019", True), ("ronneberger2015", False)):
        form.setValue(WeightConfig(formula=formula))
        assert form.rows["v_bal"].isVisible() == is_shown
        assert form.rows["sigma1"].isVisible() == is_shown
    assert form.rows["w0"].isVisible()
