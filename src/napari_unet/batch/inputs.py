"""Which files a folder run takes, what their results are called, and how they are read.

All of it is decided before the first file is read, so that it is the same whenever a
run is begun again.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.batch.large import is_large
from napari_unet.batch.ledger import Record, are_as_written, fingerprint
from napari_unet.batch.one import fit_warnings
from napari_unet.errors import FolderError, UNetError
from napari_unet.files.folders import look_through, stem_of
from napari_unet.files.images import read_image
from napari_unet.files.ome_zarr import is_zarr
from napari_unet.imaging.instances import finds_cells
from napari_unet.imaging.linking import check_has_frames

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_unet.batch.job import Job
    from napari_unet.imaging.arrays import Image

# A result of the Cell Tracking Challenge is a folder; thumbnails are in one.
MOVIE, PREVIEW = "RES", "preview.jpg"


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a run.

    Parameters
    ----------
    index : int
        Its place in the run, from 0.
    path : Path
        Where it is.
    name : str
        The same, relative to the source folder and with slashes.
    is_image : bool
        False of what is passed over.
    problem : str
        Why it is not even read; empty if it is.
    """

    index: int
    path: Path
    name: str
    is_image: bool = True
    problem: str = ""

    @property
    def is_zarr(self) -> bool:
        """Whether it is a Zarr folder, by its name."""
        return self.path.suffix.lower() == ".zarr"

    def result(self, what: str) -> str:
        """Return the name of a result, relative to the output folder: a/x_labels.tif.

        Parameters
        ----------
        what : str
            Such as ``"labels.tif"``; thumbnails have a folder of their own.
        """
        folder, _, _ = self.name.rpartition("/")
        stem = f"{folder}/{stem_of(self.path)}".lstrip("/")
        return f"previews/{stem}.jpg" if what == PREVIEW else f"{stem}_{what}"


def list_items(
    job: Job, source: Path, pattern: str | None, *, recursive: bool
) -> tuple[list[Item], list[FolderError]]:
    """Return the files of a run in order, and which subfolders can't be read.

    Raises
    ------
    FolderError
        As `napari_unet.files.folders.find_images`.
    """
    if source.is_file() or is_zarr(source):
        return [Item(0, source, source.name)], []
    found = look_through(source, pattern, recursive=recursive, without=job.output)
    both = [(path, True) for path in found.images]
    both += [(path, False) for path in found.others]
    items = [
        Item(i, path, path.relative_to(source).as_posix(), is_image)
        for i, (path, is_image) in enumerate(sorted(both))
    ]
    return _checked(job, source, items), found.problems


def _checked(job: Job, source: Path, items: Sequence[Item]) -> list[Item]:
    """Return the items with what is wrong with them, by their names alone."""
    owners: dict[str, str] = {}
    # Results go where images are only if one of the folders is within the other.
    up = os.path.relpath(os.path.realpath(source), os.path.realpath(job.output))
    inputs = {os.path.normpath(os.path.join(up, item.name)) for item in items}
    checked = []
    for item in items:
        problem = ""
        owner = item.name
        if item.is_image:
            owner = owners.setdefault(item.result(""), item.name)
        names = results_of(job, item)
        results = (os.path.normpath(item.result(what)) for what in names)
        if not item.is_image:
            problem = (
                f"{item.path.name} is no image by its name: TIFF, PNG and .zarr are "
                "read"
            )
        elif owner != item.name:
            problem = _would_overwrite(item, f"the result of {owner}")
        elif any(result in inputs for result in results):
            problem = _would_overwrite(item, "another image of the folder")
        checked.append(replace(item, problem=problem) if problem else item)
    return checked


def _would_overwrite(item: Item, what: str) -> str:
    error = FolderError(
        "NU-F05",
        f"{item.name} would overwrite {what}: give one of them another name, or choose "
        "another output folder",
    )
    return str(error)


