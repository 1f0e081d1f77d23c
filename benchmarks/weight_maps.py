"""How fast, how small and how exact the border weights are.

Times `border_weights` beside the two algorithms that are in use elsewhere, written
down here: one full distance map for each cell, stacked and sorted; and running two
minima over full distance maps. All are timed in one run, on one core, on the same drawn
discs. An algorithm that would take more than a minute is timed on its first cells and
multiplied, which the table says. Then strokes on a map that is kept up to date.

    python benchmarks/weight_maps.py --json benchmarks/results/weight_maps.json \
        > benchmarks/results/weight_maps.md
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import time
import tracemalloc
from pathlib import Path

import numpy as np
import scipy
from scipy import ndimage

from napari_unet.config import WeightConfig
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.live_weights import LiveWeights
from napari_unet.imaging.targets import make_target
from napari_unet.imaging.weight_formulas import Formula, grid_of
from napari_unet.imaging.weight_maps import _weigh, border_weights, weight_map

SIZES = [(512, 60), (1024, 400), (2048, 2000)]
LARGE = (8192, 30_000)
W0, SIGMA = 10.0, 5.0
N_CELLS_TIMED = 12
MAX_STACK_BYTES = 4 * 2**30
N_STROKES = 50


def discs(side: int, n_cells: int, seed: int = 0) -> np.ndarray:
    """Draw discs of 6 to 12 px radius; where they overlap, the later one is on top."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    for i in range(1, n_cells + 1):
        centre, radius = rng.integers(0, side, 2), int(rng.integers(6, 13))
        low, high = (
            np.maximum(centre - radius, 0),
            np.minimum(centre + radius + 1, side),
        )
        y, x = np.ogrid[low[0] : high[0], low[1] : high[1]]
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
        labels[low[0] : high[0], low[1] : high[1]][inside] = i
    return labels


# --- the algorithms in use elsewhere, in float64 -----------------------------------


