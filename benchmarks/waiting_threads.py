"""What waiting threads cost: a training step alone, and beside other work.

Torch's threads spin while they wait for each other, or sleep
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
LOOP = "while True: pass"
OTHER_TRAINING = STEPS.replace("max_steps=30", "max_steps=10000").replace(
    "== 30", "== 0"
)


def step_s(policy: str, others: tuple[str, ...]) -> float:
    """Return the seconds of a training step beside other processes."""
    env = os.environ | {"OMP_WAIT_POLICY": policy}
    busy = [subprocess.Popen([sys.executable, "-c", code], env=env) for code in others]
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEPS],
            env=env,
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
    beside = {
        "alone": (),
        "beside a busy process": (LOOP,),
        "beside another training": (OTHER_TRAINING,),
    }
    for name, others in beside.items():
        spinning, sleeping = step_s("ACTIVE", others), step_s("PASSIVE", others)
        ratio = spinning / sleeping
        print(f"| {name} | {spinning:.3f} | {sleeping:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
