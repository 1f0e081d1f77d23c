"""The model that training begins with: fresh, or one to go on from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_unet.config import ForeignConfig, NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError, ImageError, LabelError
from napari_unet.learning.model import Model, Origin, weights_sha256
from napari_unet.learning.networks import build_network
from napari_unet.learning.networks.pretrained import load_pretrained
from napari_unet.learning.outputs import roles_for

if TYPE_CHECKING:
    from napari_unet.learning.survey import Survey


def going_on(start: Model) -> Model:
    """Return a model to train on from, which says whom it is owed to.

    What comes of it is another work: whoever trains it states author, licence and
    purpose anew. What the sources ask for, such as attribution, stays on record.
    """
    owed = (origin for origin in start.derived_from if origin.authors or origin.license)
    parent = Origin(weights_sha256(start.state), start.authors, start.license)
    origins = tuple(dict.fromkeys([parent, *owed]))
    return replace(start, authors=(), license="", about="", derived_from=origins)


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
    network = (network or NetworkConfig()).model_copy(
        update={
            "in_channels": survey.n_channels,
            "out_channels": len(roles),
            "upscale": survey.upscale,
        }
    )
    with torch.random.fork_rng(devices=[]):  # leave the caller's random state alone
        torch.default_generator.manual_seed(config.seed)  # not the GPUs'
        fresh = build_network(network)
        if network.pretrained:
            load_pretrained(fresh)
    return Model(network, fresh.state_dict(), roles=roles, class_names=names)


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


def target_of(start: Model) -> str:
    """Return what keeps cells apart in a model."""
    if "softmax-boundary" in start.roles:
        return "boundary"
    return "distance" if "distance" in start.roles else "gap"


def check_start(
    start: Model, survey: Survey, config: TrainConfig, network: NetworkConfig | None
) -> None:
    """Refuse a model that can't go on with these images, or with other settings.

    Raises
    ------
    ConfigError
        NU-C04: other settings of the network; NU-C05: other outputs.
    ImageError
        NU-I10: other channels.
    LabelError
        NU-L06: other classes.
    """
    check_trainable(start.network, upscale=survey.upscale, is_start=True)
    is_regression = config.task == "regress"
    _check_roles(start, survey, config)
    pair = survey.pairs[0].facts
    if survey.n_channels != start.n_channels:
        n, own = start.n_channels, survey.n_channels
        raise ImageError(
            "NU-I10",
            f"the model expects {n} channel{'s' if n > 1 else ''}, {pair.image} has "
            f"{own}: choose the channels that it was trained on",
        )
    names = pair.class_names
    if not is_regression and len(names) != len(start.class_names):
        raise LabelError(
            "NU-L06",
            f"the model to start from has the classes {start.class_names} but "
            f"{pair.annotation} has {names}: annotate with the model's classes, "
            "or start from scratch",
        )
    own_settings = start.network.model_dump()
    if network is not None and any(
        getattr(network, name) != own_settings[name]
        for name in network.model_fields_set
    ):
        raise ConfigError(
            "NU-C04",
            "a model to start from came together with other network settings: leave "
            "them out, its network goes on",
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
            f"training learns {what}: start from scratch",
        )
