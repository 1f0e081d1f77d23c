from __future__ import annotations

import pytest
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.events import StrokesTaken, TrainingStarted
from napari_unet.widgets._live_controls import LiveControls


@pytest.fixture
def controls(qtbot):
    owner = QWidget()
    qtbot.addWidget(owner)
    layout = QVBoxLayout(owner)
    controls = LiveControls()
    layout.addWidget(controls)
    layout.addWidget(controls.running)
    owner.show()
    yield controls
    owner.close()  # until here it owns them


@pytest.mark.parametrize("rate", [3e-3, 1e-5, 0.25])
def test_showing_the_learning_rate_asks_for_none(controls, rate) -> None:
    heard = []
    controls.learning_rate_changed.connect(heard.append)
    controls.begin(rate)
    assert heard == []
    assert controls.learning_rate.isVisible()
    assert controls.learning_rate.value() == pytest.approx(rate)
    controls.learning_rate.editor.native.setValue(2 * rate)
    assert heard == [pytest.approx(2 * rate)]
    controls.end()
    assert not controls.learning_rate.isVisible()


def test_strokes_are_told_and_counted_from_the_start_of_a_training(controls) -> None:
    assert not controls.strokes.isVisible()
    controls.begin(1e-3)
    controls.take([StrokesTaken(3, 1), StrokesTaken(9, 4)])
    assert controls.strokes.isVisible()
    assert controls.strokes.text().endswith("learned from since step 9")
    assert controls.n_strokes == 5
    controls.take([TrainingStarted(9, 1, 1, "cpu", ""), StrokesTaken(2, 2)])
    assert controls.n_strokes == 2
    controls.end()
    assert not controls.strokes.isVisible()
