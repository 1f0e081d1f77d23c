"""How fast a network predicts, and how near that is to its convolutions alone.

Times forward passes of the default network at base width 32 on one core, variants in
turn within one run: as built (float32, channels first) beside what `for_inference`
makes of it. Then each of its convolutions alone, at its own size, warm, in the same
layout and precision: the sum of their times is the least that the network could take
with them. Labels in reduced precision are compared with those in float32, by a model
that is trained first, for a minute, on three quarters of the shipped sample. Where
there is a CUDA device, base width 64 is measured on it.

    python benchmarks/forward.py --json benchmarks/results/forward.json \
        > benchmarks/results/forward.md
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_unet.config import NetworkConfig, PredictConfig, TrainConfig
from napari_unet.events import Finished
from napari_unet.files.samples import sample_images
from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.device import (
    choose_device,
    fastest_precision,
    keep_freed_memory,
)
from napari_unet.learning.networks import build_network
from napari_unet.learning.prediction import predict
from napari_unet.learning.training import train

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE, BASE_WIDTH, DEPTHS = 1024, 32, (3, 4)
N_ROUNDS = 3
CUDA_BASE_WIDTH, CUDA_BATCH = 64, 4


def seconds(function: Callable[[], object]) -> float:
    """Return how long a call takes; on CUDA until the device is done."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def best_in_turn(
    functions: dict[str, Callable[[], object]], n_rounds: int
) -> dict[str, float]:
    """Return the shortest time of each; all run once a round, so that load hits all."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(n_rounds):
        for name, function in functions.items():
            best[name] = min(best[name], seconds(function))
    return best


# --- convolutions alone ------------------------------------------------------------


def convolutions(net: nn.Module, image: torch.Tensor) -> list[tuple[nn.Module, tuple]]:
    """Return each convolution of a forward pass, and of its input shape and strides."""
    calls: list[tuple[nn.Module, tuple]] = []

    def note(layer: nn.Module, inputs: tuple, _: object) -> None:
        (given,) = inputs
        calls.append((layer, (given.shape, given.stride())))

    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [
        layer.register_forward_hook(note)
        for layer in net.modules()
        if isinstance(layer, kinds)
    ]
    net(image)
    for hook in hooks:
        hook.remove()
    return calls


def n_flop(layer: nn.Module, shape: tuple[int, ...]) -> int:
    """Return multiplications and additions of a same-padding convolution."""
    # Each input pixel meets each weight once: stride 1, or 2x2 transposed by 2.
    return 2 * layer.weight.numel() * shape[0] * shape[2] * shape[3]


@torch.inference_mode()
def alone(net: nn.Module, image: torch.Tensor, n_rounds: int) -> list[dict]:
    """Return seconds and FLOPs of each convolution by itself."""
    rows = []
    for layer, (shape, strides) in convolutions(net, image):
        weight = layer.weight
        given = torch.empty_strided(
            shape, strides, dtype=weight.dtype, device=weight.device
        ).normal_()
        best = min(seconds(lambda: layer(given)) for _ in range(n_rounds + 1))  # noqa: B023
        rows.append({"shape": list(shape), "s": best, "flop": n_flop(layer, shape)})
    return rows


# --- one core ----------------------------------------------------------------------


def on_one_core(depth: int, keeps_memory: bool) -> dict[str, object]:
    """Return one row of the table."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    is_kept = keeps_memory and keep_freed_memory()
    torch.manual_seed(0)
    net = build_network(NetworkConfig(base_width=BASE_WIDTH, depth=depth)).eval()
    image, device = torch.rand(1, 1, SIDE, SIDE), choose_device("cpu")
    precision = fastest_precision("cpu")
    full, fast = (for_inference(net, device, p) for p in ("fp32", precision))
    with torch.inference_mode():
        times = best_in_turn(
            {
                "plain": lambda: net(image),
                "fp32": lambda: full(image),
                "fast": lambda: fast(image),
                "fast again": lambda: fast(image),
            },
            N_ROUNDS,
        )
        layers = alone(fast, image, N_ROUNDS)
    # Again, should the load have changed meanwhile.
    with torch.inference_mode():
        again = min(seconds(lambda: fast(image)) for _ in range(N_ROUNDS))
    fast_s = min(times["fast"], times["fast again"], again)
    sum_s = sum(row["s"] for row in layers)
    flop = sum(row["flop"] for row in layers)
    fastest_layer = max(row["flop"] / row["s"] for row in layers)
    return {
        "depth": depth,
        "keeps_memory": is_kept,
        "precision": precision,
        "plain_s": times["plain"],
        "fp32_s": times["fp32"],
        "fast_s": fast_s,
        "ratio_fp32": times["plain"] / times["fp32"],
        "ratio": times["plain"] / fast_s,
        "gflop": flop / 1e9,
        "convolutions_s": sum_s,
        "share_of_convolutions": sum_s / fast_s,
        "gflop_per_s": flop / fast_s / 1e9,
        "fastest_layer_gflop_per_s": fastest_layer / 1e9,
        "share_of_fastest_layer": flop / fast_s / fastest_layer,
        "layers": layers,
    }


