"""Training: one visible loop, a generator of events."""

from __future__ import annotations

import math
import time
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
    change_intensity,
    deform,
    window_size,
)
from napari_unet.learning.device import (
    autocast,
    channels_last,
    choose_device,
    own_memory_errors,
    seeded,
)
from napari_unet.learning.losses import weighted_cross_entropy
from napari_unet.learning.patches import PatchSource
from napari_unet.learning.preparation import prepare
from napari_unet.learning.validation import tune, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from napari_unet.events import Event, Reason
    from napari_unet.learning.checkpoint import Model
    from napari_unet.learning.networks import UNet
    from napari_unet.learning.preparation import AnnotationLike, ImageLike
    from napari_unet.learning.validation import Validation

_WARM_UP_SHARE = 0.05
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
    for warning in warnings:
        yield Note(warning, is_warning=True)
    run_dir = None if run_dir is None else Path(run_dir)
    runs.start(run_dir, model)
    with own_memory_errors(device):
        net = model.build().train().to(device.torch)
        channels_last(net)
    source = PatchSource(split.train)
    optimizer = torch.optim.AdamW(
        net.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    best, clock, step = _Best(model), _Clock(), 0
    reason: Reason = "steps"
    n_planes = len(split.train), len(split.validation)
    yield TrainingStarted(config.max_steps, *n_planes, str(device), split.how)

    def look(loss: float | None) -> Iterator[Event]:
        """Validate; copy the model if it is the best so far (a NaN never is)."""
        with own_memory_errors(device):
            held = split.validation
            result = validate(
                net, held, model.instances, model.roles, device, precision
            )
        scores = result.as_dict()
        yield Validated(step, result.loss, result.score, scores)
        runs.log(run_dir, step, loss, clock.elapsed_s, scores)
        if best.is_beaten_by(result):
            best.model = replace(model, state=_copy(net), step=step, scores=scores)
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
        progress = _progress(step, clock.elapsed_s, config)
        for group in optimizer.param_groups:
            # Half a step back: the last step should still learn something.
            middle = max(progress - 0.5 / config.max_steps, 0.0)
            group["lr"] = config.learning_rate * _schedule(middle)

        # One batch, deformed on the device, and one step. What is drawn depends on
        # seed and step alone; dropout draws from torch's own random numbers.
        with own_memory_errors(device), seeded(device, _seed(config, step)):
            batch = _draw(source, net, config, step).to(device.torch)
            batch = _augment(batch, net, config, step)
            loss = _train_step(net, optimizer, batch, autocast(device, precision))
        yield StepDone(step, config.max_steps, loss, clock.elapsed_s)

        # Stopping and pausing, between steps only.
        was_paused = mailbox.wants_pause
        while mailbox.wants_pause:
            yield Paused(is_paused=True)
            clock.leave_out(mailbox.wait, 0.2)
        if was_paused:
            yield Paused(is_paused=False)
        if not math.isfinite(loss):
            reason = "diverged"
        elif mailbox.wants_stop:
            reason = "stopped"
        elif progress >= 1 and step < config.max_steps:
            reason = "time"
        is_last = reason != "steps" or step == config.max_steps

        if reason != "diverged" and (step % config.validate_every == 0 or is_last):
            yield from look(loss)
            if best.n_worse >= config.patience and not is_last:
                reason, is_last = "patience", True
        if is_last:
            break

    # Thresholds and sizes are tuned on validation, for the best model.
    if not best.is_found:
        raise _diverged(step)
    if reason == "diverged":
        yield Note(f"{_diverged(step).message}; the best model so far is kept", True)
    yield Note("Tuning thresholds and smoothing on the validation pixels")
    net.load_state_dict(dict(best.model.state))
    with own_memory_errors(device):
        instances, result = tune(
            net, split.validation, model.roles, device, model.instances
        )
    tuned = replace(best.model, instances=instances, scores=result.as_dict())
    runs.save_best(run_dir, tuned)
    yield Finished(tuned, result.as_dict(), reason)


class _Best:
    """The best model so far, and for how many validations it has been that."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.n_worse = 0
        self._rank = (-math.inf, -math.inf)

    @property
    def is_found(self) -> bool:
        """Whether any validation gave a number."""
        return self._rank > (-math.inf, -math.inf)

    def is_beaten_by(self, result: Validation) -> bool:
        """Return whether a result is better, and count it; a NaN never is.

        A score on few cells is mostly noise: of models whose scores differ by less
        than half a cell the one that was trained longest is taken for the best.
        """
        if not math.isfinite(result.loss):
            self.n_worse += 1
            return False
        # Early on no cell is found at all: then the loss says which is better.
        rank = (result.score, -result.loss)
        is_record = rank > self._rank
        noise = 0.5 / max(result.scores.n_truth, 1)
        is_alike = result.score > 0 and result.score > self._rank[0] - noise
        self._rank = max(rank, self._rank)
        self.n_worse = 0 if is_record else self.n_worse + 1
        return is_record or is_alike


class _Clock:
    """Seconds of training; pauses don't count."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    def leave_out(self, wait: Callable[[float], object], timeout_s: float) -> None:
        before = time.monotonic()
        wait(timeout_s)
        self._start += time.monotonic() - before


def _progress(step: int, elapsed_s: float, config: TrainConfig) -> float:
    """Return the share of training that is done, by steps or by time."""
    by_time = elapsed_s / (60 * config.max_minutes) if config.max_minutes else 0.0
    return min(1.0, max(step / config.max_steps, by_time))


def _schedule(progress: float) -> float:
    """Return the learning rate's factor: a short warm-up, then a cosine to zero."""
    if progress < _WARM_UP_SHARE:
        return progress / _WARM_UP_SHARE
    rest = (progress - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE)
    return 0.5 * (1 + math.cos(math.pi * rest))


def _draw(source: PatchSource, net: UNet, config: TrainConfig, step: int) -> Batch:
    n_in = net.input_size_for(config.patch_size)
    rng = np.random.default_rng([config.seed, step])
    size = window_size(n_in, config)
    # Off the middle by a third: the chosen pixel stays inside, its surroundings vary.
    return source.draw(
        rng, n=config.batch_size, size=size, reach=net.output_size(n_in) // 3
    )


def _seed(config: TrainConfig, step: int) -> int:
    return (config.seed << 32) % 2**63 + step


def _augment(batch: Batch, net: UNet, config: TrainConfig, step: int) -> Batch:
    rng = torch.Generator().manual_seed(_seed(config, step))
    batch = deform(batch, net.input_size_for(config.patch_size), config, rng)
    return replace(batch, image=change_intensity(batch.image, config.intensity, rng))


def _train_step(
    net: UNet,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    precision: AbstractContextManager[Any],
) -> float:
    image = batch.image.contiguous(memory_format=torch.channels_last)
    with precision:
        logits = net(image)
    target = batch.middle(logits.shape[-1])
    loss = weighted_cross_entropy(logits, target.classes, target.weights)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), _MAX_GRADIENT_NORM)
    # A step with a NaN would destroy the weights; the loop ends after it.
    if not (math.isfinite(loss.detach()) and math.isfinite(norm)):
        return math.nan
    optimizer.step()
    return float(loss.detach())


def _copy(net: UNet) -> dict[str, torch.Tensor]:
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
