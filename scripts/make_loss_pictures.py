"""Draw what the losses see into docs/images/losses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy.ndimage import gaussian_filter

from napari_unet.config import WeightConfig
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.targets import make_target
from napari_unet.learning.losses import (
    dice_loss,
    focal_loss,
    mae_loss,
    mse_loss,
    ssim,
    weighted_cross_entropy,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from napari_unet.learning.losses import Loss

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "losses"


def _of_one_pixel(loss: Loss, p: NDArray[np.float64], **how: float) -> list[float]:
    """Return the loss of a single pixel whose true class has probability p."""
    logits = torch.from_numpy(np.stack([np.log(p), np.log(1 - p)]))
    return [
        loss(
            logits[:, i].view(1, 2, 1, 1),
            torch.zeros(1, 1, 1, dtype=torch.int64),
            torch.ones(1, 1, 1),
            **how,
        ).item()
        for i in range(p.size)
    ]


def draw_pixel() -> Figure:
    """Draw cross entropy and focal loss over the probability of the true class."""
    figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    p = np.linspace(0.01, 0.999, 150)
    axis.plot(p, _of_one_pixel(weighted_cross_entropy, p), label="cross entropy")
    for gamma in (1.0, 2.0, 5.0):
        curve = _of_one_pixel(focal_loss, p, gamma=gamma)
        axis.plot(p, curve, label=f"focal, gamma = {gamma:g}")
    axis.set(xlabel="probability of the true class", ylabel="loss of the pixel")
    axis.set(xlim=(0, 1), ylim=(0, 4))
    axis.legend(frameon=False)
    return figure


def draw_weights() -> Figure:
    """Draw what a weight map does to the gradient of an undecided network."""
    image, labels = draw_cells((72, 72), n_cells=9, rng=np.random.default_rng(3))
    known = np.ones(labels.shape, bool)
    known[:, :12] = False
    annotation = Annotation(np.where(known, labels, 0), known=known)
    target = make_target(annotation, WeightConfig())
    classes = torch.from_numpy(np.asarray(target.classes, np.int64))[None]
    weights = torch.from_numpy(np.ascontiguousarray(target.weights))[None]
    logits = torch.zeros(1, 2, *labels.shape, requires_grad=True)
    weighted_cross_entropy(logits, classes, weights).backward()
    gradient = (logits.grad[0, 1] * weights.sum()).numpy()
    limit = float(np.abs(gradient).max())
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.9), layout="constrained")
    axes[0].imshow(image, cmap="gray")
    axes[0].set_title("image")
    shown = axes[1].imshow(weights[0], cmap="magma", vmin=0)
    axes[1].set_title("weight: 0 at the left, ignored")
    figure.colorbar(shown, ax=axes[1], shrink=0.8)
    shown = axes[2].imshow(gradient, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[2].set_title("gradient of the cell's logit")
    figure.colorbar(shown, ax=axes[2], shrink=0.8)
    for axis in axes:
        axis.set_axis_off()
    return figure


def draw_rare() -> Figure:
    """Draw what missing all cells costs, by the share of pixels that are cell."""
    side = 100
    shares = np.array([1, 3, 10, 30, 100, 200, 300, 500, 700, 900]) * 10
    losses: dict[str, Loss] = {
        "cross entropy": weighted_cross_entropy,
        "Dice": dice_loss,
        "focal": focal_loss,
    }
    # Background for sure, everywhere: p = 0.99.
    logits = torch.tensor([np.log(0.99), np.log(0.01)]).view(1, 2, 1, 1)
    logits = logits.expand(1, 2, side, side)
    figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for name, loss in losses.items():
        values = []
        for n_cell in shares:
            classes = torch.zeros(side * side, dtype=torch.int64)
            classes[:n_cell] = 1
            classes = classes.view(1, side, side)
            values.append(loss(logits, classes, torch.ones(1, side, side)).item())
        axis.plot(shares / side**2, values, "o-", ms=3, label=name)
    axis.set(xscale="log", yscale="log", ylim=(1e-3, 6))
    axis.set(xlabel="share of pixels that are cell", ylabel="loss if all are missed")
    axis.legend(frameon=False)
    return figure


def draw_likeness() -> Figure:
    """Draw changes of the same MSE, with what MAE and SSIM say of them."""
    image, _ = draw_cells((96, 96), n_cells=14, rng=np.random.default_rng(4))
    image = (image - image.min()) / np.ptp(image)
    noise = np.random.default_rng(0).normal(size=image.shape)
    blurred = gaussian_filter(image, 2.5) - image
    changes = {"brighter": np.ones_like(image), "noise": noise, "blurred": blurred}
    size = np.sqrt((blurred**2).mean())
    figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.5), layout="constrained")
    axes[0].imshow(image, cmap="gray", vmin=0, vmax=1)
    axes[0].set_title("target")
    for axis, (name, change) in zip(axes[1:], changes.items(), strict=True):
        output = image + change * size / np.sqrt((change**2).mean())
        axis.imshow(output, cmap="gray", vmin=0, vmax=1)
        x, y = (torch.from_numpy(a)[None, None] for a in (output, image))
        w = torch.ones(1, *image.shape)
        axis.set_title(
            f"{name}\nMSE {mse_loss(x, y, w):.4f}, MAE {mae_loss(x, y, w):.3f}\n"
            f"SSIM {ssim(x, y, w).mean():.2f}",
            fontsize=8,
        )
    for axis in axes:
        axis.set_axis_off()
    return figure


PICTURES = {
    "pixel": draw_pixel,
    "weights": draw_weights,
    "rare": draw_rare,
    "likeness": draw_likeness,
}


def main() -> None:
    """Draw all pictures."""
    mpl.use("Agg")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        figure = draw()
        figure.savefig(FOLDER / f"{name}.png", dpi=80)
        plt.close(figure)


if __name__ == "__main__":
    main()