@dataclass(frozen=True)
class Ready:
    """A file that was read, or need not be.

    Parameters
    ----------
    item : Item
        Which.
    fingerprint : str
        Of the file before it was read.
    seconds : float
        What reading took.
    image : Image, optional
        What was read; where it is large, what is read block by block.
    is_large : bool
        Whether it is.
    notes : list of str
        What is to be told of it.
    before : Record, optional
        Of an earlier run, where its result is there.
    problem : str
        Why it can't be read; empty if it was.
    """

    item: Item
    fingerprint: str = ""
    seconds: float = 0.0
    image: Image | None = None
    is_large: bool = False
    notes: list[str] = field(default_factory=list)
    before: Record | None = None
    problem: str = ""


def make_ready(job: Job, item: Item, lines: Mapping[str, str]) -> Ready:
    """Read a file, if its result is not there yet; never raises.

    Parameters are those of `look_at`.
    """
    ready = look_at(job, item, lines)
    return ready if ready.before or ready.problem else read(job, ready)


def look_at(job: Job, item: Item, lines: Mapping[str, str]) -> Ready:
    """Return whether a file is to be read, and which it is then; never raises.

    Parameters
    ----------
    job : Job
        What to do with it.
    item : Item
        The file.
    lines : mapping of str to str
        Of the ledger, by input.
    """
    if item.problem:
        return Ready(item, problem=item.problem)
    try:
        mark = fingerprint(item.path)
        return Ready(item, mark, before=_record_of(job, item, lines, mark))
    except Exception as error:  # noqa: BLE001 - the per-file edge: the rest goes on
        return Ready(item, problem=sentence(error))


def read(job: Job, ready: Ready) -> Ready:
    """Read a file, of a large one only what it is; never raises."""
    start, path = time.monotonic(), ready.item.path
    notes: list[str] = []
    try:
        image = read_image(path, axes=job.axes, channels=job.channels, notes=notes)
        goes_by_blocks = finds_cells(job.model.roles)
        large = goes_by_blocks and is_large(image, job.model.network.n_dims)
        if not large:
            image = replace(image, data=np.asarray(image.data))
        if job.link:
            check_has_frames(image)
        notes += fit_warnings(job.model, image, job.config)
    except Exception as error:  # noqa: BLE001 - the per-file edge: the rest goes on
        spent = time.monotonic() - start
        return replace(ready, seconds=spent, problem=sentence(error))
    spent = time.monotonic() - start
    return replace(ready, seconds=spent, image=image, is_large=large, notes=notes)


def sentence(error: Exception) -> str:
    """Return an error as it stands in the ledger."""
    return str(error) if isinstance(error, UNetError) else repr(error)


def _record_of(
    job: Job, item: Item, lines: Mapping[str, str], mark: str
) -> Record | None:
    """Return the record of an earlier run that did just this and left its files."""
    line = lines.get(item.name)
    record = None if line is None else Record.from_line(line)
    if record is None or record.state != "done":
        return None
    asked = (mark, job.stamp["model"], job.stamp["settings"])
    if (record.fingerprint, record.model, record.settings) != asked:
        return None
    # Which images are large does not change while they don't.
    expected = (results_of(job, item, is_large=large) for large in (False, True))
    if set(record.sha256) not in [set(map(item.result, names)) for names in expected]:
        return None
    return record if are_as_written(job.output, record) else None


def results_of(job: Job, item: Item, *, is_large: bool = False) -> list[str]:
    """Return how the files are called that are written for an image, main one first.

    What they begin with is the image's own name; see `Item.result`. Of a large image
    there is nothing that takes many times its space, or looks at it as a whole.
    """
    has_cells = finds_cells(job.model.roles)
    is_zarr = job.to == "zarr" or (job.to == "auto" and item.is_zarr)
    wanted = {
        f"labels.{'zarr' if is_zarr else 'tif'}": has_cells,
        "predicted.tif": not has_cells,
        "probabilities.tif": has_cells and job.probabilities and not is_large,
        "attention.tif": job.attention and not is_large,
        "measurements.csv": has_cells and job.measure,
        "uncertainty.tif": job.uncertainty and not is_large,
        MOVIE: job.ctc and not is_large,
        PREVIEW: job.preview,
    }
    return [what for what, is_wanted in wanted.items() if is_wanted]
