"""The table of measured cells."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_unet.widgets._measure_table import CellTable, meaning_of, order_of, text_of

ASCENDING, DESCENDING = Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder
DISPLAY, TIP = Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole


@pytest.fixture
def table(qtbot) -> CellTable:
    made = CellTable(ViewerModel())
    qtbot.addWidget(made)
    made.show_columns(
        {
            "label": np.array([4, 7, 9, 12]),
            "class": np.array(["b", "a", "b", "a"], object),
            "area_um2": np.array([2.5, np.nan, 0.5, 1234.5678]),
            "at_border": np.array([True, False, False, False]),
        }
    )
    return made


def column(table: CellTable, k: int = 0) -> list[str]:
    rows = table.rows
    return [rows.data(rows.index(i, k)) for i in range(rows.rowCount())]


def test_fields_and_headings_are_as_in_the_file(table) -> None:
    rows = table.rows
    assert (rows.rowCount(), rows.columnCount()) == (4, 4)
    horizontal = Qt.Orientation.Horizontal
    assert rows.headerData(2, horizontal, DISPLAY) == "area_um2"
    assert rows.headerData(2, horizontal, TIP) == "Area of the cell"
    assert column(table, 2) == ["2.5", "", "0.5", "1235"]
    assert column(table, 3) == ["true", "false", "false", "false"]


def test_numbers_are_sorted_as_numbers_and_missing_ones_go_last(table) -> None:
    table.sort_by(2, ASCENDING)
    assert column(table) == ["9", "4", "12", "7"]
    table.sort_by(2, DESCENDING)
    assert column(table) == ["12", "4", "9", "7"]
    table.sort_by(1, DESCENDING)  # equal ones stay as they were measured
    assert column(table) == ["4", "9", "7", "12"]


def test_a_click_on_a_heading_sorts_and_what_is_chosen_stays_so(table, qtbot) -> None:
    table.show()
    table.choose(np.array([1]))
    header = table.horizontalHeader()
    x = header.sectionViewportPosition(2) + 5
    place = header.viewport().rect().center()
    place.setX(x)
    QTest.mouseClick(header.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert sorted(column(table)) == ["12", "4", "7", "9"] != column(table)
    assert table.chosen_cells().tolist() == [1]


def test_a_click_on_a_row_tells_which_cell_it_shows(table, qtbot) -> None:
    table.show()
    table.sort_by(2, ASCENDING)
    place = table.visualRect(table.rows.index(2, 0)).center()
    with qtbot.waitSignal(table.chosen):
        QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert table.chosen_cells().tolist() == [3]


def test_cells_that_are_put_first_are_tinted_and_chosen_whatever_the_order(
    table, qtbot
) -> None:
    with qtbot.assertNotEmitted(table.chosen):
        table.put_first(np.array([1, 2]))
    table.sort_by(2, ASCENDING)
    assert column(table) == ["9", "7", "4", "12"]
    assert sorted(table.chosen_cells()) == [1, 2]
    role = Qt.ItemDataRole.BackgroundRole
    tints = [table.rows.data(table.rows.index(i, 0), role) for i in range(4)]
    assert [tint is not None for tint in tints] == [True, True, False, False]
    table.put_first(np.zeros(0, int))
    assert column(table) == ["9", "4", "12", "7"]
    assert table.chosen_cells().tolist() == []


def test_many_rows_are_chosen_as_few_ranges(table) -> None:
    n = 70_000
    rng = np.random.default_rng(0)
    table.show_columns({"label": np.arange(1, n + 1), "area_px": rng.random(n)})
    half = rng.choice(n, n // 2, replace=False)
    table.sort_by(1, DESCENDING)
    table.put_first(half)
    assert len(table.selectionModel().selection()) == 1
    assert set(table.chosen_cells()) == set(half)
    table.sort_by(0, ASCENDING)
    assert len(table.chosen_cells()) == n // 2


@pytest.mark.parametrize("descending", [False, True])
def test_order_is_that_of_python_s_sort(descending) -> None:
    values = np.random.default_rng(0).integers(0, 9, 50).astype(float)
    first = np.random.default_rng(1).random(50) > 0.7

    def key(i: int) -> tuple[bool, float]:
        return (not first[i], -values[i] if descending else values[i])

    found = order_of(values, descending=descending, first=first)
    assert found.tolist() == sorted(range(50), key=key)


def test_texts_are_short_and_meanings_name_the_channel() -> None:
    values = [0.000012345, 70123.4, 2.0**40, True, "cell", np.float64("nan")]
    assert [text_of(v) for v in values] == [
        "1.234e-05",
        "70123",
        "1.1e+12",
        "true",
        "cell",
        "",
    ]
    assert (
        meaning_of("sd_DAPI")
        == "Standard deviation of the intensity within the cell: DAPI"
    )
    assert meaning_of("orientation_deg").startswith("Angle")
    assert meaning_of("colour") == "colour"
