from __future__ import annotations

import numpy as np
import pytest

from napari_unet import events as ev
from napari_unet.events import Note, StepDone, StrokesTaken, Validated
from napari_unet.widgets._loss_plot import Curves, LossPlot


def step(i, loss=1.0):
    return StepDone(i, 1000, loss, 0.1)


def test_decibels_are_drawn_as_far_as_they_go(qtbot, viewer) -> None:
    plot = LossPlot(viewer)
    qtbot.addWidget(plot)
    plot.show()
    scores = {"psnr": 31.2, "ssim": 0.9, "n_images": 1}
    steps = [ev.StepDone(step, 9, 0.1, 1.0) for step in (1, 2)]
    plot.add([*steps, ev.Validated(2, 0.1, 31.2, scores)])
    plot.add([ev.Validated(3, 0.1, 35.0, scores | {"psnr": 35.0})])
    assert plot.score.getAxis("left").labelText == "PSNR (dB)"
    plot.score.vb.updateAutoRange()  # as the next drawing does
    (low, high) = plot.score.viewRange()[1]
    assert 25 < low < 31.2
    assert 35 < high < 41
    assert plot.curves.words == "PSNR 35.0 dB, SSIM 0.90 on 1 image"
    plot.clear()
    plot.add([*steps, ev.Validated(2, 0.1, 0.5, {"f1": 0.5, "n_cells": 1})])
    assert plot.score.getAxis("left").labelText == "score"
    assert plot.score.viewRange()[1][1] < 1.2
    assert plot.curves.words == "F1 0.50 on 1 cell"


def test_a_constant_loss_stays_constant():
    curves = Curves()
    for i in range(1, 50):
        curves.add(step(i, 0.25))
    np.testing.assert_allclose(curves.losses, 0.25)


def test_smoothing_is_the_weighted_mean_of_what_came():
    losses = [3.0, 1.0, 2.0]
    curves = Curves()
    for i, loss in enumerate(losses):
        curves.add(step(i, loss))
    weights = [0.95**2, 0.95, 1.0]
    expected = np.average(losses, weights=weights)
    assert curves.losses[-1] == pytest.approx(expected)


def test_long_runs_keep_few_points_and_the_newest():
    curves = Curves()
    for i in range(1, 20_001):
        curves.add(step(i))
    assert len(curves.steps) <= 4000
    assert curves.steps[-1] == 20_000
    assert len(curves.steps) == len(curves.losses)


def test_validation_and_other_events():
    curves = Curves()
    curves.add(Validated(10, 0.5, 0.8))
    curves.add(Note("nothing to draw"))
    assert (curves.validated_steps, curves.validation_losses) == ([10], [0.5])
    assert curves.scores == [0.8]
    assert curves.steps == []


@pytest.fixture
def plot(qtbot, viewer):
    plot = LossPlot(viewer)
    qtbot.addWidget(plot)
    return plot


def drawn_steps(line):
    xs, _ = line.getOriginalDataset()
    return [] if xs is None else list(xs)


def test_without_training_it_says_so(plot):
    plot.show()
    assert plot.empty.isVisible()
    assert plot.empty.text() == "No training yet"


def test_curves_are_drawn(plot):
    plot.show()
    plot.add([step(1), step(2), Validated(2, 0.5, 0.8)])
    assert plot.graphs.isVisible()
    assert drawn_steps(plot.training_line) == [1, 2]
    assert drawn_steps(plot.validation_line) == [2]
    assert drawn_steps(plot.score_line) == [2]


def test_nothing_is_drawn_while_hidden_and_all_when_shown(plot):
    plot.add([step(1), step(2)])
    assert drawn_steps(plot.training_line) == []
    plot.show()
    assert drawn_steps(plot.training_line) == [1, 2]


def test_clear_forgets(plot):
    plot.show()
    plot.add([step(1)])
    plot.clear()
    assert plot.empty.isVisible()


def test_it_wears_the_viewers_theme(plot, viewer):
    viewer.theme = "light"
    light = plot.graphs.backgroundBrush().color().lightness()
    viewer.theme = "dark"
    assert plot.graphs.backgroundBrush().color().lightness() < light


def test_marks_of_the_loss_are_plain_numbers(plot):
    axis = plot.loss.getAxis("left")
    exponents = np.log10([0.01, 0.05, 0.1, 0.2, 0.3, 0.9, 1, 20])
    texts = axis.logTickStrings(exponents, 1.0, 1.0)
    assert texts == ["0.01", "0.05", "0.1", "0.2", "", "", "1", "20"]


def test_it_asks_for_little_width(plot):
    assert plot.sizeHint().width() < 340


def test_strokes_are_marked_where_they_entered(plot):
    plot.show()
    plot.add([step(1), step(2), StrokesTaken(2, 3)])
    assert drawn_steps(plot.stroke_marks) == [2]
    assert "strokes" in plot.loss.titleLabel.text
    plot.clear()
    plot.add([step(1)])
    assert drawn_steps(plot.stroke_marks) == []
    assert "strokes" not in plot.loss.titleLabel.text


@pytest.mark.parametrize("n_before", [3, 50, 97])
def test_what_is_said_of_a_learning_rate_is_not_cut_off(plot, n_before):
    plot.resize(400, 290)  # as in a dock
    plot.show()
    plot.add([step(i) for i in range(1, n_before + 1)])
    plot.mark_rate(0.00033)
    plot.add([step(i) for i in range(n_before + 1, 101)])
    plot.grab()  # draws
    (line,) = plot._rate_lines
    label = line.label.mapRectToScene(line.label.boundingRect())
    assert plot.graphs.sceneRect().contains(label)


def test_another_learning_rate_is_marked_at_its_step(plot):
    plot.show()
    plot.add([step(1), step(2)])
    plot.mark_rate(0.001)
    (line,) = [x for x in plot.loss.items if hasattr(x, "label")]
    assert line.value() == 2
    assert line.label.toPlainText() == "rate 0.001"
    plot.clear()
    assert [x for x in plot.loss.items if hasattr(x, "label")] == []


def test_scores_come_with_what_they_rest_on(plot):
    plot.show()
    scores = {"f1": 0.8, "ap": 0.7, "iou": 0.9, "n_cells": 24}
    plot.add([step(1), Validated(1, 0.5, 0.8, scores)])
    assert "F1 0.80" in plot.score.titleLabel.text
    assert "24 cells" in plot.score.titleLabel.text


def test_marks_wear_the_theme(plot, viewer):
    plot.show()
    plot.add([step(1), StrokesTaken(1, 1)])
    plot.mark_rate(0.1)
    viewer.theme = "light"
    viewer.theme = "dark"
