"""`napari-unet weights`: border weight maps of masks."""

import numpy as np
from numpy.typing import NDArray

from napari_unet.cli import console
from napari_unet.cli.flags import InputFolder, Output, Pattern, Weights
from napari_unet.cli.folders import prepare_folder
from napari_unet.config import WeightConfig
from napari_unet.files.images import find_images, read_labels, stem_of, write_image
from napari_unet.imaging.weight_maps import weight_map


def weights(
    *,
    masks: InputFolder,
    out: Output,
    pattern: Pattern = None,
    config: Weights = WeightConfig(),  # noqa: B008 - frozen
) -> None:
    """Write the weight map of each mask: how much each pixel counts in training.

    Pixels between two close cells count more, so that the network learns to keep the
    cells apart (Ronneberger 2015). Writes NAME_weights.tif as 32-bit numbers.

    ```
    napari-unet weights --masks masks --out weights --w0 10 --sigma 5
    ```

    Parameters
    ----------
    masks
        Folder of label images: 0 is background, each cell has its own number.
    out
        Folder for the weight maps; it is made if needed.
    pattern
        Take only the files whose name fits, such as 'train_*'.
    """
    paths = find_images(masks, pattern)
    prepare_folder(out)
    for path in console.track(paths, "Weighing"):
        values = _weigh(read_labels(path), config)
        axes = "TZYX"[-values.ndim :]
        write_image(out / f"{stem_of(path)}_weights.tif", values, axes=axes)
    console.say(f"{len(paths)} weight maps: {out}")


def _weigh(labels: NDArray[np.int32], config: WeightConfig) -> NDArray[np.float32]:
    """Weigh each plane by itself, as training does."""
    values = np.empty(labels.shape, np.float32)
    for index in np.ndindex(labels.shape[:-2]):
        values[index] = weight_map(labels[index], config)
    return values
