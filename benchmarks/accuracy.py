"""How good, and how long: train, predict and evaluate by the command line.

Runs `napari-unet train`, `predict` and `evaluate` on a folder that holds ``images/``
and ``masks/`` with files named ``train_*`` and ``val_*``, once for each seed, and
prints a table. CPU seconds are those of the training process, read from the system.

    python benchmarks/accuracy.py DATA/dsb2018_fluo --seeds 0 1 2 --json FILE
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(*arguments: object) -> tuple[float, float]:
    """Run the command line; return wall and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-m", "napari_unet", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def one_seed(data: Path, seed: int, extra: list[str]) -> dict[str, float]:
    """Train on ``train_*``, score on ``val_*``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        model, labels, scores = out / "m.unet", out / "labels", out / "scores.json"
        folders = ("--images", data / "images", "--masks", data / "masks")
        patterns = ("--pattern", "train_*", "--val-pattern", "val_*")
        wall, cpu = run(
            "train", *folders, *patterns, "--out", model, "--seed", seed, *extra
        )
        source = ("--input", data / "images", "--output", labels)
        predict_wall, _ = run(
            "predict", "--model", model, *source, "--pattern", "val_*"
        )
        run(
            "evaluate", "--truth", data / "masks", "--pred", labels,
            "--pattern", "val_*", "--json", scores,
        )  # fmt: skip
        found = json.loads(scores.read_text())
    return {
        "seed": seed,
        "train_wall_s": round(wall, 1),
        "train_cpu_s": round(cpu, 1),
        "predict_wall_s": round(predict_wall, 1),
        "ap50": found["ap"]["0.5"],
        "ap75": found["ap"]["0.75"],
        "ap90": found["ap"]["0.9"],
        "map": found["map"],
        "f1_50": found["f1"]["0.5"],
        "iou": found["iou"],
        "separated": found["separated_pairs"] / max(found["n_touching_pairs"], 1),
        "n_cells": found["n_truth"],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path)
    args, extra = parser.parse_known_args()
    rows = [one_seed(args.data, seed, extra) for seed in args.seeds]
    header = list(rows[0])
    print(
        f"{args.data.name}, {platform.processor() or platform.machine()}, "
        f"{os.cpu_count()} cores, flags: {' '.join(extra) or 'defaults'}"
    )
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(f"{v:.3g}" for v in row.values()) + " |")
    if args.json:
        args.json.write_text(
            json.dumps({"flags": extra, "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
