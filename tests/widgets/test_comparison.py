from __future__ import annotations

import pytest
from qtpy.QtCore import Qt

from napari_unet.events import Compared, Region, WorseCell
from napari_unet.widgets._comparison import ComparisonBox, in_words

REGION = Region(0, (), (0, 0), (50, 50))
WORSE = (
    WorseCell(REGION, 3, (10.4, 20.0), 0.8, 0.6),
    WorseCell(REGION, 9, (30.0, 41.0), 0.9, 0.1),
)
BEFORE = {"f1": 0.72, "ap": 0.5, "loss": 0.3, "n_cells": 24}
NOW = {"f1": 0.81, "ap": 0.6, "loss": 0.2, "n_cells": 24}


@pytest.fixture
def box(qtbot):
    box = ComparisonBox()
    qtbot.addWidget(box)
    return box


def test_made_images_are_compared_by_their_own_scores() -> None:
    before = {"loss": 0.1, "psnr": 31.24, "ssim": 0.9, "n_images": 1}
    now = before | {"psnr": 33.0, "ssim": 0.914}
    assert in_words(Compared("better", before, now)) == (
        "Better than the model before: PSNR 31.2 → 33.0 dB, SSIM 0.90 → 0.91 on 1 "
        "held-back image"
    )


def test_nothing_is_shown_before(box) -> None:
    assert box.isHidden()


@pytest.mark.parametrize("verdict", ["better", "same", "worse"])
def test_the_verdict_comes_with_numbers_and_what_they_rest_on(box, verdict) -> None:
    box.show_comparison(Compared(verdict, BEFORE, NOW))
    text = box.verdict.text()
    assert text.startswith(("Better", "As good", "Worse"))
    assert "F1 0.72 → 0.81, AP 0.50 → 0.60 on 24 held-back cells" in text
    assert "loss" not in text
    assert box.take.isHidden() == (verdict != "worse")
    assert box.cells.isHidden()


def test_images_are_no_cells() -> None:
    scores = {"psnr": 30.0, "n_images": 3}
    assert in_words(Compared("same", scores, scores)).endswith("on 3 held-back images")


def test_worse_cells_are_listed_the_worst_first_and_a_click_goes_there(qtbot, box):
    box.show_comparison(Compared("worse", BEFORE, NOW, WORSE))
    box.show()
    texts = [box.cells.item(i).text() for i in range(box.cells.count())]
    assert texts == [
        "cell 9 at row 30, column 41: IoU 0.90 → 0.10",
        "cell 3 at row 10, column 20: IoU 0.80 → 0.60",
    ]
    place = box.cells.visualItemRect(box.cells.item(0)).center()
    with qtbot.waitSignal(box.chosen) as chosen:
        qtbot.mouseClick(box.cells.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert chosen.args == [WORSE[1]]


def test_another_comparison_replaces_the_list(box) -> None:
    box.show_comparison(Compared("worse", BEFORE, NOW, WORSE))
    box.show_comparison(Compared("better", BEFORE, NOW, WORSE[:1]))
    assert box.cells.count() == 1
    assert box.hint.text() == "1 cell got worse; click one to see it:"
    assert box.take.isHidden()
