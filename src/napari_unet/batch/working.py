"""What is done to one file of a run, wherever that happens."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from napari_unet.batch.inputs import PREVIEW, results_of, sentence
from napari_unet.batch.large import large_apart
from napari_unet.batch.outputs import Outcome, write_outcome
from napari_unet.batch.previews import preview_writer
from napari_unet.events import BlockDone, FileProgress, Note, TileDone
from napari_unet.files.atomic import make_folder
from napari_unet.learning.applying.scale import scale_note
from napari_unet.learning.prediction import predict_tiles, working_factors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from napari_unet.batch.inputs import Ready
    from napari_unet.batch.job import Job
    from napari_unet.batch.ledger import State
    from napari_unet.files.lazy_array import LazyArray
    from napari_unet.imaging.arrays import Image

    # Called with the seconds that were spent on a file before.
    Rest = Callable[[float], Outcome]

# What would take many times the space of the image, or all frames at once.
_LEFT_OUT = {
    "probabilities": "probabilities",
    "attention": "attention",
    "uncertainty": "uncertainty",
    "link": "links over time",
}


def predicted(job: Job, ready: Ready) -> Generator[FileProgress, None, Rest]:
    """Predict one file, a large one as far as its results, not yet in place.

    Parameters
    ----------
    job : Job
        What was asked for.
    ready : Ready
        The file, which was read.

    Yields
    ------
    FileProgress
        After each tile, or block of a large image.

    Returns
    -------
    callable
        Does the rest, wherever there is time for it.

    Raises
    ------
    UNetError
        The image does not fit the model, or the machine can't do it.
    """
    notes, image = ready.notes, ready.image
    if image is None:
        raise ValueError(f"{ready.item.name} was not read")
    factors = working_factors(job.model, image, job.config, net=job.net)
    if rescaled := scale_note(job.model, image, job.config, factors):
        notes.append(rescaled)
    if ready.is_large:
        return (yield from _large(job, ready, image, factors))
    tiles = predict_tiles(job.model, image, job.config, factors=factors, net=job.net)
    for event in tiles:
        if isinstance(event, Note):
            notes.append(event.message)
        elif isinstance(event, TileDone):
            yield FileProgress(ready.item.index, event.n_done, event.n_tiles)
            last = event
    return partial(write_outcome, job, ready, image, last, factors)


def _large(
    job: Job, ready: Ready, image: Image, factors: tuple[float, ...]
) -> Generator[FileProgress, None, Rest]:
    """Find the cells of a large image block by block, and write them."""
    item, notes = ready.item, ready.notes
    if left_out := [what for name, what in _LEFT_OUT.items() if getattr(job, name)]:
        notes.append(f"left out of so large an image: {', '.join(left_out)}")
    names = results_of(job, item, is_large=True)
    paths = {what: job.output / item.result(what) for what in names}
    output = paths[names[0]]
    make_folder(output.parent)
    events = large_apart(
        job.model,
        image,
        output,
        job.config,
        job.instances,
        factors=factors,
        net=job.net,
        table=paths.get("measurements.csv"),
        also=_also(job, image, paths),
    )
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            large = end.value
            break
        if isinstance(event, BlockDone):
            yield FileProgress(item.index, event.n_done, event.n_blocks)
        elif isinstance(event, Note):
            notes.append(event.message)

    def rest(seconds: float) -> Outcome:
        message, n_cells = "; ".join(notes), large.labels.n_cells
        which = (item, ready.fingerprint)
        return Outcome(*which, "done", seconds, message, large.files, n_cells)

    return rest


def _also(
    job: Job, image: Image, paths: Mapping[str, Path]
) -> dict[Path, Callable[[LazyArray], Callable[[BinaryIO], None]]]:
    """Return what else is made of the labels of a large image."""
    if PREVIEW not in paths:
        return {}
    make_folder(paths[PREVIEW].parent)
    draw = partial(preview_writer, job.model, image, is_labels=True)
    return {paths[PREVIEW]: draw}


def whole(job: Job, ready: Ready) -> Outcome:
    """Do all of one file that was read, or not, here and now; never raises."""
    item, start = ready.item, time.monotonic()
    which = (item, ready.fingerprint)

    def spent() -> float:
        return ready.seconds + time.monotonic() - start

    if ready.image is None:
        state: State = "failed" if item.is_image else "skipped"
        return Outcome(*which, state, spent(), ready.problem)
    try:
        events = predicted(job, ready)
        while True:
            next(events)
    except StopIteration as end:
        rest: Rest = end.value
        return rest(spent())
    except Exception as error:  # noqa: BLE001 - the per-file edge: the rest goes on
        return Outcome(*which, "failed", spent(), sentence(error))
