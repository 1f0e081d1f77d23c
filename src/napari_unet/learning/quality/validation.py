"""Scores on held-back planes, and the instance settings that do best there."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.imaging.cell_counts import joined, score_of, standard_error
from napari_unet.imaging.instances import foreground, has_cells
from napari_unet.imaging.scores import Tally
from napari_unet.imaging.tuning import tune_instances
from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.applying.outputs import activate
from napari_unet.learning.augmentation import Batch
from napari_unet.learning.device import training_precision
from napari_unet.learning.losses.by_role import loss_for
from napari_unet.learning.quality.as_predicted import scales_of_prediction, seen_at
from napari_unet.learning.quality.held_back import HeldBack, predictions, subset
from napari_unet.learning.quality.scoring import (
    Seen,
    Validation,
    count_cells,
    pooled,
    score_piece,
)

__all__ = ["Validation", "tune", "validate"]

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig
    from napari_unet.learning.data.fields import Field
    from napari_unet.learning.data.planes import Plane
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks.network import Network
    from napari_unet.learning.quality.held_back import Piece

# From this IoU on what is found says how large cells are.
_FINDS_CELLS = 0.5
_MAX_PX_AT_THE_END = 2**22
_MAX_PX_FOR_TUNING = 2**20
_MAX_TUNING_S = 60.0
# Scales and settings are found in turn, this often at most.
_MOST_ROUNDS = 2
_OTHER_SCALE = 0.1
# Settings count as good as the best within so many standard errors: the best of many is
# better than the rest by luck alone. One single cell more makes just one.
_SURE = 1.2
# Tried where a network is not sure of anything yet.
_THRESHOLDS = (0.45, 0.4, 0.55, 0.35, 0.6, 0.3, 0.25, 0.7, 0.2, 0.8)
_CLEARLY_MORE = 0.05
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
        What is held back. `HeldBack` is made once and used each time; where the model
        learns each image at a scale of its own, it sees them at better ones the next
        time (`HeldBack.look_closer`).
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
    result = pooled(seen, model)
    if result.scores is not None and result.scores.iou > _FINDS_CELLS:
        held.look_closer([each.areas for each in seen])
    return result


def tune(
    network: Network,
    fields: Sequence[Field | Plane],
    model: Model,
    device: DeviceChoice,
    *,
    tile_px: int | None = None,
) -> tuple[InstanceConfig, Validation]:
    """Choose the instance settings that score best on held-back planes, in fp32.

    Few cells would be fitted rather than learned from. So of all settings that the
    best one doesn't beat by more than 1.2 standard errors (jackknife over the cells)
    those are taken that are nearest to what was derived from the labels, and on fewer
    than 10 cells the latter stay (but see `by_pixels`). After a minute nothing more is
    tried. Where the model learned each image at a scale of its own, that of a held-back
    one is measured as in prediction; what is found there depends on the settings, so
    they are chosen again where it comes out otherwise by those that were chosen.

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
    tile_px : int, optional
        Side of the tiles that are predicted at once; None takes all that fits.

    Returns
    -------
    InstanceConfig, Validation
        The settings, and what they reach on more of the held-back pixels than they
        were chosen on.
    """
    instances = model.instances
    model = replace(model, state=network.state_dict())
    fields = subset(fields, _MAX_PX_AT_THE_END)
    scales = scales_of_prediction(model, fields, device)
    if model.training.task == "segment":
        until = time.monotonic() + _MAX_TUNING_S
        for _ in range(_MOST_ROUNDS):
            few = HeldBack(
                seen_at(scales, fields),
                model,
                max_px=_MAX_PX_FOR_TUNING,
                tile_px=tile_px,
            )
            instances = _tuned(network, few, model, device, until)
            tuned, before = replace(model, instances=instances), scales
            scales = scales_of_prediction(tuned, fields, device)
            if _nearly_equal(scales, before) or time.monotonic() > until:
                break
    held = HeldBack(
        seen_at(scales, fields), model, max_px=_MAX_PX_AT_THE_END, tile_px=tile_px
    )
    seen = _see(network, held, model, device, "fp32", instances)
    return instances, pooled(seen, model)


def _nearly_equal(a: Mapping[int, float], b: Mapping[int, float]) -> bool:
    """Whether no image is seen at a clearly other scale."""
    return all(abs(np.log(a[k] / b[k])) < _OTHER_SCALE for k in a)


def _tuned(
    network: Network,
    held: HeldBack,
    model: Model,
    device: DeviceChoice,
    until: float,
) -> InstanceConfig:
    """Return the settings that do best; `until` is the last second to try more."""
    ready = for_inference(network, device, "fp32")
    every = [
        (piece, activate(logits, model.roles).cpu().numpy())
        for piece, logits in predictions(ready, held, device)
    ]
    if held.n_cells < _MIN_CELLS_FOR_TUNING:
        return by_pixels(every, model)
    tried: dict[InstanceConfig, NDArray[np.float64]] = {}

    def count(config: InstanceConfig) -> Tally:
        if tried and time.monotonic() > until:
            return _NOTHING_FOUND
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            one = partial(count_cells, roles=model.roles, instances=config)
            cells = joined(list(pool.map(one, *zip(*every, strict=True))))
        tried[config] = cells.table
        return cells.tally()

    best, _ = tune_instances(count, model.instances)
    return nearest_as_good(tried, best, model.instances)


def by_pixels(
    seen: Sequence[tuple[Piece, NDArray[np.float32]]], model: Model
) -> InstanceConfig:
    """Return a model's settings, with another threshold where it finds far more.

    After few steps a network is not sure of anything yet: what it finds is right, but
    below the threshold. Pixels say so even where there are too few cells to tune on.

    Parameters
    ----------
    seen : sequence of (Piece, ndarray of float32, shape (K, Y, X))
        Held-back pieces with the outputs of the network.
    model : Model
        What they mean, and the settings to begin with.

    Returns
    -------
    InstanceConfig
        Those of the model unless another threshold is better by more than .05 in the
        IoU of the foreground; the seed threshold moves with it, but that of a distance.
    """
    own = model.instances
    if not has_cells(model.roles):
        return own
    thresholds = np.array([own.threshold, *_THRESHOLDS])
    counts = np.zeros((len(thresholds), 2))
    for piece, outputs in seen:
        known = piece.plane.known
        is_cell = piece.plane.labels[known] > 0
        chance = foreground(outputs, model.roles)[known]
        for k, threshold in enumerate(thresholds):
            found = chance > threshold
            counts[k] += np.sum(found & is_cell), np.sum(found | is_cell)
    iou = counts[:, 0] / np.maximum(counts[:, 1], 1)
    best = int(iou.argmax())
    if iou[best] <= iou[0] + _CLEARLY_MORE:
        return own
    moved = {"threshold": float(thresholds[best])}
    if "distance" not in model.roles:
        odds = _odds(own.seed_threshold)
        odds *= _odds(thresholds[best]) / _odds(own.threshold)
        moved["seed_threshold"] = round(odds / (1 + odds), 3)
    return own.model_copy(update=moved)


def _odds(probability: float) -> float:
    return probability / (1 - probability)


def nearest_as_good(
    tried: Mapping[InstanceConfig, NDArray[np.float64]],
    best: InstanceConfig,
    start: InstanceConfig,
    *,
    n_errors: float = _SURE,
) -> InstanceConfig:
    """Return what is nearest to `start` of all that the best doesn't clearly beat.

    Parameters
    ----------
    tried : mapping of InstanceConfig to ndarray of float64
        For each settings the counts of the same cells (`CellCounts.table`).
    best, start : InstanceConfig
        The best of them, and those derived from the labels.
    n_errors : float
        How many standard errors of the difference are no clear beating.

    References
    ----------
    The rule of one standard error, here 1.2: Breiman, Friedman, Olshen, Stone:
    Classification and Regression Trees. 1984, section 3.4.3.
    """
    top = tried[best]

    def is_as_good(table: NDArray[np.float64]) -> bool:
        lack = float(_tuned_for(top.sum(0)) - _tuned_for(table.sum(0)))
        return lack <= n_errors * standard_error(top, table, _tuned_for)

    return min(
        (config for config, table in tried.items() if is_as_good(table)),
        key=lambda config: _distance(config, start),
    )


def _distance(a: InstanceConfig, b: InstanceConfig) -> float:
    """Return how far settings are from each other, by log odds and log sizes."""
    places = [
        (
            np.log(c.threshold / (1 - c.threshold)),
            np.log(c.seed_threshold / (1 - c.seed_threshold)),
            np.log(c.smoothing_px + 0.5),
            np.log(c.min_size_px + 1),
        )
        for c in (a, b)
    ]
    a_place, b_place = np.array(places)
    return float(np.abs(a_place - b_place).sum())


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
