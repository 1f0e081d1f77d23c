"""Train the model that comes with the package: nuclei in fluorescence.

    python benchmarks/pretrain.py DATA/dsb2018_fluo_all

DATA holds ``images/``, ``masks/`` and ``manifest.csv``, which names the field group of
each image: tiles of one field are near-duplicates, so whole groups are held back, in
the order of a hash of their names: every tenth to choose and tune the model on, another
tenth to score it on, seen once, at the end. The file's weights are kept in half
precision. ``--json`` writes what was held back and the scores there.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from _runs import Pairs, machine, run, scored

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.files.model_places import SHIPPED_FOLDER
from napari_unet.learning.checkpoint import save_model

NETWORK = NetworkConfig(base_width=16, depth=4)
ABOUT = (
    "Nuclei in fluorescence images, bright on dark, of many sizes and kinds of cells. "
    "A start to fine-tune from, and something to try the program with.\n\nTrained on "
    "{n_images} fluorescence images with {n_learned:,} annotated nuclei of the 2018 "
    "Data Science Bowl (CC0; Caicedo et al., Nature Methods 16, 1247, 2019), by "
    "benchmarks/pretrain.py. On {n_held} images of other fields: AP@0.5 {ap50:.3f}, "
    "mean AP {map:.3f}, {separated:.0%} of touching pairs separated."
)


def split_by_group(data: Path) -> tuple[dict[str, Pairs], int]:
    """Return the pairs to learn from, to choose by and to score, and the cells learned.

    Parameters
    ----------
    data : Path
        Folder with ``images/``, ``masks/`` and ``manifest.csv``.

    Returns
    -------
    dict of str to Pairs, int
        By "learned", "chosen" and "scored"; the number of cells in "learned".
    """
    with (data / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    groups = sorted(
        {row["field_group"] for row in rows},
        key=lambda name: hashlib.sha256(name.encode()).digest(),
    )
    part_of = dict.fromkeys(groups, "learned")
    part_of |= dict.fromkeys(groups[::10], "scored")
    part_of |= dict.fromkeys(groups[5::10], "chosen")
    parts: dict[str, Pairs] = {part: ([], []) for part in part_of.values()}
    n_cells = 0
    for row in rows:
        part = part_of[row["field_group"]]
        images, masks = parts[part]
        images.append(data / "images" / f"{row['name']}.tif")
        masks.append(data / "masks" / f"{row['name']}.tif")
        n_cells += int(row["n_labels"]) if part == "learned" else 0
    return parts, n_cells


def main() -> None:
    """Train, score on the held-back fields, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=SHIPPED_FOLDER / "nuclei.unet")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    parts, n_cells = split_by_group(args.data)
    learned, held = parts["learned"], parts["scored"]
    sizes = {part: len(pairs[0]) for part, pairs in parts.items()}
    print(f"images: {sizes}", file=sys.stderr)
    config = TrainConfig.model_validate(
        {"max_steps": args.steps, "patience": args.steps}
    )
    # An hour of work: what is interrupted goes on.
    folder = args.out.with_suffix(".run")
    done = run(learned, parts["chosen"], config, network=NETWORK, run_dir=folder)
    if done.final is None:
        raise RuntimeError("training ended without a model")
    scores = scored(done.final, held)
    about = ABOUT.format(
        n_images=len(learned[0]), n_held=len(held[0]), n_learned=n_cells, **scores
    )
    model = replace(
        done.final,
        authors=("the napari-unet contributors",),
        license="BSD-3-Clause",
        about=about,
    )
    path = save_model(args.out, model, half=True)
    print(f"{machine()}; {done.n_steps} steps\n\n{about}\n")
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    if args.json:
        names = [path.stem for path in held[0]]
        found = {"machine": machine(), "steps": done.n_steps, "scores": scores}
        text = json.dumps(found | {"held_back": names}, indent=1)
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
