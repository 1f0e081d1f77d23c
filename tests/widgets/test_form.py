from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox

from napari_unet import config
from napari_unet.errors import ConfigError
from napari_unet.widgets._form import ConfigForm

MODELS = [
    config.WeightConfig,
    config.NetworkConfig,
    config.TrainConfig,
    config.PredictConfig,
    config.InstanceConfig,
    config.NormalizationConfig,
]
OTHERS = [
    config.WeightConfig(w0=0, sigma=0.37, balance_classes=True),
    config.NetworkConfig.ronneberger2015(in_channels=3),
    config.TrainConfig(
        max_minutes=2.5, learning_rate=1.7e-5, weight_decay=0, seed=2**63 - 1
    ),
    config.PredictConfig(tile_size=777, halo=96, device="cpu", precision="fp32"),
    config.InstanceConfig(threshold=1 / 3, min_size_px=10**9),
    config.NormalizationConfig(policy="dataset", low_percentile=0.35),
]


@pytest.fixture
def form_of(qtbot):
    kept = []  # pytest-qt holds widgets weakly

    def make(model, **kwargs):
        form = ConfigForm(model, **kwargs)
        kept.append(form)
        qtbot.addWidget(form)
        return form

    return make


@pytest.mark.parametrize("model", MODELS)
def test_a_new_form_shows_the_defaults(form_of, model):
    assert form_of(model).value() == model()


@pytest.mark.parametrize("value", OTHERS, ids=lambda v: type(v).__name__)
def test_what_is_set_comes_back(form_of, value):
    form = form_of(type(value))
    form.setValue(value)
    assert form.value() == value
    form.setValue(type(value)())
    assert form.value() == type(value)()


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(w0=st.just(0.0) | st.floats(1e-9, 1000), sigma=st.floats(1e-9, 200))
def test_every_digit_of_a_number_comes_back(form_of, w0, sigma):
    form = form_of(config.WeightConfig)
    value = config.WeightConfig(w0=w0, sigma=sigma)
    form.setValue(value)
    assert form.value() == value


def test_every_row_has_title_tooltip_and_accessible_name(form_of):
    form = form_of(config.TrainConfig)
    for name, row in form.rows.items():
        field = config.TrainConfig.model_fields[name]
        assert row.editor.native.toolTip().startswith(field.description)
        assert row.editor.native.accessibleName() == field.title


def test_bounds_hold_while_typing(form_of):
    form = form_of(config.WeightConfig)
    form.rows["sigma"].editor.native.setValue(-5)
    form.rows["w0"].editor.native.setValue(5000)
    value = form.value()
    assert 0 < value.sigma < 1
    assert value.w0 == 1000


@pytest.mark.parametrize(
    ("name", "typed", "allowed"),
    [
        ("w0", "-5", "w0: at least 0, at most 1000, up to 2 decimals"),
        ("w0", "5000", "w0: at least 0, at most 1000, up to 2 decimals"),
        ("sigma", "0", "Sigma: above 0, at most 200, up to 2 decimals"),
        ("sigma", "0.5", ""),
        ("sigma", "7", ""),
    ],
)
def test_what_is_not_taken_while_typing_is_told(form_of, name, typed, allowed):
    form = form_of(config.WeightConfig)
    native = form.rows[name].editor.native
    native.selectAll()
    QTest.keyClicks(native, typed)
    QTest.keyClick(native, Qt.Key.Key_Return)
    assert form.problem.text() == allowed
    assert form.problem.isHidden() == (not allowed)
    form.setValue(config.WeightConfig(w0=3))
    assert form.problem.isHidden()


def test_tooltips_tell_what_is_allowed(form_of):
    rows = form_of(config.WeightConfig).rows
    assert rows["w0"].editor.native.toolTip().endswith("at least 0, at most 1000.")
    assert "above 0, at most 200" in rows["sigma"].editor.native.toolTip()
    assert "Allowed" not in rows["unit"].editor.native.toolTip()


def test_a_bound_that_does_not_belong_is_kept_out(form_of):
    form = form_of(config.InstanceConfig)
    form.rows["threshold"].editor.native.setValue(1.0)
    assert form.value().threshold == 0.99


def test_a_choice_is_a_combo_box_with_all_choices(form_of):
    native = form_of(config.TrainConfig).rows["device"].editor.native
    assert isinstance(native, QComboBox)
    texts = [native.itemText(i) for i in range(native.count())]
    assert texts == ["auto", "cuda", "mps", "cpu"]


@pytest.mark.parametrize(
    ("name", "text"), [("tile_size", "not set"), ("halo", "exact")]
)
def test_a_number_may_be_left_open(form_of, name, text):
    row = form_of(config.PredictConfig).rows[name]
    assert row.open_box.text() == text
    assert row.open_box.isChecked()
    assert not row.editor.native.isEnabled()
    row.open_box.setChecked(False)
    assert row.editor.native.isEnabled()
    assert isinstance(row.value(), int)


def test_a_change_by_the_user_is_told_once(qtbot, form_of):
    form = form_of(config.TrainConfig)
    heard = []
    form.valueChanged.connect(heard.append)
    form.rows["max_steps"].editor.native.setValue(77)
    assert heard == [config.TrainConfig(max_steps=77)]


