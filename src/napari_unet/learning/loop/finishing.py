"""The end of a training: tune, compare, keep."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.errors import ResourceError
from napari_unet.events import Finished, Note
from napari_unet.imaging.instances import finds_cells
from napari_unet.learning.device import own_memory_errors
from napari_unet.learning.loop import runs
from napari_unet.learning.loop.pictures import draw_comparison
from napari_unet.learning.loop.transfer import are_comparable
from napari_unet.learning.quality.comparison import compare
from napari_unet.learning.quality.learning_curve import (
    in_words,
    next_round,
    same_held_back,
)
from napari_unet.learning.quality.validation import tune

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from napari_unet.events import Event, Reason
    from napari_unet.learning.loop.run_state import RunState
    from napari_unet.learning.model import Model

_NOT_FINISHED = "once that is mended, --resume (resume=True) makes the model again"


def finish(run: RunState, reason: Reason, start: Model | None) -> Iterator[Event]:
    """Tune the best model on the held-back pixels, compare it, and hand one over.

    Parameters
    ----------
    run : RunState
        After its last step; its network is used up.
    reason : Reason
        Why training ended.
    start : Model, optional
        The one that was begun with. Where it takes the same images and makes the same
        outputs, and the new one is worse, it is kept.

    Yields
    ------
    Note, Compared, Finished

    Raises
    ------
    ResourceError
        No validation ever gave a number (NU-R03).
    """
    if not run.best.is_found:
        raise _diverged(run.step)
    if reason == "diverged":
        said = _diverged(run.step).message
        yield Note(f"{said}; the best model so far is kept", is_warning=True)
    if finds_cells(run.best.model.roles):
        yield Note("Tuning thresholds and smoothing on the held-back pixels")
    model = replace(run.best.model, history=run.history.looks)
    try:
        model = _tuned(run, model)
    except ResourceError as error:
        # The model is worth more than its threshold.
        yield Note(f"{error}; the settings stay as they are", is_warning=True)
    else:
        yield from _what_they_brought(run, model)
    kept, scores = model, model.scores
    if start is not None and run.split.is_held_back and are_comparable(start, model):
        kept, scores = yield from _compared(run, start, model)
    yield from runs.keeping(lambda: draw_comparison(run, kept, run.folder))
    lost = runs.keeping(lambda: runs.save_best(run.folder, kept), so=_NOT_FINISHED)
    yield from lost
    # A run that is finished hands over what it wrote: never an older model.
    if reason != "stopped" and not lost:
        yield from runs.keeping(lambda: runs.end(run.folder, run.step, reason))
    yield Finished(kept, scores, reason)


def _tuned(run: RunState, best: Model) -> Model:
    """Return the model with tuned settings, its scores, and what they rest on."""
    with own_memory_errors(run.device):
        run.net.load_state_dict(dict(best.state))
        instances, result = tune(run.net, run.split.validation, best, run.device)
    if not run.split.is_held_back:
        return replace(best, instances=instances, scores=result.as_dict())
    this = next_round(run.n_cells, run.split.validation, result)
    return replace(
        best,
        instances=instances,
        scores=result.as_dict(),
        rounds=(*best.rounds, this),
    )


def _what_they_brought(run: RunState, model: Model) -> Iterator[Note]:
    """Say what the last cells brought, where an earlier round can be compared."""
    is_new = run.split.is_held_back and finds_cells(model.roles)
    if is_new and len(same_held_back(model.rounds)) > 1:
        yield Note(in_words(model.rounds))


def _compared(
    run: RunState, start: Model, model: Model
) -> Generator[Event, None, tuple[Model, Mapping[str, float]]]:
    """Return the better of two models, and its scores on what is held back now."""
    try:
        with own_memory_errors(run.device):
            found = compare(
                start,
                model,
                run.split.validation,
                run.device,
                tile_px=run.memory.tile_px,
            )
    except ResourceError as error:
        yield Note(f"{error}; the new model is kept", is_warning=True)
        return model, model.scores
    yield found.event
    yield Note(found.sentence, is_warning=found.verdict == "worse")
    rejected = found.rejected
    yield from runs.keeping(lambda: runs.save_not_kept(run.folder, rejected))
    if found.is_new_kept:
        return model, model.scores
    return found.keep, found.event.before


def _diverged(step: int) -> ResourceError:
    return ResourceError(
        "NU-R03",
        f"training diverged at step {step} (the loss is not a number): train again "
        "with a smaller learning rate",
    )
