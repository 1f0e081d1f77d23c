"""How fast a training step is, where its time goes, and how near that is to the limit.

Times whole steps of the default network on one core, variants in turn within one run:
plain torch (float32, channels first, the optimiser's loop) beside `Stepper` in float32
and in the precision that this machine is fastest with. Then where a step of the fastest
goes: drawing, augmentation, forward, backward, and the rest (loss, clipping,
optimiser). The limit is arithmetic: three times the forward pass's FLOPs, at the rate
that a large product of matrices reaches on the same core. Where there is a CUDA
device, base width 64 is measured on it: the share of the peak of a product of matrices,
and how much of the time the device computes while batches are drawn beside it.

    python benchmarks/training_step.py --json benchmarks/results/training_step.json \
        > benchmarks/results/training_step.md
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from forward import convolutions, cpu_model, n_flop, seconds
from torch import nn

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.targets import make_target
from napari_unet.learning.augmentation import Batch, augment, window_size
from napari_unet.learning.device import (
    choose_device,
    keep_freed_memory,
    training_precision,
)
from napari_unet.learning.loop.stepping import Stepper
from napari_unet.learning.losses import weighted_cross_entropy
from napari_unet.learning.losses.by_role import loss_for
from napari_unet.learning.networks import build_network
from napari_unet.learning.patches import PatchSource, Plane

if TYPE_CHECKING:
    from collections.abc import Callable

ROLES = ("softmax:background", "softmax:cell")
SHAPES = [(16, 3, 8, 128), (16, 4, 4, 256), (32, 4, 4, 256)]
N_ROUNDS, LR = 7, 1e-3
CUDA_WIDTH, CUDA_DEPTH, CUDA_BATCH, CUDA_SIDE, CUDA_STEPS = 64, 4, 16, 512, 30


def network(base_width: int, depth: int) -> nn.Module:
    """Return a fresh network, always the same."""
    torch.manual_seed(0)
    return build_network(NetworkConfig(base_width=base_width, depth=depth)).train()


def source() -> PatchSource:
    """Return patches of drawn cells, completely annotated."""
    rng = np.random.default_rng(0)
    image, labels = draw_cells((1024, 1024), n_cells=400, rng=rng)
    target = make_target(Annotation.complete(labels))
    known = np.ones(labels.shape, bool)
    return PatchSource([Plane(image[None].astype(np.float32), labels, known, target)])


def drawn(patches: PatchSource, n: int, side: int, step: int) -> Batch:
    """Return the windows of a step."""
    rng = np.random.default_rng([0, step])
    return patches.draw(
        rng, n=n, size=window_size(side, TrainConfig()), reach=side // 3
    )


def augmented(batch: Batch, side: int, step: int) -> Batch:
    """Return the patches of a step."""
    rng = torch.Generator().manual_seed(step)
    return augment(batch, side, TrainConfig(), rng)


# --- one core ----------------------------------------------------------------------


class Timed(Stepper):
    """A stepper that looks at the clock around the network and around backward."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)
        self.forward_s = self.backward_s = 0.0

    def _logits(self, part: Batch) -> torch.Tensor:
        start = time.perf_counter()
        logits = super()._logits(part)
        self.forward_s += time.perf_counter() - start
        return logits

    def _backward(self, loss: torch.Tensor) -> None:
        start = time.perf_counter()
        super()._backward(loss)
        self.backward_s += time.perf_counter() - start


def plain_step(net: nn.Module) -> Callable[[Batch], object]:
    """Return a step as it is usually written."""
    optimizer = torch.optim.AdamW(net.parameters(), LR, foreach=False, fused=False)

    def step(batch: Batch) -> float:
        optimizer.zero_grad()
        loss = weighted_cross_entropy(net(batch.image), batch.classes, batch.weights)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        return loss.item()

    return step


def stages(stepper: Timed, patches: PatchSource, n: int, side: int) -> dict[str, float]:
    """Return seconds of each part of a step: the medians of several."""
    rows: list[dict[str, float]] = []
    for step in range(N_ROUNDS + 1):
        stepper.forward_s = stepper.backward_s = 0.0
        times = [time.perf_counter()]
        batch = drawn(patches, n, side, step)
        times.append(time.perf_counter())
        batch = augmented(batch, side, step)
        times.append(time.perf_counter())
        stepper.step(batch, LR)
        whole = time.perf_counter() - times[-1]
        rows.append(
            {
                "draw": times[1] - times[0],
                "augment": times[2] - times[1],
                "forward": stepper.forward_s,
                "backward": stepper.backward_s,
                "loss, clipping, optimiser": whole
                - stepper.forward_s
                - stepper.backward_s,
            }
        )
    return {name: statistics.median(row[name] for row in rows[1:]) for name in rows[0]}


