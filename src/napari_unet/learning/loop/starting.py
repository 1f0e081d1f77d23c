"""The model that training begins with: fresh, or one to go on from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_unet.config import ForeignConfig, NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError, ImageError, LabelError
from napari_unet.learning.applying.outputs import is_of_softmax, roles_for
from napari_unet.learning.model import Model, Origin, weights_sha256
from napari_unet.learning.networks import build_network
from napari_unet.learning.networks.pretrained import load_pretrained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_unet.learning.data.survey import Survey

# What follows from the images and what is learned, not from whoever asks.
_OF_DATA = {"in_channels", "out_channels", "upscale"}


def going_on(start: Model) -> Model:
    """Return a model to train on from, which says whom it is owed to.

    What comes of it is another work: whoever trains it states author, licence and
    purpose anew. What the sources ask for, such as attribution, stays on record. What
    the old one was validated on says nothing about the new one.
    """
    owed = (origin for origin in start.derived_from if origin.authors or origin.license)
    parent = Origin(weights_sha256(start.state), start.authors, start.license)
    origins = tuple(dict.fromkeys([parent, *owed]))
    return replace(
        start,
        authors=(),
        license="",
        about="",
        held_back=(),
        validated_on="",
        derived_from=origins,
    )


def fresh_model(
    survey: Survey, config: TrainConfig, network: NetworkConfig | None
) -> Model:
    """Return a model to begin with, for the channels and classes of the images.

    Parameters
    ----------
    survey : Survey
        What there is to learn.
    config : TrainConfig
        Task, target and seed.
    network : NetworkConfig, optional
        Shape of the network.
    """
    if config.task == "regress":
        names: tuple[str, ...] = ("background",)
        roles = roles_of_values(survey)
    else:
        names = survey.class_names
        roles = roles_for(config.target, names, survey.area_classes)
    _check_sum(network, len(roles), survey)
    network = (network or NetworkConfig()).model_copy(
        update={
            "in_channels": survey.n_channels,
            "out_channels": len(roles),
            "upscale": survey.upscale,
        }
    )
    return Model(
        network, fresh_weights(network, config.seed), roles=roles, class_names=names
    )


def fresh_weights(network: NetworkConfig, seed: int) -> dict[str, Tensor]:
    """Return the weights that a network begins with."""
    with torch.random.fork_rng(devices=[]):  # leave the caller's random state alone
        torch.default_generator.manual_seed(seed)  # not the GPUs'
        fresh = build_network(network)
        if network.pretrained:
            load_pretrained(fresh)
    return dict(fresh.state_dict())


def _check_sum(network: NetworkConfig | None, n_outputs: int, survey: Survey) -> None:
    """Refuse to add an image to what is none (NU-C05)."""
    is_image = not survey.class_names and n_outputs == survey.n_channels
    if network is not None and network.adds_image and not is_image:
        what = "this one finds cells"
        if not survey.class_names:
            what = f"this one has {survey.n_channels} and makes {n_outputs}"
        raise ConfigError(
            "NU-C05",
            "an image is only added (adds_image) by a network that makes images of as "
            f"many channels, but {what}: set adds_image to false",
        )


def roles_of_values(survey: Survey) -> tuple[str, ...]:
    """Return the roles of the outputs that make images."""
    pair = survey.pairs[0]
    span = pair.value_span
    n = 0 if span is None else len(span.low)
    names = pair.value_names or tuple(f"{i + 1}" for i in range(n))
    names = names if n > 1 or pair.value_names else ("image",)
    return tuple(f"value:{name}" for name in names)


def check_trainable(
    network: NetworkConfig | ForeignConfig, *, upscale: int = 1, is_start: bool = False
) -> None:
    """Refuse a network that training can't do, a new one or that of a model to start.

    Of a new one the setting can be changed, of a model only the model.
    """
    if isinstance(network, ForeignConfig):
        raise ConfigError(
            "NU-C05",
            f"the model to start from holds another program's {network.format} graph, "
            "which can't be trained on: start from scratch, or from a model made here",
        )
    whose = "the model to start from" if is_start else "the network"
    if network.n_dims != 2:
        remedy = "start from scratch" if is_start else "set n_dims to 2"
        raise ConfigError(
            "NU-C05",
            f"{whose} has {network.n_dims} dimensions but training works on planes "
            f"so far: {remedy}; a stack is then learned plane by plane",
        )
    if network.upscale != upscale:
        remedy = "start from scratch" if is_start else f"set upscale to {upscale}"
        finer = f"{upscale} times as fine" if upscale > 1 else "as fine"
        raise ConfigError(
            "NU-C05",
            f"{whose} has outputs {network.upscale} times finer than the image but "
            f"what it is to learn is {finer} as the image: {remedy}",
        )


def target_of(start: Model) -> str | None:
    """Return what keeps cells apart in a model; None in one without classes."""
    if "softmax-boundary" in start.roles:
        return "boundary"
    if "distance" in start.roles:
        return "distance"
    return "gap" if any(map(is_of_softmax, start.roles)) else None


def check_start(
    start: Model, survey: Survey, config: TrainConfig, network: NetworkConfig | None
) -> None:
    """Refuse a model that can't be begun with, or not with other settings.

    Raises
    ------
    ConfigError
        NU-C04: other settings of the network; NU-C05: a network that training can't
        do, or, where all of it is to be kept, other outputs.
    ImageError, LabelError
        NU-I10, NU-L06: where all of it is to be kept, other channels or classes.
    """
    is_whole = config.start_with == "all"
    finer = survey.upscale if is_whole else start.network.upscale
    check_trainable(start.network, upscale=finer, is_start=True)
    if is_whole:
        _check_whole(start, survey, config)
    own = start.network.model_dump()
    asked = set() if network is None else network.model_fields_set - _OF_DATA
    if any(getattr(network, name) != own[name] for name in asked):
        raise ConfigError(
            "NU-C04",
            "a model to start from came together with other network settings: leave "
            "them out, its network goes on",
        )


def are_same_classes(names: Sequence[str], own: Sequence[str]) -> bool:
    """Return whether the classes of images are a model's; background comes first.

    A single class is the same whatever it is called.
    """
    return len(names) == len(own) and (len(own) <= 2 or tuple(names) == tuple(own))


def _check_whole(start: Model, survey: Survey, config: TrainConfig) -> None:
    _check_roles(start, survey, config)
    pair = survey.pairs[0].facts
    if survey.n_channels != start.n_channels:
        n, own = start.n_channels, survey.n_channels
        raise ImageError(
            "NU-I10",
            f"the model expects {n} channel{'s' if n > 1 else ''}, {pair.image} has "
            f"{own}: choose the channels that it was trained on, or begin with what "
            "fits of it (start_with auto)",
        )
    names = pair.class_names
    if config.task != "regress" and not are_same_classes(names, start.class_names):
        raise LabelError(
            "NU-L06",
            f"the model to start from has the classes {start.class_names} but "
            f"{pair.annotation} has {names}: annotate with the model's classes, "
            "or begin with what fits of it (start_with auto)",
        )


def _check_roles(start: Model, survey: Survey, config: TrainConfig) -> None:
    if config.task == "regress":
        wanted = roles_of_values(survey)
        fits = len(start.roles) == len(wanted) and all(
            role.startswith("value:") for role in start.roles
        )
        what = f"{len(wanted)} channel{'s' if len(wanted) > 1 else ''} of values"
    else:
        wanted = roles_for(config.target, start.class_names, survey.area_classes)
        # Whether a class is an area is up to the model that goes on.
        kinds, wanted_kinds = (
            [role.partition(":")[0].removesuffix("-area") for role in roles]
            for roles in (start.roles, wanted)
        )
        fits = kinds == wanted_kinds
        what = f"classes with the target {config.target}"
    if not fits:
        raise ConfigError(
            "NU-C05",
            f"the model to start from has the outputs {', '.join(start.roles)} but "
            f"training learns {what}: begin with what fits of it (start_with auto)",
        )
