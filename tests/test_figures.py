from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image as Picture

from napari_unet.errors import SaveError
from napari_unet.figures import (
    draw_curve,
    draw_history,
    draw_learning_curve,
    draw_made_images,
    draw_overlay,
    draw_thumbnails,
    draw_weights,
    save_figure,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

IMAGE = np.random.default_rng(0).random((40, 50))
TRUTH = np.zeros((40, 50), np.int32)
TRUTH[5:20, 5:20], TRUTH[22:36, 25:45] = 1, 2
SHIFTED = np.roll(TRUTH, 3, axis=1)


def texts(figure: Figure) -> set[str]:
    FigureCanvasAgg(figure).draw()
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes)]
    return {
        *(axis.get_title() for axis in figure.axes),
        *(text.get_text() for legend in legends if legend for text in legend.texts),
    }


def test_the_overlay_tells_truth_prediction_and_agreement_apart() -> None:
    figure = draw_overlay(IMAGE, TRUTH, SHIFTED)
    names = {"truth (2 cells)", "predicted (2)", "both", "image", "outlines"}
    assert texts(figure) == names
    lines = [shown.get_array()[..., 3] > 0 for shown in figure.axes[1].images[1:]]
    true_only, own_only, both = lines
    assert true_only[10, 5]  # the left edge of the first true cell
    assert own_only[10, 8]
    assert not (true_only & own_only).any()
    assert both[5, 12]  # the upper edge, which the shift leaves in place


def test_the_overlay_of_no_cells_has_no_outline() -> None:
    figure = draw_overlay(IMAGE, TRUTH * 0, TRUTH * 0)
    assert not any(
        shown.get_array()[..., 3].any() for shown in figure.axes[1].images[1:]
    )
    assert "truth (0 cells)" in texts(figure)


def test_the_curve_shows_loss_and_validation() -> None:
    losses = [(step, 1 / step) for step in range(1, 21)]
    figure = draw_curve(losses, [(10, 0.3, 0.5), (20, 0.2, 0.8)])
    left, right = figure.axes
    assert left.get_yscale() == "log"
    np.testing.assert_array_equal(left.lines[2].get_ydata(), [0.3, 0.2])
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [0.5, 0.8])
    assert {"validation loss", "validation score"} <= texts(figure)


def test_the_averaged_loss_of_a_constant_is_that_constant() -> None:
    figure = draw_curve([(step, 2.0) for step in range(1, 9)], [])
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), 2.0)


def test_the_averaged_loss_lies_neither_above_nor_below_a_falling_one() -> None:
    falling = np.linspace(2, 1, 101)
    figure = draw_curve(list(enumerate(falling, start=1)), [])
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), falling)


def test_the_averaged_loss_is_calmer_than_the_loss() -> None:
    noisy = np.tile([1.0, 3.0], 100)
    figure = draw_curve(list(enumerate(noisy, start=1)), [])
    averaged = figure.axes[0].lines[1].get_ydata()
    np.testing.assert_allclose(averaged[20:-20], 2, atol=0.1)


def test_the_history_shows_what_each_validation_saw() -> None:
    figure = draw_history([(10, 0.4), (20, 0.3)], [(0, 0.9, 0.1), (10, 0.5, 0.6)])
    left, right = figure.axes
    drawn = [line.get_xydata().tolist() for line in (*left.lines, *right.lines)]
    assert drawn == [
        [[10, 0.4], [20, 0.3]],
        [[0, 0.9], [10, 0.5]],
        [[0, 0.1], [10, 0.6]],
    ]
    names = {"training loss", "validation loss", "validation score"}
    assert names <= texts(figure)


@pytest.mark.parametrize("n_losses", [0, 1])
def test_a_history_may_be_short(n_losses: int) -> None:
    figure = draw_history([(1, 0.5)] * n_losses, [])
    assert len(figure.axes[0].lines) == n_losses


def test_thumbnails_are_numbered_and_leave_no_empty_frames() -> None:
    planes = [np.full((4, 6), i) for i in range(5)]
    figure = draw_thumbnails(planes)
    filled = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in filled] == ["1", "2", "3", "4", "5"]
    for axis, plane in zip(filled, planes, strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), plane)
    assert not any(axis.axison for axis in figure.axes)


def test_the_weight_map_has_a_colour_bar() -> None:
    weights = np.linspace(1, 11, IMAGE.size, dtype=np.float32).reshape(IMAGE.shape)
    figure = draw_weights(IMAGE, TRUTH, weights)
    assert {"image", "cells", "weight of each pixel"} <= texts(figure)
    *_, panel, bar = figure.axes
    np.testing.assert_array_equal(panel.images[0].get_array(), weights)
    assert bar.get_ylim() == pytest.approx((1, 11))


def test_a_saved_figure_is_a_picture(tmp_path: Path) -> None:
    save_figure(tmp_path / "a.png", draw_overlay(IMAGE, TRUTH, SHIFTED))
    with Picture.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def test_a_figure_that_can_not_be_saved_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"a\.png was not saved"):
        save_figure(tmp_path / "nowhere" / "a.png", draw_curve([(1, 1.0)], []))


def test_the_learning_curve_shows_what_was_reached_and_what_is_estimated() -> None:
    points = [(20, 0.5), (40, 0.6), (80, 0.65)]
    estimates = [(20, 0.4, 0.5, 0.6), (160, 0.6, 0.7, 0.8)]
    figure = draw_learning_curve(points, estimates)
    assert texts(figure) == {"", "reached", "estimate (80 % of cases)"}
    (axis,) = figure.axes
    lines = {line.get_label(): line for line in axis.lines}
    assert lines["reached"].get_xydata().tolist() == [[20, 0.5], [40, 0.6], [80, 0.65]]
    (band,) = axis.collections
    assert band.get_datalim(axis.transData).ymax == pytest.approx(0.8)
    assert axis.get_xlim()[0] == 0
    assert texts(draw_learning_curve(points)) == {"", "reached"}


def test_made_images_are_drawn_beside_their_targets() -> None:
    target = IMAGE * 100
    rows = [
        ("a", IMAGE * 110, IMAGE * 101, target),
        ("b", IMAGE[::2, ::2], target, target),
    ]
    figure = draw_made_images(rows)
    found = texts(figure)
    assert {"target", "prediction - target", "b"} <= found
    assert any(text.startswith("a: PSNR 2") for text in found)
    assert any(text.startswith("prediction: PSNR 4") for text in found)
