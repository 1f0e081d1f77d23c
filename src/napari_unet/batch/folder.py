"""A folder of images to a folder of labels: begun again it goes on where it ended."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.batch.inputs import Item, list_items, results_of
from napari_unet.batch.job import Job
from napari_unet.batch.ledger import NAME, Record, in_order, read_lines, rewrite
from napari_unet.batch.one import precision_warnings
from napari_unet.batch.outputs import merge_measurements
from napari_unet.batch.running import Here, Run
from napari_unet.batch.shards import checked, ledger_name, of_shard
from napari_unet.batch.sheet import write_sheet
from napari_unet.config import PredictConfig
from napari_unet.errors import FolderError, SaveError
from napari_unet.events import FolderFinished, FolderStarted, Note
from napari_unet.files.atomic import make_folder, sweep_strays, write_apart
from napari_unet.files.ome_zarr import is_zarr
from napari_unet.imaging.instances import check_finds_cells
from napari_unet.imaging.linking import check_links
from napari_unet.imaging.uncertainty import check_tells_uncertainty
from napari_unet.learning.attention import check_has_gates
from napari_unet.learning.checkpoint import Model, load_model
from napari_unet.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.batch.job import To
    from napari_unet.batch.running import Doer
    from napari_unet.batch.shards import Shard
    from napari_unet.config import InstanceConfig
    from napari_unet.events import Event


def segment_folder(  # noqa: PLR0913 - the settings of a run, all keyword-only
    model: Model | Path | str,
    source: Path | str,
    output: Path | str,
    *,
    pattern: str | None = None,
    recursive: bool = True,
    config: PredictConfig | None = None,
    instances: InstanceConfig | None = None,
    axes: str | None = None,
    channels: Sequence[str] | None = None,
    probabilities: bool = False,
    attention: bool = False,
    measure: bool = False,
    preview: bool = False,
    link: bool = False,
    ctc: bool = False,
    uncertainty: bool = False,
    to: To = "auto",
    resume: bool = True,
    shard: Shard | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    mailbox: Mailbox | None = None,
) -> Iterator[Event]:
    """Segment a file or all images of a folder; one bad file stops no other.

    Writes ``<stem>_labels.tif`` for each image, or ``.zarr`` where the image is one, in
    folders like those of the images, and a line in ``ledger.jsonl``. Each file is
    written whole or not at all, and on the disk before it is told as done. Killed at
    any moment and started again, a run redoes no file that was done and ends with the
    same bytes, but for times in the ledger.
    A model that makes images from images writes ``<stem>_predicted.tif`` instead.

    A plane of more than 4,096 x 4,096 px (or a volume of more than 2**28) that a file
    gives in parts, an OME-Zarr or a tiled TIFF, goes block by block from the disk to
    the disk, with the same cells; probabilities and the like are left out then.

    Reading, predicting and writing overlap, so `FileDone` comes up to a second after
    a file's last tile, when others have begun.

    Parameters
    ----------
    model : Model or path
        The model to apply.
    source : path
        An image, or a folder of images.
    output : path
        Folder for the results, made if missing; not the folder of the images.
    pattern : str, optional
        Only files whose name matches, such as ``"val_*"``; with a slash, whose path
        within the folder does.
    recursive : bool
        Also take the images of subfolders, but not of the output folder.
    config : PredictConfig, optional
        How to apply the model.
    instances : InstanceConfig, optional
        How probabilities become cells; as tuned with the model if omitted.
    axes : str, optional
        Axes of the stored arrays, such as ``"ZYX"``, where the files don't say.
    channels : sequence of str, optional
        Names or numbers of the channels to use.
    probabilities : bool
        Also write the probabilities.
    attention : bool
        Also write what the gates of an Attention U-Net let through, as
        ``<stem>_attention.tif``.
    measure : bool
        Also measure each cell: ``<stem>_measurements.csv``, and ``measurements.csv``
        of all files.
    preview : bool
        Also draw a thumbnail of each file, and ``preview.html``, which shows them all
        and says which files are unlike the others.
    link : bool
        Give a cell of a movie the same id in all frames.
    ctc : bool
        Link, and also write each movie as a result of the Cell Tracking Challenge, in
        the folder ``<stem>_RES``.
    uncertainty : bool
        Also write how unsure the network is, as ``<stem>_uncertainty.tif``: the entropy
        of its classes and, with test-time augmentation, its spread.
    to : {"auto", "tiff", "zarr"}
        Labels as OME-TIFF, or as OME-Zarr, ``<stem>_labels.zarr``; auto takes what the
        image is.
    resume : bool
        Pass over files that were done with the same model and settings, and have not
        changed since, nor have their results.
    shard : (int, int), optional
        Take a share of the files only: the first of four is (1, 4). Shards may run at
        the same time, each with a ledger of its own; a run without `shard` after them
        finds all done, and makes one ledger and one table.
    workers : int, optional
        Let so many processes of this machine do the files, with one thread each. They
        need dask, and a script that asks for them ``if __name__ == "__main__":``.
    scheduler : str, optional
        Let the workers of a dask cluster do them: the address of its scheduler, such
        as ``"tcp://host:8786"``. All machines see the folders under the same paths.
    mailbox : Mailbox, optional
        Where the run is asked to pause or stop; it looks into it between two files, or
        two blocks of a large one.

    Yields
    ------
    Note, FolderStarted, FileStarted, FileProgress, FileDone, Paused, FolderFinished
        Warnings first; `FolderFinished` is the last. A file that was done before, or
        is no image, is "skipped".

    Raises
    ------
    UNetError
        Before the first file: no such folder, no images, an output folder that
        can't be written, no model, one that can't give what is asked for (no attention
        gates, no cells to measure or to link, no uncertainty), no such shard, no
        workers. Later: the ledger can't be written (NU-S01), the workers are lost.
    """
    source, output = Path(source), Path(output)
    if workers is not None or scheduler is not None:
        # Workers may be elsewhere.
        source, output = source.absolute(), output.absolute()
    job = Job(
        model if isinstance(model, Model) else load_model(model),
        output,
        config or PredictConfig(),
        instances,
        axes,
        channels,
        probabilities,
        attention,
        measure,
        preview,
        link or ctc,
        ctc,
        uncertainty,
        to,
    )
    _check_model(job)
    of = None if shard is None else checked(shard)
    every, problems = list_items(job, source, pattern, recursive=recursive)
    items = [replace(item, index=i) for i, item in enumerate(of_shard(every, of))]
    ledger = output / ledger_name(of)
    _check_output(source, output, ledger)
    _sweep(job, items)
    for problem in problems:
        yield Note(str(problem), is_warning=True)
    for warning in precision_warnings(job.model, job.config):
        yield Note(warning, is_warning=True)
    lines = read_lines(output) if resume else {}
    with closing(_doer(job, ledger, workers, scheduler)) as doer:
        for note in doer.notes:
            yield Note(note)
        yield FolderStarted(tuple(item.path for item in items))
        run = Run(job, items, lines, mailbox or Mailbox(), doer)
        yield from run.events(ledger)
    _conclude(job, items, source, ledger)
    yield FolderFinished(
        run.counts["done"], run.counts["failed"], run.counts["skipped"]
    )


def _doer(job: Job, ledger: Path, workers: int | None, scheduler: str | None) -> Doer:
    if workers is None and scheduler is None:
        return Here(job)
    from napari_unet.batch.dask_run import Cluster  # dask may not be installed

    return Cluster(job, ledger, workers=workers, scheduler=scheduler)


def _check_model(job: Job) -> None:
    if job.attention:
        check_has_gates(job.model)
    if job.measure:
        check_finds_cells(job.model.roles)
    if job.link:
        check_links(job.model.roles)
    if job.uncertainty:
        is_augmented = job.config.test_time_augmentation != "off"
        check_tells_uncertainty(job.model.roles, has_spread=is_augmented)


def _folder_of(source: Path) -> Path:
    """Return the folder in which the images lie."""
    return source if source.is_dir() and not is_zarr(source) else source.parent


def _check_output(source: Path, output: Path, ledger: Path) -> None:
    folder = _folder_of(source)
    if output.resolve() == folder.resolve():
        raise FolderError(
            "NU-F09",
            f"the output folder {output} is the folder of the images: give another, "
            "so that images and results don't mix",
        )
    make_folder(output)
    try:
        write_apart(output / "probe", lambda _: None).discard()
        ledger.open("a").close()
    except (OSError, SaveError) as error:
        why = error.strerror if isinstance(error, OSError) else error.message
        raise SaveError(
            "NU-S02",
            f"the output folder {output} can't be written ({why}): choose another "
            "folder",
        ) from error


def _sweep(job: Job, items: Sequence[Item]) -> None:
    """Delete what a killed run left half-written."""
    names = (item.result(what) for item in items for what in results_of(job, item))
    for folder in dict.fromkeys((job.output / name).parent for name in names):
        sweep_strays(folder)


def _conclude(job: Job, items: Sequence[Item], source: Path, ledger: Path) -> None:
    """Put the ledger in order, one line a file, and merge the measurements."""
    lines = read_lines(job.output)
    is_whole = ledger.name == NAME
    own = {item.name for item in items}
    rewrite(ledger, (line for name, line in lines.items() if is_whole or name in own))
    if not ((job.measure or job.preview) and is_whole):
        return
    found = map(Record.from_line, lines.values())
    asked = (job.stamp["model"], job.stamp["settings"])
    # Also what an earlier run did, of other files of the folder.
    records = {
        r.input: r for r in found if r is not None and (r.model, r.settings) == asked
    }
    if job.measure:
        merge_measurements(job, records.values())
    if job.preview:
        folder = _folder_of(source)
        every = {name: Item(0, folder / name, name) for name in records}
        every |= {item.name: item for item in items}
        ordered = [every[name] for name in sorted(every, key=in_order)]
        write_sheet(job, ordered, records)