def test_setting_a_value_is_told_once(form_of):
    form = form_of(config.TrainConfig)
    heard = []
    form.valueChanged.connect(heard.append)
    value = config.TrainConfig(max_steps=5, batch_size=3, seed=9)
    form.setValue(value)
    assert heard == [value]


def test_fields_that_do_not_go_together_are_told(form_of):
    form = form_of(config.NormalizationConfig)
    heard = []
    form.valueChanged.connect(heard.append)
    form.rows["low_percentile"].editor.native.setValue(99.9)
    assert heard == []
    assert "not below the high percentile" in form.problem.text()
    with pytest.raises(ConfigError, match="not below the high"):
        form.value()
    form.rows["low_percentile"].editor.native.setValue(2)
    assert form.problem.isHidden()


def test_few_fields_in_front_and_the_rest_folded_away(form_of):
    form = form_of(config.TrainConfig, fields=["batch_size", "max_steps"])
    form.show()
    assert form.rows["max_steps"].isVisible()
    assert not form.rows["seed"].isVisible()
    form.more.heading.click()
    assert form.rows["seed"].isVisible()
    assert form.value() == config.TrainConfig()


def test_hidden_fields_keep_what_was_set(form_of):
    form = form_of(config.NetworkConfig, hidden=["in_channels", "out_channels"])
    assert "in_channels" not in form.rows
    value = config.NetworkConfig(in_channels=5)
    form.setValue(value)
    assert form.value() == value


class _Odd(BaseModel):
    size: int | None = Field(None, ge=1, title="Size", examples=[512])
    whole: int = Field(3, gt=2, lt=9, title="Whole")
    name: Literal["a", "b"] = Field("b", title="Name")


def test_an_open_number_begins_at_its_example(form_of):
    form = form_of(_Odd)
    form.rows["size"].open_box.setChecked(False)
    assert form.value().size == 512


def test_bounds_of_whole_numbers_that_do_not_belong(form_of):
    form = form_of(_Odd)
    form.rows["whole"].editor.native.setValue(0)
    assert form.value().whole == 3
    form.rows["whole"].editor.native.setValue(100)
    assert form.value().whole == 8


# -- what nobody set -------------------------------------------------------------


def test_only_what_somebody_set_is_given(form_of):
    form = form_of(config.TrainConfig)
    assert form.value().model_fields_set == set()
    form.rows["seed"].editor.native.setValue(7)
    assert form.value().model_fields_set == {"seed"}
    form.setValue(config.TrainConfig(patience=20))
    assert form.value().model_fields_set == {"patience"}
    assert form.value().seed == 0


def test_hidden_fields_are_given_only_if_they_were(form_of):
    form = form_of(config.NetworkConfig, hidden=["in_channels"])
    assert form.value().model_fields_set == set()
    form.setValue(config.NetworkConfig(in_channels=1))
    assert form.value().model_fields_set == {"in_channels"}


@pytest.fixture
def planned(form_of):
    form = form_of(config.TrainConfig, planned=["patch_size", "learning_rate"])
    form.more.heading.setChecked(True)
    form.show()
    return form


def test_a_planned_field_is_left_to_planning_until_it_is_set(planned):
    row = planned.rows["patch_size"]
    assert row.auto_box.isChecked()
    assert not row.editor.native.isVisible()
    row.auto_box.click()
    assert row.editor.native.isEnabled()
    row.editor.native.setValue(99)
    assert planned.value() == config.TrainConfig(patch_size=99)
    row.auto_box.click()
    assert planned.value().model_fields_set == set()


def test_what_was_planned_is_shown_greyed_with_its_reason(planned):
    row = planned.rows["patch_size"]
    planned.rows["learning_rate"].auto_box.click()
    heard = []
    planned.valueChanged.connect(heard.append)
    why = "five cells fit into a patch"
    planned.show_choices({"patch_size": (192, why), "learning_rate": (1e-5, "no")})
    assert row.editor.native.isVisible()
    assert not row.editor.native.isEnabled()
    assert row.editor.value == 192
    assert why in row.editor.native.toolTip()
    assert planned.rows["learning_rate"].value() == 3e-3
    assert heard == []
    assert "patch_size" not in planned.value().model_fields_set
    # To begin with, when it is changed.
    row.auto_box.click()
    assert planned.value().patch_size == 192


def test_a_value_brings_back_auto(planned):
    planned.show_choices({"patch_size": (192, "why")})
    planned.setValue(config.TrainConfig(patch_size=64))
    row = planned.rows["patch_size"]
    assert (row.auto_box.isChecked(), row.value()) == (False, 64)
    planned.setValue(config.TrainConfig())
    assert row.auto_box.isChecked()
    assert not row.editor.native.isVisible()
    assert planned.value().model_fields_set == set()


def test_a_choice_may_be_left_open(form_of):
    row = form_of(config.TrainConfig).rows["choose_by"]
    assert row.open_box.isChecked()
    row.open_box.setChecked(False)
    assert row.value() in {"mean_ap", "ap", "f1", "iou", "loss", "psnr", "ssim"}