def matmul_flop_per_s(dtype: torch.dtype, n: int, device: str = "cpu") -> float:
    """Return what a large product of matrices reaches."""
    factor = torch.ones(n, n, dtype=dtype, device=device)
    best = min(seconds(lambda: factor @ factor) for _ in range(8))
    return 2 * n**3 / best


def flop_of(net: nn.Module, image: torch.Tensor) -> int:
    """Return the FLOPs of forward and backward: each product thrice."""
    with torch.no_grad():
        calls = convolutions(net, image)
    return 3 * sum(n_flop(layer, shape) for layer, (shape, _) in calls)


def race(batch: Batch, base_width: int, depth: int, precision: str):
    """Return seconds of each round of each variant, and the fastest's stepper."""
    device, config = choose_device("cpu"), TrainConfig()
    variants: dict[str, Callable[[Batch], object]] = {
        "plain": plain_step(network(base_width, depth))
    }
    for name in dict.fromkeys(("fp32", precision)):
        net, loss = network(base_width, depth), loss_for(config, ROLES)
        stepper = Timed(net, loss, config, device, name)
        variants[name] = lambda given, stepper=stepper: stepper.step(given, LR)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(N_ROUNDS + 1):
        for name, step in variants.items():
            times[name].append(seconds(lambda step=step: step(batch)))
    # The first round also makes kernels and the optimiser's state.
    return {name: found[1:] for name, found in times.items()}, stepper


def on_one_core(shape: tuple[int, int, int, int], keeps_memory: bool) -> dict:
    """Return one row of the table."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    is_kept = keeps_memory and keep_freed_memory()
    base_width, depth, n, side = shape
    patches = source()
    batch = augmented(drawn(patches, n, side, 0), side, 0)
    precision = training_precision(choose_device("cpu"), "fast")
    times, stepper = race(batch, base_width, depth, precision)
    best = {name: min(found) for name, found in times.items()}
    ratios = [a / b for a, b in zip(times["plain"], times[precision], strict=True)]
    parts = stages(stepper, patches, n, side)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    flop = flop_of(network(base_width, depth), batch.image)
    peak = matmul_flop_per_s(dtype, 2048)
    total = sum(parts.values())
    return {
        "base_width": base_width,
        "depth": depth,
        "batch": n,
        "side": side,
        "keeps_memory": is_kept,
        "precision": precision,
        "seconds": best,
        "ratio_fp32": best["plain"] / best["fp32"],
        "ratio": best["plain"] / best[precision],
        "ratio_range": [min(ratios), max(ratios)],
        "parts": parts,
        "share_of_input": (parts["draw"] + parts["augment"]) / total,
        "share_outside": 1 - (parts["forward"] + parts["backward"]) / total,
        "gflop": flop / 1e9,
        "matmul_gflop_per_s": peak / 1e9,
        "least_s": flop / peak,
    }


def _in_child(pipe, shape: tuple[int, int, int, int], keeps_memory: bool) -> None:
    pipe.send(on_one_core(shape, keeps_memory))


def in_fresh_process(shape: tuple[int, int, int, int], keeps_memory: bool) -> dict:
    """Return a row; what is done about freed memory holds for a whole process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_in_child, args=(theirs, shape, keeps_memory))
    child.start()
    theirs.close()
    row = ours.recv()
    child.join()
    return row


# --- CUDA --------------------------------------------------------------------------


def on_cuda() -> dict[str, object] | None:
    """Return what a CUDA device reaches; None without one."""
    if not torch.cuda.is_available():
        return None
    device, config = choose_device("cuda"), TrainConfig()
    precision = training_precision(device, "fast")
    half = torch.bfloat16 if precision == "bf16" else torch.float16
    peak = matmul_flop_per_s(half, 8192, "cuda")
    first = drawn(source(), CUDA_BATCH, CUDA_SIDE, 0).to(device.torch)
    batch = augmented(first, CUDA_SIDE, 0)
    plain, net = (network(CUDA_WIDTH, CUDA_DEPTH).to("cuda") for _ in range(2))
    flop, plainly = flop_of(plain, batch.image), plain_step(plain)
    stepper = Stepper(net, loss_for(config, ROLES), config, device, precision)
    calls = {
        "plain_s": lambda: plainly(batch),
        "step_s": lambda: stepper.step(batch, LR),
        "augment_s": lambda: augmented(first, CUDA_SIDE, 0),
    }
    times = {name: min(seconds(f) for _ in range(10)) for name, f in calls.items()}
    loop_s, busy_share = with_input(stepper)
    return {
        "device": device.label,
        "precision": precision,
        **times,
        "loop_s": loop_s,
        "least_s": flop / peak,
        "busy_share": busy_share,
        "ratio": times["plain_s"] / times["step_s"],
        "matmul_tflop_per_s": peak / 1e12,
        "tflop_per_s": flop / times["step_s"] / 1e12,
        "share_of_matmul": flop / times["step_s"] / peak,
        "patches_per_s": CUDA_BATCH / loop_s,
    }


