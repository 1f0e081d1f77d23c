"""Training: one visible loop, a generator of events."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.config import NetworkConfig, TrainConfig, WeightConfig
from napari_unet.errors import ResourceError
from napari_unet.events import (
    Finished,
    Improved,
    Mailbox,
    Note,
    Paused,
    StepDone,
    TrainingStarted,
    Validated,
)
from napari_unet.learning import runs
from napari_unet.learning.augmentation import (
    Batch,
    augment,
    window_size,
)
from napari_unet.learning.device import (
    autocast,
    channels_last,
    choose_device,
    own_memory_errors,
    seeded,
)
from napari_unet.learning.losses import LOSSES
from napari_unet.learning.patches import PatchSource
from napari_unet.learning.preparation import prepare
from napari_unet.learning.progress import (
    Best,
    Clock,
    History,
    learning_rate,
    share_done,
)
from napari_unet.learning.validation import tune, validate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from napari_unet.events import Event, Reason
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.losses import Loss
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks.network import Network
    from napari_unet.learning.pairs import AnnotationLike, ImageLike
    from napari_unet.learning.patches import Plane

_MAX_GRADIENT_NORM = 5.0


def train(  # noqa: C901, PLR0913 - one loop that reads from top to bottom
    images: Sequence[ImageLike],
    annotations: Sequence[AnnotationLike],
    config: TrainConfig | None = None,
    *,
    network: NetworkConfig | None = None,
    weights: WeightConfig | None = None,
    validation: tuple[Sequence[ImageLike], Sequence[AnnotationLike]] | None = None,
    start_from: Model | Path | str | None = None,
    run_dir: Path | str | None = None,
    mailbox: Mailbox | None = None,
) -> Iterator[Event]:
    """Train a U-Net, yielding an event for all that happens.

    Parameters
    ----------
    images : sequence of Image, ndarray (Y, X) or path
        One or more images with the same channels.
    annotations : sequence of Annotation, ndarray or path
        One an image; arrays and files count as completely painted.
    config : TrainConfig, optional
        How to train.
    network : NetworkConfig, optional
        Shape of the network; its channels are taken from the data. Left out when
        starting from a model, whose network goes on.
    weights : WeightConfig, optional
        Weights of the pixels.
    validation : (images, annotations), optional
        What to validate on. Otherwise `config.val_fraction` is held back: whole
        images where there are five or more, else a block of each.
    start_from : Model or path, optional
        Model to fine-tune.
    run_dir : path, optional
        Folder for the settings, the scores and the best model.
    mailbox : Mailbox, optional
        Through which to pause or stop.

    Yields
    ------
    Event
        `Note`, `TrainingStarted`, `StepDone`, `Validated`, `Improved` (a copy of the
        best model), `Paused`; `Finished` is the last, unless training was stopped
        before its first step. Closing the generator aborts.

    Raises
    ------
    UNetError
        Before the first step, if the input can't be learned from.

    References
    ----------
    Ronneberger, Fischer, Brox: U-Net. MICCAI 2015. https://arxiv.org/abs/1505.04597
    """
    config, mailbox = config or TrainConfig(), mailbox or Mailbox()
    device = choose_device(config.device)
    precision = "fp32" if config.precision == "fp32" else "fast"

    # What there is to learn, what to validate on, and the model to begin with.
    model, split, warnings = prepare(
        images,
        annotations,
        config,
        network=network,
        weights=weights,
        validation=validation,
        start_from=start_from,
    )
    if not split.is_held_back:
        warnings.append(split.how)
    yield from (Note(warning, is_warning=True) for warning in warnings)
    run_dir = None if run_dir is None else Path(run_dir)
    runs.start(run_dir, model)
    with own_memory_errors(device):
        net = model.build().train().to(device.torch)
        channels_last(net)
    source = PatchSource(split.train)
    optimizer = _optimizer(net, config)
    best, history, clock, step = Best(model), History(model), Clock(), 0
    reason: Reason | None = None
    n_planes = len(split.train), len(split.validation)
    yield TrainingStarted(config.max_steps, *n_planes, str(device), split.how)

    def look(loss: float | None) -> Iterator[Event]:
        """Validate; copy the model if it is the best so far (a NaN never is)."""
        with own_memory_errors(device):
            result = validate(net, split.validation, model, device, precision)
        scores = result.as_dict()
        yield Validated(step, result.loss, result.score, scores)
        runs.log(run_dir, step, loss, clock.elapsed_s, scores)
        history.add(step, loss, result)
        if best.is_beaten_by(result):
            best.model = replace(
                model,
                state=_copy(net),
                step=history.total(step),
                scores=scores,
                history=history.looks,
            )
            runs.save_best(run_dir, best.model)
            yield Improved(step, result.score, best.model)

    if mailbox.wants_stop:
        yield Note("Stopped before the first step: no model was trained", True)
        return
    if start_from is not None:
        # A model that is gone on from is the first candidate: training may harm it.
        yield from look(None)

    for step in range(1, config.max_steps + 1):
        # The learning rate follows whichever ends first, the steps or the time.
        progress = share_done(step, clock.elapsed_s, config)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, config)

        # One batch, deformed on the device, and one step. What is drawn depends on
        # seed and step alone; dropout draws from torch's own random numbers.
        with own_memory_errors(device), seeded(device, _seed(config, step)):
            batch = _draw(source, net, config, step).to(device.torch)
            batch = _augment(batch, net, config, step)
            context = autocast(device, precision)
            loss = _train_step(net, optimizer, batch, LOSSES[config.loss], context)
        yield StepDone(step, config.max_steps, loss, clock.elapsed_s)

        # Stopping and pausing, between steps only.
        yield from _wait_while_paused(mailbox, clock)
        reason = _reason_to_end(loss, mailbox, progress, step, config)
        if reason != "diverged" and (reason or step % config.validate_every == 0):
            yield from look(loss)
            if best.n_worse >= config.patience:
                reason = reason or "patience"
        if reason:
            break

    # Thresholds and sizes are tuned on validation, for the best model.
    if not best.is_found:
        raise _diverged(step)
    if reason == "diverged":
        yield Note(f"{_diverged(step).message}; the best model so far is kept", True)
    yield Note("Tuning thresholds and smoothing on the validation pixels")
    with own_memory_errors(device):
        whole = replace(best.model, history=history.looks)
        tuned = _tuned(net, whole, split.validation, device)
    runs.save_best(run_dir, tuned)
    yield Finished(tuned, tuned.scores, reason or "steps")


def _optimizer(net: Network, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            net.parameters(),
            config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
    return torch.optim.AdamW(
        net.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )


def _wait_while_paused(mailbox: Mailbox, clock: Clock) -> Iterator[Paused]:
    was_paused = mailbox.wants_pause
    while mailbox.wants_pause:
        yield Paused(is_paused=True)
        clock.leave_out(mailbox.wait, 0.2)
    if was_paused:
        yield Paused(is_paused=False)


def _input_size(net: Network, config: TrainConfig) -> int:
    # One pixel at the bottom is too few for a norm to learn from a single patch.
    return net.input_size_for(max(config.patch_size, 2 * net.multiple))


def _reason_to_end(
    loss: float, mailbox: Mailbox, progress: float, step: int, config: TrainConfig
) -> Reason | None:
    """Return why training ends after this step; None if it goes on."""
    if not math.isfinite(loss):
        return "diverged"
    if mailbox.wants_stop:
        return "stopped"
    if step == config.max_steps:
        return "steps"
    return "time" if progress >= 1 else None


def _tuned(
    net: Network, best: Model, planes: Sequence[Plane], device: DeviceChoice
) -> Model:
    net.load_state_dict(dict(best.state))
    instances, result = tune(net, planes, best, device)
    return replace(best, instances=instances, scores=result.as_dict())


def _draw(source: PatchSource, net: Network, config: TrainConfig, step: int) -> Batch:
    n_in = _input_size(net, config)
    rng = np.random.default_rng([config.seed, step])
    size = window_size(n_in, config)
    # Off the middle by a third: the chosen pixel stays inside, its surroundings vary.
    return source.draw(
        rng, n=config.batch_size, size=size, reach=net.output_size(n_in) // 3
    )


def _seed(config: TrainConfig, step: int) -> int:
    return (config.seed << 32) % 2**63 + step


def _augment(batch: Batch, net: Network, config: TrainConfig, step: int) -> Batch:
    rng = torch.Generator().manual_seed(_seed(config, step))
    return augment(batch, _input_size(net, config), config, rng)


def _train_step(
    net: Network,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    loss_of: Loss,
    precision: AbstractContextManager[Any],
) -> float:
    image = batch.image.contiguous(memory_format=torch.channels_last)
    with precision:
        logits = net(image)
    target = batch.middle(logits.shape[-1])
    loss = loss_of(logits, target.classes, target.weights)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), _MAX_GRADIENT_NORM)
    # A step with a NaN would destroy the weights; the loop ends after it.
    if not (math.isfinite(loss.detach()) and math.isfinite(norm)):
        return math.nan
    optimizer.step()
    return float(loss.detach())


def _copy(net: Network) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in net.state_dict().items()
    }


def _diverged(step: int) -> ResourceError:
    return ResourceError(
        "NU-R03",
        f"training diverged at step {step} (the loss is not a number): train again "
        "with a smaller learning rate",
    )
