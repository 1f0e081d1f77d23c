"""Pictures of results, drawn without a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from skimage.segmentation import find_boundaries

from napari_unet.files.atomic import write_atomically
from napari_unet.imaging.image_comparison import compare_images

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_TRUTH, _PREDICTED, _BOTH = "#00b4ff", "#ff9e00", "#ffffff"
_N_COLUMNS = 4


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG, atomically."""
    FigureCanvasAgg(figure)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))


def draw_overlay(
    image: NDArray[Any], truth: NDArray[np.int32], predicted: NDArray[np.int32]
) -> Figure:
    """Draw an image with the outlines of true and predicted cells.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Intensities.
    truth, predicted : ndarray of int32, shape (Y, X)
        Instance ids; 0 is background.
    """
    figure, axes = _panels(2, height=6.2)
    for axis, title in zip(axes, ("image", "outlines"), strict=True):
        _show_intensities(axis, image)
        axis.set_title(title)
    true_line = find_boundaries(truth, mode="inner")
    own_line = find_boundaries(predicted, mode="inner")
    for line, colour in (
        (true_line & ~own_line, _TRUTH),
        (own_line & ~true_line, _PREDICTED),
        (true_line & own_line, _BOTH),
    ):
        axes[1].imshow(_stain(line, colour), interpolation="nearest")
    names = {
        f"truth ({_n_cells(truth)} cells)": _TRUTH,
        f"predicted ({_n_cells(predicted)})": _PREDICTED,
        "both": _BOTH,
    }
    figure.legend(
        handles=[Line2D([], [], color=c, lw=3, label=n) for n, c in names.items()],
        loc="outside lower center",
        ncols=3,
        facecolor="0.35",
        labelcolor="white",
    )
    return figure


def draw_curve(
    losses: Sequence[tuple[int, float]],
    validations: Sequence[tuple[int, float, float]],
) -> Figure:
    """Draw the training loss, the validation loss and the validation score.

    Parameters
    ----------
    losses : sequence of (step, loss)
        One a training step.
    validations : sequence of (step, loss, score)
        One a validation.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.add_subplot()
    steps, values = zip(*losses, strict=True)
    axis.plot(steps, values, color="0.75", lw=0.7, label="training loss, each step")
    axis.plot(steps, _smooth(values), color="0.2", label="training loss, averaged")
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    for ticks in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        ticks("{x:g}")
    _add_validations(figure, axis, validations)
    return figure


def draw_history(
    losses: Sequence[tuple[int, float]],
    validations: Sequence[tuple[int, float, float]],
) -> Figure:
    """Draw what the validations of a training saw.

    Parameters
    ----------
    losses : sequence of (step, loss)
        Training loss at each validation, where there is one.
    validations : sequence of (step, loss, score)
        Loss and score on the held-back pixels.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.add_subplot()
    axis.set(xlabel="step", ylabel="loss")
    if losses:
        steps, values = zip(*losses, strict=True)
        axis.plot(steps, values, ".-", color="0.4", label="training loss")
    _add_validations(figure, axis, validations)
    return figure


