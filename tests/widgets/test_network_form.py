"""The settings of the network, by architecture."""

from __future__ import annotations

import pytest

from napari_unet.config import FIXED_BY_ARCHITECTURE, NetworkConfig
from napari_unet.widgets._network_form import NetworkForm

OWN = NetworkConfig(base_width=8, depth=2, up="transposed", skips="sum", norm="group")
FIXED = set(FIXED_BY_ARCHITECTURE["trans_unet"]) - {"n_dims"}


@pytest.fixture
def form(qtbot):
    form = NetworkForm()
    qtbot.addWidget(form)
    form.show()
    form.more.heading.setChecked(True)
    form.setValue(OWN)
    return form


def choose(form, architecture):
    form.rows["architecture"].editor.value = architecture


def test_a_transformer_fixes_what_is_published_and_says_so_once(form) -> None:
    heard = []
    form.valueChanged.connect(heard.append)
    choose(form, "trans_unet")
    assert heard == [
        NetworkConfig(architecture="trans_unet", base_width=8, norm="group")
    ]
    assert form.problem.isHidden()
    assert {n for n, row in form.rows.items() if not row.isEnabled()} == FIXED


def test_what_is_fixed_says_why(form) -> None:
    depth = form.rows["depth"]
    for architecture, is_told in (("trans_unet", True), ("unet", False)):
        choose(form, architecture)
        for widget in (depth, depth.editor.native):
            assert widget.toolTip().startswith(depth.tooltip)
            assert ("trans_unet takes no other" in widget.toolTip()) == is_told


def test_another_architecture_brings_back_what_was_set(form) -> None:
    choose(form, "trans_unet")
    form.rows["base_width"].editor.value = 5
    choose(form, "attention_unet")
    update = {"architecture": "attention_unet", "base_width": 5}
    assert form.value() == OWN.model_copy(update=update)
    assert all(row.isEnabled() for row in form.rows.values() if row.isVisible())
    choose(form, "unet")
    assert form.value() == OWN.model_copy(update={"base_width": 5})


def test_a_value_that_is_set_is_not_mixed_with_one_from_before(form) -> None:
    choose(form, "trans_unet")
    form.setValue(NetworkConfig(depth=1))
    assert form.value() == NetworkConfig(depth=1)
    assert all(row.isEnabled() for row in form.rows.values() if row.isVisible())
    trans = NetworkConfig(architecture="trans_unet", transformer_layers=2)
    form.setValue(trans)
    assert form.value() == trans
    assert not form.rows["depth"].isEnabled()


def test_transformer_layers_are_asked_for_only_where_there_are_some(form) -> None:
    layers = form.rows["transformer_layers"]
    assert not layers.isVisible()
    choose(form, "trans_unet")
    assert layers.isVisible()
    choose(form, "unet")
    assert not layers.isVisible()


def test_what_training_can_not_do_is_not_offered(form) -> None:
    assert not {"n_dims", "upscale", "in_channels", "out_channels"} & set(form.rows)


def test_width_and_depth_are_planned_until_somebody_sets_them(form) -> None:
    planned = {"base_width", "depth"}
    form.setValue(NetworkConfig())
    assert not form.value().model_fields_set & planned
    choose(form, "trans_unet")
    choose(form, "unet")
    assert not form.value().model_fields_set & planned
    form.show_choices({"depth": (2, "small cells"), "scale": (0.5, "of the plan")})
    assert form.rows["depth"].editor.value == 2
    form.rows["depth"].auto_box.click()
    assert form.value().model_fields_set & planned == {"depth"}
    assert form.value().depth == 2
