"""How good after how many seconds: score against time of training.

Trains on the ``train_*`` images of each data set, chooses and tunes on ``val_*``, and
scores the best model that was there after each time on all of ``val_*``. Scoring is
off the clock; reading, planning, validation and tuning are on it.

    python benchmarks/time_to_quality.py DATA --seeds 0 1 2 --json FILE > FILE.md
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from _runs import Run, machine, pairs_of, run, scored, spread

from napari_unet.config import TrainConfig
from napari_unet.files.model_places import shipped_model

_TIMES_S = (10, 30, 60, 120, 300, 600, 900)
_DATASETS = {  # minutes of training at most
    "sample_nuclei": 0.5,
    "dsb2018_fluo": 15.0,
    "usiigaci_phase": 15.0,
    "vnc_em": 10.0,
}


def rows_of(name: str, done: Run, data: Path, seed: int) -> list[dict[str, object]]:
    """Return the scores of the best models at all times, and of the last one."""
    held = pairs_of(data, name, "val")
    when = [t for t in _TIMES_S if t < done.seconds]
    rows: list[dict[str, object]] = []
    for t in [*when, done.seconds]:
        model = done.at(t)
        if model is not None:
            rows.append(
                {
                    "dataset": name,
                    "seed": seed,
                    "seconds": round(t, 1),
                    "is_final": t == done.seconds,
                    "step": model.step,
                    **scored(model, held),
                }
            )
    return rows


def print_table(rows: list[dict[str, object]]) -> None:
    """Print mean and half the range over the seeds, for each time."""
    print("| data | seconds | seeds | F1@.5 | AP@.5 | mean AP | pairs separated |")
    print("|---|---|---|---|---|---|---|")
    names = list(dict.fromkeys(row["dataset"] for row in rows))
    for name in names:
        own = [row for row in rows if row["dataset"] == name]
        times = sorted({row["seconds"] for row in own if not row["is_final"]})
        groups = [[r for r in own if r["seconds"] == t] for t in times]
        final = [row for row in own if row["is_final"]]
        for group in [*groups, final]:
            seconds = [row["seconds"] for row in group]
            when = f"end ({spread(seconds, 0)})" if group is final else f"{seconds[0]}"
            keys = ("f1", "ap50", "map", "separated")
            scores = [spread([row[key] for row in group]) for key in keys]
            print(f"| {name} | {when} | {len(group)} | {' | '.join(scores)} |")


def main() -> None:
    """Train for each data set and seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--datasets", nargs="+", default=list(_DATASETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, help="instead of each set's own")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--pretrained", help="model to start from, such as nuclei")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    start = shipped_model(args.pretrained) if args.pretrained else None
    rows: list[dict[str, object]] = []
    for name in args.datasets:
        train, held = (pairs_of(args.data, name, part) for part in ("train", "val"))
        for seed in args.seeds:
            minutes = args.minutes or _DATASETS[name]
            config = TrainConfig(seed=seed, max_minutes=minutes)
            done = run(train, held, config, start_from=start)
            rows += rows_of(name, done, args.data, seed)
            print(f"{name} {seed}: {rows[-1]} {done.plan}", file=sys.stderr, flush=True)
            if args.json:  # after each run: hours of work are not lost to one error
                found = {"machine": machine(), "start": args.pretrained, "rows": rows}
                args.json.write_text(json.dumps(found, indent=1) + "\n")
    begin = f"from the model {args.pretrained!r}" if args.pretrained else "from scratch"
    print(f"{machine()}; {begin}\n")
    print_table(rows)


if __name__ == "__main__":
    main()
