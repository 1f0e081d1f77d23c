"""Overlap-tile prediction: aligned tiles with enough context leave no trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.config import PredictConfig
from napari_unet.events import TileDone
from napari_unet.files.inputs import as_image
from napari_unet.imaging.intensity import intensity_range, normalize
from napari_unet.imaging.tiling import Tile, mirror_pad, pad_to_multiple, plan_tiles
from napari_unet.learning.checkpoint import Model, load_model
from napari_unet.learning.device import (
    DeviceChoice,
    autocast,
    channels_last,
    choose_device,
    own_memory_errors,
)
from napari_unet.learning.pairs import check_channels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.networks import UNet
    from napari_unet.learning.pairs import ImageLike

# What the activations of one forward pass may take on a CPU; on CUDA it is half of
# the free memory.
_CPU_BUDGET_BYTES = 3 * 2**29
_LARGEST_TILE_PX = 2048


@dataclass(frozen=True, eq=False)
class _Engine:
    """A network on its device, and the geometry that it is applied with."""

    net: UNet
    device: DeviceChoice
    precision: str
    tile_size: int
    halo: int


def predict_tiles(
    model: Model | Path | str, image: ImageLike, config: PredictConfig | None = None
) -> Iterator[TileDone]:
    """Predict an image tile by tile, plane by plane, yielding after each tile.

    Parameters
    ----------
    model : Model or path
        The model to apply.
    image : Image, ndarray (Y, X) or path
        Image of the channels that the model takes.
    config : PredictConfig, optional
        Tile size, halo, device and precision.

    Yields
    ------
    TileDone
        Its `outputs` are float32 (K, [T,] [Z,] Y, X), the same array each time, whole
        after the last event.

    Raises
    ------
    ImageError
        The image has another number of channels than the model takes.
    ModelError, ResourceError
        The model can't be loaded; the device is missing or has too little memory.

    References
    ----------
    Ronneberger, Fischer, Brox: U-Net. MICCAI 2015, fig. 2 (overlap-tile strategy).
    """
    config = config or PredictConfig()
    image = as_image(image)
    model = model if isinstance(model, Model) else load_model(model)
    check_channels(model, image)
    engine = _start(model, config, image)
    span = image_range(model, image)
    outputs = np.zeros((len(model.roles), *image.shape), np.float32)
    n_planes = int(np.prod(image.stack_shape))
    n_done = 0
    for index, plane in image.planes():
        padded, tiles = _plan(normalize(plane, span), engine)
        for tile in tiles:
            # The last tiles reach beyond the image, into its mirrored edge.
            write = tuple(
                slice(w.start, min(w.stop, n))
                for w, n in zip(tile.write, image.plane_shape, strict=True)
            )
            with own_memory_errors(engine.device):
                probabilities = _forward(engine, padded, tile)
            inside = tuple(slice(0, w.stop - w.start) for w in write)
            region: tuple[slice | int, ...] = (slice(None), *index, *write)
            outputs[region] = probabilities[(slice(None), *inside)]
            n_done += 1
            where = (*(slice(i, i + 1) for i in index), *write)
            yield TileDone(n_done, n_planes * len(tiles), where, outputs)


def predict(
    model: Model | Path | str, image: ImageLike, config: PredictConfig | None = None
) -> NDArray[np.float32]:
    """Return the outputs for a whole image, float32 (K, [T,] [Z,] Y, X).

    Parameters and errors are those of `predict_tiles`; what each of the K channels
    means stands in `Model.roles`.
    """
    for event in predict_tiles(model, image, config):
        outputs = event.outputs
    return outputs


def image_range(model: Model, image: Image) -> IntensityRange:
    """Return the range that an image is normalised with for a model."""
    if model.normalization.policy == "dataset" and model.dataset_range is not None:
        return model.dataset_range
    return intensity_range(image, model.normalization)


def resolved_precision(config: PredictConfig, device: DeviceChoice) -> str:
    """Return "fp32" or "fast"; auto is fast on CUDA only."""
    if config.precision != "auto":
        return config.precision
    return "fast" if device.name == "cuda" else "fp32"


def resolved(model: Model, config: PredictConfig) -> dict[str, str | int]:
    """Return the device, precision and halo that a prediction really uses."""
    device = choose_device(config.device)
    halo = model.build().halo if config.halo == "exact" else config.halo
    precision = resolved_precision(config, device)
    return {"device": device.name, "precision": precision, "halo": halo}


def _start(model: Model, config: PredictConfig, image: Image) -> _Engine:
    device = choose_device(config.device)
    with own_memory_errors(device):
        net = model.build()
        channels_last(net.to(device.torch))
    halo = net.halo if config.halo == "exact" else config.halo
    size = config.tile_size or _tile_size_for(net, device)
    # A tile larger than the image would only be padding.
    size = min(size, max(image.plane_shape))
    return _Engine(net, device, resolved_precision(config, device), size, halo)


def _tile_size_for(net: UNet, device: DeviceChoice) -> int:
    """Return the largest tile whose activations fit into the memory there is."""
    budget = _CPU_BUDGET_BYTES
    if device.name == "cuda":
        budget = torch.cuda.mem_get_info()[0] // 2
    # At full resolution: the skip, its copy in the concatenation, the up-sampled
    # features, and what a convolution reads and writes.
    bytes_per_pixel = 4 * net.config.base_width * 8
    # On a CPU a tile should take about a second: it is what a user waits for.
    largest = _LARGEST_TILE_PX if device.name == "cuda" else _LARGEST_TILE_PX // 2
    side = int((budget / bytes_per_pixel) ** 0.5) - 2 * net.halo
    size = max(side, 2 * net.halo) // net.multiple * net.multiple
    return min(max(size, net.multiple), largest)


def _plan(
    plane: NDArray[np.float32], engine: _Engine
) -> tuple[NDArray[np.float32], list[Tile]]:
    """Return the mirrored plane and the tiles to cut from it.

    Same padding: mirrored up to the next multiple; halos end at the border. Valid:
    mirrored by what the network eats, and every tile is of one size.
    """
    net = engine.net
    if net.config.padding == "same":
        padded, _ = pad_to_multiple(plane, net.multiple)
        tiles = plan_tiles(
            padded.shape[1:],
            tile_size=engine.tile_size,
            halo=engine.halo,
            multiple=net.multiple,
        )
        return padded, tiles
    # All origins are congruent modulo the multiple, so that pooling falls alike.
    n_in = net.input_size_for(max(engine.tile_size, net.multiple))
    n_out = net.output_size(n_in) // net.multiple * net.multiple
    counts = [-(-length // n_out) for length in plane.shape[1:]]
    pads = [
        (net.margin, (count - 1) * n_out + n_in - net.margin - length)
        for count, length in zip(counts, plane.shape[1:], strict=True)
    ]
    whole = plan_tiles(plane.shape[1:], tile_size=n_out, halo=0, multiple=net.multiple)
    tiles = [
        Tile(tuple(slice(w.start, w.start + n_in) for w in t.write), t.crop, t.write)
        for t in whole
    ]
    return mirror_pad(plane, [(0, 0), *pads]), tiles


@torch.inference_mode()
def _forward(
    engine: _Engine, padded: NDArray[np.float32], tile: Tile
) -> NDArray[np.float32]:
    read = np.ascontiguousarray(padded[(slice(None), *tile.read)])
    image = torch.from_numpy(read)[None].to(engine.device.torch)
    image = image.contiguous(memory_format=torch.channels_last)
    with autocast(engine.device, engine.precision):
        logits = engine.net(image)
    kept = logits[(0, slice(None), *tile.crop)].float()
    return np.asarray(torch.softmax(kept, 0).cpu().numpy())
