"""Which network, which target: each of the registry at the same budget.

Each network with the default target, and each target with the default network, on
nuclei, phase contrast and EM: trained on ``train_*``, chosen and tuned on ``val_*``,
scored on ``val_*``, for the same number of minutes on the same number of threads.

    python benchmarks/networks.py DATA --seeds 0 1 2 --json FILE > FILE.md
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import get_args

import torch
from _runs import machine, pairs_of, run, scored, spread

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.learning.networks import ARCHITECTURES

_DATASETS = ("dsb2018_fluo", "usiigaci_phase", "vnc_em")
_TARGETS = get_args(TrainConfig.model_fields["target"].annotation)


def variants() -> list[tuple[str, str]]:
    """Return (architecture, target): each one of both, beside the defaults."""
    default = (
        NetworkConfig.model_fields["architecture"].default,
        TrainConfig.model_fields["target"].default,
    )
    networks = [(name, default[1]) for name in ARCHITECTURES]
    targets = [(default[0], target) for target in _TARGETS]
    return list(dict.fromkeys([default, *networks, *targets]))


def network_for(architecture: str) -> NetworkConfig | None:
    """Return the network; None leaves the default one to planning."""
    if architecture == NetworkConfig.model_fields["architecture"].default:
        return None
    return NetworkConfig.model_validate({"architecture": architecture})


def main() -> None:
    """Train each variant on each data set with each seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--datasets", nargs="+", default=list(_DATASETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, object]] = []
    for name in args.datasets:
        train, held = (pairs_of(args.data, name, part) for part in ("train", "val"))
        for architecture, target in variants():
            for seed in args.seeds:
                config = TrainConfig.model_validate(
                    {"seed": seed, "target": target, "max_minutes": args.minutes}
                )
                done = run(train, held, config, network=network_for(architecture))
                if done.final is None:
                    raise RuntimeError("training ended without a model")
                row = {
                    "dataset": name,
                    "network": architecture,
                    "target": target,
                    "seed": seed,
                    "steps": done.n_steps,
                    "seconds": round(done.seconds, 1),
                    "parameters": sum(
                        t.numel() for t in done.final.build().parameters()
                    ),
                    **scored(done.final, held),
                }
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
                if args.json:
                    found = {"machine": machine(), "minutes": args.minutes}
                    text = json.dumps(found | {"rows": rows}, indent=1)
                    args.json.write_text(text + "\n")
    print(f"{machine()}; {args.minutes:g} min each\n")
    print_table(rows)


def print_table(rows: list[dict[str, object]]) -> None:
    """Print mean and half the range over the seeds."""
    head = "data | network | target | parameters | steps"
    print(f"| {head} | AP@.5 | mean AP | pairs separated |")
    print("|---" * 8 + "|")
    names = ("dataset", "network", "target", "parameters")
    for key in dict.fromkeys(tuple(row[n] for n in names) for row in rows):
        group = [row for row in rows if tuple(row[n] for n in names) == key]
        scores = [spread([row[k] for row in group]) for k in ("ap50", "map")]
        pairs = spread([row["separated"] for row in group], 2)
        steps = spread([row["steps"] for row in group], 0)
        cells = [*key[:3], f"{key[3]:,}", steps, *scores, pairs]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
