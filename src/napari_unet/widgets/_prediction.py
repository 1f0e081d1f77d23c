"""The work of Predict: from a model and an image to events; no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.events import Event, Note, Segmented
from napari_unet.widgets._run_state import WorkDone

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.config import PredictConfig
    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.checkpoint import Model


@dataclass(frozen=True)
class TilesFollow(Event):
    """What the outputs of the tiles after this mean; nothing: they are not for show."""

    roles: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Predicted(Event):
    """The outputs of the network, and the cells where its outputs tell any.

    `outputs` is float32 (K, [T,] [Z,] Y, X), `roles` the meaning of each, `labels`
    int32 ([T,] [Z,] Y, X).
    """

    outputs: NDArray[np.float32]
    roles: tuple[str, ...]
    labels: NDArray[np.int32] | None = None


@dataclass(frozen=True, eq=False)
class AttentionMapped(Event):
    """What each gate lets through, float32 (gates, [T,] [Z,] Y, X)."""

    maps: NDArray[np.float32]


def segmentation(
    model: Model | Path,
    image: Image,
    config: PredictConfig,
    notes: Sequence[str] = (),
    *,
    attention: bool = False,
) -> Generator[Event, None, None]:
    """Yield the events of applying a model to an image, after what there is to note.

    `Predicted` comes as soon as it is known; attention maps, where they are wanted,
    after it: they may fail. The last event says that all is done.
    """
    # Here and not above: importing torch takes seconds.
    from napari_unet.imaging.instances import finds_cells
    from napari_unet.learning.attention import attention_tiles
    from napari_unet.learning.checkpoint import Model, load_model
    from napari_unet.learning.device import spare_one_core

    spare_one_core()
    for note in notes:
        yield Note(note)
    model = model if isinstance(model, Model) else load_model(model)
    yield TilesFollow(model.roles)
    predict = _cells if finds_cells(model.roles) else _values
    done = yield from predict(model, image, config)
    if attention:
        yield TilesFollow(())
        for event in attention_tiles(model, image, config):
            yield event
        yield AttentionMapped(event.outputs)
    yield done


def _cells(
    model: Model, image: Image, config: PredictConfig
) -> Generator[Event, None, Event]:
    from napari_unet.batch import segment_events

    for event in segment_events(model, image, config=config):
        if isinstance(event, Segmented):
            yield Predicted(event.outputs, model.roles, event.labels)
            break
        yield event
    return event


def _values(
    model: Model, image: Image, config: PredictConfig
) -> Generator[Event, None, Event]:
    """Apply a model from images to images, such as one that removes noise."""
    from napari_unet.batch import fit_warnings, precision_warnings
    from napari_unet.learning.prediction import predict_tiles

    for warning in (*precision_warnings(model, config), *fit_warnings(model, image)):
        yield Note(warning, is_warning=True)
    for event in predict_tiles(model, image, config):
        yield event
    yield Predicted(event.outputs, model.roles)
    return WorkDone(f"Shown: {', '.join(map(output_name, model.roles))}")


def output_name(role: str) -> str:
    """Return what an output is called.

    Examples
    --------
    >>> output_name("value:denoised"), output_name("value:0")
    ('denoised', 'value 0')
    """
    kind, _, name = role.rpartition(":")
    return f"{kind} {name}" if name.isdigit() else name
