"""From an image to its cells, and from a folder of images to a folder of labels."""

from __future__ import annotations

from napari_unet.batch.folder import segment_folder
from napari_unet.batch.one import (
    fit_warnings,
    precision_warnings,
    predict_events,
    segment,
    segment_events,
)

__all__ = [
    "fit_warnings",
    "precision_warnings",
    "predict_events",
    "segment",
    "segment_events",
    "segment_folder",
]
