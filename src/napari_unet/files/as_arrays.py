"""What `imaging` computes on arrays, also for files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.files.images import read_labels
from napari_unet.files.inputs import as_annotation
from napari_unet.imaging import scores, targets, weight_maps

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.config import WeightConfig
    from napari_unet.imaging.arrays import Annotation, Target
    from napari_unet.imaging.scores import Scores

    Labels = NDArray[Any] | Path | str


def _labels(source: Labels) -> NDArray[Any]:
    return read_labels(source) if isinstance(source, (str, Path)) else source


def make_target(
    annotation: Annotation | Labels, config: WeightConfig | None = None
) -> Target:
    """Return what the network should learn; labels alone are complete.

    See `napari_unet.imaging.targets.make_target`.
    """
    return targets.make_target(as_annotation(annotation), config)


def weight_map(
    labels_or_annotation: Annotation | Labels, config: WeightConfig | None = None
) -> NDArray[np.float32]:
    """Return the weight of each pixel, exactly 0 where nothing is known.

    See `napari_unet.imaging.weight_maps.weight_map`.
    """
    if isinstance(labels_or_annotation, (str, Path)):
        labels_or_annotation = as_annotation(labels_or_annotation)
    return weight_maps.weight_map(labels_or_annotation, config)


def border_weights(
    labels: Labels,
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    spacing: float | tuple[float, ...] | None = None,
) -> NDArray[np.float32]:
    """Return the border term alone.

    See `napari_unet.imaging.weight_maps.border_weights`.
    """
    return weight_maps.border_weights(
        _labels(labels), w0=w0, sigma=sigma, spacing=spacing
    )


def score(truth: Labels, predicted: Labels) -> Scores:
    """Return how well predicted labels agree with the truth.

    See `napari_unet.imaging.scores.score`.
    """
    return scores.score(_labels(truth), _labels(predicted))
