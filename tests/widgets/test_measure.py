"""The Measure dock widget."""

from __future__ import annotations

import csv
import gc

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QPoint, QRectF, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QFileDialog,
    QGraphicsView,
    QListWidget,
    QTableView,
)

from napari_unet.widgets._painting import adopt
from napari_unet.widgets.measure import MeasureWidget

LEFT = Qt.MouseButton.LeftButton
LONG_MS = 60_000
# Areas of the cells with the ids 2, 5, 6.
AREAS = {2: 16, 5: 12, 6: 100}


def cells() -> np.ndarray:
    labels = np.zeros((40, 50), np.int32)
    labels[:4, :4], labels[10:12, 20:26], labels[25:35, 30:40] = 2, 5, 6
    return labels


@pytest.fixture
def viewer() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(10.0 * cells(), name="nuclei")
    viewer.add_labels(cells(), name="nuclei cells")
    return viewer


@pytest.fixture
def make(qtbot, viewer):
    def make(of=viewer) -> MeasureWidget:
        widget = MeasureWidget(of)
        qtbot.addWidget(
            widget,
            before_close_func=lambda w: qtbot.waitUntil(
                lambda: not w.is_busy, timeout=LONG_MS
            ),
        )
        return widget

    return make


@pytest.fixture
def widget(make) -> MeasureWidget:
    return make()


@pytest.fixture
def measured(qtbot, widget) -> MeasureWidget:
    measure(qtbot, widget)
    assert failure(widget) == ""
    return widget


def measure(qtbot, widget: MeasureWidget) -> None:
    QTest.mouseClick(widget.panel.start, LEFT)
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=LONG_MS)


def failure(widget: MeasureWidget) -> str:
    box = widget.panel.failure
    return "" if box.isHidden() else box.summary.text()


def table_of(widget: MeasureWidget, name: str) -> list[str]:
    rows = widget.table.rows
    k = rows.names.index(name)
    return [rows.data(rows.index(i, k)) for i in range(rows.rowCount())]


def rings_of(viewer: ViewerModel):
    shown = [x for x in viewer.layers if x.name.endswith("chosen cells") and x.visible]
    return shown[0] if shown else None


# -- measuring -----------------------------------------------------------------


def test_each_cell_has_a_row_and_is_a_feature_of_the_labels(measured, viewer) -> None:
    assert table_of(measured, "label") == ["2", "5", "6"]
    assert table_of(measured, "area_px") == ["16", "12", "100"]
    assert table_of(measured, "mean") == ["20", "50", "60"]
    labels = viewer.layers["nuclei cells"]
    features = labels.features.set_index("index")
    assert features["area_px"].to_dict() == AREAS
    # What napari shows under the mouse.
    assert "area_px: 100" in labels._get_properties((30, 35), world=True)
    assert measured.panel.state.message == "3 cells measured"


def test_every_control_has_a_tooltip_and_an_accessible_name(widget) -> None:
    kinds = (QAbstractButton, QComboBox, QListWidget, QTableView, QGraphicsView)
    controls = [c for kind in kinds for c in widget.findChildren(kind)]
    # Those of Qt: the corner of a table, the arrow of a box.
    named = [c for c in controls if not isinstance(c.parent(), QTableView | QComboBox)]
    assert len(named) > 10
    for control in named:
        assert control.accessibleName(), control
        assert control.toolTip(), control.accessibleName()


def test_works_behind_napari_s_proxy_and_adds_no_layer_by_measuring(
    qtbot, make, viewer
) -> None:
    widget = make(PublicOnlyProxy(viewer))
    measure(qtbot, widget)
    gc.collect()
    widget.table.selectRow(1)
    assert failure(widget) == ""
    assert viewer.layers["nuclei cells"].selected_label == 5
    assert len(viewer.layers) == 3  # with the rings
    measure(qtbot, widget)
    widget.table.selectRow(2)
    assert len(viewer.layers) == 3