def _in_child(pipe, depth: int, keeps_memory: bool) -> None:
    pipe.send(on_one_core(depth, keeps_memory))


def in_fresh_process(depth: int, keeps_memory: bool) -> dict[str, object]:
    """Return a row; what is done about freed memory holds for a whole process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_in_child, args=(theirs, depth, keeps_memory))
    child.start()
    theirs.close()
    row = ours.recv()
    child.join()
    return row


# --- exactness ---------------------------------------------------------------------


def trained(path: Path | None):
    """Return a model of the sample, and the images to compare on."""
    samples = sample_images()
    images = [image for _, image, _ in samples]
    if path is not None:
        return load_model(path), images
    config = TrainConfig(max_steps=400, max_minutes=1, device="cpu")
    labels = [truth for _, _, truth in samples]
    model = None
    for event in train(images[:3], labels[:3], config):
        if isinstance(event, Finished):
            model = event.model
    return model, images


def exactness(path: Path | None) -> dict[str, float]:
    """Return what reduced precision changes, against fp32 as the network is built."""
    model, images = trained(path)
    worst, n_flips, n_px = {"fp32": 0.0, "fast": 0.0}, {"fp32": 0, "fast": 0}, 0
    for image in images:
        reference = _as_built(model, image)
        n_px += reference[0].size
        for precision in worst:
            config = PredictConfig(device="cpu", precision=precision)
            found = predict(model, image, config)
            difference = float(np.abs(found - reference).max())
            worst[precision] = max(worst[precision], difference)
            flips = (found.argmax(0) != reference.argmax(0)).sum()
            n_flips[precision] += int(flips)
    return {
        "n_px": n_px,
        "iou": float(model.scores.get("iou", float("nan"))),
        **{f"difference_{name}": value for name, value in worst.items()},
        **{f"flips_{name}": n / n_px * 1e4 for name, n in n_flips.items()},
    }


def _as_built(model, image) -> np.ndarray:
    """Return probabilities of the network as it is built, of a whole image."""
    from napari_unet.imaging.intensity import normalize
    from napari_unet.imaging.tiling import pad_to_multiple
    from napari_unet.learning.applying.ranges import image_range

    net = model.build()
    plane = normalize(np.asarray(image.data), image_range(model, image))
    padded, crop = pad_to_multiple(plane, net.multiple)
    with torch.inference_mode():
        logits = net(torch.from_numpy(padded)[None])[0]
    return torch.softmax(logits, 0).numpy()[crop]


# --- CUDA --------------------------------------------------------------------------


@torch.inference_mode()
def on_cuda() -> dict[str, object] | None:
    """Return what a CUDA device reaches; None without one."""
    if not torch.cuda.is_available():
        return None
    device = choose_device("cuda")
    n = 8192
    factor = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
    matmul_s = min(seconds(lambda: factor @ factor) for _ in range(20))
    block = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    copy_s = min(seconds(lambda: block.clone()) for _ in range(10))
    net = build_network(NetworkConfig(base_width=CUDA_BASE_WIDTH, depth=4)).eval()
    fast = for_inference(net, device, "bf16")
    plain = net.to("cuda")
    image = torch.rand(CUDA_BATCH, 1, SIDE, SIDE, device="cuda")
    times = best_in_turn(
        {"plain": lambda: plain(image), "bf16": lambda: fast(image)}, 20
    )
    layers = alone(fast, image, 20)
    flop = sum(row["flop"] for row in layers)
    sum_s = sum(row["s"] for row in layers)
    # Each feature map is written once and read once at least.
    n_bytes = 2 * sum(2 * int(np.prod(row["shape"])) for row in layers)
    peak, bandwidth = 2 * n**3 / matmul_s, 2 * block.numel() / copy_s
    return {
        "device": device.label,
        "plain_s": times["plain"],
        "fast_s": times["bf16"],
        "ratio": times["plain"] / times["bf16"],
        "matmul_tflop_per_s": peak / 1e12,
        "tflop_per_s": flop / times["bf16"] / 1e12,
        "share_of_matmul": flop / times["bf16"] / peak,
        "convolutions_s": sum_s,
        "share_of_convolutions": sum_s / times["bf16"],
        "least_by_compute_s": flop / peak,
        "least_by_memory_s": n_bytes / bandwidth,
        "megapixels_per_s": CUDA_BATCH * SIDE**2 / times["bf16"] / 1e6,
    }


# --- the page ----------------------------------------------------------------------


def cpu_model() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def cuda_lines(found: dict | None) -> list[str]:
    """Return what was found on CUDA as Markdown."""
    if found is None:
        return ["On CUDA: not measured, there is no such device here.", ""]
    by_layers = found["share_of_convolutions"] > 0.7
    limit = (
        "the convolutions themselves, each of which reaches less than a large product "
        "of matrices"
        if by_layers
        else "what lies between the convolutions: ReLU, concatenation and pooling, "
        "which only move memory"
    )
    of_peak, of_time = found["share_of_matmul"], found["share_of_convolutions"]
    return [
        f"On {found['device']}, base {CUDA_BASE_WIDTH}, depth 4, {CUDA_BATCH} images "
        f"of {SIDE} x {SIDE}: float32 as built {found['plain_s'] * 1e3:.1f} ms, bf16 "
        f"{found['fast_s'] * 1e3:.1f} ms ({found['ratio']:.1f} times as fast, "
        f"{found['megapixels_per_s']:.0f} Mpx/s): {found['tflop_per_s']:.0f} useful "
        f"TFLOP/s, {of_peak:.0%} of the {found['matmul_tflop_per_s']:.0f} of a bf16 "
        "product of matrices of 8192 x 8192. Its convolutions alone take "
        f"{of_time:.0%} of that time. By arithmetic it could be "
        f"{found['least_by_compute_s'] * 1e3:.1f} ms, by reading and writing each "
        f"feature once {found['least_by_memory_s'] * 1e3:.1f} ms. The limit is "
        f"{limit}.",
        "",
    ]


def page(found: dict) -> str:
    """Return what was found as Markdown."""
    lines = [
        f"`python benchmarks/forward.py`, variants in turn in one run on one core of "
        f"{found['cpu']} ({found['n_cores']} cores, load {found['load']:.1f} when it "
        f"began), torch {found['torch']}. The default network at base {BASE_WIDTH}, "
        f"{SIDE} x {SIDE}; best of {N_ROUNDS} and more.",
        "",
        "| depth | freed memory | fp32 as built, s | prepared, fp32, s | prepared, "
        "fastest precision, s | ratio | its convolutions alone, s | of their rate | "
        "GFLOP/s | of the fastest layer's rate |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["cpu_rows"]:
        memory = "kept" if row["keeps_memory"] else "given back"
        lines.append(
            f"| {row['depth']} | {memory} | {row['plain_s']:.2f} | {row['fp32_s']:.2f} "
            f"({row['ratio_fp32']:.1f}x) | {row['fast_s']:.2f} ({row['precision']}) "
            f"| **{row['ratio']:.1f}** | {row['convolutions_s']:.2f} "
            f"| **{row['share_of_convolutions']:.0%}** | {row['gflop_per_s']:.0f} "
            f"| {row['share_of_fastest_layer']:.0%} |"
        )
    exact = found["exactness"]
    lines += [
        "",
        "*Ratio*: float32 as built (channels first, BatchNorm a layer of its own) to "
        "the fastest precision, tried once on this machine. *Its convolutions "
        "alone*: the sum over the network's own convolutions, each run by itself at "
        "its own size, warm, in the same layout and precision; *of their rate* is "
        "that sum as a share of the whole forward pass. *The fastest layer*: "
        "whichever of them does most FLOPs a second. *Kept*: `keep_freed_memory`, "
        "for a process that only predicts.",
        "",
        "What it changes, against float32 as built, with a trained model (IoU "
        f"{exact['iou']:.2f} on held-back pixels) on {exact['n_px']} pixels of the "
        "shipped sample:",
        "",
        "| | largest difference of a probability | labels flipped in 10,000 px |",
        "|---|---|---|",
        f"| prepared, fp32 | {exact['difference_fp32']:.1e} "
        f"| {exact['flips_fp32']:.2f} |",
        f"| prepared, fastest precision | {exact['difference_fast']:.1e} "
        f"| {exact['flips_fast']:.2f} |",
        "",
        *cuda_lines(found["cuda"]),
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print the page, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--model", type=Path, help="trained already; else for a minute")
    args = parser.parse_args()
    found = {
        "cpu": cpu_model(),
        "n_cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"),
        "torch": torch.__version__,
        "cpu_rows": [
            in_fresh_process(depth, keeps)
            for keeps in (False, True)
            for depth in DEPTHS
        ],
        "exactness": exactness(args.model),
        "cuda": on_cuda(),
    }
    print(page(found), end="")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
