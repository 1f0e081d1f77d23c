from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.cli import console
from napari_unet.imaging.scores import Tally

if TYPE_CHECKING:
    import pytest


def test_results_go_to_stdout_and_the_rest_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.say("result")
    console.warn("careful")
    assert capsys.readouterr() == ("result\n", "warning: careful\n")


def test_one_of_a_thing_is_no_plural() -> None:
    texts = [console.counted(n, "plane") for n in range(3)]
    assert texts == ["0 planes", "1 plane", "2 planes"]


def test_a_long_line_with_mark_up_and_escapes_stays_one_plain_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.say("[bold]" + "x " * 100 + "\x1b]0;title\x07")
    expected = "[bold]" + "x " * 100 + "?]0;title?\n"
    assert capsys.readouterr().out == expected


def test_without_a_terminal_counting_is_silent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(console.track([1, 2, 3], "Counting")) == [1, 2, 3]
    with console.working("Thinking"):
        pass
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.working("Thinking"):
        pass
    assert list(console.track([1, 2], "Counting")) == [1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert "Counting" in err
    assert "2/2" in err


def test_counts_are_whole_and_scores_have_three_digits() -> None:
    assert console.number("n_cells", 23.0) == "23"
    assert console.number("f1", 0.87654) == "0.877"


def test_scores_are_shown_for_each_overlap(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally = Tally(
        n_truth=4,
        n_pred=3,
        truth_px=40,
        pred_px=40,
        common_px=30,
        matched=(3,) * 5 + (0,) * 5,
        matched_iou=(2.4,) * 5 + (0.0,) * 5,
    )
    console.show_scores(tally.scores(), "2 files")
    rows = [line.strip("│ ").split() for line in capsys.readouterr().out.splitlines()]
    cells = [[word for word in row if word != "│"] for row in rows]
    assert ["2", "files"] in cells
    assert ["cells", "in", "the", "truth", "4"] in cells
    assert ["foreground", "IoU", "0.600"] in cells  # 30 / (40 + 40 - 30)
    assert ["0.5", "0.750", "0.857", "0.686"] in cells  # 3 / 4, 6 / 7, 4.8 / 7
    assert ["0.95", "0.000", "0.000", "0.000"] in cells
    assert ["mean", "AP", "0.375"] in cells
