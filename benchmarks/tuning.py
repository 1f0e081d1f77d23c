"""What tuning on few held-back cells is worth on other images.

Settings that make cells of probabilities are tuned on small crops of a few images, by
several rules, and judged on all images that no crop was taken from: AP at 0.5 + mean
AP, less that of the settings derived from the labels.

    python benchmarks/tuning.py ../data/dsb2018_fluo > benchmarks/results/tuning.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import napari_unet as nu
from napari_unet.config import InstanceConfig, PredictConfig
from napari_unet.files.images import read_labels
from napari_unet.files.model_places import shipped_model
from napari_unet.imaging.cell_counts import (
    CellCounts,
    TrueCells,
    joined,
    score_of,
    standard_error,
)
from napari_unet.imaging.instances import find_instances
from napari_unet.imaging.tuning import minimum_size, tune_instances
from napari_unet.learning.quality.validation import nearest_as_good

N_CELLS, N_IMAGES = (10, 20, 40, 80), (1, 4)
N_ERRORS = (1.2, 1.64)
RULES = (
    "the best",
    *(f"the best if {z:g} errors better" for z in N_ERRORS),
    *(f"nearest within {z:g} errors" for z in N_ERRORS),
)
Field = tuple[TrueCells, np.ndarray]


def tuned_for(sums: np.ndarray) -> np.ndarray:
    """Return what tuning looks at."""
    return score_of("ap")(sums) + score_of("mean_ap")(sums)


def crop_of(field: Field, n_cells: float, rng: np.random.Generator) -> Field | None:
    """Return a crop with about so many cells; None where none was found."""
    cells, outputs = field
    share = min(1.0, n_cells / max(cells.ids.size, 1)) ** 0.5
    sides = [max(24, int(n * share)) for n in cells.labels.shape]
    for _ in range(20):
        start = [
            int(rng.integers(0, n - side + 1))
            for n, side in zip(cells.labels.shape, sides, strict=True)
        ]
        y, x = (slice(a, a + n) for a, n in zip(start, sides, strict=True))
        crop = TrueCells(cells.labels[y, x])
        if 0.5 * n_cells <= crop.ids.size <= 1.6 * n_cells:
            return crop, outputs[:, y, x]
    return None


def counted(
    fields: list[Field], roles: tuple[str, ...], config: InstanceConfig
) -> CellCounts:
    """Return the counts of all cells for these settings."""
    return joined([c.count(find_instances(o, roles, config)) for c, o in fields])


def choices(
    crops: list[Field], roles: tuple[str, ...], start: InstanceConfig
) -> list[InstanceConfig]:
    """Return what each of the rules chooses."""
    tried: dict[InstanceConfig, np.ndarray] = {}

    def count(config: InstanceConfig) -> object:
        cells = counted(crops, roles, config)
        tried[config] = cells.table
        return cells.tally()

    best, _ = tune_instances(count, start)
    now, before = tried[best], tried[start]
    gain = tuned_for(now.sum(0)) - tuned_for(before.sum(0))
    error = standard_error(now, before, tuned_for)
    return [
        best,
        *(best if gain > z * error else start for z in N_ERRORS),
        *(nearest_as_good(tried, best, start, n_errors=z) for z in N_ERRORS),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with images/ and masks/")
    parser.add_argument("--pattern", default="val_*.tif")
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    model = nu.load_model(shipped_model("nuclei"))
    fields: list[Field] = []
    for path in sorted((given.data / "images").glob(given.pattern)):
        labels = read_labels(given.data / "masks" / path.name)
        outputs = nu.predict(model, path, PredictConfig(device="cpu"))
        fields.append((TrueCells(labels), outputs))
    sizes = np.concatenate([cells.sizes for cells, _ in fields])
    start = InstanceConfig(
        min_size_px=minimum_size(sizes), give_back_gap=model.instances.give_back_gap
    )
    print("| images | cells | draws |", *(f"{rule}: mean, worst |" for rule in RULES))
    print("|---" * (3 + len(RULES)) + "|")
    rng = np.random.default_rng(0)
    for n_images in N_IMAGES:
        for n_cells in N_CELLS:
            gains = []
            for _ in range(given.draws):
                crops: dict[int, Field] = {}
                for k in rng.permutation(len(fields)).tolist():
                    crop = crop_of(fields[k], n_cells / n_images, rng)
                    if crop is not None:
                        crops[k] = crop
                    if len(crops) == n_images:
                        break
                others = [f for k, f in enumerate(fields) if k not in crops]
                chosen = choices(list(crops.values()), model.roles, start)
                reached = {
                    config: tuned_for(counted(others, model.roles, config).table.sum(0))
                    for config in {start, *chosen}
                }
                gains.append([float(reached[c] - reached[start]) for c in chosen])
            shown = [
                f"{mean:+.3f}, {worst:+.2f} |"
                for mean, worst in zip(np.mean(gains, 0), np.min(gains, 0), strict=True)
            ]
            print(f"| {n_images} | {n_cells} | {len(gains)} |", *shown, flush=True)


if __name__ == "__main__":
    main()
