"""What a folder run costs for each of many small files, beside the network.

Images of 64 x 64 pixels of drawn cells, a very small network on the CPU. "Network" is
the time inside its forward pass; what is left of the run's wall clock is reading,
tiling, finding cells, writing and the ledger. Memory is the resident set after each
thousand files, against that after the first.

    python benchmarks/folder.py [--files 1000 10000] [--measure] > results/folder.md
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_unet.batch import segment_folder
from napari_unet.config import NetworkConfig, PredictConfig
from napari_unet.events import FileDone, FolderFinished
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.applying import inference
from napari_unet.learning.model import Model
from napari_unet.learning.networks import build_network

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_mib() -> float:
    """Return the resident set of this process."""
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * _PAGE / 2**20


def write_images(folder: Path, n: int) -> None:
    """Write n images, of ten that differ, a hundred to a subfolder."""
    rng = np.random.default_rng(0)
    some = [draw_cells((64, 64), n_cells=6, rng=rng)[0] for _ in range(10)]
    planes = [(255 * np.clip(plane, 0, 1)).astype(np.uint8) for plane in some]
    for i in range(n):
        place = folder / f"{i // 100:03d}"
        place.mkdir(exist_ok=True)
        tifffile.imwrite(place / f"{i:05d}.tif", planes[i % 10])


def bright_is_cell() -> Model:
    """Return a small network that finds what is bright, without training."""
    config = NetworkConfig(base_width=2, depth=1)
    net = build_network(config)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    return Model(config, state)


class Clock:
    """Seconds spent in the network, by a stopwatch around its forward pass."""

    def __init__(self) -> None:
        self.seconds = 0.0
        forward = inference._Ready.forward

        def timed(net, image):  # type: ignore[no-untyped-def]
            start = time.perf_counter()
            logits = forward(net, image)
            self.seconds += time.perf_counter() - start
            return logits

        inference._Ready.forward = timed  # type: ignore[method-assign]


def run(n: int, clock: Clock, *, measure: bool) -> dict[str, float]:
    """Run a folder of n files, and again with all of it done."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        images, out = Path(place) / "images", Path(place) / "out"
        images.mkdir()
        write_images(images, n)
        model, config = bright_is_cell(), PredictConfig(device="cpu", precision="fp32")
        settings = {"config": config, "measure": measure}
        first: float | None = None
        most = n_done = 0.0
        clock.seconds, start = 0.0, time.perf_counter()
        cpu = time.process_time()
        for event in segment_folder(model, images, out, **settings):
            if isinstance(event, FileDone):
                n_done += 1
                if n_done % 1000 == 0 or n_done == n:
                    first = first or resident_mib()
                    most = max(most, resident_mib())
        wall, network = time.perf_counter() - start, clock.seconds
        cpu = time.process_time() - cpu
        most = max(most, resident_mib())
        assert isinstance(event, FolderFinished)
        assert event.n_done == n
        start = time.perf_counter()
        *_, last = segment_folder(model, images, out, **settings)
        assert last.n_skipped == n  # type: ignore[attr-defined]
        return {
            "files": n,
            "wall_ms": 1e3 * wall / n,
            "network_ms": 1e3 * network / n,
            "beside_ms": 1e3 * (wall - network) / n,
            "cpu_ms": 1e3 * cpu / n,
            "again_ms": 1e3 * (time.perf_counter() - start) / n,
            "growth_mib": most - (first or most),
        }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    clock = Clock()
    rows = [run(n, clock, measure=given.measure) for n in given.files]
    print(
        "| files | ms a file | in the network | beside it | CPU, all threads "
        "| a file that is done already | MiB grown after the first 1,000 |\n"
        "|---|---|---|---|---|---|---|"
    )
    for row in rows:
        names = ("wall_ms", "network_ms", "beside_ms", "cpu_ms", "again_ms")
        cells = [f"{row[name]:.2f}" for name in names]
        print(f"| {row['files']:,} | {' | '.join(cells)} | {row['growth_mib']:.1f} |")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