def draw_learning_curve(
    points: Sequence[tuple[int, float]],
    estimates: Sequence[tuple[float, float, float, float]] = (),
) -> Figure:
    """Draw scores against the number of annotated cells, and what to expect of more.

    Parameters
    ----------
    points : sequence of (n_cells, score)
        What was reached.
    estimates : sequence of (n_cells, low, middle, high)
        What a fitted curve says; none where there are too few points.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.add_subplot()
    axis.set(xlabel="annotated cells", ylabel="score on the held-back cells")
    if estimates:
        n, low, middle, high = zip(*estimates, strict=True)
        axis.fill_between(n, low, high, color=_PREDICTED, alpha=0.25, lw=0)
        axis.plot(n, middle, color=_PREDICTED, label="estimate (80 % of cases)")
    n, scores = zip(*points, strict=True)
    axis.plot(n, scores, "o", color="0.2", label="reached")
    axis.set_xlim(left=0)
    axis.legend(loc="lower right")
    return figure


def draw_made_images(
    rows: Sequence[tuple[str, NDArray[Any] | None, NDArray[Any], NDArray[Any]]],
) -> Figure:
    """Draw images, what was made of them, what that should be, and the difference.

    Image and prediction are shown in the range of the target where they are of its
    size and units, with PSNR and SSIM above them.

    Parameters
    ----------
    rows : sequence of (name, image, made, target)
        One at least; arrays (Y, X), the image coarser or None. The difference is made
        - target.
    """
    figure = Figure(figsize=(13, 3.5 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 4, squeeze=False)
    for axes, (name, image, made, target) in zip(grid, rows, strict=True):
        limits = np.nanpercentile(target, (0.1, 99.9))
        error = made.astype(float) - target
        for axis in axes:
            axis.set_axis_off()
        if image is not None:
            is_alike = image.shape == target.shape
            own = np.nanpercentile(image, (0.1, 99.9))
            is_alike &= bool(own[0] < limits[1] and own[1] > limits[0])
            _show_between(axes[0], image, limits if is_alike else own)
            scores = f": {_scores(target, image)}" if is_alike else ""
            axes[0].set_title(f"{name}{scores}", fontsize=9)
        _show_between(axes[1], made, limits)
        axes[1].set_title(f"prediction: {_scores(target, made)}", fontsize=9)
        _show_between(axes[2], target, limits)
        axes[2].set_title("target", fontsize=9)
        most = max(float(np.nanpercentile(np.abs(error), 99.5)), 1e-12)
        shown = axes[3].imshow(error, cmap="RdBu_r", vmin=-most, vmax=most)
        axes[3].set_title("prediction - target", fontsize=9)
        figure.colorbar(shown, ax=axes[3], shrink=0.8)
    return figure


def _show_between(axis: Any, plane: NDArray[Any], limits: Any) -> None:
    low, high = limits
    axis.imshow(plane, cmap="gray", vmin=low, vmax=high, interpolation="nearest")


def _scores(target: NDArray[Any], made: NDArray[Any]) -> str:
    found = compare_images(target[None], made[None])
    return f"PSNR {found.psnr:.1f} dB, SSIM {found.ssim:.2f}"


def draw_thumbnails(planes: Sequence[NDArray[Any]]) -> Figure:
    """Draw small pictures of images beside and beneath each other, with numbers.

    Parameters
    ----------
    planes : sequence of ndarray, shape (Y, X)
        Intensities; one or more.
    """
    n_columns = min(_N_COLUMNS, len(planes))
    n_rows = -(-len(planes) // n_columns)
    figure = Figure(figsize=(2.2 * n_columns, 2.4 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in grid:
        axis.set_axis_off()
    for i, plane in enumerate(planes):
        _show_intensities(grid[i], plane)
        grid[i].set_title(f"{i + 1}")
    return figure


def draw_weights(
    image: NDArray[Any], labels: NDArray[np.int32], weights: NDArray[np.float32]
) -> Figure:
    """Draw an image, its labels and its weight map with a colour bar.

    Parameters
    ----------
    image : ndarray, shape (Y, X)
        Intensities.
    labels : ndarray of int32, shape (Y, X)
        Instance ids; 0 is background.
    weights : ndarray of float32, shape (Y, X)
        Weight of each pixel.
    """
    figure, axes = _panels(3, height=4.4)
    _show_intensities(axes[0], image)
    # Neighbouring ids get distant colours, background stays black.
    shuffled = np.where(labels > 0, labels * 37 % 61 + 8, 0)
    axes[1].imshow(shuffled, cmap="nipy_spectral", vmin=0, interpolation="nearest")
    shown = axes[2].imshow(weights, cmap="inferno")
    for axis, title in zip(
        axes, ("image", "cells", "weight of each pixel"), strict=True
    ):
        axis.set_title(title)
    figure.colorbar(shown, ax=axes[2], shrink=0.8)
    return figure


def _add_validations(
    figure: Figure, axis: Any, validations: Sequence[tuple[int, float, float]]
) -> None:
    """Draw losses and scores of validations, and the legend of all."""
    handles = axis.get_legend_handles_labels()[0]
    if validations:
        at, val_losses, scores = zip(*validations, strict=True)
        handles += axis.plot(at, val_losses, "o-", color="C0", label="validation loss")
        right = axis.twinx()
        right.set(ylabel="validation score", ylim=(0, 1.02))
        handles += right.plot(at, scores, "s-", color="C1", label="validation score")
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))


def _show_intensities(axis: Any, plane: NDArray[Any]) -> None:
    axis.imshow(plane, cmap="gray", vmax=np.percentile(plane, 99.8))


def _panels(n: int, *, height: float) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(n * (height - 0.7), height), layout="constrained")
    axes = list(figure.subplots(1, n))
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def _stain(where: NDArray[np.bool_], colour: str) -> NDArray[np.float64]:
    """Return an RGBA picture that is of one colour there and transparent elsewhere."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return np.stack([*(np.full(where.shape, c) for c in channels), where], axis=-1)


def _smooth(values: Sequence[float], share: float = 0.05) -> NDArray[np.float64]:
    """Return the mean over a window centred at each value, narrower at the ends.

    An average of what came before would lie above a falling curve.
    """
    n = len(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(n)
    reach = np.minimum(np.minimum(at, n - 1 - at), round(share * n))
    return np.asarray((sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1))


def _n_cells(labels: NDArray[np.int32]) -> int:
    return int(np.unique(labels[labels > 0]).size)
