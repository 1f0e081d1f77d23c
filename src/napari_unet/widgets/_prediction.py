"""The work of Predict: from a model and an image to events; no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.events import Event, Note, Segmented, TileDone
from napari_unet.widgets._run_state import WorkDone

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.config import PredictConfig
    from napari_unet.imaging.arrays import Image
    from napari_unet.learning.checkpoint import Model
    from napari_unet.mailbox import Mailbox


PROBABILITIES = ("softmax", "sigmoid", "probability")


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
class Uncertain(Event):
    """How unsure the network is, by what it is told from.

    float32 ([T,] [Z,] Y, X): see `napari_unet.imaging.uncertainty.uncertainty_of`.
    """

    maps: dict[str, NDArray[np.float32]]


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
    uncertainty: bool = False,
    mailbox: Mailbox | None = None,
) -> Generator[Event, None, None]:
    """Yield the events of applying a model to an image, after what there is to note.

    What the user looks at, as the mailbox has it, comes first. `Predicted` comes as
    soon as it is known; how unsure the network is and attention maps, where they are
    wanted, after it: they may fail. The last event says that all is done.
    """
    # Here and not above: importing torch takes seconds.
    from napari_unet.imaging.instances import finds_cells
    from napari_unet.imaging.uncertainty import (
        check_tells_uncertainty,
        uncertainty_of,
    )
    from napari_unet.learning.attention import attention_tiles
    from napari_unet.learning.checkpoint import Model, load_model
    from napari_unet.learning.device import spare_one_core

    spare_one_core()
    for note in notes:
        yield Note(note)
    model = model if isinstance(model, Model) else load_model(model)
    if uncertainty:
        is_augmented = config.test_time_augmentation != "off"
        check_tells_uncertainty(model.roles, has_spread=is_augmented)
    yield TilesFollow(model.roles)
    predict = _cells if finds_cells(model.roles) else _values
    done, last = yield from predict(model, image, config, mailbox)
    if uncertainty:
        yield Uncertain(uncertainty_of(last.outputs, model.roles, last.spread))
    if attention:
        yield TilesFollow(())
        for event in attention_tiles(model, image, config):
            yield event
            if isinstance(event, TileDone):
                maps = event.outputs
        yield AttentionMapped(maps)
    yield done


def _cells(
    model: Model, image: Image, config: PredictConfig, mailbox: Mailbox | None
) -> Generator[Event, None, tuple[Event, TileDone]]:
    from napari_unet.batch import segment_events

    for event in segment_events(model, image, config=config, mailbox=mailbox):
        if isinstance(event, TileDone):
            last = event
        elif isinstance(event, Segmented):
            yield Predicted(event.outputs, model.roles, event.labels)
            break
        yield event
    return event, last


def _values(
    model: Model, image: Image, config: PredictConfig, mailbox: Mailbox | None
) -> Generator[Event, None, tuple[Event, TileDone]]:
    """Apply a model from images to images, such as one that removes noise."""
    from napari_unet.batch import predict_events

    events = predict_events(model, image, config, mailbox=mailbox)
    for event in events:
        yield event
        if isinstance(event, TileDone):
            last = event
    yield Predicted(last.outputs, model.roles)
    names = ", ".join(names_of(model.roles).values())
    return WorkDone(f"Shown: {names}"), last


def names_of(roles: Sequence[str]) -> dict[int, str]:
    """Return what the images are called that hold the outputs that are values.

    By the number of the output. What is made of an image is "predicted", and named
    where there are several.

    Examples
    --------
    >>> names_of(["value:image"]), names_of(["softmax:background", "distance"])
    ({0: 'predicted'}, {1: 'distance'})
    >>> names_of(["value:DAPI", "value:1"])
    {0: 'predicted DAPI', 1: 'predicted 1'}
    """
    n_made = sum(role.startswith("value:") for role in roles)
    named = {}
    for k, role in enumerate(roles):
        if role.startswith("value:"):
            name = role.partition(":")[2]
            named[k] = "predicted" if n_made == 1 else f"predicted {name}"
        elif not role.startswith(PROBABILITIES):
            named[k] = output_name(role)
    return named


def output_name(role: str) -> str:
    """Return what an output is called.

    Examples
    --------
    >>> output_name("softmax:cell"), output_name("sigmoid:0")
    ('cell', 'sigmoid 0')
    """
    kind, _, name = role.rpartition(":")
    return f"{kind} {name}" if name.isdigit() else name
