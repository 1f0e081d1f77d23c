"""`napari-unet predict`: a model over a file or a folder."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

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
    recursive: Choice = True,
    resume: Choice = True,
    shard: Annotated[str | None, Parameter(group=FILES, validator=_check_shard)] = None,
    axes: Axes = None,
    channels: Channels = None,
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
    recursive
        Also take the images of subfolders.
    resume
        Pass over files that were done before with the same model and settings.
    shard
        Take a share of the files, such as 2/4 for the second of four processes. When
        all are through, the same without --shard makes one ledger and one table.
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
        recursive=recursive,
        resume=resume,
        shard=None if shard is None else parse_shard(shard),
    )
    is_of_cells = finds_cells(loaded.roles)
    finished = draw_folder(events, "Segmenting" if is_of_cells else "Predicting")
    done = f"{finished.n_done} {'segmented' if is_of_cells else 'predicted'}"
    skipped = f", {finished.n_skipped} skipped" if finished.n_skipped else ""
    console.say(f"{done}, {finished.n_failed} failed{skipped}: {output}")
    return 3 if finished.n_failed else 0
