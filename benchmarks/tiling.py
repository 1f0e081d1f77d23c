"""What tiles cost: beside one forward pass of the whole image, and beside MONAI's.

Predicts a field of 4096 x 4096 px with the default network, untrained, on one core,
variants in turn in one run: the network on the whole image at once, which needs ten
times the memory; `Predictor` with the tile size that it chooses and with larger tiles,
all reading, normalising, activation and writing included; and MONAI's
`sliding_window_inference` with Gaussian blending at an overlap of one half, with
windows as large as our tiles and of the 512 px that are usual. All take the very same
network in the same precision. The limit is arithmetic: the share of pixels that are
computed more than once, as tiles overlap by the network's reach.

    pip install --group benchmarks
    python benchmarks/tiling.py --json benchmarks/results/tiling.json \
        > benchmarks/results/tiling.md
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from forward import cpu_model, seconds

from napari_unet.config import NetworkConfig, PredictConfig
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.intensity import normalize
from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.applying.outputs import activate
from napari_unet.learning.applying.predictor import Predictor
from napari_unet.learning.applying.ranges import image_range
from napari_unet.learning.applying.tiles import tile_size_for
from napari_unet.learning.device import choose_device, keep_freed_memory
from napari_unet.learning.model import Model
from napari_unet.learning.networks import build_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_unet.learning.networks import Network

ROLES = ("softmax:background", "softmax:cell")
NETWORKS = [(16, 3), (16, 4)]
USUAL_WINDOW = 512


def model_of(base_width: int, depth: int) -> Model:
    """Return an untrained model, always the same."""
    torch.manual_seed(0)
    config = NetworkConfig(base_width=base_width, depth=depth)
    return Model(config, build_network(config).state_dict())


def field(side: int) -> Image:
    """Return an image with structure at all scales."""
    rng = np.random.default_rng(0)
    noise = rng.random((side, side), dtype=np.float32)
    coarse = rng.random((side // 16, side // 16), dtype=np.float32)
    return Image((noise + np.kron(coarse, np.ones((16, 16), np.float32)))[None])


def whole(net: Network, model: Model, image: Image) -> NDArray[np.float32]:
    """Return the probabilities by one forward pass."""
    given = normalize(np.asarray(image.data), image_range(model, image))
    with torch.inference_mode():
        logits = net(torch.from_numpy(given)[None])[0]
        return activate(logits, ROLES).numpy()


def tiled(
    net: Network, model: Model, image: Image, tile_size: int | None
) -> NDArray[np.float32]:
    """Return the probabilities tile by tile."""
    config = PredictConfig(device="cpu", tile_size=tile_size)
    for event in Predictor(model, image, config, (1.0, 1.0), net=net).tiles():
        last = event
    return last.outputs


def by_monai(
    net: Network, model: Model, image: Image, window: int
) -> NDArray[np.float32]:
    """Return what MONAI blends."""
    from monai.inferers import sliding_window_inference

    given = normalize(np.asarray(image.data), image_range(model, image))

    def predictor(part: torch.Tensor) -> torch.Tensor:
        return activate(net(part)[0], ROLES)[None]

    with torch.inference_mode():
        found = sliding_window_inference(
            torch.from_numpy(given)[None],
            (window, window),
            1,
            predictor,
            overlap=0.5,
            mode="gaussian",
        )
    return found[0].numpy()


def measured(
    base_width: int, depth: int, precision: str, side: int, n_rounds: int
) -> list[dict[str, object]]:
    """Return a row for each way to predict."""
    model, image = model_of(base_width, depth), field(side)
    device = choose_device("cpu")
    net = for_inference(model.build(), device, precision)
    own = tile_size_for(net, (side, side), device, precision)
    ways: dict[str, tuple[int, Callable[[], NDArray[np.float32]]]] = {
        "whole image at once": (side, lambda: whole(net, model, image)),
    }
    for size in dict.fromkeys((own, side // 2)):
        ways[f"ours, tiles of {size} px" + (" (its own choice)" * (size == own))] = (
            size,
            lambda size=size: tiled(net, model, image, size),
        )
    for size in (own, USUAL_WINDOW):
        ways[f"MONAI, windows of {size} px"] = (
            size,
            lambda size=size: by_monai(net, model, image, size),
        )
    times: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, NDArray[np.float32]] = {}
    for _ in range(n_rounds):
        for name, (_, way) in ways.items():

            def keep(name: str = name, way: Callable[..., object] = way) -> None:
                results[name] = way()

            times[name].append(seconds(keep))
    truth = results["whole image at once"]
    base = min(times["whole image at once"])
    halo = net.halo or 0
    return [
        {
            "base_width": base_width,
            "depth": depth,
            "halo": halo,
            "precision": precision,
            "way": name,
            "seconds": times[name],
            "ratio": min(times[name]) / base,
            "arithmetic": _computed(name, size, side, halo),
            "difference": float(np.abs(results[name] - truth).max()),
        }
        for name, (size, _) in ways.items()
    ]


def _computed(name: str, size: int, side: int, halo: int) -> float:
    """Return how many pixels go through the network for each of the image."""
    if name.startswith("MONAI"):
        n = -(-(side - size) // (size // 2)) + 1
        return (n * size / side) ** 2
    starts = range(0, side, size)
    reads = [min(side, s + size + halo) - max(0, s - halo) for s in starts]
    return (sum(reads) / side) ** 2


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    is_kept = keep_freed_memory()
    load = os.getloadavg()[0]
    rows = [
        row
        for network in NETWORKS
        for row in measured(*network, args.precision, args.side, args.rounds)
    ]
    memory = "kept" if is_kept else "given back"
    print(
        "`python benchmarks/tiling.py`, variants in turn in one run on one core of "
        f"{cpu_model()} ({os.cpu_count()} cores, load {load:.1f} when it began), torch "
        f"{torch.__version__}; {args.side} x {args.side} px, {args.precision}, freed "
        f"memory {memory}. Best of {args.rounds}. *Pixels computed* is what arithmetic "
        "says; *difference* the largest of a probability, from the whole image at "
        "once.\n"
    )
    print("| network | way | s | times the whole | pixels computed | difference |")
    print("|---" * 6 + "|")
    for row in rows:
        network = f"base {row['base_width']}, depth {row['depth']}, reach {row['halo']}"
        print(
            f"| {network} | {row['way']} | {min(row['seconds']):.1f} "
            f"| **{row['ratio']:.2f}** | {row['arithmetic']:.2f} "
            f"| {row['difference']:.1e} |"
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
