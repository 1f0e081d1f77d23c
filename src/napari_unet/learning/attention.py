"""What the gates of an Attention U-Net let through, on the image's own grid."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional

from napari_unet.errors import ModelError
from napari_unet.events import TileDone
from napari_unet.files.inputs import as_image
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.model import Model
from napari_unet.learning.networks import AttentionUNet, Network
from napari_unet.learning.networks.geometry import gated_levels, output_size
from napari_unet.learning.prediction import predict_tiles, working_factors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.config import PredictConfig
    from napari_unet.events import Note
    from napari_unet.learning.data.pairs import ImageLike


class _Gates(Network):
    """An Attention U-Net whose outputs are its coefficients: a channel for each gate.

    They are on the input's grid, whatever the network's upscaling, each repeated over
    the pixels that it stands for. Halo and margin are those of the network.
    """

    def __init__(self, net: AttentionUNet) -> None:
        super().__init__()
        self.net = net
        self.levels = gated_levels(net.config)
        changed = {"upscale": 1, "out_channels": len(self.levels)}
        self.config = net.config.model_copy(update=changed)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, C, [Z,] Y, X) to coefficients (N, gates, [Z,] Y, X)."""
        maps = zip(self.levels, self.net.attention(image), strict=True)
        fine = [functional.interpolate(m, scale_factor=2.0**i) for i, m in maps]
        return torch.cat([self._crop(m, image) for m in fine], dim=1)

    def _crop(self, fine: Tensor, image: Tensor) -> Tensor:
        # Unpadded, the levels above a gate lose pixels: all the same on both sides.
        for axis in range(2, image.ndim):
            n = output_size(image.shape[axis], self.config)
            fine = fine.narrow(axis, (fine.shape[axis] - n) // 2, n)
        return fine


@dataclass(frozen=True, eq=False)
class _GatesModel(Model):
    """A model whose network is that of another one, with the gates for outputs."""

    gates: _Gates | None = None

    def build(self) -> Network:
        return cast("_Gates", self.gates)


def attention_maps(
    model: Model | Path | str, image: ImageLike, config: PredictConfig | None = None
) -> NDArray[np.float32]:
    """Return what each attention gate lets through, for a whole image.

    Parameters
    ----------
    model : Model or path
        A model whose network has attention gates.
    image : Image, ndarray (Y, X) or path
        Image of the channels that the model takes.
    config : PredictConfig, optional
        Tile size, halo, device and precision.

    Returns
    -------
    ndarray of float32, shape (n_gates, [T,] [Z,] Y, X)
        Coefficients within 0..1, of the finest gated skip first. A gate looks at the
        image 2, 4, 8... times coarser; each of its values is repeated over the pixels
        that it stands for.

    Raises
    ------
    ModelError
        The network has no gates, or the model can't be loaded.
    ImageError, ResourceError
        Those of `predict`.

    References
    ----------
    Oktay et al.: Attention U-Net: learning where to look for the pancreas. MIDL 2018,
    fig. 3 and 4.
    """
    *_, last = attention_tiles(model, image, config)
    if not isinstance(last, TileDone):  # pragma: no cover - see Predictor.tiles
        raise TypeError(f"prediction ended with {last!r}")
    return last.outputs


def attention_tiles(
    model: Model | Path | str, image: ImageLike, config: PredictConfig | None = None
) -> Iterator[Note | TileDone]:
    """Compute `attention_maps` tile by tile, yielding after each tile.

    Parameters and errors are those of `attention_maps`. The `outputs` of the events
    are the maps, whole after the last one.
    """
    model = model if isinstance(model, Model) else load_model(model)
    check_has_gates(model)
    network = cast("AttentionUNet", model.build())
    gates = _Gates(network).eval()
    known = {each.name: getattr(model, each.name) for each in fields(Model)}
    known["network"] = gates.config
    known["roles"] = tuple(f"value:gate {i}" for i in gates.levels)
    known["value_range"] = None
    known["values_follow_image"] = False
    image = as_image(image)
    # What is looked at is the prediction: at its scale, too.
    factors = working_factors(model, image, config)
    gated = _GatesModel(**known, gates=gates)
    yield from predict_tiles(gated, image, config, factors=factors)


def check_has_gates(model: Model) -> None:
    """Refuse a model whose network has no attention gates.

    Raises
    ------
    ModelError
        It has none (NU-M30).
    """
    if model.network.architecture != "attention_unet":
        raise ModelError(
            "NU-M30",
            f"the model's network is {model.network.architecture}, which has no "
            "attention gates: train one of the architecture attention_unet",
        )
