"""How fast a batch is augmented, where the time goes, and how exact it is.

Times what training does (image, classes and weights, affine + elastic in one
resampling, then the intensities) on one core, beside the same transforms as textbooks
have them in torch (`affine_grid`, up-sampled displacement, classes and weights
stacked) and patch by patch in scipy; all in turn within one run. Then each stage by
itself, other ways to write the two stages that take longest, and the difference from
scipy's samples at the same places. The limit is arithmetic: what has to be read and
written at least, at the rate at which this core copies memory.

    python benchmarks/augmentation.py --json benchmarks/results/augmentation.json \
        > benchmarks/results/augmentation.md
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from forward import best_in_turn, cpu_model
from scipy import ndimage
from torch.nn import functional

from napari_unet.config import TrainConfig
from napari_unet.learning.augmentation import (
    Batch,
    augment,
    change_intensity,
    deform,
    window_size,
)
from napari_unet.learning.deformation import draw_deformation

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [(256, 8), (128, 8)]
N_ROUNDS = 15
SHARP = TrainConfig(blur_px=0)


def windows(size: int, n: int) -> Batch:
    """Return drawn windows, as training cuts them from planes."""
    rng = torch.Generator().manual_seed(0)
    side = window_size(size, SHARP)
    return Batch(
        torch.rand(n, 1, side, side, generator=rng),
        torch.randint(0, 3, (n, side, side), generator=rng, dtype=torch.int16),
        torch.rand(n, side, side, generator=rng) * 10,
    )


def numbers() -> torch.Generator:
    """Return fresh random numbers, always the same."""
    return torch.Generator().manual_seed(1)


# --- the same elsewhere ------------------------------------------------------------


def by_the_book(batch: Batch, size: int) -> tuple[torch.Tensor, ...]:
    """Deform with torch's own grid functions; intensities as a chain of operators."""
    rng, n = numbers(), len(batch.image)
    drawn = draw_deformation(n, size, SHARP, rng)
    side = batch.image.shape[-1]
    matrix = torch.cat([drawn.matrices * size / side, torch.zeros(n, 2, 1)], 2)
    grid = functional.affine_grid(matrix, [n, 1, size, size], align_corners=False)
    elastic = functional.interpolate(drawn.nodes, (size, size), mode="bicubic")
    grid = grid + elastic.permute(0, 2, 3, 1) * (2 / side)
    carried = torch.stack([batch.classes.float(), batch.weights], 1)
    image, found = (
        functional.grid_sample(
            source, grid, mode=mode, padding_mode="reflection", align_corners=False
        )
        for source, mode in ((batch.image, "bilinear"), (carried, "nearest"))
    )
    amounts = 0.3 * (2 * torch.rand(4, n, 1, 1, 1, generator=rng) - 1)
    inside = image.clamp(1e-4, 1)
    image = image - inside + inside ** torch.exp(amounts[0])
    image = image * torch.exp(amounts[1]) + amounts[2]
    image = image + amounts[3] * torch.randn(image.shape, generator=rng)
    return image, found[:, 0].long(), found[:, 1]


def with_scipy(batch: Batch, size: int) -> list[list[np.ndarray]]:
    """Deform the first patch with scipy; no intensities."""
    drawn = draw_deformation(1, size, SHARP, numbers())
    x, y = drawn.offsets()[0].double().numpy() + (batch.image.shape[-1] - 1) / 2
    return [
        ndimage.map_coordinates(plane.numpy(), (y, x), order=order, mode="reflect")
        for plane, order in (
            (batch.image[0, 0], 1),
            (batch.classes[0], 0),
            (batch.weights[0], 0),
        )
    ]


# --- stages, and other ways to write them ------------------------------------------


