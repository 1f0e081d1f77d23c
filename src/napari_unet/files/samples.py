"""The real sample that comes with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.files.images import read_image, read_labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image

SAMPLE_FOLDER = Path(__file__).parent / "sample"


def sample_about() -> dict[str, Any]:
    """Return where the sample comes from: title, source, licence, what to cite."""
    text = (SAMPLE_FOLDER / "sample.json").read_text(encoding="utf-8")
    about: dict[str, Any] = json.loads(text)
    return about


def sample_images() -> list[tuple[str, Image, NDArray[np.int32]]]:
    """Return the shipped sample: the four quarters of one field of nuclei.

    Cells at the inner edges are cut. `sample_about` says where they come from.

    Returns
    -------
    list of (name, Image, labels)
        Images uint8 (1, 256, 256), labels int32 (256, 256) with each nucleus its id.
    """
    return [
        (
            name,
            read_image(SAMPLE_FOLDER / "images" / f"{name}.tif"),
            read_labels(SAMPLE_FOLDER / "masks" / f"{name}.tif"),
        )
        for name in sample_about()["names"]
    ]
