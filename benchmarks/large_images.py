"""Large images: a mosaic segmented block by block, its memory, and its cells.

    python benchmarks/large_images.py mosaic --images FOLDER --size 20480 --to zarr
    python benchmarks/large_images.py join
    python benchmarks/large_images.py compare --images FOLDER

`mosaic` writes a tiled TIFF of images that are flipped and rotated, segments it, and
prints seconds, the peak of resident memory above what the process holds with its model,
how it was cut, and the number of cells. `join` finds and joins 74,529 drawn cells.
`compare` holds the cells of some 4,000 against those of the untiled image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from _runs import machine

from napari_unet.batch.large import segment_large
from napari_unet.config import InstanceConfig, PredictConfig
from napari_unet.events import BlockDone, LabelsWritten, Note
from napari_unet.files.images import read_image
from napari_unet.files.model_places import shipped_model
from napari_unet.files.samples import SAMPLE_FOLDER
from napari_unet.imaging.blockwise import Cutting, find_all
from napari_unet.imaging.instances import find_instances
from napari_unet.imaging.joining import Joiner, plan_blocks
from napari_unet.learning.applying.blocks import cutting_for
from napari_unet.learning.applying.inference import network_for
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.prediction import predict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

TIFF_TILE_PX = 1024
DRAWN_STEP_PX, DRAWN_PER_SIDE = 15, 273
SAME_IOU = 0.99
PLAIN = PredictConfig(device="cpu", precision="fp32")


def fields_of(folder: Path) -> list[NDArray[np.uint8]]:
    """Return squares from the images of a folder, all of one side and one range."""
    images = []
    for path in sorted([*folder.glob("*.tif"), *folder.glob("*.png")]):
        pixels = np.asarray(read_image(path).data)[0].astype(float)
        low, high = np.percentile(pixels, (1, 99.8))
        scaled = (pixels - low) / max(high - low, 1)
        images.append((np.clip(scaled, 0, 1) * 250).astype(np.uint8))
    least = min(min(image.shape) for image in images)
    side = min(2 ** int(np.log2(least)), TIFF_TILE_PX)
    return [image[:side, :side] for image in images]


def mosaic_tile(
    fields: Sequence[NDArray[np.uint8]], rng: np.random.Generator, side: int
) -> NDArray[np.uint8]:
    """Return a square of fields that are chosen, flipped and rotated by chance."""
    n = side // fields[0].shape[0]

    def turned() -> NDArray[np.uint8]:
        field = fields[int(rng.integers(len(fields)))]
        return np.rot90(field[:: rng.choice([-1, 1])], rng.integers(4))

    return np.block([[turned() for _ in range(n)] for _ in range(n)])


def write_mosaic(path: Path, fields: Sequence[NDArray[np.uint8]], size: int) -> None:
    """Write a mosaic of size x size pixels as a tiled TIFF, tile by tile."""
    rng, n_tiles = np.random.default_rng(0), -(-size // TIFF_TILE_PX)

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for _ in range(n_tiles**2):
            yield mosaic_tile(fields, rng, TIFF_TILE_PX)

    side = n_tiles * TIFF_TILE_PX
    tile = (TIFF_TILE_PX, TIFF_TILE_PX)
    tifffile.imwrite(path, tiles(), shape=(side, side), dtype=np.uint8, tile=tile)


def memory_mib(name: str) -> float:
    """Return what Linux says of this process's memory: VmRSS now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(x for x in lines if x.startswith(name))
    return int(line.split()[1]) / 1024