def with_input(stepper: Stepper) -> tuple[float, float]:
    """Return seconds of a step with its input, and the share the device computes."""
    patches = source()

    def windows(step: int) -> Batch:
        batch = drawn(patches, CUDA_BATCH, CUDA_SIDE, step)
        return batch.to(torch.device("cuda"))

    def loop(n_steps: int) -> None:
        ready = windows(1)
        for step in range(1, n_steps + 1):
            stepper.begin(augmented(ready, CUDA_SIDE, step), LR)
            # Drawn while the device computes.
            ready = windows(step + 1)
            stepper.finish()

    loop(3)
    loop_s = seconds(lambda: loop(CUDA_STEPS)) / CUDA_STEPS
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        profiled_s = seconds(lambda: loop(CUDA_STEPS))
    busy_s = sum(row.self_device_time_total for row in profile.key_averages()) / 1e6
    return loop_s, busy_s / profiled_s


# --- the page ----------------------------------------------------------------------


def cuda_lines(found: dict | None) -> list[str]:
    """Return what was found on CUDA as Markdown."""
    if found is None:
        return ["On CUDA: not measured, there is no such device here.", ""]
    ms = {name[:-2]: f"{s * 1e3:.1f}" for name, s in found.items() if name[-2:] == "_s"}
    return [
        f"On {found['device']}, base {CUDA_WIDTH}, depth {CUDA_DEPTH}, {CUDA_BATCH} "
        f"patches of {CUDA_SIDE} x {CUDA_SIDE}: plain float32 {ms['plain']} ms, "
        f"{found['precision']} {ms['step']} ms ({found['ratio']:.1f} times as fast); "
        f"by arithmetic at the peak {ms['least']} ms. "
        f"{found['tflop_per_s']:.0f} useful TFLOP/s, "
        f"**{found['share_of_matmul']:.0%}** of the {found['matmul_tflop_per_s']:.0f} "
        "of a product of matrices of 8192 x 8192. With drawing and augmentation "
        f"({ms['augment']} ms on the device) {ms['loop']} ms a step, "
        f"{found['patches_per_s']:.0f} patches/s; the device computes "
        f"**{found['busy_share']:.0%}** of the time.",
        "",
    ]


def page(found: dict) -> str:
    """Return what was found as Markdown."""
    lines = [
        "`python benchmarks/training_step.py`, variants in turn in one run on one core "
        f"of {found['cpu']} ({found['n_cores']} cores, load {found['load']:.1f} when "
        f"it began), torch {found['torch']}. Whole steps; best of {N_ROUNDS}.",
        "",
        "| network, batch | freed memory | plain fp32, ms | ours, fp32 | ours, fastest "
        "| ratio (range) | limit by arithmetic, ms | draw + augment | outside forward "
        "and backward |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in found["cpu_rows"]:
        s, (low, high) = r["seconds"], r["ratio_range"]
        memory = "kept" if r["keeps_memory"] else "given back"
        lines.append(
            f"| base {r['base_width']}, depth {r['depth']}, {r['batch']} x "
            f"{r['side']}² | {memory} | {s['plain'] * 1e3:.0f} "
            f"| {s['fp32'] * 1e3:.0f} ({r['ratio_fp32']:.1f}x) "
            f"| {s[r['precision']] * 1e3:.0f} ({r['precision']}) "
            f"| **{r['ratio']:.1f}** ({low:.1f} to {high:.1f}) "
            f"| {r['least_s'] * 1e3:.0f} | **{r['share_of_input']:.1%}** "
            f"| **{r['share_outside']:.1%}** |"
        )
    names = list(found["cpu_rows"][0]["parts"])
    lines += [
        "",
        "Where a step of the fastest goes, ms:",
        "",
        f"| network, batch | freed memory | {' | '.join(names)} |",
        "|---|---|" + "---|" * len(names),
    ]
    for r in found["cpu_rows"]:
        memory = "kept" if r["keeps_memory"] else "given back"
        cells = " | ".join(f"{r['parts'][name] * 1e3:.1f}" for name in names)
        lines.append(
            f"| base {r['base_width']}, depth {r['depth']}, {r['batch']} x "
            f"{r['side']}² | {memory} | {cells} |"
        )
    return "\n".join([*lines, "", *cuda_lines(found["cuda"])])


def main() -> None:
    """Measure, print the page, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="the first network only")
    args = parser.parse_args()
    shapes = SHAPES[:1] if args.quick else SHAPES
    found = {
        "cpu": cpu_model(),
        "n_cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan,
        "torch": torch.__version__,
        "cpu_rows": [
            in_fresh_process(shape, keeps)
            for keeps in (False, True)
            for shape in shapes
        ],
        "cuda": on_cuda(),
    }
    print(page(found), end="")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