def stages(batch: Batch, size: int) -> dict[str, Callable[[], object]]:
    """Return the stages of `augment`, each by itself."""
    n, side = len(batch.image), batch.image.shape[-1]
    drawn = draw_deformation(n, size, SHARP, numbers())
    planar = (drawn.offsets() * (2 / side)).permute(0, 2, 3, 1)
    patch = deform(batch, size, SHARP, numbers()).image

    def sample(source: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
        return functional.grid_sample(
            source, grid, mode=mode, padding_mode="reflection", align_corners=False
        )

    interleaved = planar.contiguous()
    return {
        "grid": drawn.offsets,
        "image": lambda: sample(batch.image, planar, "bilinear"),
        "weights": lambda: sample(batch.weights[:, None], planar, "nearest"),
        "classes": lambda: sample(
            batch.classes[:, None].float(), planar, "nearest"
        ).long(),
        "intensities": lambda: change_intensity(patch, SHARP, numbers()),
        "noise": lambda: torch.randn(patch.shape, generator=numbers()),
        "blur of every other": lambda: change_intensity(
            patch, TrainConfig(intensity=0, blur_px=1), numbers()
        ),
        "other: grid by affine_grid and interpolate": lambda: by_the_book_grid(
            drawn, n, size, side
        ),
        "other: grid as one product of matrices": lambda: as_one_product(drawn),
        "other: image on an interleaved grid": lambda: sample(
            batch.image, interleaved, "bilinear"
        ),
        "other: classes and weights stacked": lambda: sample(
            torch.stack([batch.classes.float(), batch.weights], 1), planar, "nearest"
        ),
        "other: classes and weights by an index": lambda: by_index(batch, planar),
    }


def by_the_book_grid(drawn, n: int, size: int, side: int) -> torch.Tensor:
    """Return the grid as textbooks have it."""
    matrix = torch.cat([drawn.matrices * size / side, torch.zeros(n, 2, 1)], 2)
    grid = functional.affine_grid(matrix, [n, 1, size, size], align_corners=False)
    elastic = functional.interpolate(drawn.nodes, (size, size), mode="bicubic")
    return grid + elastic.permute(0, 2, 3, 1) * (2 / side)


def as_one_product(drawn) -> torch.Tensor:
    """Return the grid with the affine part among the factors of the matrix product."""
    n, _, k, _ = drawn.nodes.shape
    at = torch.arange(drawn.size) - (drawn.size - 1) / 2
    basis = torch.rand(drawn.size, k)
    factors = torch.cat([basis, at[:, None], torch.ones(drawn.size, 1)], 1)
    middle = torch.zeros(n, 2, k + 2, k + 2)
    middle[:, :, :k, :k] = drawn.nodes
    middle[:, :, k, k + 1] = drawn.matrices[:, :, 1]
    middle[:, :, k + 1, k] = drawn.matrices[:, :, 0]
    return factors @ middle @ factors.T


def by_index(batch: Batch, grid: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return classes and weights by the number of the nearest pixel."""
    n, side, _ = batch.weights.shape
    x, y = ((grid[..., i] + 1) * (side / 2) for i in range(2))
    x, y = (at.floor_().clamp_(0, side - 1) for at in (x, y))
    index = y.mul_(side).add_(x).long() + torch.arange(n)[:, None, None] * side**2
    return tuple(
        source.reshape(-1).index_select(0, index.view(-1))
        for source in (batch.classes, batch.weights)
    )


# --- measuring ---------------------------------------------------------------------


def copied_bytes_per_s() -> float:
    """Return how much this core reads and writes in a second."""
    block = torch.ones(2**26, dtype=torch.uint8)
    room = torch.empty_like(block)
    (best,) = best_in_turn({"copy": lambda: room.copy_(block)}, N_ROUNDS).values()
    return 2 * block.numel() / best


def exactness(size: int) -> dict[str, float]:
    """Return how far patches are from scipy's samples at the same places."""
    batch = windows(size, 1)
    found = deform(batch, size, SHARP, numbers())
    image, classes, weights = with_scipy(batch, size)
    return {
        "image": float(np.abs(found.image[0, 0].numpy() - image).max()),
        "classes": float((found.classes[0].numpy() != classes).mean()),
        "weights": float((~np.isclose(found.weights[0].numpy(), weights)).mean()),
    }


def row(size: int, n: int, bytes_per_s: float) -> dict[str, object]:
    """Return what was found for one size of patches, in seconds a patch."""
    batch = windows(size, n)
    blurred = TrainConfig()
    functions = {
        "ours": lambda: augment(batch, size, SHARP, numbers()),
        "ours with blur": lambda: augment(batch, size, blurred, numbers()),
        "by the book": lambda: by_the_book(batch, size),
        "scipy": lambda: with_scipy(batch, size),
    }
    parts = stages(batch, size)
    with torch.inference_mode():
        best = best_in_turn(functions | parts, N_ROUNDS)
    seconds = {name: s / (1 if name == "scipy" else n) for name, s in best.items()}
    # Image, classes (2 bytes, then 8) and weights: read where the patch covers the
    # window, and written.
    least = size**2 * (4 + 2 + 4 + 4 + 8 + 4) / bytes_per_s
    return {
        "size": size,
        "batch": n,
        "window": window_size(size, SHARP),
        "seconds": {name: seconds[name] for name in functions},
        "stages": {name: seconds[name] for name in parts},
        "least_s": least,
        "exactness": exactness(size),
    }


def page(found: dict) -> str:
    """Return what was found as Markdown."""
    lines = [
        "`python benchmarks/augmentation.py`, variants in turn in one run on one core "
        f"of {found['cpu']} ({found['n_cores']} cores, load {found['load']:.1f} when "
        f"it began), torch {found['torch']}. Image + classes + weights, default "
        f"settings, batches of {SIZES[0][1]}; best of {N_ROUNDS}.",
        "",
        "| patch | patches/s | with blur | torch by the book | ratio | scipy, no "
        "intensities | limit by memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in found["rows"]:
        s = r["seconds"]
        lines.append(
            f"| {r['size']} x {r['size']} | **{1 / s['ours']:.0f}** "
            f"| {1 / s['ours with blur']:.0f} | {1 / s['by the book']:.0f} "
            f"| **{s['by the book'] / s['ours']:.1f}** | {1 / s['scipy']:.0f} "
            f"| {1 / r['least_s']:.0f} |"
        )
    large = found["rows"][0]
    lines += [
        "",
        f"Each stage by itself, ms a patch of {large['size']} x {large['size']}:",
        "",
        "| stage | ms |",
        "|---|---|",
        *(f"| {name} | {s * 1e3:.3f} |" for name, s in large["stages"].items()),
        "",
        "*Other*: what was tried and left out. Beside scipy's samples at the same "
        f"places the image differs by {large['exactness']['image']:.0e} of its range "
        f"at most; another pixel is nearest in "
        f"{large['exactness']['classes'] * 1e4:.1f} of 10,000 (half way between two).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print the page, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    rate = copied_bytes_per_s()
    found = {
        "cpu": cpu_model(),
        "n_cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan,
        "torch": torch.__version__,
        "copied_bytes_per_s": rate,
        "rows": [row(size, n, rate) for size, n in SIZES],
    }
    print(page(found), end="")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
