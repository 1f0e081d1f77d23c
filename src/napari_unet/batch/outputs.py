"""What is written for each file of a run, and at the end for all of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.batch.inputs import MOVIE, PREVIEW, results_of, sentence
from napari_unet.batch.previews import preview_writer
from napari_unet.files.atomic import make_folder, write_apart
from napari_unet.files.formats.ctc_results import ctc_apart
from napari_unet.files.images import image_writer, labels_writer
from napari_unet.files.ome_zarr import labels_apart
from napari_unet.files.tables import merge_tables, table_writer
from napari_unet.imaging.instances import finds_cells, is_cell
from napari_unet.imaging.measure import classes_of, measure
from napari_unet.imaging.uncertainty import uncertainty_of
from napari_unet.learning.applying.blocks import cells_of, pixel_size_of_outputs
from napari_unet.learning.attention import attention_maps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from napari_unet.batch.inputs import Item, Ready
    from napari_unet.batch.job import Job
    from napari_unet.batch.ledger import Record, State
    from napari_unet.events import TileDone
    from napari_unet.files.atomic import Apart
    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.model import Model

    Write = Callable[[BinaryIO], None]

TABLE = "measurements.csv"


@dataclass(frozen=True)
class Outcome:
    """What became of a file; its results are written, and not yet in place.

    Parameters
    ----------
    item : Item
        The file.
    fingerprint : str
        Of it, before it was read.
    state : {"done", "failed", "skipped"}
        As in the ledger.
    seconds : float
        Spent on it.
    message : str
        Notes and warnings, or the reason.
    files : tuple of Apart
        What was written, the main one first.
    n_cells : int, optional
        None where images are made.
    before : Record, optional
        Of an earlier run that did all this.
    made_with : mapping
        Device, precision and halo, where another machine did it.
    """

    item: Item
    fingerprint: str
    state: State
    seconds: float
    message: str = ""
    files: tuple[Apart, ...] = ()
    n_cells: int | None = 0
    before: Record | None = None
    made_with: Mapping[str, Any] = field(default_factory=dict)


def write_outcome(
    job: Job,
    ready: Ready,
    image: Image,
    predicted: TileDone,
    factors: Sequence[float],
    seconds: float,
) -> Outcome:
    """Find the cells and write what was asked for; never raises.

    Parameters
    ----------
    job : Job
        What was asked for.
    ready, image
        The file, and what was read from it.
    predicted : TileDone
        What the network gave: its last event.
    factors : sequence of float
        Pixels that it saw for each of the image, one an axis.
    seconds : float
        Spent on the file before.
    """
    start, which = time.monotonic(), (ready.item, ready.fingerprint)
    files: list[Apart] = []

    def spent() -> float:
        return seconds + time.monotonic() - start

    try:
        found = None
        if finds_cells(job.model.roles):
            outputs, settings = predicted.outputs, job.instances
            found = cells_of(job.model, outputs, factors, settings, link=job.link)
        for what in results_of(job, ready.item):
            path = job.output / ready.item.result(what)
            make_folder(path.parent)
            if what == MOVIE and found is not None:
                size = pixel_size_of_outputs(job.model, image)
                files.append(ctc_apart(path, found, size, source=image.source))
                continue
            if found is not None and what == "labels.zarr":
                size = pixel_size_of_outputs(job.model, image)
                files.append(labels_apart(path, found, image.axes[1:], size))
                continue
            write = _writer(job, what, image, predicted, found)
            files.append(write_apart(path, write))
    except Exception as error:  # noqa: BLE001 - the per-file edge: the rest goes on
        for file in files:
            file.discard()
        return Outcome(*which, "failed", spent(), sentence(error))
    n_cells = None if found is None else int(found.max(initial=0))
    message = "; ".join(ready.notes)
    return Outcome(*which, "done", spent(), message, tuple(files), n_cells)


def _writer(
    job: Job,
    what: str,
    image: Image,
    predicted: TileDone,
    labels: NDArray[np.int32] | None,
) -> Write:
    """Return what writes one of the results of a file."""
    outputs = predicted.outputs
    size = pixel_size_of_outputs(job.model, image)
    if what == "attention.tif":
        maps = attention_maps(job.model, image, job.config)
        gates = [f"gate {i + 1}" for i in range(len(maps))]
        # On the image's own grid, whatever the network's.
        own = image.pixel_size_um
        return image_writer(
            maps, axes=image.axes, pixel_size_um=own, channel_names=gates
        )
    if labels is not None and what == "labels.tif":
        return labels_writer(labels, axes=image.axes[1:], pixel_size_um=size)
    if labels is not None and what == "measurements.csv":
        return table_writer(_measured(job.model, image, outputs, labels))
    if what == PREVIEW:
        made = outputs if labels is None else labels
        return preview_writer(job.model, image, made, is_labels=labels is not None)
    data, names = outputs, [role.partition(":")[2] for role in job.model.roles]
    if what == "uncertainty.tif":
        found = uncertainty_of(outputs, job.model.roles, predicted.spread)
        data, names = np.stack(list(found.values())), list(found)
    return image_writer(data, axes=image.axes, pixel_size_um=size, channel_names=names)


def _measured(
    model: Model, image: Image, outputs: NDArray[np.float32], labels: NDArray[np.int32]
) -> dict[str, Any]:
    """Return the columns of a table of the cells."""
    n_dims, finer = model.network.n_dims, model.network.upscale
    if finer > 1:
        data = np.asarray(image.data)
        for axis in range(data.ndim - n_dims, data.ndim):
            data = data.repeat(finer, axis)
        size = pixel_size_of_outputs(model, image)
        image = replace(image, data=data, pixel_size_um=size)
    classes = None
    if sum(map(is_cell, model.roles)) > 1:
        classes = classes_of(labels, outputs, model.roles)
    return measure(labels, image, n_dims=n_dims, classes=classes).columns


def merge_measurements(job: Job, records: Iterable[Record]) -> None:
    """Write one table of the cells of all files, a first column naming the file.

    Raises
    ------
    SaveError
        It can't be written (NU-S01).
    """
    ending = f"_{TABLE}"
    tables = [
        (record.input, job.output / name)
        for record in records
        for name in record.sha256
        if name.endswith(ending) and (job.output / name).is_file()
    ]
    merge_tables(job.output / TABLE, tables)
