from __future__ import annotations

import pytest
from qtpy.QtWidgets import QWidget

from napari_unet.widgets._training_line import AT_WORK, TrainingLine


@pytest.fixture
def line(qtbot):
    line = TrainingLine()
    qtbot.addWidget(line)
    line.show()
    return line


@pytest.fixture
def docks(qtbot):
    docks = [QWidget(), QWidget()]
    for dock in docks:
        qtbot.addWidget(dock)
    yield docks
    for dock in docks:
        AT_WORK.note(dock, is_at_work=False)


def test_a_training_is_told_as_long_as_one_computes(line, docks) -> None:
    assert not line.label.isVisible()
    for dock in docks:
        AT_WORK.note(dock, is_at_work=True)
        AT_WORK.note(dock, is_at_work=True)
    assert line.label.isVisible()
    AT_WORK.note(docks[0], is_at_work=False)
    assert line.label.isVisible()
    AT_WORK.note(docks[1], is_at_work=False)
    assert not line.label.isVisible()


def test_a_line_that_comes_later_tells_of_a_training_that_runs(qtbot, docks) -> None:
    AT_WORK.note(docks[0], is_at_work=True)
    line = TrainingLine()
    qtbot.addWidget(line)
    line.show()
    assert line.label.isVisible()