def test_another_image_is_not_asked_for_and_one_of_another_size_is_refused(
    qtbot, make
) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((30, 30)), name="other")
    viewer.add_labels(cells(), name="cells", scale=(0.5, 0.5), units=("um", "um"))
    widget = make(viewer)
    assert not widget.choice.with_image.isChecked()
    QTest.mouseClick(widget.choice.with_image, LEFT, pos=QPoint(8, 8))
    widget.choice.with_image.setChecked(True)
    measure(qtbot, widget)
    expected = 'labels "cells" are 40 x 50 but image "other" is 30 x 30'
    assert expected in failure(widget)
    widget.choice.with_image.setChecked(False)
    measure(qtbot, widget)
    assert failure(widget) == ""
    assert table_of(widget, "area_um2") == ["4", "3", "25"]


def test_axes_of_labels_alone_are_asked_for(qtbot, make) -> None:
    viewer = ViewerModel()
    viewer.add_labels(np.stack([cells(), cells()]), name="movie")
    widget = make(viewer)
    measure(qtbot, widget)
    assert "choose their axes (ZYX or TYX)" in failure(widget)
    widget.choice.axes.setCurrentText("TYX")
    measure(qtbot, widget)
    assert table_of(widget, "frame") == ["0", "0", "0", "1", "1", "1"]
    labels = viewer.layers["movie"]
    assert set(labels.features["frame"]) == {0}
    viewer.dims.set_point(0, 1)
    assert set(labels.features["frame"]) == {1}


def test_what_others_know_of_labels_stays(qtbot, measured, viewer) -> None:
    labels = viewer.layers["nuclei cells"]
    adopt(labels)  # an annotation has the class of each id
    measure(qtbot, measured)
    features = labels.features.set_index("index")
    assert features["class"][6] == "cell"
    assert features["area_px"][6] == 100
    assert np.isnan(features["area_px"][0])
    measured.choice.with_image.setChecked(False)
    measure(qtbot, measured)
    assert "mean" not in labels.features
    assert "class" in labels.features


# -- choosing ------------------------------------------------------------------


def test_a_row_selects_its_cell_and_brings_it_to_the_middle(measured, viewer) -> None:
    viewer.scene.camera.center = (0, 0, 0)
    measured.table.selectRow(2)
    labels = viewer.layers["nuclei cells"]
    assert labels.selected_label == 6
    assert viewer.layers.selection.active is labels
    assert viewer.scene.camera.center[-2:] == (29.5, 34.5)
    assert rings_of(viewer).data.tolist() == [[29.5, 34.5]]


def test_a_row_goes_to_its_frame(qtbot, make) -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((3, 40, 50)), axis_labels=("t", "y", "x"), name="movie")
    movie = np.stack([0 * cells(), cells(), cells()])
    viewer.add_labels(movie, axis_labels=("t", "y", "x"), name="movie cells")
    widget = make(viewer)
    measure(qtbot, widget)
    assert viewer.dims.current_step[0] == 1  # napari opens in the middle
    widget.table.selectRow(3)
    assert viewer.dims.current_step[0] == 2
    assert viewer.layers["movie cells"].selected_label == 2


def test_a_region_of_the_plot_chooses_rows_and_rings_their_cells(
    measured, viewer
) -> None:
    plot = measured.plot
    plot.x_box.setCurrentText("area_px")
    plot.y_box.setCurrentText("mean")
    plot.set_region(QRectF(10, 10, 10, 100))
    assert plot.words.text() == "2 of 3 cells in the region"
    assert sorted(measured.table.chosen_cells()) == [0, 1]
    assert rings_of(viewer).data.tolist() == [[1.5, 1.5], [10.5, 22.5]]
    # One after the other: the region stays.
    measured.table.selectRow(1)
    assert len(rings_of(viewer).data) == 2
    assert viewer.layers["nuclei cells"].selected_label == 5
    QTest.mouseClick(plot.clear_button, LEFT)
    assert measured.table.chosen_cells().tolist() == []
    assert rings_of(viewer) is None


