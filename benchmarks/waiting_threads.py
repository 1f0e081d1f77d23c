"""What waiting threads cost: a training step alone, and beside one busy process.

Torch's threads spin while they wait for each other. Beside other work on the same cores
that makes each step slower, so `napari_unet.learning` asks for sleeping threads
(``OMP_WAIT_POLICY=PASSIVE``). Prints seconds per step for both, in turn.

    python benchmarks/waiting_threads.py
"""

from __future__ import annotations

import os
import subprocess
import sys

STEPS = """
import time
from napari_unet import TrainConfig, train
from napari_unet.events import StepDone
from napari_unet.files.samples import sample_images
samples = sample_images()[:3]
config = TrainConfig(max_steps=30, validate_every=1000)
for event in train([s[1] for s in samples], [s[2] for s in samples], config):
    if isinstance(event, StepDone) and event.step == 5:
        start = time.perf_counter()
    if isinstance(event, StepDone) and event.step == 30:
        print((time.perf_counter() - start) / 25)
        break
"""
BUSY = "while True: pass"


def step_s(policy: str, n_busy: int) -> float:
    """Return the seconds of a training step beside `n_busy` busy processes."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_busy)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEPS],
            env=os.environ | {"OMP_WAIT_POLICY": policy},
            check=True,
            capture_output=True,
            text=True,
        )
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return float(done.stdout)


def main() -> None:
    """Print the table."""
    print(f"{os.cpu_count()} cores, seconds per training step")
    print("| | spinning | sleeping | spinning / sleeping |")
    print("|---|---|---|---|")
    for n_busy in (0, 1, 2):
        spinning, sleeping = step_s("ACTIVE", n_busy), step_s("PASSIVE", n_busy)
        beside = "alone" if n_busy == 0 else f"beside {n_busy} busy"
        ratio = spinning / sleeping
        print(f"| {beside} | {spinning:.3f} | {sleeping:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
