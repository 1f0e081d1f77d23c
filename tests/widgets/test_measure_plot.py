"""The plot of measured cells."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtTest import QTest

from napari_unet.widgets._measure_plot import CellPlot

LEFT, NO_KEY = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


@pytest.fixture
def plot(qtbot) -> CellPlot:
    made = CellPlot(ViewerModel())
    qtbot.addWidget(made)
    made.resize(400, 300)
    made.show()
    made.show_columns(
        {
            "label": np.arange(1, 6),
            "class": np.array(list("abcde"), object),
            "area_px": np.array([10.0, 20, 30, 40, np.nan]),
            "eccentricity": np.array([0.1, 0.2, 0.3, 0.4, 0.2]),
            "at_border": np.array([True] * 5),
        }
    )
    return made


def drag(qtbot, plot: CellPlot, *places: tuple[float, float]) -> None:
    """Drag the mouse along places (x, y) of the columns."""
    box = plot.graph.getPlotItem().getViewBox()
    screen = plot.graph.viewport()
    pixels = [
        plot.graph.mapFromScene(box.mapViewToScene(QPointF(*place))) for place in places
    ]
    QTest.mousePress(screen, LEFT, NO_KEY, pixels[0])
    for pixel in pixels[1:]:
        QTest.mouseMove(screen, pixel)
        qtbot.wait(20)
    QTest.mouseRelease(screen, LEFT, NO_KEY, pixels[-1])


def test_only_numbers_are_offered_and_the_telling_ones_are_shown(plot) -> None:
    offered = [plot.x_box.itemText(i) for i in range(plot.x_box.count())]
    assert offered == ["area_px", "eccentricity"]
    assert (plot.x_box.currentText(), plot.y_box.currentText()) == tuple(offered)
    assert len(plot.points.getData()[0]) == 4  # nobody knows where the fifth is


def test_dragging_chooses_the_cells_in_the_rectangle(qtbot, plot) -> None:
    qtbot.wait(50)
    with qtbot.waitSignal(plot.chosen) as told:
        drag(qtbot, plot, (35, 0.15), (25, 0.25), (15, 0.38), (15, 0.38))
    assert told.args[0].tolist() == [1, 2]
    assert plot.words.text() == "2 of 5 cells in the region"
    with qtbot.waitSignal(plot.chosen) as told:
        plot.region.setPos((25, 0.25))
        plot.region.sigRegionChangeFinished.emit(plot.region)
    assert told.args[0].tolist() == [2, 3]


def test_a_click_or_other_columns_take_the_region_away(qtbot, plot) -> None:
    plot.set_region(QRectF(15, 0.1, 20, 0.3))
    with qtbot.waitSignal(plot.chosen) as told:
        plot.clear_button.click()
    assert told.args[0].tolist() == []
    plot.set_region(QRectF(15, 0.1, 20, 0.3))
    with qtbot.waitSignal(plot.chosen):
        plot.y_box.setCurrentText("area_px")
    assert not plot.has_region
    assert plot.points.getData()[1].tolist() == [10, 20, 30, 40]


def test_chosen_cells_are_marked_and_axes_stay_for_other_cells(plot) -> None:
    plot.x_box.setCurrentText("eccentricity")
    plot.mark(np.array([3]))
    assert plot.marks.getData()[0].tolist() == [0.4]
    plot.x_box.setCurrentText("area_px")
    plot.mark(np.array([3, 4]))
    assert plot.marks.getData()[0].tolist() == [40]
    plot.x_box.setCurrentText("eccentricity")
    plot.show_columns({"label": np.array([1]), "eccentricity": np.array([0.5])})
    assert plot.x_box.currentText() == "eccentricity"
    assert len(plot.marks.getData()[0]) == 0


def test_without_cells_there_is_nothing_to_do(qtbot) -> None:
    plot = CellPlot(ViewerModel())
    qtbot.addWidget(plot)
    assert not plot.isEnabled()
    plot.clear_region()
    assert plot.cells_in_region().tolist() == []