def test_rings_are_not_in_the_way_of_what_is_worked_on(measured, viewer) -> None:
    measured.table.selectRow(0)
    assert not rings_of(viewer).editable
    assert viewer.layers.selection.active is viewer.layers["nuclei cells"]


# -- what changes --------------------------------------------------------------


def test_the_table_says_when_labels_are_painted_on_and_when_it_is_undone(
    qtbot, measured, viewer
) -> None:
    labels = viewer.layers["nuclei cells"]
    labels.contour = 1
    labels.selected_label = 6
    qtbot.waitUntil(lambda: not measured.is_busy, timeout=LONG_MS)
    assert measured.stale.isHidden()
    labels.paint((20, 20), 2)
    assert "Out of date" in measured.stale.text()
    assert not measured.stale.isHidden()
    labels.undo()
    qtbot.waitUntil(measured.stale.isHidden, timeout=LONG_MS)
    labels.data = labels.data * 2
    qtbot.waitUntil(lambda: measured.is_stale, timeout=LONG_MS)
    measure(qtbot, measured)
    assert not measured.is_stale
    assert table_of(measured, "label") == ["4", "10", "12"]


def test_labels_that_go_leave_the_table_to_be_saved(
    qtbot, measured, viewer, tmp_path, monkeypatch
) -> None:
    measured.table.selectRow(0)
    viewer.layers.remove("nuclei cells")
    assert "not open any more" in measured.stale.text()
    assert rings_of(viewer) is None
    measured.table.selectRow(1)
    chosen = (str(tmp_path / "cells"), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: chosen)
    QTest.mouseClick(measured.save_button, LEFT)
    assert not measured.save_button.isEnabled()  # while it writes
    qtbot.waitUntil(lambda: not measured.is_busy, timeout=LONG_MS)
    with (tmp_path / "cells.csv").open(newline="") as file:
        saved = list(csv.DictReader(file))
    assert {int(row["label"]): int(row["area_px"]) for row in saved} == AREAS
    assert failure(measured) == ""


def test_a_file_that_cannot_be_written_is_told(measured, qtbot, tmp_path) -> None:
    measured.save_to(tmp_path / "nowhere" / "cells.csv")
    qtbot.waitUntil(lambda: not measured.is_busy, timeout=LONG_MS)
    assert "NU-S" in failure(measured)


# -- on the canvas -------------------------------------------------------------


@pytest.mark.gui
def test_a_click_on_a_cell_finds_its_row_and_painting_goes_on(qtbot, window) -> None:
    window.add_image(10.0 * cells(), name="nuclei")
    labels = window.add_labels(cells(), name="cells")
    widget = MeasureWidget(window)
    window.window.add_dock_widget(widget, name="Measure")
    measure(qtbot, widget)
    canvas = window.window._qt_viewer.canvas.native
    window.scene.camera.center, window.scene.camera.zoom = (20, 25), 8
    qtbot.wait(50)

    def click(y: float, x: float) -> None:
        middle = canvas.rect().center()
        offset = (np.array([x, y]) - (25, 20)) * 8
        place = QPoint(*(np.array([middle.x(), middle.y()]) + offset).astype(int))
        QTest.mouseMove(canvas, place)
        QTest.mouseClick(canvas, LEFT, pos=place)

    click(30, 35)
    assert widget.table.chosen_cells().tolist() == [2]
    labels.mode = "pick"
    click(11, 23)
    assert widget.table.chosen_cells().tolist() == [1]
    assert labels.selected_label == 5
    labels.mode = "paint"
    labels.selected_label = 6
    click(25, 20)
    assert labels.data[25, 20] == 6
    assert widget.table.chosen_cells().tolist() == [1]
    assert widget.is_stale
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=LONG_MS)
    window.window.remove_dock_widget(widget)
    assert rings_of(window) is None
