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


def predict(  # noqa: PLR0913 - one parameter a flag
    *,
    model: Annotated[Path, Parameter(group=FILES)],
    images: Annotated[Path, Parameter(name="--input", group=FILES)],
    output: Output,
    pattern: Pattern = None,
    probabilities: Switch = False,
    attention: Switch = False,
    axes: Axes = None,
    channels: Channels = None,
    config: Predicting = PredictConfig(),  # noqa: B008 - frozen
) -> int:
    """Segment an image, or a whole folder of them, with a model.

    Writes NAME_labels.tif for each image, in which each cell has its own number, or
    NAME_predicted.tif if the model makes images from images. A file that can't be used
    is named and does not stop the others.

    ```
    napari-unet predict --model cells.unet --input images --output labels
    ```

    Parameters
    ----------
    model
        The model, such as cells.unet.
    images
        An image, or a folder of images: TIFF or PNG.
    output
        Folder for the labels; it is made if needed.
    pattern
        Take only the files whose name fits, such as 'train_*'.
    probabilities
        Also write the network's probabilities.
    attention
        Also write what the gates of an Attention U-Net let through.
    """
    from napari_unet.batch import segment_folder
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
    )
    is_of_cells = finds_cells(loaded.roles)
    finished = draw_folder(events, "Segmenting" if is_of_cells else "Predicting")
    done = f"{finished.n_done} {'segmented' if is_of_cells else 'predicted'}"
    console.say(f"{done}, {finished.n_failed} failed: {output}")
    return 3 if finished.n_failed else 0
