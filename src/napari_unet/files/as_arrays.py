"""What `imaging` computes on arrays, also for files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ImageError, LabelError
from napari_unet.files.images import read_label_image, read_labels
from napari_unet.files.inputs import as_annotation, as_image
from napari_unet.files.masks import read_mask
from napari_unet.imaging import linking, scores, targets, weight_maps
from napari_unet.imaging import measure as measuring
from napari_unet.imaging.arrays import Annotation, as_label_ids
from napari_unet.imaging.given import as_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.config import WeightConfig
    from napari_unet.files.lazy import ImageFile
    from napari_unet.imaging.arrays import Image, Target
    from napari_unet.imaging.measure import Measurements
    from napari_unet.imaging.scores import Scores
    from napari_unet.imaging.targets import TargetKind

    Labels = NDArray[Any] | Path | str


def _labels(source: Labels, name: str) -> NDArray[Any]:
    if isinstance(source, (str, Path)):
        return read_labels(source)
    return as_array(source, source=name)


def make_target(
    annotation: Annotation | Labels,
    weights: WeightConfig | None = None,
    *,
    target: TargetKind = "gap",
    n_dims: int = 2,
    pixel_size_um: Sequence[float] | None = None,
) -> Target:
    """Return what the network should learn; labels alone are complete.

    A file's own pixel size is taken where none is given. See
    `napari_unet.imaging.targets.make_target`.
    """
    annotation, size = _with_pixel_size(annotation, pixel_size_um)
    return targets.make_target(
        as_annotation(annotation),
        weights,
        target=target,
        n_dims=n_dims,
        pixel_size_um=size,
    )


def weight_map(
    labels_or_annotation: Annotation | Labels,
    config: WeightConfig | None = None,
    *,
    n_dims: int | None = None,
    pixel_size_um: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Return the weight of each pixel, exactly 0 where nothing is known.

    A file's own pixel size is taken where none is given. See
    `napari_unet.imaging.weight_maps.weight_map`.
    """
    source, size = _with_pixel_size(labels_or_annotation, pixel_size_um)
    return weight_maps.weight_map(source, config, n_dims=n_dims, pixel_size_um=size)


def _with_pixel_size(
    source: Annotation | Labels, pixel_size_um: Sequence[float] | None
) -> tuple[Annotation | NDArray[Any], Sequence[float] | None]:
    if not isinstance(source, (str, Path)):
        return source, pixel_size_um
    mask = read_mask(source)
    size = mask.pixel_size_um if pixel_size_um is None else pixel_size_um
    return mask.annotation, size


def border_weights(
    labels: Annotation | Labels,
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    spacing: float | tuple[float, ...] | None = None,
) -> NDArray[np.float32]:
    """Return the border term alone.

    An annotation's painted background and areas, which the JSON beside a file may
    name, are no cells. See `napari_unet.imaging.weight_maps.border_weights`.
    """
    if isinstance(labels, (str, Path)):
        labels = read_mask(labels).annotation
    cells = labels.cells() if isinstance(labels, Annotation) else labels
    return weight_maps.border_weights(cells, w0=w0, sigma=sigma, spacing=spacing)


def score(truth: Annotation | Labels, predicted: Labels) -> Scores:
    """Return how well predicted labels agree with the truth.

    An annotation, which a file with its JSON is too, is judged by its single cells,
    where something is known. See `napari_unet.imaging.scores.score`.
    """
    if isinstance(truth, (str, Path)):
        truth = read_mask(truth).annotation
    found = _labels(predicted, "prediction")
    if isinstance(truth, Annotation):
        return scores.score(truth.cells(), found, known=truth.is_known)
    return scores.score(_labels(truth, "truth"), found)


def measure(
    labels: Labels,
    image: Image | ImageFile | Labels,
    *,
    n_dims: int = 2,
    classes: NDArray[Any] | None = None,
) -> Measurements:
    """Return a row for each cell: where it is, how large, of what shape, how bright.

    See `napari_unet.imaging.measure.measure`.

    Raises
    ------
    LabelError
        Labels of another shape than the image (NU-L02), or no labels.
    """
    found = as_label_ids(_labels(labels, "labels"), source="labels")
    image = as_image(image)
    if found.shape != image.shape:
        raise LabelError(
            "NU-L02",
            f"the labels are {found.shape} but {image.source} is {image.shape}: "
            "measure cells in the image that they were found in",
        )
    return measuring.measure(found, image, n_dims=n_dims, classes=classes)


def link_frames(labels: Labels, *, least_iou: float = 0.1) -> NDArray[np.int32]:
    """Return the labels of a movie in which a cell keeps its id from frame to frame.

    Time is the first axis, which a file must say. See
    `napari_unet.imaging.linking.link_frames`.

    Raises
    ------
    ImageError
        There is no time axis (NU-I15).
    LabelError
        No labels.
    """
    if isinstance(labels, (str, Path)):
        found, axes, _ = read_label_image(labels)
        is_movie, what = axes.startswith("T"), f"{labels} has the axes {axes or '?'}"
    else:
        found = as_label_ids(as_array(labels, source="labels"), source="labels")
        is_movie, what = found.ndim > 2, f"labels of {found.shape} are one plane"
    if not is_movie:
        raise ImageError(
            "NU-I15",
            f"{what} and no movie: give an array of labels whose first axis is time, "
            "(T, [Z,] Y, X)",
        )
    return linking.link_frames(found, least_iou=least_iou)
