"""The end of a training: tune, compare, keep."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.errors import ResourceError
from napari_unet.events import Finished, Note
from napari_unet.learning import runs
from napari_unet.learning.device import own_memory_errors
from napari_unet.learning.validation import tune

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.events import Event, Reason
    from napari_unet.learning.model import Model
    from napari_unet.learning.run_state import RunState


def finish(run: RunState, reason: Reason, start: Model | None) -> Iterator[Event]:
    """Tune the best model on the held-back pixels, and hand it over.

    Yields
    ------
    Note, Finished

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
    yield Note("Tuning thresholds and smoothing on the validation pixels")
    model = replace(run.best.model, history=run.history.looks)
    try:
        model = _tuned(run, model)
    except ResourceError as error:
        # The model is worth more than its threshold.
        yield Note(f"{error}; the settings stay as they are", is_warning=True)
    yield from runs.keeping(lambda: runs.save_best(run.folder, model))
    if reason != "stopped":
        yield from runs.keeping(lambda: runs.end(run.folder, run.step, reason))
    yield Finished(model, model.scores, reason)


def _tuned(run: RunState, best: Model) -> Model:
    with own_memory_errors(run.device):
        run.net.load_state_dict(dict(best.state))
        instances, result = tune(run.net, run.split.validation, best, run.device)
    return replace(best, instances=instances, scores=result.as_dict())


def _diverged(step: int) -> ResourceError:
    return ResourceError(
        "NU-R03",
        f"training diverged at step {step} (the loss is not a number): train again "
        "with a smaller learning rate",
    )
