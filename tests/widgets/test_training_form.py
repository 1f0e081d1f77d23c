from __future__ import annotations

import pytest

from napari_unet.events import Choice
from napari_unet.widgets._training_form import TrainingForm


@pytest.fixture
def form(qtbot, viewer):
    form = TrainingForm(viewer)
    qtbot.addWidget(form)
    return form


def test_before_training_it_is_said_what_auto_means(form) -> None:
    assert "when training starts" in form.reasons.text()


@pytest.mark.parametrize(
    ("name", "value", "why", "line"),
    [
        ("batch_size", 4, "Batch 4: it fits.", "• Batch 4: it fits."),
        ("max_steps", 600, "600 steps: enough.", "• 600 steps: enough."),
        ("working_scale", 0.5, "Scale 0.5: smaller.", "• Scale 0.5: smaller."),
        ("patch_size", 96, "cells are small", "• Patch size (px): cells are small"),
    ],
)
def test_a_reason_says_once_what_it_is_for(form, name, value, why, line) -> None:
    form.show_choices([Choice(name, value, why)])
    assert form.reasons.text() == line


def test_reasons_stay_where_nothing_new_was_planned(form) -> None:
    form.show_choices([Choice("batch_size", 4, "Batch 4: it fits.")])
    form.show_choices([])
    assert form.reasons.text() == "• Batch 4: it fits."
