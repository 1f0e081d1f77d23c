"""From an image to its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.config import PredictConfig
from napari_unet.events import Note, Segmented, TileDone
from napari_unet.files.inputs import as_image
from napari_unet.imaging.instances import check_finds_cells
from napari_unet.imaging.intensity import intensity_range
from napari_unet.imaging.linking import check_has_frames, check_links
from napari_unet.learning.applying.blocks import cells_of
from napari_unet.learning.applying.scale import scale_note, scale_warning
from napari_unet.learning.checkpoint import Model, load_model
from napari_unet.learning.data.fit import is_constant
from napari_unet.learning.device import choose_device
from napari_unet.learning.model_file.self_test import reduced_precision_difference
from napari_unet.learning.prediction import predict_tiles, resolved, working_factors

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig
    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.data.pairs import ImageLike
    from napari_unet.mailbox import Mailbox

_EMPTY_SHARE = 0.2
# bfloat16 changes a probability by about 0.01.
_PRECISION_TOLERANCE = 0.05


def segment_events(
    model: Model | Path | str,
    image: ImageLike,
    config: PredictConfig | None = None,
    *,
    instances: InstanceConfig | None = None,
    link: bool = False,
    mailbox: Mailbox | None = None,
) -> Iterator[Note | TileDone | Segmented]:
    """Segment an image, yielding an event for each tile; the labels come last.

    What the dock widget and Python do; a folder goes by the same two steps.

    Parameters
    ----------
    model : Model or path
        The model to apply.
    image : Image, ndarray (Y, X) or path
        Image of the channels that the model takes.
    config : PredictConfig, optional
        How to apply the model.
    instances : InstanceConfig, optional
        How probabilities become cells, in pixels of the image; the settings tuned with
        the model, at the image's scale, if omitted.
    link : bool
        Give a cell of a movie the same id in all frames.
    mailbox : Mailbox, optional
        Where it is said what the user looks at, by `Mailbox.look_at`: that comes first,
        then what is near it. The labels are the same.

    Yields
    ------
    Note, TileDone, Segmented
        Warnings first; `Segmented` is the last.

    Raises
    ------
    UNetError
        The image does not fit the model, has no time to link over, or the machine
        can't do it.
    """
    model = model if isinstance(model, Model) else load_model(model)
    check_finds_cells(model.roles)
    image = as_image(image)
    if link:
        check_links(model.roles)
        check_has_frames(image)
    outputs, factors = yield from predict_events(model, image, config, mailbox=mailbox)
    yield Segmented(cells_of(model, outputs, factors, instances, link=link), outputs)


def predict_events(
    model: Model,
    image: Image,
    config: PredictConfig | None = None,
    *,
    mailbox: Mailbox | None = None,
) -> Generator[Note | TileDone, None, tuple[NDArray[np.float32], tuple[float, ...]]]:
    """Predict an image, and tell what is unlike the model's and how it was scaled.

    Returns
    -------
    outputs : ndarray of float32, shape (K, [T,] [Z,] Y, X)
        See `predict_tiles`, whose parameters and errors these are.
    factors : tuple of float
        Pixels that the network saw for each of the image.
    """
    fit = fit_warnings(model, image, config)
    for warning in (*precision_warnings(model, config), *fit):
        yield Note(warning, is_warning=True)
    factors = working_factors(model, image, config)
    if rescaled := scale_note(model, image, config, factors):
        yield Note(rescaled)
    tiles = predict_tiles(model, image, config, factors=factors, mailbox=mailbox)
    for event in tiles:
        yield event
        if isinstance(event, TileDone):
            outputs = event.outputs
    return outputs, factors


def segment(
    model: Model | Path | str,
    image: ImageLike,
    config: PredictConfig | None = None,
    *,
    instances: InstanceConfig | None = None,
    link: bool = False,
) -> NDArray[np.int32]:
    """Return the cells of an image as labels, int32 ([T,] [Z,] Y, X).

    Parameters and errors are those of `segment_events`; its warnings are dropped.
    """
    events = segment_events(model, image, config, instances=instances, link=link)
    *_, last = events
    if not isinstance(last, Segmented):  # pragma: no cover - see segment_events
        raise TypeError(f"segmentation ended with {last!r}")
    return last.labels


def precision_warnings(model: Model, config: PredictConfig | None = None) -> list[str]:
    """Return a warning if reduced precision changes what a model gives by much."""
    config = config or PredictConfig()
    precision = resolved(model, config)["precision"]
    if precision == "fp32":
        return []
    difference = reduced_precision_difference(model, choose_device(config.device))
    if difference is None or difference <= _PRECISION_TOLERANCE:
        return []
    return [
        f"with reduced precision ({precision}) this model's outputs change by up to "
        f"{difference:.2g} on its self-test: choose precision fp32"
    ]


def fit_warnings(
    model: Model, image: Image, config: PredictConfig | None = None
) -> list[str]:
    """Return what makes an image unlike those that the model was trained on."""
    warnings = []
    if odd_size := scale_warning(model, image, config):
        warnings.append(odd_size)
    if is_constant(image):
        warnings.append(f"{image.source} is empty: all its pixels are alike")
    elif str(image.data.dtype) == model.image_dtype and model.typical_span:
        limits = intensity_range(image, model.normalization)
        span = np.subtract(limits.high, limits.low)
        if (span < _EMPTY_SHARE * np.asarray(model.typical_span)).all():
            warnings.append(
                f"{image.source} may be empty: its contrast is under a fifth of that "
                "of the training images"
            )
    return warnings
