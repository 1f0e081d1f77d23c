"""Training: one visible loop, a generator of events."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_unet.config import TrainConfig
from napari_unet.errors import SaveError
from napari_unet.events import (
    CheckpointSaved,
    Improved,
    LearningRateChanged,
    Mailbox,
    Note,
    Paused,
    StepDone,
    TrainingStarted,
    Validated,
)
from napari_unet.imaging.instances import finds_cells
from napari_unet.learning.augmentation import augment, window_size
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.device import seeded
from napari_unet.learning.loop import runs, snapshots
from napari_unet.learning.loop.beginning import Given, begin
from napari_unet.learning.loop.finishing import finish
from napari_unet.learning.loop.progress import learning_rate, share_done
from napari_unet.learning.loop.transfer import encoder_of, knows_little
from napari_unet.learning.model import Model
from napari_unet.learning.quality.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.config import NetworkConfig, WeightConfig
    from napari_unet.events import Event, Reason
    from napari_unet.learning.augmentation import Batch
    from napari_unet.learning.data.pairs import AnnotationLike, ImageLike
    from napari_unet.learning.loop.run_state import RunState
    from napari_unet.learning.quality.validation import Validation


def train(  # noqa: C901, PLR0913 - one loop that reads from top to bottom
    images: Sequence[ImageLike],
    annotations: Sequence[AnnotationLike | ImageLike],
    config: TrainConfig | None = None,
    *,
    network: NetworkConfig | None = None,
    weights: WeightConfig | None = None,
    validation: tuple[Sequence[ImageLike], Sequence[AnnotationLike | ImageLike]]
    | None = None,
    start_from: Model | Path | str | None = None,
    run_dir: Path | str | None = None,
    mailbox: Mailbox | None = None,
    resume: bool = False,
    restart: bool = False,
) -> Iterator[Event]:
    """Train a U-Net, yielding an event for all that happens.

    Parameters
    ----------
    images : sequence of Image, array (Y, X) or path
        One or more images with the same channels. Files are read when they are needed,
        and arrays that are lazy (zarr, dask) plane by plane, large ones in blocks: at
        most about 50 planes are in memory.
    annotations : sequence of Annotation, array or path
        One an image; arrays and files count as completely painted. For the task
        "regress" the images to be made, of the same size or 2 or 4 times finer.
    config : TrainConfig, optional
        How to train.
    network : NetworkConfig, optional
        Shape of the network; its channels are taken from the data. Left out when
        starting from a model, whose network goes on.
    weights : WeightConfig, optional
        Weights of the pixels.
    validation : (images, annotations), optional
        What to validate on. Otherwise `config.val_fraction` is held back.
    start_from : Model or path, optional
        Model to fine-tune; of one with other channels or outputs, what fits
        (`napari_unet.learning.loop.transfer.fitted`).
    run_dir : path, optional
        Folder for settings, scores, checkpoints and the best model.
    mailbox : Mailbox, optional
        Through which to pause or stop, to paint, to look, to change the learning rate.
    resume : bool
        Go on with the run in `run_dir`, given the same images, annotations and
        settings. On a CPU it ends with the same bits as if it had never been
        interrupted, on the same machine with the same versions and number of threads.
    restart : bool
        Begin anew in `run_dir` even if the run in it was interrupted, which can't be
        gone on with any more then.

    Yields
    ------
    Event
        See `napari_unet.events`; `Finished` is the last, unless training was stopped
        before its first step. Closing the generator aborts: with a run folder it can
        be gone on with.

    Raises
    ------
    UNetError
        Before the first step, if the input can't be learned from or is not that of
        the run (NU-C30), or an interrupted run would be lost (NU-C33); NU-R02 and
        NU-R03 where memory or numbers fail for good; NU-R05 where one of several
        processes is gone.

    Notes
    -----
    Where `torchrun` started several processes, each one calls this with the same
    arguments and learns from its share of every batch; the first one alone writes
    (`napari_unet.learning.loop.parallel`).

    References
    ----------
    Ronneberger, Fischer, Brox: U-Net. MICCAI 2015. https://arxiv.org/abs/1505.04597
    """
    start = _loaded(start_from)
    given = Given(
        images, annotations, config or TrainConfig(), network, weights, validation,
        start, is_live=mailbox is not None,
    )  # fmt: skip
    mailbox = mailbox or Mailbox()
    folder = None if run_dir is None else Path(run_dir)
    run = yield from begin(given, folder, resume=resume, restart=restart)
    if run is None:
        return
    mailbox = run.ranks.hears(mailbox)
    with run.source:
        yield _started(run)
        if run.step == 0 and run.ranks.any_wants(mailbox.wants_stop):
            yield Note("Stopped before the first step: no model was trained", True)
            return
        try:
            while True:
                # What is due after so many steps, or else the next one.
                if _is_look_due(run, start):
                    yield from _look(run)
                reason = run.ranks.any_reason(_reason_to_end(run, mailbox))
                if reason is not None:
                    break
                if run.checkpoints.is_due(run.step):
                    yield from _save(run)

                # What was painted meanwhile, and what was asked for.
                yield from run.strokes.enter(run.source, mailbox, run.step)
                yield from _take_learning_rate(run, mailbox)

                # One batch and one step, in as many parts as memory takes.
                loss = yield from run.memory.within(lambda: _step(run))
                run.step += 1
                yield from _judge(run, loss)
                n_steps, elapsed_s = run.config.max_steps, run.clock.elapsed_s
                yield StepDone(run.step, n_steps, loss, elapsed_s)

                yield from run.preview.show(run, mailbox)
                yield from _wait_while_paused(run, mailbox)
            if run.looked_at < run.step and reason != "diverged":
                yield from _look(run)
            yield from _save(run)
        except GeneratorExit:
            # Nobody listens any more, but it can be gone on with from here.
            with contextlib.suppress(SaveError):
                _write_checkpoint(run)
            raise
    yield from run.ranks.led(finish(run, reason, start))


def _loaded(start_from: Model | Path | str | None) -> Model | None:
    if start_from is None or isinstance(start_from, Model):
        return start_from
    return load_model(start_from)


def _started(run: RunState) -> TrainingStarted:
    return TrainingStarted(
        run.config.max_steps,
        len(run.split.train),
        len(run.split.validation),
        str(run.device),
        run.split.how,
        held_back=run.split.held_back if run.split.is_held_back else (),
        first_step=run.step,
    )


def _is_look_due(run: RunState, start: Model | None) -> bool:
    if run.looked_at == run.step:
        return False
    # A model that is gone on from is the first candidate: training may harm it.
    is_first = run.step == 0 and start is not None
    return is_first or run.looks.is_due(run.step)


def _look(run: RunState) -> Iterator[Event]:
    """Validate; copy the averaged weights if they are the best so far."""
    began = time.monotonic()

    def work() -> Validation:
        with run.average.swapped(run.net):
            precision = run.stepper.precision
            return run.ranks.decide(
                lambda: validate(run.net, run.held, run.model, run.device, precision)
            )

    result = yield from run.memory.within_tiles(run.held, work)
    step, scores = run.step, result.as_dict()
    is_first, run.looked_at = run.looked_at < 0, step
    run.history.add(step, run.loss, result)
    is_better = run.best.is_beaten_by(result)
    if is_better:
        run.best.model = replace(
            run.model,
            state=run.averaged_weights(),
            step=run.history.total(step),
            scores=scores,
            history=run.history.looks,
        )
    forgets = is_first and run.may_forget and knows_little(result)
    if forgets:
        run.begin_with(encoder_of(run.model))
    elif math.isfinite(result.loss):
        run.keep_good()
    elapsed_s = run.clock.elapsed_s
    notes = runs.keeping(
        lambda: runs.log(run.folder, step, run.loss, elapsed_s, scores),
        lambda: runs.save_best(run.folder, run.best.model) if is_better else None,
        lambda: runs.write_settings(run.folder, run.model) if forgets else None,
    )
    # By one clock: all processes look again after the same step.
    took = run.ranks.decide(lambda: (time.monotonic() - began, step, elapsed_s))
    run.looks.took(*took)
    yield from notes
    is_held_back = run.split.is_held_back
    yield Validated(step, result.loss, result.score, scores, is_held_back)
    if is_better:
        yield Improved(step, result.score, run.best.model)
    if forgets:
        yield Note(
            "The model to start from hardly tells these cells from their background: "
            "its encoder alone is kept, the rest begins anew, at a learning rate of "
            f"{run.config.learning_rate:g}"
        )
        yield LearningRateChanged(run.config.learning_rate)
    if is_first and finds_cells(run.model.roles):
        yield Note("Thresholds are tuned at the end, which often lifts these scores")


def _reason_to_end(run: RunState, mailbox: Mailbox) -> Reason | None:
    """Return why training ends now; None if it goes on."""
    config, minutes = run.config, run.config.max_minutes
    if run.has_diverged:
        return "diverged"
    if mailbox.wants_stop:
        return "stopped"
    asked = mailbox.keeps_learning
    keeps_learning = run.keeps_learning if asked is None else asked
    if run.step >= config.max_steps and not keeps_learning:
        return "steps"
    if minutes is not None and run.clock.elapsed_s >= 60 * minutes:
        return "time"
    has_patience = keeps_learning or run.best.n_worse < config.patience
    return None if has_patience else "patience"


def _take_learning_rate(run: RunState, mailbox: Mailbox) -> Iterator[Note]:
    asked = mailbox.learning_rate
    if asked != run.asked_peak:
        run.asked_peak = run.peak = asked
        peak = run.peak or run.config.learning_rate
        yield Note(f"From step {run.step + 1} on the peak learning rate is {peak:g}")


def _step(run: RunState) -> float:
    """Draw a batch, deform it on the device, learn from it; return the loss.

    What is drawn depends on seed and step alone; dropout draws from torch's own random
    numbers.
    """
    step, config = run.step + 1, run.config
    # The learning rate follows whichever ends first, the steps or the time.
    elapsed_s = 0.0
    if config.max_minutes is not None:
        elapsed_s = run.ranks.decide(lambda: run.clock.elapsed_s)
    progress = share_done(step, elapsed_s, config)
    rate = learning_rate(progress, config, run.peak) * run.stability.lr_factor
    size = run.net.input_size_for(run.memory.patch_size)
    seed = (config.seed << 32) % 2**63 + step
    try:
        with seeded(run.device, run.ranks.seed(seed)):
            with run.ranks.all_or_none(run.device):
                windows = _windows(run, step, size).to(run.device.torch)
                rng = torch.Generator().manual_seed(seed)
                batch = augment(windows, size, config, rng)
            run.stepper.begin(batch, rate, run.memory.n_micro)
            if run.device.name == "cuda":
                # While the device computes, this draws what it gets next.
                with run.ranks.all_or_end(run.device):
                    run.drawn = (step + 1, size), _windows(run, step + 1, size)
            return run.stepper.finish()
    except BaseException:
        # It may have gone through half of the layers.
        run.buffers.restore()
        raise


def _windows(run: RunState, step: int, size: int) -> Batch:
    (of, drawn), run.drawn = run.drawn, (None, None)
    if drawn is not None and of == (step, size):
        return drawn
    return run.source.draw(
        step,
        n=run.config.batch_size,
        size=window_size(size, run.config),
        # Off the middle by a third: the pixel stays inside, its surroundings vary.
        reach=run.net.output_size(size) // 3,
    )


def _judge(run: RunState, loss: float) -> Iterator[Note]:
    """Take in a good step; skip or go back where its loss is no number."""
    if math.isfinite(loss):
        run.loss = loss
        run.average.update(run.net)
        run.buffers.keep()
        return
    run.buffers.restore()
    match run.stability.judge(run.step):
        case "skip":
            yield Note(f"Step {run.step} was skipped: its loss was no number", True)
        case "roll back":
            good = run.go_back()
            yield Note(
                f"The loss was no number again at step {run.step}: training goes on "
                f"with the weights of step {good} and half the learning rate",
                is_warning=True,
            )
        case "stop":
            run.has_diverged = True


def _save(run: RunState) -> Iterator[Event]:
    if run.folder is None or run.saved_at == run.step:
        return
    began = time.monotonic()
    try:
        path = _write_checkpoint(run)
    except SaveError as error:
        yield Note(f"{error}; {runs.UNHARMED}", is_warning=True)
    else:
        if path is not None:
            yield CheckpointSaved(run.step, path)
    finally:
        took_s = time.monotonic() - began
        run.checkpoints.took(took_s, run.step, run.clock.elapsed_s)


def _write_checkpoint(run: RunState) -> Path | None:
    if run.folder is None or run.step == 0 or run.saved_at == run.step:
        return None
    path = snapshots.write(run.folder / runs.CHECKPOINTS, run.snapshot())
    run.saved_at = run.step
    return path


def _wait_while_paused(run: RunState, mailbox: Mailbox) -> Iterator[Event]:
    if not mailbox.wants_pause:
        return
    yield from _save(run)
    while mailbox.wants_pause:
        yield Paused(is_paused=True)
        run.clock.leave_out(mailbox.wait, 0.2)
        yield from run.preview.show(run, mailbox)
    yield Paused(is_paused=False)
