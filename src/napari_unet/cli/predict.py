"""`napari-unet predict`: a model over a file or a folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from napari_unet.cli import console
from napari_unet.cli.drawing import draw_folder
from napari_unet.cli.flags import (
    FILES,
    Axes,
    Channels,
    Output,
    Pattern,
    Predicting,
    Switch,
    channel_list,
)
from napari_unet.config import PredictConfig
from napari_unet.errors import UNetError
from napari_unet.events import Event, FileDone

if TYPE_CHECKING:
    from napari_unet.learning.checkpoint import Model

Choice = Annotated[bool, Parameter(group=FILES)]


def _check_shard(_type: object, value: str | None) -> None:
    if value is None:
        return
    from napari_unet.batch.shards import parse_shard

    try:
        parse_shard(value)
    except UNetError as error:
        raise ValueError(error.message) from error


def predict(  # noqa: PLR0913 - one parameter a flag
    *,
    model: Annotated[Path, Parameter(group=FILES)],
    images: Annotated[Path, Parameter(name="--input", group=FILES)],
    output: Output,
    pattern: Pattern = None,
    probabilities: Switch = False,
    attention: Switch = False,
    measure: Switch = False,
    preview: Switch = False,
    uncertainty: Switch = False,
    link: Switch = False,
    ctc: Switch = False,
    seam_report: Switch = False,
    recursive: Choice = True,
    resume: Choice = True,
    shard: Annotated[str | None, Parameter(group=FILES, validator=_check_shard)] = None,
    axes: Axes = None,
    channels: Channels = None,
    to: Annotated[Literal["auto", "tiff", "zarr"], Parameter(group=FILES)] = "auto",
    workers: Annotated[
        int | None, Parameter(group=FILES, validator=Number(gte=1))
    ] = None,
    scheduler: Annotated[str | None, Parameter(group=FILES)] = None,
    config: Predicting = PredictConfig(),  # noqa: B008 - frozen
) -> int:
    """Segment an image, or a whole folder of them, with a model.

    Writes NAME_labels.tif for each image, in which each cell has its own number, or
    NAME_predicted.tif if the model makes images from images. A file that can't be used
    is named and does not stop the others. Begun again after whatever ended it, it goes
    on with the files that are not done.

    ```
    napari-unet predict --model cells.unet --input images --output labels
    ```

    Parameters
    ----------
    model
        The model, such as cells.unet.
    images
        An image, or a folder of images: TIFF, PNG or OME-Zarr.
    output
        Folder for the labels; it is made if needed.
    pattern
        Take only the files whose name fits, such as 'train_*'.
    probabilities
        Also write the network's probabilities.
    attention
        Also write what the gates of an Attention U-Net let through.
    measure
        Also write a table of the cells of each file, and one of all.
    preview
        Also write preview.html: a thumbnail of each file with the outlines of its
        cells, what failed, and which files are unlike the others.
    uncertainty
        Also write how unsure the network is: the entropy of its classes, and how far
        mirror images disagree, with --test-time-augmentation.
    link
        Give a cell of a movie the same number in all frames.
    ctc
        Link, and also write each movie as a result of the Cell Tracking Challenge:
        NAME_RES with a mask for each frame and res_track.txt.
    seam_report
        Predict each image twice more, with tiles in other places, and say what that
        changes.
    recursive
        Also take the images of subfolders.
    resume
        Pass over files that were done before with the same model and settings.
    shard
        Take a share of the files, such as 2/4 for the second of four processes. When
        all are through, the same without --shard makes one ledger and one table.
    to
        Labels as TIFF or as OME-Zarr; auto takes what the image is.
    workers
        Let so many processes of this machine do the files, with one thread each.
    scheduler
        Let the workers of a dask cluster do the files: the address of its scheduler,
        such as tcp://host:8786.
    """
    from napari_unet.batch import segment_folder
    from napari_unet.batch.shards import parse_shard
    from napari_unet.imaging.instances import finds_cells
    from napari_unet.learning.checkpoint import load_model
    from napari_unet.learning.device import choose_device, keep_freed_memory

    # This process only predicts, and ends.
    keep_freed_memory()
    loaded = load_model(model)
    console.say_error(f"Device: {choose_device(config.device)}")
    events = segment_folder(
        loaded,
        images,
        output,
        pattern=pattern,
        config=config,
        axes=axes,
        channels=channel_list(channels),
        probabilities=probabilities,
        attention=attention,
        measure=measure,
        preview=preview,
        uncertainty=uncertainty,
        link=link,
        ctc=ctc,
        recursive=recursive,
        resume=resume,
        to=to,
        workers=workers,
        scheduler=scheduler,
        shard=None if shard is None else parse_shard(shard),
    )
    is_of_cells = finds_cells(loaded.roles)
    done_files: list[Path] = []
    events = _noting_done(events, done_files)
    finished = draw_folder(events, "Segmenting" if is_of_cells else "Predicting")
    done = f"{finished.n_done} {'segmented' if is_of_cells else 'predicted'}"
    skipped = f", {finished.n_skipped} skipped" if finished.n_skipped else ""
    console.say(f"{done}, {finished.n_failed} failed{skipped}: {output}")
    if preview and shard is None:
        console.say(f"Preview: {output / 'preview.html'}")
    if seam_report:
        _say_seams(loaded, done_files, config, axes, channel_list(channels))
    return 3 if finished.n_failed else 0


def _noting_done(events: Iterator[Event], files: list[Path]) -> Iterator[Event]:
    """Pass events on, and note which files have a result, now or from before."""
    for event in events:
        if isinstance(event, FileDone) and event.output is not None:
            files.append(event.path)
        yield event


def _say_seams(
    model: "Model",
    files: Sequence[Path],
    config: PredictConfig,
    axes: str | None,
    channels: Sequence[str] | None,
) -> None:
    """Say of each file what the places of the seams between tiles change."""
    from napari_unet.files.images import read_image
    from napari_unet.learning.seams import seam_report

    for path in console.track(files, "Comparing tiles"):
        try:
            image = read_image(path, axes=axes, channels=channels)
            console.say(f"{path.name}: {seam_report(model, image, config)}")
        except UNetError as error:
            console.warn(f"{path.name}: no seam report: {error}")
