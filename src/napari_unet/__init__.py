"""Train and apply U-Nets on microscope images, in napari or without a screen.

The names below load on first use (PEP 562): importing the package loads neither
torch nor Qt nor napari.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet.batch import segment, segment_folder
    from napari_unet.batch.large import segment_large
    from napari_unet.config import (
        InstanceConfig,
        NetworkConfig,
        PredictConfig,
        TrainConfig,
        WeightConfig,
    )
    from napari_unet.errors import UNetError
    from napari_unet.files.annotations import (
        Region,
        StoredAnnotation,
        load_annotation,
        save_annotation,
    )
    from napari_unet.files.as_arrays import (
        border_weights,
        link_frames,
        make_target,
        measure,
        score,
        weight_map,
    )
    from napari_unet.files.formats.ctc_results import write_ctc_result
    from napari_unet.files.images import read_image, read_labels, write_labels
    from napari_unet.imaging.arrays import Annotation, Image, Target
    from napari_unet.imaging.measure import Measurements
    from napari_unet.imaging.scores import Scores
    from napari_unet.learning.attention import attention_maps
    from napari_unet.learning.checkpoint import Model, load_model, save_model
    from napari_unet.learning.networks import build_network
    from napari_unet.learning.prediction import predict, predict_tiles, uncertainty_maps
    from napari_unet.learning.seams import SeamReport, seam_report
    from napari_unet.learning.sharing.cards import write_card
    from napari_unet.learning.sharing.export import export_model
    from napari_unet.learning.sharing.importing import import_model
    from napari_unet.learning.sharing.verification import Verification, verify_model
    from napari_unet.learning.training import train

_HOME = {
    "Annotation": "imaging.arrays",
    "Image": "imaging.arrays",
    "InstanceConfig": "config",
    "Measurements": "imaging.measure",
    "Model": "learning.checkpoint",
    "NetworkConfig": "config",
    "PredictConfig": "config",
    "Region": "files.annotations",
    "Scores": "imaging.scores",
    "SeamReport": "learning.seams",
    "StoredAnnotation": "files.annotations",
    "Target": "imaging.arrays",
    "TrainConfig": "config",
    "Verification": "learning.sharing.verification",
    "UNetError": "errors",
    "WeightConfig": "config",
    "attention_maps": "learning.attention",
    "border_weights": "files.as_arrays",
    "build_network": "learning.networks",
    "export_model": "learning.sharing.export",
    "import_model": "learning.sharing.importing",
    "link_frames": "files.as_arrays",
    "load_annotation": "files.annotations",
    "load_model": "learning.checkpoint",
    "make_target": "files.as_arrays",
    "measure": "files.as_arrays",
    "predict": "learning.prediction",
    "predict_tiles": "learning.prediction",
    "read_image": "files.images",
    "read_labels": "files.images",
    "save_annotation": "files.annotations",
    "save_model": "learning.checkpoint",
    "score": "files.as_arrays",
    "seam_report": "learning.seams",
    "segment": "batch",
    "segment_folder": "batch",
    "segment_large": "batch.large",
    "train": "learning.training",
    "uncertainty_maps": "learning.prediction",
    "verify_model": "learning.sharing.verification",
    "weight_map": "files.as_arrays",
    "write_card": "learning.sharing.cards",
    "write_ctc_result": "files.formats.ctc_results",
    "write_labels": "files.images",
}

__version__ = "0.1.0"
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
