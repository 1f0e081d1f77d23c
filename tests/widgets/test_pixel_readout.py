"""How a pixel's weight is put in words."""

from __future__ import annotations

import math
import re

import pytest

from napari_unet.config import WeightConfig
from napari_unet.imaging.pixel_weights import PixelWeight
from napari_unet.widgets._pixel_readout import (
    LINE_COLORS,
    NOTHING_CLICKED,
    PixelReadout,
    heading_of,
    rows_of,
)

NAMES = ("background", "cell", "muscle")


def background(**changes) -> PixelWeight:
    border = 10 * math.exp(-((2 + 3.25) ** 2) / 50)
    values = {
        "is_known": True,
        "class_index": 0,
        "class_weight": 1.0,
        "border": border,
        "weight": 1 + border,
        "d1": 2.0,
        "d2": 3.25,
        "first": 12,
        "second": 15,
    }
    return PixelWeight(**{**values, **changes})


def told(pixel: PixelWeight, config: WeightConfig | None = None) -> dict[str, str]:
    rows = rows_of(pixel, config or WeightConfig(), NAMES)
    return {row.title: row.text for row in rows}


def test_gap_is_explained_term_by_term() -> None:
    pixel = background()
    heading = heading_of("YX", (120, 88), pixel)
    assert heading == f"Pixel (y 120, x 88): w = {pixel.weight:.2f}"
    assert told(pixel) == {
        "Class factor w_c": "1.00 (background)",
        "d1": "2.0 px to cell 12",
        "d2": "3.2 px to cell 15",
        "Border term": f"10·exp(−(2.0 + 3.2)² / (2·5²)) = {pixel.border:.2f}",
        "Weight": f"1.00 + {pixel.border:.2f} = {pixel.weight:.2f}",
    }


def test_distances_have_the_colours_of_their_lines() -> None:
    colors = {
        row.title: row.color for row in rows_of(background(), WeightConfig(), NAMES)
    }
    assert (colors.pop("d1"), colors.pop("d2")) == LINE_COLORS
    assert set(colors.values()) == {None}


def test_micrometres_are_named() -> None:
    rows = told(background(d1=0.25), WeightConfig(unit="um"))
    assert rows["d1"] == "0.25 µm to cell 12"


def test_falk_names_the_term_of_far_background() -> None:
    far = 0.1 + 0.9 * math.exp(-(2.0**2) / 200)
    config = WeightConfig.falk2019()
    pixel = background(class_weight=2.0, border=1.5, weight=2 * far + 1.5)
    rows = told(pixel, config)
    assert rows["Far term"] == f"0.1 + 0.9·exp(−2.0² / (2·10²)) = {far:.2f}"
    assert rows["Weight"] == f"2.00 · {far:.2f} + 1.50 = {2 * far + 1.5:.2f}"
    lone = background(d1=None, d2=None, border=0.0, weight=0.1)
    assert told(lone, config)["Far term"] == "0.10: far from all cells"


def test_fewer_than_two_cells_are_told() -> None:
    one = told(background(d2=None, second=None, border=0.0, weight=1.0))
    assert one["d1"] == "2.0 px to cell 12"
    assert one["d2"] == "no second cell near"
    assert one["Border term"] == "0: only between two cells"
    none = told(background(d1=None, d2=None, border=0.0, weight=1.0))
    assert none["d1"] == "no cell near"
    assert "d2" not in none


def test_cells_and_areas_have_no_border_term() -> None:
    cell = background(class_index=1, d1=0.0, border=0.0, weight=1.0)
    assert told(cell)["Border term"] == "0: this is cell 12, no gap"
    area = background(class_index=2, d1=None, border=0.0, weight=1.0)
    assert told(area)["Border term"] == "0: this is muscle, no gap"


def test_ignored_pixels_have_no_terms() -> None:
    pixel = PixelWeight(False, 0, 1.0, 0.0, 0.0)
    heading = heading_of("ZYX", (3, 1, 2), pixel)
    assert heading == "Pixel (z 3, y 1, x 2): ignored, nothing is known here"
    assert rows_of(pixel, WeightConfig(), NAMES) == []


@pytest.fixture
def panel(qtbot) -> PixelReadout:
    panel = PixelReadout()
    qtbot.addWidget(panel)
    return panel


def test_panel_is_filled_anew_and_cleared(panel) -> None:
    assert panel.text() == NOTHING_CLICKED
    panel.show_pixel("Pixel", rows_of(background(), WeightConfig(), NAMES))
    assert len(panel.text().splitlines()) == 6
    assert re.search(r"d2: 3\.2 px to cell 15", panel.text())
    one = background(d1=None, d2=None, border=0.0, weight=1.0)
    panel.show_pixel("Other", rows_of(one, WeightConfig(), NAMES))
    assert len(panel.text().splitlines()) == 5
    assert "cell 15" not in panel.text()
    panel.clear()
    assert panel.text() == NOTHING_CLICKED
