"""Which tiles a network is applied to: exact where it can be, blended where not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch

from napari_unet.config import NetworkConfig
from napari_unet.imaging.tiling import Tile, plan_equal_tiles, plan_tiles
from napari_unet.learning.device import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.networks import Network

# What the features of one forward pass may take on a CPU; on CUDA it is half of the
# free memory.
_CPU_BUDGET_BYTES = 3 * 2**29
# On a CPU a tile should take about a second: it is what a user waits for.
_LARGEST_TILE_PX = {"cpu": 1024, "mps": 1024, "cuda": 2048}
# Features of the base width that are held at full resolution when most are: the skip,
# what comes up, both of them joined, what a convolution reads and writes. 3 to 6.1 were
# measured for plain U-Nets; the rest is for gates, and for what convolutions reorder.
_N_FULL_SIZE = 8
# Of another program's network nobody knows the width: that of the 2015 network.
_FOREIGN_WIDTH = 64


@dataclass(frozen=True)
class Plan:
    """How an image is cut for a network.

    Parameters
    ----------
    pads : tuple of (int, int)
        By how many pixels the image is mirrored before and after, one pair an axis.
    tiles : tuple of Tile
        `read` counts in the padded image, the rest in the image; all in input pixels.
    cut : callable, optional
        Cuts a window into tiles, where that makes no difference.
    """

    pads: tuple[tuple[int, int], ...]
    tiles: tuple[Tile, ...]
    cut: Callable[[Sequence[slice]], list[Tile]] | None = None

    def within(self, window: Sequence[slice]) -> Sequence[Tile]:
        """Return tiles that together hold a window of the image.

        Those of an exact plan are cut for it, as what they give doesn't depend on how
        they lie; of another plan those that the window touches.

        Parameters
        ----------
        window : sequence of slice
            One slice an axis, in input pixels.
        """
        if self.cut is not None:
            return self.cut(window)
        return [tile for tile in self.tiles if _touches(tile, window)]


def _touches(tile: Tile, window: Sequence[slice]) -> bool:
    ends = (
        (w.start + len(tile.weights[i]) if tile.weights else w.stop)
        for i, w in enumerate(tile.write)
    )
    return all(
        w.start < part.stop and part.start < end
        for w, end, part in zip(tile.write, ends, window, strict=True)
    )


def plan_for(
    net: Network,
    shape: Sequence[int],
    *,
    tile_size: int,
    halo: int | Literal["exact"] = "exact",
    shift: int = 0,
) -> Plan:
    """Return how to cut an image for a network.

    A local network of same padding sees the image mirrored up to the next size that it
    takes, and around each tile a halo that ends at the image's border: together its
    tiles are what the whole image gives. One of valid padding sees the image mirrored
    by what it loses; its tiles, all of one size, partition the image. A global network,
    and one that takes a single size, gets overlapping tiles that are blended: along
    each axis they overlap by a quarter of their stride, or by twice the halo if that
    is given. Where one tile holds the whole image there is nothing to blend.

    Parameters
    ----------
    net : Network
        Only its geometry matters.
    shape : sequence of int
        Of the image, ([Z,] Y, X).
    tile_size : int
        Side of what a tile contributes, in pixels.
    halo : int or "exact"
        Context around it in pixels; "exact" is the network's own.
    shift : int
        By how much the seams lie elsewhere than without it, in pixels.
    """
    if _is_exact(net):
        own = net.halo if halo == "exact" else halo
        return _clipped(net, shape, tile_size, own, shift)
    return _equal(net, shape, tile_size, halo, shift)


def _fixed_size(net: Network) -> int | None:
    size: int | None = getattr(net, "fixed_size", None)
    return size


def _is_exact(net: Network) -> bool:
    is_local = net.halo is not None and net.margin == 0 and _fixed_size(net) is None
    # Multiples of the grid are among the sizes that it takes.
    return is_local and net.input_size_for(1) % net.multiple == 0


def _clipped(
    net: Network, shape: Sequence[int], tile_size: int, halo: int | None, shift: int
) -> Plan:
    finer = net.config.upscale
    padded = [net.input_size_for(n * finer) for n in shape]
    least = net.input_size_for(1)
    # A network with a least size gets it at the end of the image as well.
    context = max(halo or 0, least if least > net.multiple else 0)
    cut = partial(
        plan_tiles,
        padded,
        tile_size=tile_size,
        halo=context,
        multiple=net.multiple,
        shift=shift,
    )
    pads = tuple((0, p - n) for p, n in zip(padded, shape, strict=True))
    return Plan(pads, tuple(cut()), lambda window: cut(within=window))


def _equal(
    net: Network,
    shape: Sequence[int],
    tile_size: int,
    halo: int | Literal["exact"],
    shift: int,
) -> Plan:
    fixed, finer = _fixed_size(net), net.config.upscale
    is_blended = net.halo is None or fixed is not None
    context = (tile_size // 8 if halo == "exact" else halo) if is_blended else 0
    # GroupNorm and InstanceNorm need two pixels at the lowest level.
    least = net.multiple * (1 if net.halo is not None else 2)
    inputs = [
        fixed or net.input_size_for(max(min(tile_size + 2 * context, n), least) * finer)
        for n in shape
    ]
    sizes = [n - 2 * net.margin for n in inputs]
    if fixed and halo == "exact":
        context = sizes[0] // 8
    tiles = plan_equal_tiles(
        shape,
        sizes=sizes,
        margin=net.margin,
        # More than half would be three tiles deep.
        overlap=min(2 * context, min(sizes) // 2),
        multiple=min(net.multiple, *sizes),
        shift=shift,
    )
    ends = [tiles[-1].read[i].stop - net.margin - n for i, n in enumerate(shape)]
    return Plan(tuple((net.margin, end) for end in ends), tuple(tiles))


def tile_size_for(
    net: Network, shape: Sequence[int], device: DeviceChoice, precision: str
) -> int:
    """Return the largest tile of an image whose features fit into the memory there is.

    On a CPU that is 1.5 GiB and at most 1024 px, on CUDA half of the free memory and at
    most 2048 px. A global network gets the whole image wherever memory allows.

    Parameters
    ----------
    net : Network
        Any.
    shape : sequence of int
        Of the image, ([Z,] Y, X).
    device : DeviceChoice
        Where it will run.
    precision : {"fp32", "bf16", "fp16"}
        What it will run in.
    """
    budget = _CPU_BUDGET_BYTES
    if device.name == "cuda":
        budget = torch.cuda.mem_get_info()[0] // 2
    n_px = budget / bytes_per_pixel(net, precision)
    if net.halo is None and math.prod(shape) <= n_px:
        return max(shape)
    halo = net.halo or 0
    largest = min(_LARGEST_TILE_PX[device.name], max(shape))
    size = -(-largest // net.multiple) * net.multiple
    # Planes: a tile smaller than its halo would be computed more than nine times.
    least = max(net.multiple, 2 * halo if len(shape) == 2 else 0)
    while size > least and math.prod(min(size + 2 * halo, n) for n in shape) > n_px:
        size -= net.multiple
    return size


def bytes_per_pixel(net: Network, precision: str) -> int:
    """Return what the features of a forward pass take per pixel of the input."""
    width = _FOREIGN_WIDTH
    if isinstance(net.config, NetworkConfig):
        width = net.config.base_width
    itemsize = DTYPES[precision].itemsize
    # The logits in that precision, in float32, and what becomes of them.
    outputs = net.config.out_channels * net.config.upscale**net.config.n_dims
    return _N_FULL_SIZE * width * itemsize + outputs * (itemsize + 2 * 4)
