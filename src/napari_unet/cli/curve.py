"""`napari-unet learning-curve`: what more annotated cells may bring."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from cyclopts import Parameter

from napari_unet.cli import console
from napari_unet.cli.drawing import draw_training
from napari_unet.cli.flags import (
    FILES,
    Axes,
    Channels,
    InputFolder,
    Pattern,
    Training,
    channel_list,
)
from napari_unet.cli.folders import prepare_file, read_pairs
from napari_unet.cli.settings import UsageError
from napari_unet.config import TrainConfig
from napari_unet.files.atomic import write_text
from napari_unet.files.folders import find_images
from napari_unet.files.pairs import find_pairs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari_unet.events import Event
    from napari_unet.learning.fractions import CurveDone

_SUFFIXES = (".png", ".json")


def learning_curve(  # noqa: PLR0913 - one parameter a flag
    *,
    images: InputFolder,
    masks: InputFolder,
    pattern: Pattern = None,
    out: Annotated[Path | None, Parameter(group=FILES)] = None,
    start_from: Annotated[Path | None, Parameter(name="--from", group=FILES)] = None,
    fractions: Annotated[
        tuple[float, ...], Parameter(group=FILES, negative="", consume_multiple=True)
    ] = (0.25, 0.5, 1.0),
    axes: Axes = None,
    channels: Channels = None,
    config: Training = TrainConfig(),  # noqa: B008 - frozen
) -> None:
    """Estimate what more annotated cells would bring.

    Trains on fractions of the annotated cells, scores each model on the same
    held-back cells, and fits a curve: an estimate, with what is uncertain about it.
    It takes as long as a few trainings.

    ```
    napari-unet learning-curve --images images --masks masks --out curve.png
    ```

    Parameters
    ----------
    images
        Folder of images: TIFF or PNG.
    masks
        Folder of their masks, of the same names.
    pattern
        Take only the files whose name fits, such as 'train_*'.
    out
        Write the curve to this file: a picture (.png) or its numbers (.json).
    start_from
        Go on from this model each time instead of from scratch.
    fractions
        Shares of the annotated cells to train on.
    """
    if out is not None:
        if out.suffix not in _SUFFIXES:
            raise UsageError(f"--out {out} is neither a .png nor a .json file")
        prepare_file(out)
    pairs, missing = find_pairs(find_images(images, pattern), masks)
    for path in missing:
        console.warn(f"{path.name} has no mask in {masks} and is left out")
    read = read_pairs(pairs, axes=axes, channels=channel_list(channels))

    from napari_unet.learning import fractions as curves

    events = curves.learning_curve(
        *read, config, fractions=fractions, start_from=start_from
    )
    done = _drawn(events)
    console.show_table(
        "Score (mean of mean AP and IoU) on the same held-back cells",
        ("annotated cells", "score"),
        [(str(p.n_cells), f"{p.score:.3f}") for p in done.points],
    )
    console.say(done.sentence)
    if out is not None:
        _write(out, done)


def _drawn(events: "Iterable[Event]") -> "CurveDone":
    """Show each training as it goes, and return the last event."""
    from napari_unet.learning.fractions import CurveDone

    ends: list[CurveDone] = []

    def trainings() -> "Iterator[Event]":
        for event in events:
            if isinstance(event, CurveDone):
                ends.append(event)
            yield event

    draw_training(trainings())
    return ends[-1]


def _estimates(done: "CurveDone") -> list[tuple[float, float, float, float]]:
    if done.curve is None:
        return []
    n = [point.n_cells for point in done.points]
    return [
        (float(k), *done.curve.estimate(k)) for k in np.linspace(n[0], 2 * n[-1], 50)
    ]


def _write(out: Path, done: "CurveDone") -> None:
    if out.suffix == ".json":
        points = [asdict(point) for point in done.points]
        names = ("n_cells", "low", "middle", "high")
        estimates = [dict(zip(names, e, strict=True)) for e in _estimates(done)]
        whole = {"points": points, "estimates": estimates, "sentence": done.sentence}
        write_text(out, json.dumps(whole, indent=2) + "\n")
        return
    from napari_unet.figures import draw_learning_curve, save_figure

    reached = [(point.n_cells, point.score) for point in done.points]
    save_figure(out, draw_learning_curve(reached, _estimates(done)))
