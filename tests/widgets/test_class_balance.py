"""The table of the classes' shares."""

from __future__ import annotations

import pytest

from napari_unet.widgets._class_balance import ClassBalance

NAMES = ("background", "cell", "muscle")


@pytest.fixture
def table(qtbot) -> ClassBalance:
    table = ClassBalance()
    qtbot.addWidget(table)
    return table


def test_each_class_has_its_share_and_factors(table) -> None:
    table.show_counts(NAMES, [6_000, 1_930, 70], is_balanced=False)
    # 8000 / (3 * n), at most 10.
    assert table.texts() == [
        ["background", "6,000", "75%", "1.00", "0.44"],
        ["cell", "1,930", "24%", "1.00", "1.38"],
        ["muscle", "70", "0.9%", "1.00", "10.00"],
    ]


def test_factor_of_the_map_is_the_balanced_one_when_it_is_on(table) -> None:
    table.show_counts(NAMES[:2], [6_000, 2_000], is_balanced=True)
    assert [row[3] for row in table.texts()] == ["0.67", "2.00"]


def test_rows_follow_the_classes(table) -> None:
    table.show_counts(NAMES, [5, 5], is_balanced=False)
    assert table.texts()[2] == ["muscle", "0", "0.0%", "1.00", "1.00"]
    table.show_counts(NAMES[:2], [5_000_000, 5, 7], is_balanced=False)
    assert [row[0] for row in table.texts()] == ["background", "cell"]
    assert table.texts()[0][1] == "5.00 M"


def test_nothing_known_nothing_shown(table) -> None:
    table.show_counts(NAMES, [0, 0, 0], is_balanced=False)
    assert table.isHidden()
    table.show_counts(NAMES, [1, 0, 0], is_balanced=False)
    assert not table.isHidden()
