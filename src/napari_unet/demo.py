"""The whole loop on the sample that comes with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.batch import segment_events
from napari_unet.config import TrainConfig, WeightConfig
from napari_unet.events import Event, Finished, Segmented, StepDone, Validated
from napari_unet.figures import draw_curve, draw_overlay, draw_weights, save_figure
from napari_unet.files.atomic import write_text
from napari_unet.files.images import write_image, write_labels
from napari_unet.files.samples import sample_images
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.scores import Scores, score
from napari_unet.imaging.targets import make_target, separate_touching
from napari_unet.learning.checkpoint import save_model
from napari_unet.learning.training import train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.events import Mailbox
    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.checkpoint import Model

# Some 45 s on two CPU cores; the minutes are for slower machines.
DEMO_CONFIG = TrainConfig(max_steps=400, max_minutes=1.4)


@dataclass(frozen=True)
class DemoFinished(Event):
    """The last event of the demo: how the unseen crop compares with the truth."""

    scores: Scores
    training_s: float


def run_demo(
    out: Path, *, config: TrainConfig = DEMO_CONFIG, mailbox: Mailbox | None = None
) -> Iterator[Event]:
    """Train on three crops of the sample, segment the fourth, write it all down.

    Parameters
    ----------
    out : Path
        An existing folder for model.unet, labels.tif, scores.json, overlay.png,
        curve.png, weights.png and weights.tif.
    config : TrainConfig
        How to train.
    mailbox : Mailbox, optional
        Through which to stop the training; the rest is done with the best model.

    Yields
    ------
    Event
        Those of training, then those of the segmentation; `DemoFinished` is the last.

    Raises
    ------
    SaveError
        A file can't be written.
    """
    *learned, (_, image, truth) = sample_images()
    losses: list[tuple[int, float]] = []
    validations: list[tuple[int, float, float]] = []
    model: Model | None = None
    training_s = 0.0
    for event in train(
        [sample for _, sample, _ in learned],
        [Annotation.complete(labels, source=name) for name, _, labels in learned],
        config,
        mailbox=mailbox,
    ):
        if isinstance(event, StepDone):
            losses.append((event.step, event.loss))
            training_s = event.elapsed_s
        elif isinstance(event, Validated):
            validations.append((event.step, event.loss, event.score))
        elif isinstance(event, Finished):
            model = event.model
        yield event
    if model is None:  # pragma: no cover - training ends with Finished or an error
        return
    save_model(out / "model.unet", model)
    save_figure(out / "curve.png", draw_curve(losses, validations))

    for part in segment_events(model, image):
        yield part
        if isinstance(part, Segmented):
            labels = part.labels
    scores = score(truth, labels)
    _write_results(out, image, truth, labels, scores)
    yield DemoFinished(scores, training_s)


def _write_results(
    out: Path,
    image: Image,
    truth: NDArray[np.int32],
    labels: NDArray[np.int32],
    scores: Scores,
) -> None:
    write_labels(out / "labels.tif", labels, pixel_size_um=image.pixel_size_um)
    write_text(out / "scores.json", json.dumps(scores.as_dict(), indent=2) + "\n")
    plane = image.plane()[0]
    save_figure(out / "overlay.png", draw_overlay(plane, truth, labels))
    # As training sees them: touching cells are cut apart by a pixel.
    weights = make_target(Annotation.complete(truth), WeightConfig()).weights
    write_image(out / "weights.tif", weights, axes="YX")
    save_figure(
        out / "weights.png", draw_weights(plane, separate_touching(truth), weights)
    )
