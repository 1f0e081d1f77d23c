"""Flags that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from napari_unet.config import (
    NetworkConfig,
    PredictConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.files.axes import are_axes


def channel_list(text: str | None) -> list[str] | None:
    """Return what ``--channels`` names: ``"DAPI, 2"`` -> ``["DAPI", "2"]``."""
    if text is None:
        return None
    return [name.strip() for name in text.split(",") if name.strip()]


def _checked(is_fine: Callable[[str], bool], wish: str) -> Callable[..., None]:
    """Return a validator of a flag, which speaks before any file is touched."""

    def check(_type: object, value: str | None) -> None:
        if value is not None and not is_fine(value):
            raise ValueError(wish)

    return check


FILES = Group("Input and output", sort_key=1)
READING = Group("How to read the images", sort_key=2)

Pattern = Annotated[str | None, Parameter(group=FILES, allow_leading_hyphen=True)]
Axes = Annotated[
    str | None,
    Parameter(
        group=READING,
        help="What the axes are, where the files don't say: ZYX for a stack, TYX for "
        "a movie, CYX for channels, YXC for colours.",
        validator=_checked(
            lambda axes: are_axes(axes.upper()),
            "use each of T, Z, C, Y, X at most once, with Y and X, such as ZYX",
        ),
    ),
]
Channels = Annotated[
    str | None,
    Parameter(
        group=READING,
        help="Channels to use, by name or by number from 0, with commas: 'DAPI' or "
        "'0,2'.",
        validator=_checked(
            lambda names: bool(channel_list(names)),
            "name one channel at least, such as DAPI or 0",
        ),
    ),
]
InputFolder = Annotated[Path, Parameter(group=FILES)]
OptionalInputFolder = Annotated[Path | None, Parameter(group=FILES)]
Switch = Annotated[bool, Parameter(group=FILES, negative="", show_default=False)]
Output = Annotated[Path, Parameter(group=FILES)]

_PLANNED = (
    "Left out, these are chosen from your images and the device, whatever the default "
    "says, and told with the reason: steps, batch size, patch size, working scale, "
    "learning rate, base width and depth."
)
_TRAINING = Group("Training", help=_PLANNED, sort_key=3)
Training = Annotated[TrainConfig, Parameter(name="*", group=_TRAINING)]
Weights = Annotated[
    WeightConfig, Parameter(name="*", group=Group("Border weights", sort_key=4))
]
Predicting = Annotated[
    PredictConfig, Parameter(name="*", group=Group("Prediction", sort_key=3))
]
_Hidden = Parameter(parse=False)


class NetworkFlags(NetworkConfig):
    """The shape of the network, without what the images and classes decide."""

    in_channels: Annotated[int, _Hidden] = 1
    out_channels: Annotated[int, _Hidden] = 2
    # Training works on planes.
    n_dims: Annotated[Literal[2, 3], _Hidden] = 2
    # Training knows no finer labels than the images.
    upscale: Annotated[Literal[1, 2, 4], _Hidden] = 1
    # `--pretrained imagenet`, beside the names of the models that come along.
    pretrained: Annotated[bool, _Hidden] = False


Network = Annotated[
    NetworkFlags, Parameter(name="*", group=Group("Network", sort_key=5))
]
