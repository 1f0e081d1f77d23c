from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from napari_unet import config
from napari_unet.config import (
    InstanceConfig,
    NetworkConfig,
    NormalizationConfig,
    PredictConfig,
    TrainConfig,
    WeightConfig,
)

MODELS: list[type[BaseModel]] = [
    value
    for name, value in vars(config).items()
    if name.endswith("Config") and not name.startswith(("_", "Base"))
    if isinstance(value, type) and issubclass(value, BaseModel)
    # Nobody sets it: it tells what was found in another program's model.
    if value is not config.ForeignConfig
]
FIELDS = [(model, name) for model in MODELS for name in model.model_fields]


def test_all_models_were_found() -> None:
    assert {WeightConfig, NetworkConfig, TrainConfig, PredictConfig} <= set(MODELS)
    assert {InstanceConfig, NormalizationConfig} <= set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_defaults_survive_json(model: type[BaseModel]) -> None:
    settings = model()
    assert model.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("model", MODELS)
def test_the_schema_names_every_default_and_its_bounds(model: type[BaseModel]) -> None:
    rows = model.model_json_schema()["properties"]
    assert set(rows) == set(model.model_fields)
    assert all("default" in row for row in rows.values())


@pytest.mark.parametrize("model", MODELS)
def test_a_setting_can_not_be_changed_in_place(model: type[BaseModel]) -> None:
    name = next(iter(model.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(model(), name, getattr(model(), name))


@pytest.mark.parametrize("model", MODELS)
def test_an_unknown_setting_is_refused(model: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="no_such_setting"):
        model.model_validate({"no_such_setting": 1})


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_every_field_has_what_a_form_and_a_flag_show(
    model: type[BaseModel], name: str
) -> None:
    field = model.model_fields[name]
    assert field.title
    assert field.description
    assert field.description.endswith(".")


@pytest.mark.parametrize(
    ("model", "name"),
    [(m, n) for m, n in FIELDS if isinstance(m.model_fields[n].default, float)],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_are_finite(model: type[BaseModel], name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        model.model_validate({name: value})


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (TrainConfig, {"max_steps": 0}, "greater than or equal to 1"),
        (TrainConfig, {"val_fraction": 0.0}, "greater than 0"),
        (TrainConfig, {"device": "tpu"}, "'auto', 'cuda', 'mps' or 'cpu'"),
        (WeightConfig, {"sigma": 0}, "greater than 0"),
        (NetworkConfig, {"depth": 9}, "less than or equal to 6"),
        (InstanceConfig, {"threshold": 1.0}, "less than 1"),
        (PredictConfig, {"tile_size": 8}, "greater than or equal to 16"),
        (PredictConfig, {"halo": -1}, "give 'exact' or 0 and more pixels"),
        (
            NormalizationConfig,
            {"low_percentile": 99.0, "high_percentile": 1.0},
            "low percentile 99.0 is not below the high percentile 1.0",
        ),
    ],
)
def test_values_out_of_bounds_are_refused(
    model: type[BaseModel], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        model.model_validate(values)


def test_the_2015_preset_is_the_papers_network() -> None:
    network = NetworkConfig.ronneberger2015(in_channels=3)
    assert (network.base_width, network.depth, network.padding) == (64, 4, "valid")
    assert (network.in_channels, network.out_channels) == (3, 2)
    assert (network.norm, network.up) == ("none", "transposed")


def test_weight_defaults_are_the_papers() -> None:
    assert (WeightConfig().w0, WeightConfig().sigma) == (10.0, 5.0)
    assert WeightConfig().balance_classes is False


def test_falk2019_brings_its_own_numbers():
    config = WeightConfig.falk2019()
    assert (config.w0, config.sigma, config.v_bal, config.sigma1) == (50, 6, 0.1, 10)
    assert WeightConfig(formula="falk2019", w0=20).w0 == 20
    assert WeightConfig.ronneberger2015() == WeightConfig()


@pytest.mark.parametrize("name", ["w0", "sigma"])
def test_the_reference_and_the_help_tell_the_other_formulas_default(name: str) -> None:
    field = WeightConfig.model_fields[name]
    other = getattr(WeightConfig.falk2019(), name)
    says = f"With falk2019 the default is {other:g}, not {field.default:g}."
    assert field.description is not None
    assert field.description.endswith(says)
