"""Overlap-tile prediction: aligned tiles with enough context leave no trace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.config import PredictConfig
from napari_unet.errors import ImageError
from napari_unet.events import TileDone
from napari_unet.files.inputs import as_image
from napari_unet.imaging.grids import Grids
from napari_unet.imaging.intensity import intensity_range, normalize
from napari_unet.imaging.resampling import scaled_shape
from napari_unet.imaging.tiling import mirror_pad
from napari_unet.learning.applying.cell_sizes import measured_factors, wants_measuring
from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.applying.outputs import activate
from napari_unet.learning.applying.scale import factors_for
from napari_unet.learning.applying.tiles import plan_for, tile_size_for
from napari_unet.learning.checkpoint import Model, load_model
from napari_unet.learning.data.pairs import check_channels
from napari_unet.learning.data.value_units import span_of_values
from napari_unet.learning.device import (
    choose_device,
    fastest_precision,
    own_memory_errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.imaging.tiling import Tile
    from napari_unet.learning.data.pairs import ImageLike
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.networks import Network

    Region = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class _Engine:
    """A network on its device, and what its outputs mean."""

    net: Network
    device: DeviceChoice
    roles: tuple[str, ...]
    value_range: IntensityRange | None


def predict_tiles(
    model: Model | Path | str,
    image: ImageLike,
    config: PredictConfig | None = None,
    *,
    factors: Sequence[float] | None = None,
) -> Iterator[TileDone]:
    """Predict an image tile by tile, yielding after each tile.

    A network of planes takes a stack plane by plane; one of volumes takes a movie
    volume by volume. The tiles of a local network leave no trace
    (see `napari_unet.learning.applying.tiles.plan_for`). The network sees the image at
    the size of its training images, as far as that is known; the outputs are on its
    own grid.

    Parameters
    ----------
    model : Model or path
        The model to apply.
    image : Image, ndarray (Y, X) or path
        Image of the channels that the model takes.
    config : PredictConfig, optional
        Tile size and halo, in pixels that the network sees; scale, device, precision.
    factors : sequence of float, optional
        Pixels that the network sees for each of the image, one an axis ([Z,] Y, X);
        those of `working_factors` if omitted.

    Yields
    ------
    TileDone
        Its `outputs` are float32 (K, [T,] [Z,] Y, X), the same array each time, whole
        after the last event. The axes that the network sees are `upscale` times finer
        than the image's.

    Raises
    ------
    ImageError
        The image has another number of channels than the model takes, or no volume
        for a model of volumes.
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
    _check_axes(model, image)
    own = image.shape[-model.network.n_dims :]
    seen = scaled_shape(own, factors or working_factors(model, image, config))
    span = image_range(model, image)
    engine, size = _start(model, config, seen, values_span(model, span))
    plan = plan_for(engine.net, seen, tile_size=size, halo=config.halo)
    finer = model.network.upscale
    grids = Grids(tuple(own), seen, finer)
    stack = image.shape[: -len(own)]
    outputs = np.zeros(
        (len(model.roles), *stack, *(n * finer for n in own)), np.float32
    )
    n_tiles = math.prod(stack) * len(plan.tiles)
    n_done = 0
    for index in np.ndindex(stack):
        whole = normalize(np.asarray(image.data[(slice(None), *index)]), span)
        if grids.is_one:
            whole = mirror_pad(whole, [(0, 0), *plan.pads])
        for tile in plan.tiles:
            read = (
                whole[(slice(None), *tile.read)]
                if grids.is_one
                else grids.read(whole, tile.read, plan.pads)
            )
            with own_memory_errors(engine.device):
                found = _forward(engine, read, tile, finer)
            write = _write(outputs[(slice(None), *index)], found, tile, grids)
            n_done += 1
            where = (*(slice(i, i + 1) for i in index), *write)
            yield TileDone(n_done, n_tiles, where, outputs)


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


def working_factors(
    model: Model, image: Image, config: PredictConfig | None = None
) -> tuple[float, ...]:
    """Return how many pixels the network sees for each pixel of an image, one an axis.

    What the user gives comes first, then the pixel sizes of image and model. A model
    that learned all cells at one size looks first how large these are.
    """
    factors = factors_for(model, image, config)
    if not wants_measuring(model, config):
        return factors

    def run(fixed: Model, part: Image, factors: Sequence[float]) -> NDArray[np.float32]:
        *_, last = predict_tiles(fixed, part, config, factors=factors)
        return last.outputs

    span = image_range(model, image)
    return measured_factors(model, image, factors, span=span, run=run)


def image_range(model: Model, image: Image) -> IntensityRange:
    """Return the range that an image is normalised with for a model."""
    if model.normalization.policy == "dataset" and model.dataset_range is not None:
        return model.dataset_range
    return intensity_range(image, model.normalization)


def values_span(model: Model, span: IntensityRange) -> IntensityRange | None:
    """Return what 0 and 1 of the values made of an image stand for; None if unknown.

    Parameters
    ----------
    model : Model
        Of any kind.
    span : IntensityRange
        What the image was normalised with.
    """
    if model.value_range is None:
        return None
    return span_of_values(model.value_range, model.values_follow_image, span)


