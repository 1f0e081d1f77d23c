"""The shipped sample as layers, for File > Open Sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.files.samples import sample_images

if TYPE_CHECKING:
    from napari.types import LayerDataTuple

_N_COLUMNS = 2
# Few pixels are far brighter than all others: dividing cells.
_BRIGHT_PERCENTILE = 99.0


def open_sample() -> list[LayerDataTuple]:
    """Return the four quarters of one field of nuclei, each with its labels.

    They lie side by side as in the field, all with the same contrast; the labels are
    hidden at first.

    Returns
    -------
    list of (data, attributes, kind)
        Images uint8 (256, 256) and labels int32 (256, 256).
    """
    sample = sample_images()
    field = np.stack([image.plane()[0] for _, image, _ in sample])
    contrast = (float(field.min()), float(np.percentile(field, _BRIGHT_PERCENTILE)))
    layers: list[Any] = []
    for i, (name, image, labels) in enumerate(sample):
        row, column = divmod(i, _N_COLUMNS)
        height, width = image.plane_shape
        place = {"translate": (row * height, column * width)}
        layers += [
            (
                image.plane()[0],
                {"name": name, "contrast_limits": contrast, **place},
                "image",
            ),
            (labels, {"name": f"{name} truth", "visible": False, **place}, "labels"),
        ]
    # Images beneath, so that labels show on top of all of them.
    return sorted(layers, key=lambda layer: layer[2] == "labels")
