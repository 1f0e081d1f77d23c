"""Scores on held-back planes, and the instance settings that do best there."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.imaging.cell_counts import joined, score_of, standard_error
from napari_unet.imaging.instances import tune_instances
from napari_unet.imaging.scores import Tally
from napari_unet.learning.augmentation import Batch
from napari_unet.learning.device import training_precision
from napari_unet.learning.held_back import HeldBack, predictions
from napari_unet.learning.inference import for_inference
from napari_unet.learning.losses.by_role import loss_for
from napari_unet.learning.outputs import activate
from napari_unet.learning.scoring import (
    Seen,
    Validation,
    count_cells,
    pooled,
    score_piece,
)

__all__ = ["Validation", "tune", "validate"]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig
    from napari_unet.imaging.cell_counts import CellCounts
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.held_back import Field, Piece
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks.network import Network
    from napari_unet.learning.patches import Plane

_MAX_PX_AT_THE_END = 2**22
_MAX_PX_FOR_TUNING = 2**20
_MAX_TUNING_S = 60.0
# A gain has to be larger than so many standard errors: of 26 settings the best one is
# better than the rest by luck alone.
_SURE = 1.64
# Settings chosen on fewer cells fit their noise: those derived from the labels stay.
_MIN_CELLS_FOR_TUNING = 10
# What settings get that are not tried any more, once the time is up.
_NOTHING_FOUND = Tally(n_truth=1, truth_px=1)


def validate(
    network: Network,
    held: HeldBack | Sequence[Field | Plane],
    model: Model,
    device: DeviceChoice,
    precision: str,
) -> Validation:
    """Predict held-back planes and score them; the network is left in training.

    A copy that is made for inference does the predicting (BatchNorm folded); the next
    piece is predicted while cells are found in the last.

    Parameters
    ----------
    network : Network
        The network as it is by now.
    held : HeldBack, or sequence of Field or Plane
        What is held back. `HeldBack` is made once and used each time.
    model : Model
        What the outputs mean, the loss and the instance settings; not the weights.
    device : DeviceChoice
        Where the network is.
    precision : {"fp32", "bf16", "fp16", "fast"}
        Of the forward pass; "fast" is that of training.

    Returns
    -------
    Validation
        Its loss is that of training, piece by piece, each counting by the sum of its
        weights: the pooled loss, but for Dice and SSIM, of which it is the mean.
    """
    if not isinstance(held, HeldBack):
        held = HeldBack(held, model)
    seen = _see(network, held, model, device, precision)
    return pooled(seen, model)


def tune(
    network: Network,
    fields: Sequence[Field | Plane],
    model: Model,
    device: DeviceChoice,
) -> tuple[InstanceConfig, Validation]:
    """Choose the instance settings that score best on held-back planes, in fp32.

    Few cells would be fitted rather than learned from: on fewer than 10, and where
    the gain is smaller than its standard error (jackknife over the cells), the
    settings that were derived from the labels stay. After a minute the best so far
    is taken.

    Parameters
    ----------
    network : Network
        The network to tune for.
    fields : sequence of Field or Plane
        What is held back.
    model : Model
        What the outputs mean, the loss, and the settings to begin with.
    device : DeviceChoice
        Where the network is.

    Returns
    -------
    InstanceConfig, Validation
        The settings, and what they reach on more of the held-back pixels than they
        were chosen on.
    """
    instances = model.instances
    if model.training.task == "segment":
        few = HeldBack(fields, model, max_px=_MAX_PX_FOR_TUNING)
        if few.n_cells >= _MIN_CELLS_FOR_TUNING:
            instances = _tuned(network, few, model, device)
    held = HeldBack(fields, model, max_px=_MAX_PX_AT_THE_END)
    seen = _see(network, held, model, device, "fp32", instances)
    return instances, pooled(seen, model)


def _tuned(
    network: Network, held: HeldBack, model: Model, device: DeviceChoice
) -> InstanceConfig:
    ready = for_inference(network, device, "fp32")
    every = [
        (piece, activate(logits, model.roles).cpu().numpy())
        for piece, logits in predictions(ready, held, device)
    ]
    until = time.monotonic() + _MAX_TUNING_S

    def cells(config: InstanceConfig) -> CellCounts:
        def count(item: tuple[Piece, NDArray[np.float32]]) -> CellCounts:
            return count_cells(*item, model.roles, config)

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            return joined(list(pool.map(count, every)))

    def tally(config: InstanceConfig) -> Tally:
        is_over = time.monotonic() > until and config != model.instances
        return _NOTHING_FOUND if is_over else cells(config).tally()

    best, _ = tune_instances(tally, model.instances)
    now, before = cells(best).table, cells(model.instances).table
    gain = _tuned_for(now.sum(0)) - _tuned_for(before.sum(0))
    is_sure = gain > _SURE * standard_error(now, before, _tuned_for)
    return best if is_sure else model.instances


def _tuned_for(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what `tune_instances` looks at: AP at 0.5 plus mean AP."""
    return score_of("ap")(sums) + score_of("mean_ap")(sums)


def _see(
    network: Network,
    held: HeldBack,
    model: Model,
    device: DeviceChoice,
    precision: str,
    instances: InstanceConfig | None = None,
) -> list[Seen]:
    """Predict and score the pieces one after the other, in their order."""
    if precision == "fast":
        precision = training_precision(device, precision)
    ready = for_inference(network, device, precision)
    loss_of = loss_for(model.training, model.roles)
    own = instances or model.instances
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        jobs = []
        for piece, logits in predictions(ready, held, device):
            batch = _batch(piece.plane).to(device.torch)
            weight = float(batch.weights.sum())
            loss = float(loss_of(logits[None], batch)) * weight
            found = activate(logits, model.roles).cpu().numpy()
            jobs.append(
                pool.submit(score_piece, piece, found, model, own, loss, weight)
            )
        return [job.result() for job in jobs]


def _batch(plane: Plane) -> Batch:
    """Return a plane as a batch of one."""
    target = plane.target
    classes, values = target.classes, target.values
    return Batch(
        image=_one(plane.image),
        classes=None if classes is None else _one(classes).long(),
        weights=_one(target.weights),
        values=None if values is None else _one(values),
    )


def _one(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None]