def stacked(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return d1 + d2 from one full distance map for each cell, stacked and sorted."""
    maps = np.stack([ndimage.distance_transform_edt(labels != i) for i in ids], axis=-1)
    maps.sort(axis=-1)
    return maps[..., 0] + maps[..., 1]


def running_minima(labels: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return d1 + d2 by running two minima over full distance maps."""
    d1 = np.full(labels.shape, np.inf)
    d2 = d1.copy()
    for i in ids:
        d = ndimage.distance_transform_edt(labels != i)
        np.minimum(d2, np.maximum(d1, d), out=d2)
        np.minimum(d1, d, out=d1)
    return d1 + d2


def term(labels: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the border term of sums of distances."""
    return np.where(labels == 0, W0 * np.exp(-(sums**2) / (2 * SIGMA**2)), 0)


# --- measuring ---------------------------------------------------------------------


def best_of(n: int, function, *arguments) -> float:
    """Return the shortest of n times in seconds."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


def timed(algorithm, labels: np.ndarray, ids: np.ndarray) -> tuple[float, bool]:
    """Return seconds for all cells, and whether they were multiplied."""
    few = ids[:N_CELLS_TIMED]
    seconds = best_of(1, lambda: term(labels, algorithm(labels, few)))
    expected = seconds * len(ids) / len(few)
    if expected > 60:
        return expected, True
    return best_of(1, lambda: term(labels, algorithm(labels, ids))), False


def peak_mb(function, *arguments) -> float:
    """Return the MB that numpy holds at once above what it held before."""
    tracemalloc.start()
    function(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def _resident(name: str, side: int, n_cells: int, pipe) -> None:
    labels = discs(side, n_cells)
    function = {"border": border_weights, "map": weight_map}[name]
    function(labels[:64, :64])  # load what is loaded late
    Path("/proc/self/clear_refs").write_text("5")  # start the high-water mark anew
    before = _status("VmRSS")
    start = time.perf_counter()
    function(labels)
    pipe.send((time.perf_counter() - start, _status("VmHWM") - before))


def _status(name: str) -> int:
    """Return a number of bytes that Linux keeps of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(name + ":")]
    return int(line.split()[1]) * 1024


def resident(name: str, side: int, n_cells: int) -> tuple[float, float]:
    """Return seconds, and MB above the labels that a fresh process takes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_resident, args=(name, side, n_cells, theirs))
    child.start()
    seconds, n_bytes = ours.recv()
    child.join()
    return seconds, n_bytes / 1e6


def largest_error(labels: np.ndarray, weights: np.ndarray, ids: np.ndarray) -> float:
    """Return the largest relative difference of a pixel's whole weight.

    The reference is the running minima of all cells in float64; on fields where that
    takes too long, of the cells around windows that are drawn by chance.
    """
    if labels.size <= 1024**2:
        wanted = 1 + term(labels, running_minima(labels, ids))
        return float((abs(weights - wanted) / wanted).max())
    rng, worst, margin = np.random.default_rng(1), 0.0, 100
    for y, x in rng.integers(margin, labels.shape[0] - margin - 64, (8, 2)):
        crop = labels[y - margin : y + 64 + margin, x - margin : x + 64 + margin]
        sums = running_minima(crop, np.unique(crop[crop > 0]))
        wanted = (1 + term(crop, sums))[margin:-margin, margin:-margin]
        found = weights[y : y + 64, x : x + 64]
        worst = max(worst, float((abs(found - wanted) / wanted).max()))
    return worst


def one_size(side: int, n_cells: int) -> dict[str, object]:
    """Return one row of the table."""
    labels = discs(side, n_cells)
    ids = np.unique(labels[labels > 0])
    seconds = best_of(5, border_weights, labels)
    minima, is_extrapolated = timed(running_minima, labels, ids)
    stack_bytes = labels.size * 8 * len(ids)
    stack = None
    if stack_bytes <= MAX_STACK_BYTES:
        stack, _ = timed(stacked, labels, ids)
    config = WeightConfig(w0=W0, sigma=SIGMA)
    exact = Formula(config, grid_of(config, 2, None, source=""), np.float64)
    in_float64 = _weigh(Annotation.complete(labels), exact, 2)
    return {
        "side": side,
        "n_cells": len(ids),
        "seconds": seconds,
        "minima_s": minima,
        "minima_extrapolated": is_extrapolated,
        "ratio": minima / seconds,
        "stack_s": stack,
        "stack_gb": stack_bytes / 1e9,
        "peak_mb": peak_mb(border_weights, labels),
        "resident_mb": resident("border", side, n_cells)[1],
        "falk2019_s": best_of(3, weight_map, labels, WeightConfig.falk2019()),
        "falk2019_peak_mb": peak_mb(weight_map, labels, WeightConfig.falk2019()),
        "error_float32": largest_error(labels, 1 + border_weights(labels), ids),
        "error_float64": largest_error(labels, in_float64, ids),
    }


def large() -> dict[str, object]:
    """Return what the largest field takes, bytes a pixel above its labels."""
    side, n_cells = LARGE
    row: dict[str, object] = {"side": side, "n_cells": n_cells}
    for name in ("border", "map"):
        seconds, mb = resident(name, side, n_cells)
        row |= {f"{name}_s": seconds, f"{name}_bytes_px": mb * 1e6 / side**2}
    labels = discs(side, n_cells)
    weights = border_weights(labels)
    weights += 1
    row["error_float32"] = largest_error(labels, weights, np.unique(labels))
    return row


def predicted(side: int, n_cells: int) -> dict[str, float]:
    """Return the least that cropped distance maps can take on this machine.

    Every cell's box, grown by the reach, must be visited; scipy's distance transform
    of one such box alone gives the time of a visit.
    """
    reach = math.ceil(SIGMA * math.sqrt(2 * math.log(W0 / 1e-12)))
    labels = discs(side, n_cells)
    n_px = 0
    for box in ndimage.find_objects(labels):
        if box is not None:
            n_px += math.prod(
                min(s.stop + reach, side) - max(s.start - reach, 0) for s in box
            )
    outside = np.ones((97, 97), bool)
    outside[39:58, 39:58] = False
    one = best_of(
        200,
        lambda: ndimage.distance_transform_edt(
            outside, return_distances=False, return_indices=True
        ),
    )
    return {
        "visits": n_px,
        "visits_a_pixel": n_px / side**2,
        "ns_a_visit": one / outside.size * 1e9,
        "least_s": n_px * one / outside.size,
    }


# --- strokes -----------------------------------------------------------------------


def strokes(config: WeightConfig, side: int = 2048, n_cells: int = 1000):
    """Return milliseconds of strokes of 20 px, 5 px wide; see that the map is right."""
    labels, rng = discs(side, n_cells), np.random.default_rng(1)
    known = np.ones(labels.shape, bool)
    live = LiveWeights(Annotation.complete(labels), config)
    times = []
    for n in range(N_STROKES):
        middle = rng.integers(30, side - 30, 2)
        value = (0, n_cells + 1 + n)[n % 2]  # erase, or paint a new cell
        if n % 3 == 0:  # add to a cell
            value = int(rng.choice(np.unique(labels[labels > 0])))
            middle = np.argwhere(labels == value).mean(axis=0)
        angle = rng.uniform(0, np.pi)
        for along in np.linspace(-10, 10, 21):
            y, x = np.clip(
                middle + along * np.array([np.sin(angle), np.cos(angle)]), 3, side - 4
            ).astype(int)
            labels[y - 2 : y + 3, x - 2 : x + 3] = value
        start = time.perf_counter()
        live.update(labels, known=known)
        times.append((time.perf_counter() - start) * 1e3)
    whole = make_target(Annotation.complete(labels), config).weights
    return times, bool(np.array_equal(live.weights, whole))


def sliders() -> dict[str, float]:
    """Return milliseconds of new numbers on 2048 x 2048 with 1,000 cells."""
    live = LiveWeights(Annotation.complete(discs(2048, 1000)), WeightConfig())
    changes = {
        "w0, dragged": (WeightConfig(w0=20), False),
        "sigma, dragged": (WeightConfig(w0=20, sigma=7), False),
        "sigma, released": (WeightConfig(w0=20, sigma=7), True),
    }
    taken = {}
    for name, (config, is_final) in changes.items():
        start = time.perf_counter()
        live.set_config(config, is_final=is_final)
        taken[name] = (time.perf_counter() - start) * 1e3
    return taken


# --- the page ----------------------------------------------------------------------


def cpu_model() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def page(found: dict) -> str:
    """Return what was found as Markdown."""
    lines = [
        f"`python benchmarks/weight_maps.py`, all in one run on one core of "
        f"{found['cpu']} ({found['n_cores']} cores, load {found['load']:.1f} when it "
        f"began), numpy {found['numpy']}, scipy {found['scipy']}. Drawn discs of 6 to "
        "12 px radius, w0 = 10, sigma = 5 px.",
        "",
        "| field | cells | ours, s | running two minima, s | ratio | maps stacked and "
        "sorted, s | our peak above the input, MB (numpy, resident) | largest error, "
        "float32 | float64 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["sizes"]:
        mark = "*" if row["minima_extrapolated"] else ""
        stack = row["stack_s"]
        stacks = f"{stack:.1f}" if stack else f"needs {row['stack_gb']:.0f} GB"
        lines.append(
            f"| {row['side']} x {row['side']} | {row['n_cells']} "
            f"| {row['seconds']:.3f} | {row['minima_s']:.2f}{mark} "
            f"| {row['ratio']:.0f} | {stacks} "
            f"| {row['peak_mb']:.0f}, {row['resident_mb']:.0f} "
            f"| {row['error_float32']:.1e} | {row['error_float64']:.1e} |"
        )
    big = found["large"]
    lines.append(
        f"| {big['side']} x {big['side']} | {big['n_cells']} | {big['border_s']:.1f} "
        f"| | | | {big['border_bytes_px']:.1f} bytes a pixel "
        f"| {big['error_float32']:.1e} | |"
    )
    limit, row = found["predicted"], found["sizes"][-1]
    lines += [
        "",
        f"\\* Extrapolated from {N_CELLS_TIMED} of the cells. Times of ours are the "
        "best of five. The error is the largest relative difference of a pixel's whole "
        "weight from running two minima in float64; on fields above 1024 x 1024 in 8 "
        "windows of 64 x 64. The whole map (`weight_map`) of the largest field takes "
        f"{big['map_s']:.1f} s and {big['map_bytes_px']:.1f} bytes a pixel above its "
        "labels; falk2019, the whole map, takes "
        + ", ".join(
            f"{r['falk2019_s']:.3f} s and {r['falk2019_peak_mb']:.0f} MB at {r['side']}"
            for r in found["sizes"]
        )
        + ".",
        "",
        f"Limit: at {row['side']} x {row['side']} the cells' boxes, grown by the "
        f"reach, hold {limit['visits'] / 1e6:.0f} million pixels "
        f"({limit['visits_a_pixel']:.1f} visits a pixel), and scipy's exact transform "
        f"takes {limit['ns_a_visit']:.1f} ns for each, so no less than "
        f"{limit['least_s']:.2f} s; we take {row['seconds'] / limit['least_s']:.1f} "
        "times that.",
        "",
        f"Strokes of 20 px while painting (`LiveWeights`, 2048 x 2048, 1,000 cells, "
        f"{N_STROKES} strokes: adding to a cell, a new cell, erasing), milliseconds:",
        "",
        "| | median | worst | map afterwards |",
        "|---|---|---|---|",
    ]
    for name, (times, is_same) in found["strokes"].items():
        same = "the full computation's, to the bit" if is_same else "WRONG"
        lines.append(
            f"| {name} | {statistics.median(times):.1f} | {max(times):.1f} | {same} |"
        )
    told = ", ".join(f"{name} {ms:.0f} ms" for name, ms in found["sliders"].items())
    return "\n".join([*lines, "", f"New numbers on the same field: {told}.", ""])


def main() -> None:
    """Measure, print the page, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = {
        "cpu": cpu_model(),
        "n_cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "sizes": [one_size(*size) for size in SIZES],
        "large": large(),
        "predicted": predicted(*SIZES[-1]),
        "strokes": {
            "ronneberger2015": strokes(WeightConfig()),
            "falk2019": strokes(WeightConfig.falk2019()),
            "ronneberger2015, balanced classes": strokes(
                WeightConfig(balance_classes=True)
            ),
        },
        "sliders": sliders(),
    }
    print(page(found), end="")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