def segment_mosaic(options: argparse.Namespace) -> None:
    """Segment a mosaic, and print what it took."""
    model = load_model(options.model)
    config = PLAIN.model_copy(update={"tile_size": options.tile_size})
    net = network_for(model, config)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "mosaic.tif"
        write_mosaic(path, fields_of(options.images), options.size)
        # What the first prediction of a process allocates for good.
        predict(model, mosaic_tile(fields_of(options.images), _rng(), 512), config)
        image = read_image(path)
        before = memory_mib("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        start = time.perf_counter()
        output = Path(folder) / f"labels.{options.to}"
        for event in segment_large(model, image, output, config, net=net):
            if isinstance(event, BlockDone):
                print(
                    f"\r{event.n_done}/{event.n_blocks} blocks, "
                    f"{time.perf_counter() - start:.0f} s, "
                    f"+{memory_mib('VmHWM') - before:.0f} MiB",
                    end="",
                    flush=True,
                )
            elif isinstance(event, Note):
                print(f"\n{event.message}")
            elif isinstance(event, LabelsWritten):
                done = event
        seconds = time.perf_counter() - start
        above = memory_mib("VmHWM") - before
    kind = type(image.data).__name__
    side = image.shape[0]
    print(f"\n{machine()}; {path.name} {side} x {side} px, read as {kind}")
    print("| to | tile px | block px | halo px | pixels computed / shown |", end="")
    print(" cells | s | Mpx/s | before MiB | above MiB |")
    print("|---" * 10 + "|")
    overhead = computed(done, net.halo or 0, net.multiple) / done.block_px**2
    print(
        f"| {options.to} | {done.tile_px} | {done.block_px} | {done.halo_px} | "
        f"{overhead:.2f} | {done.n_cells:,} | {seconds:.0f} | "
        f"{side**2 / 1e6 / seconds:.2f} | {before:.0f} | {above:.0f} |"
    )


def computed(done: LabelsWritten, halo: int, multiple: int) -> float:
    """Return how many pixels the network computes for a block in the middle."""
    window = done.block_px + 2 * done.halo_px
    window = -(-window // multiple) * multiple
    n_tiles = -(-window // done.tile_px)
    return float(window + 2 * n_tiles * -(-halo // multiple) * multiple) ** 2


def _rng() -> np.random.Generator:
    return np.random.default_rng(1)


def join_drawn() -> None:
    """Find and join drawn cells, and print the seconds."""
    n = DRAWN_STEP_PX * DRAWN_PER_SIDE
    y, x = np.mgrid[:DRAWN_STEP_PX, :DRAWN_STEP_PX] - DRAWN_STEP_PX // 2
    cell = np.where(y**2 + x**2 <= 36, 0.9, 0.05).astype(np.float32)
    cells = np.tile(cell, (DRAWN_PER_SIDE, DRAWN_PER_SIDE))
    outputs = np.stack([1 - cells, cells])
    config, roles = InstanceConfig(), ["softmax:background", "softmax:cell"]
    cutting = Cutting(1024, 96)
    start = time.perf_counter()
    found = find_all(outputs, roles, config, cutting=cutting, n_threads=0)
    seconds = time.perf_counter() - start
    whole = find_instances(outputs, roles, config)
    joiner, own = Joiner((n, n), cutting.halo), 0.0
    for block in plan_blocks((n, n), size=cutting.size, halo=cutting.halo):
        window = whole[block.window]
        ids, inverse = np.unique(window, return_inverse=True)
        labels = inverse.reshape(window.shape).astype(np.int32)
        labels += ids[0] > 0  # a window without background
        start = time.perf_counter()
        joiner.add(block, labels)
        own += time.perf_counter() - start
    start = time.perf_counter()
    numbers = joiner.numbers()
    own += time.perf_counter() - start
    print(f"{n} x {n} px, {DRAWN_PER_SIDE**2:,} cells drawn, {found.max():,} found:")
    print(f"found and joined in {seconds:.1f} s; joining alone {own:.1f} s")
    print(f"joined of blocks that were cut of the whole: {numbers.max():,}")


def compare(options: argparse.Namespace) -> None:
    """Compare the cells of blocks with those of the untiled image, one to one."""
    model = load_model(options.model)
    mosaic = mosaic_tile(fields_of(options.images), _rng(), options.compare_size)
    whole = predict(model, mosaic, PLAIN.model_copy(update={"tile_size": len(mosaic)}))
    true = find_instances(whole, model.roles, model.instances)
    del whole
    cutting = Cutting(options.block, cutting_for(model, (1.0, 1.0)).halo)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mosaic.tif"
        tifffile.imwrite(path, mosaic)
        output = Path(folder) / "labels.zarr"
        image = read_image(path)
        for event in segment_large(model, image, output, PLAIN, cutting=cutting):
            if isinstance(event, Note):
                print(event.message)
        found = np.asarray(read_image(output).data)[0]
    n_same, n_split, n_merged = matched(true, found)
    print(
        f"{len(mosaic)} x {len(mosaic)} px in blocks of {cutting.size} px with a halo "
        f"of {cutting.halo} px: {true.max():,} cells untiled, {found.max():,} in "
        f"blocks, {n_same:,} the same (IoU >= {SAME_IOU}), {n_split} split, "
        f"{n_merged} merged"
    )


def matched(a: NDArray[np.integer], b: NDArray[np.integer]) -> tuple[int, int, int]:
    """Return how many cells of the first are the same, split, or merged in the other.

    A cell is split where two of the other have each more than a tenth of it.
    """
    pairs, common = np.unique(
        np.stack([a.ravel(), b.ravel()], 1), axis=0, return_counts=True
    )
    is_cell = (pairs > 0).all(1)
    n_a, n_b = np.bincount(a.ravel())[pairs[:, 0]], np.bincount(b.ravel())[pairs[:, 1]]
    same = is_cell & (common >= SAME_IOU * (n_a + n_b - common))
    halves = [
        np.unique(pairs[is_cell & (common > n / 10)][:, i], return_counts=True)[1]
        for i, n in ((0, n_a), (1, n_b))
    ]
    return int(same.sum()), *(int((n > 1).sum()) for n in halves)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["mosaic", "join", "compare"])
    parser.add_argument("--images", type=Path, default=SAMPLE_FOLDER / "images")
    parser.add_argument("--model", type=Path, default=shipped_model("nuclei"))
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--to", choices=["zarr", "tif"], default="zarr")
    parser.add_argument("--tile-size", type=int)
    parser.add_argument("--folder", type=Path, help="where files go meanwhile")
    parser.add_argument("--compare-size", type=int, default=2816)
    parser.add_argument("--block", type=int, default=768)
    options = parser.parse_args()
    if options.what == "mosaic":
        segment_mosaic(options)
    elif options.what == "join":
        join_drawn()
    else:
        compare(options)


if __name__ == "__main__":
    main()
