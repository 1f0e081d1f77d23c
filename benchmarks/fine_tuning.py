"""Whether a start from the shipped model is worth it: few images, both ways.

For 1, 3 and 10 annotated ``train_*`` images (the same for both ways, another choice
for each seed) trains from scratch and from the shipped model, and scores the best model
after each time on all of ``val_*``. Nothing of ``val_*`` is seen in training: each run
holds back a share of its own few images.

    python benchmarks/fine_tuning.py DATA --seeds 0 1 2 --json FILE > FILE.md
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from _runs import machine, pairs_of, run, scored, spread

from napari_unet.config import TrainConfig
from napari_unet.files.model_places import shipped_model

_TIMES_S = (15.0, 30.0, 60.0)
_WAYS = ("from scratch", "pretrained")


def main() -> None:
    """Train both ways for each data set, number and seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument(
        "--datasets", nargs="+", default=["dsb2018_fluo", "usiigaci_phase"]
    )
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, 3, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, object]] = []
    for name in args.datasets:
        images, masks = pairs_of(args.data, name, "train")
        held = pairs_of(args.data, name, "val")
        for n in args.numbers:
            for seed in args.seeds:
                order = np.random.default_rng(seed).permutation(len(images))[:n]
                few = [images[i] for i in order], [masks[i] for i in order]
                for way in _WAYS:
                    start = shipped_model(args.model) if way == "pretrained" else None
                    config = TrainConfig(seed=seed, max_minutes=args.minutes)
                    done = run(few, None, config, start_from=start)
                    for t in (*_TIMES_S, done.seconds):
                        model = done.at(t)
                        if model is None:
                            continue
                        row = {
                            "dataset": name,
                            "n_images": n,
                            "seed": seed,
                            "way": way,
                            "seconds": round(t, 1),
                            "is_final": t == done.seconds,
                            **scored(model, held),
                        }
                        rows.append(row)
                    print(rows[-1], file=sys.stderr, flush=True)
                    if args.json:
                        text = json.dumps(
                            {"machine": machine(), "rows": rows}, indent=1
                        )
                        args.json.write_text(text + "\n")
    print(f"{machine()}; {args.minutes:g} min at most\n")
    print_table(rows)


def print_table(rows: list[dict[str, object]]) -> None:
    """Print AP@0.5 and mean AP on ``val_*``, mean and half the range over seeds."""
    print("| data | images | seconds | way | AP@.5 | mean AP | seeds |")
    print("|---" * 7 + "|")
    for name, n in dict.fromkeys((row["dataset"], row["n_images"]) for row in rows):
        for t in (*_TIMES_S, None):
            for way in _WAYS:
                group = [
                    row
                    for row in rows
                    if (row["dataset"], row["n_images"], row["way"]) == (name, n, way)
                    and (row["is_final"] if t is None else row["seconds"] == t)
                ]
                if not group:
                    continue
                when = t or f"end ({spread([row['seconds'] for row in group], 0)})"
                scores = [spread([row[k] for row in group]) for k in ("ap50", "map")]
                cells = [name, n, when, way, *scores, len(group)]
                print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