def resolved_precision(config: PredictConfig, device: DeviceChoice) -> str:
    """Return "fp32", "bf16" or "fp16"; auto is fast on CUDA only."""
    is_fast = config.precision == "fast" or (
        config.precision == "auto" and device.name == "cuda"
    )
    return fastest_precision(device.name) if is_fast else "fp32"


def resolved(model: Model, config: PredictConfig) -> dict[str, str | int]:
    """Return the device, precision and halo that a prediction really uses.

    The halo is "blended" for a network whose output depends on its whole input.
    """
    device = choose_device(config.device)
    halo = model.build().halo if config.halo == "exact" else config.halo
    return {
        "device": device.name,
        "precision": _precision(model, config, device),
        "halo": "blended" if halo is None else halo,
    }


def _precision(model: Model, config: PredictConfig, device: DeviceChoice) -> str:
    # The graph of another program runs as it was saved.
    if model.network.architecture == "foreign":
        return "fp32"
    return resolved_precision(config, device)


def _check_axes(model: Model, image: Image) -> None:
    if model.network.n_dims == 3 and not image.axes.endswith("ZYX"):
        raise ImageError(
            "NU-I09",
            f"the model takes volumes, and {image.source} has the axes {image.axes}: "
            "give a stack of planes whose axes end in ZYX",
        )


def _start(
    model: Model,
    config: PredictConfig,
    shape: Sequence[int],
    values: IntensityRange | None,
) -> tuple[_Engine, int]:
    """Return the network on its device, and the size of a tile."""
    device = choose_device(config.device)
    precision = _precision(model, config, device)
    with own_memory_errors(device):
        net = for_inference(model.build(), device, precision)
    size = config.tile_size or tile_size_for(net, shape, device, precision)
    # A tile larger than the image would only be padding.
    engine = _Engine(net, device, model.roles, values)
    return engine, min(size, max(shape))


@torch.inference_mode()
def _forward(
    engine: _Engine, read: NDArray[np.float32], tile: Tile, finer: int
) -> NDArray[np.float32]:
    """Return the outputs (K, [Z,] Y, X) of a tile: what it keeps, or all to blend."""
    image = torch.from_numpy(np.ascontiguousarray(read))[None].to(engine.device.torch)
    logits = engine.net(image)[0]
    if not tile.weights:
        crop = (slice(c.start * finer, c.stop * finer) for c in tile.crop)
        logits = logits[(slice(None), *crop)]
    found = np.asarray(activate(logits, engine.roles).cpu().numpy())
    return in_units(found, engine.roles, engine.value_range)


def in_units(
    found: NDArray[np.float32], roles: Sequence[str], span: IntensityRange | None
) -> NDArray[np.float32]:
    """Return outputs with values in the units of the images that were learned from.

    Parameters
    ----------
    found : ndarray of float32, shape (K, [Z,] Y, X)
        What a network gives.
    roles : sequence of str
        What each output means; all but values stay as they are.
    span : IntensityRange, optional
        What 0 and 1 of the values stand for (see `values_span`).
    """
    values = [i for i, role in enumerate(roles) if role.startswith("value:")]
    if span is None or not values:
        return found
    found = found.copy()
    for i, low, high in zip(values, span.low, span.high, strict=True):
        found[i] = low + found[i] * (high - low)
    return found


def _write(
    outputs: NDArray[np.float32],
    found: NDArray[np.float32],
    tile: Tile,
    grids: Grids,
) -> Region:
    """Put a tile's outputs into those of the image; return which are final by that."""
    finer = grids.finer
    shape = [n * finer for n in grids.seen]
    final = _within(tile.write, shape, finer)
    # The last tiles reach beyond the image, into its mirrored edge.
    if not tile.weights:
        found = _cut(found, final)
        if grids.is_one:
            outputs[(slice(None), *final)] = found
            return final
        grids.add(outputs, found, final)
        return grids.final(final)
    for axis, weights in enumerate(tile.weights):
        others = [1] * (len(shape) - axis - 1)
        found = found * np.repeat(weights, finer).reshape(-1, *others)
    covered = [
        slice(w.start, w.start + len(weights))
        for w, weights in zip(tile.write, tile.weights, strict=True)
    ]
    region = _within(covered, shape, finer)
    if grids.is_one:
        outputs[(slice(None), *region)] += _cut(found, region)
        return final
    grids.add(outputs, _cut(found, region), region)
    return grids.final(final)


def _cut(found: NDArray[np.float32], region: Region) -> NDArray[np.float32]:
    return found[(slice(None), *(slice(0, r.stop - r.start) for r in region))]


def _within(region: Sequence[slice], shape: Sequence[int], finer: int) -> Region:
    return tuple(
        slice(r.start * finer, min(r.stop * finer, n))
        for r, n in zip(region, shape, strict=True)
    )
