"""Scores on held-back planes, and the instance settings that do best there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.imaging.instances import find_instances, tune_instances
from napari_unet.imaging.scores import Scores, Tally, tally
from napari_unet.imaging.tiling import mirror_pad
from napari_unet.learning.device import autocast
from napari_unet.learning.losses import LOSSES
from napari_unet.learning.outputs import activate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks.network import Network
    from napari_unet.learning.patches import Plane

# Enough for a steady score; more would make training wait.
_MAX_PIXELS_WHILE_TRAINING = 2**19
_MAX_PIXELS_FOR_TUNING = 2**22


@dataclass(frozen=True)
class Validation:
    """Loss and scores of a network on held-back planes."""

    loss: float
    scores: Scores

    @property
    def score(self) -> float:
        """What decides which model is best, between 0 and 1.

        The mean AP says most about cells, the IoU of the foreground also says which
        of two early models is better when neither finds a whole cell.
        """
        return (self.scores.map + self.scores.iou) / 2

    def as_dict(self) -> dict[str, float]:
        """Return the scores by name, with the numbers that they rest on."""
        scores = self.scores
        return {
            "loss": self.loss,
            "iou": scores.iou,
            "dice": scores.dice,
            "ap": scores.ap["0.5"],
            "f1": scores.f1["0.5"],
            "map": scores.map,
            "n_cells": float(scores.n_truth),
        }


def subset(planes: Sequence[Plane], max_pixels: int) -> list[Plane]:
    """Return planes, evenly spread, that together have about `max_pixels`."""
    total = sum(plane.labels.size for plane in planes)
    step = max(1, -(-total // max_pixels))
    return list(planes[::step])


@torch.no_grad()
def forward_plane(
    network: Network, plane: Plane, model: Model, device: DeviceChoice, precision: str
) -> tuple[NDArray[np.float32], float, float]:
    """Return probabilities (K, Y, X), the loss times the sum of weights, and that."""
    height, width = plane.labels.shape
    sizes = [network.input_size_for(n) for n in (height, width)]
    margin = network.margin
    pads = [(0, 0)] + [
        (margin, size - margin - n)
        for size, n in zip(sizes, (height, width), strict=True)
    ]
    image = torch.from_numpy(mirror_pad(plane.image, pads))[None].to(device.torch)
    with autocast(device, precision):
        logits = network(image)
    logits = logits[..., :height, :width].float()
    target = plane.target
    weights = torch.from_numpy(np.ascontiguousarray(target.weights))[None]
    classes = torch.from_numpy(np.asarray(target.classes, np.int64))[None]
    weights, classes = weights.to(device.torch), classes.to(device.torch)
    total = float(weights.sum())
    loss = float(LOSSES[model.training.loss](logits, classes, weights)) * total
    return activate(logits, model.roles, dim=1)[0].cpu().numpy(), loss, total


def validate(
    network: Network,
    planes: Sequence[Plane],
    model: Model,
    device: DeviceChoice,
    precision: str,
) -> Validation:
    """Predict held-back planes and score them; the network is left in training.

    Parameters
    ----------
    network : Network
        The network as it is by now.
    planes : sequence of Plane
        Held-back planes.
    model : Model
        What the outputs mean, the loss and the instance settings; not the weights.
    device : DeviceChoice
        Where the network is.
    precision : {"fp32", "fast"}
        Of the forward pass.

    Returns
    -------
    Validation
        Its loss is that of training, plane by plane, each counting by the sum of its
        weights: the pooled loss, but for Dice, which is the mean over planes.
    """
    network.eval()
    loss = weight = 0.0
    counts = Tally()
    for plane in subset(planes, _MAX_PIXELS_WHILE_TRAINING):
        outputs, plane_loss, plane_weight = forward_plane(
            network, plane, model, device, precision
        )
        loss, weight = loss + plane_loss, weight + plane_weight
        found = find_instances(outputs, model.roles, model.instances)
        counts = counts + tally(plane.labels, found, known=plane.known)
    network.train()
    return Validation(loss / max(weight, 1e-12), counts.scores())


def tune(
    network: Network,
    planes: Sequence[Plane],
    model: Model,
    device: DeviceChoice,
) -> tuple[InstanceConfig, Validation]:
    """Choose the instance settings that score best on held-back planes, in fp32.

    Parameters
    ----------
    network : Network
        The network to tune for.
    planes : sequence of Plane
        Held-back planes.
    model : Model
        What the outputs mean, the loss, and the settings to begin with.
    device : DeviceChoice
        Where the network is.
    """
    network.eval()
    chosen = subset(planes, _MAX_PIXELS_FOR_TUNING)
    results = [forward_plane(network, p, model, device, "fp32") for p in chosen]
    network.train()

    def count(config: InstanceConfig) -> Tally:
        pairs = zip(chosen, results, strict=True)
        found = ((p, find_instances(r[0], model.roles, config)) for p, r in pairs)
        return sum((tally(p.labels, f, known=p.known) for p, f in found), Tally())

    config, counts = tune_instances(count, model.instances)
    loss = sum(r[1] for r in results) / max(sum(r[2] for r in results), 1e-12)
    return config, Validation(loss, counts.scores())
