"""What fits of a model to start from, where its channels or outputs are others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from napari_unet.learning.applying.outputs import roles_for
from napari_unet.learning.loop.starting import (
    are_same_classes,
    fresh_model,
    fresh_weights,
    going_on,
    roles_of_values,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from napari_unet.config import NetworkConfig, TrainConfig
    from napari_unet.learning.data.survey import Survey
    from napari_unet.learning.model import Model
    from napari_unet.learning.quality.scoring import Validation

# How the weights of the networks begin: those of the contracting path, and the last.
_ENCODER = ("down.", "stem.", "stages.", "embed.", "position", "transformer.")
_LAST = "head."
# Of `Validation.informedness`.
_LITTLE = 0.35
# What else of the model holds for other images: always, if its outputs are the same,
# and if its task is.
_ALWAYS = ("weights", "normalization", "derived_from")
_OF_OUTPUTS = ("roles", "class_names", "instances")
_OF_TASK = ("scale", "scales_by_cells", "cell_diameter_px", "pixel_size_um")


# All but what other channels ask for; all but the last layer, too; the encoder alone.
Kept = Literal["all", "body", "encoder"]


def fitted(
    start: Model, survey: Survey, config: TrainConfig
) -> tuple[Model, str, Kept]:
    """Return the model to begin with: all that fits of another one, the rest anew.

    Where channels and outputs are alike the model goes on as it is. Otherwise, with n
    channels instead of m, each input channel of the first layer gets the mean of its
    weights over the m old ones, times m / n: an image that is the same in all channels
    gives what it gave before. A last layer that makes other outputs is drawn anew. Of
    a model for another task, or where ``config.start_with`` is "encoder", the
    contracting path alone is kept.

    Parameters
    ----------
    start : Model
        One that `check_start` let pass.
    survey : Survey
        What there is to learn.
    config : TrainConfig
        Task, target, `start_with`, and the seed of what is drawn anew.

    Returns
    -------
    tuple of (Model, str, Kept)
        The model; what is anew in it in one sentence, empty where it goes on as it is;
        and what was kept.
    """
    is_alike = has_same_outputs(start, survey, config)
    is_of_task = _is_of_task(start, config)
    is_encoder = config.start_with == "encoder" or not is_of_task
    owed = going_on(start)
    if is_alike and survey.n_channels == start.n_channels and not is_encoder:
        return owed, "", "all"
    fresh = fresh_model(survey, config, _network_for(start, survey, config))
    skipped = () if is_alike else (_LAST,)
    wanted = _ENCODER if is_encoder else ("",)
    taken = _ALWAYS + _OF_OUTPUTS * is_alike + _OF_TASK * is_of_task
    begin = replace(
        fresh,
        state=_joined(start.state, fresh.state, wanted, skipped),
        **{name: getattr(owed, name) for name in taken},
    )
    told = _told(start, begin, is_alike=is_alike, is_encoder=is_encoder)
    kept: Kept = "all" if is_alike else "body"
    return begin, told, "encoder" if is_encoder else kept


def knows_little(seen: Validation) -> bool:
    """Return whether a model does not tell cells of these images from background.

    Then its expanding path would first have to be unlearned. A model of bright nuclei
    has an informedness of .9 and more on other nuclei, .1 on cells in phase contrast,
    .3 on bacteria there and .5 on electron micrographs. On these three, AP@0.5 after
    up to a minute with one or two images was .00, .01 and .14 with all of it, and .34,
    .34 and .30 with its encoder alone. But half way is also where a model is that was
    just begun to be learned on the very same images, and goes on.
    """
    return seen.informedness < _LITTLE


def encoder_of(model: Model) -> dict[str, Tensor]:
    """Return the weights of a model with all but its contracting path drawn anew."""
    network: NetworkConfig = model.network  # type: ignore[assignment] # no foreign one
    network = network.model_copy(update={"pretrained": False})
    fresh = fresh_weights(network, model.training.seed)
    return _joined(model.state, fresh, _ENCODER, ())


def has_same_outputs(start: Model, survey: Survey, config: TrainConfig) -> bool:
    """Return whether a model makes what is to be learned.

    Whether a class is an area is up to the model that goes on, and so are the names of
    background and a single class.
    """
    if start.network.upscale != survey.upscale:
        return False
    if config.task == "regress":
        wanted = roles_of_values(survey)
    elif are_same_classes(survey.class_names, start.class_names):
        wanted = roles_for(config.target, start.class_names, survey.area_classes)
    else:
        return False
    return _kinds(start.roles) == _kinds(wanted)


def are_comparable(start: Model, now: Model) -> bool:
    """Return whether two models can predict the same images, and mean the same."""
    first, second = (
        (m.n_channels, m.network.upscale, m.class_names, _kinds(m.roles))
        for m in (start, now)
    )
    return first == second


def _kinds(roles: Sequence[str]) -> list[str]:
    return [role.partition(":")[0].removesuffix("-area") for role in roles]


def _is_of_task(start: Model, config: TrainConfig) -> bool:
    makes_images = all(role.startswith("value:") for role in start.roles)
    return makes_images == (config.task == "regress")


def _network_for(start: Model, survey: Survey, config: TrainConfig) -> NetworkConfig:
    """Return the model's own network, without what only holds for other outputs."""
    network: NetworkConfig = start.network  # type: ignore[assignment] # no foreign one
    changes = {"pretrained": False}
    is_image = (
        config.task == "regress" and len(roles_of_values(survey)) == survey.n_channels
    )
    if network.adds_image and not is_image:
        changes["adds_image"] = False
    return network.model_copy(update=changes)


def _joined(
    old: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    wanted: tuple[str, ...],
    skipped: tuple[str, ...],
) -> dict[str, Tensor]:
    """Return the new weights with the old ones where their names and shapes fit."""
    found = {}
    for name, drawn in new.items():
        is_wanted = name.startswith(wanted) and not name.startswith(skipped)
        kept = old.get(name) if is_wanted else None
        fits = kept is not None and _is_same_but_inputs(kept, drawn)
        found[name] = _spread(kept, drawn) if kept is not None and fits else drawn
    return found


def _is_same_but_inputs(old: Tensor, new: Tensor) -> bool:
    if old.shape == new.shape:
        return True
    is_kernel = old.ndim == new.ndim and old.ndim > 2
    return is_kernel and (old.shape[0], old.shape[2:]) == (new.shape[0], new.shape[2:])


def _spread(old: Tensor, new: Tensor) -> Tensor:
    """Return weights whose sum over the input channels is that of the old ones."""
    if old.shape == new.shape:
        return old.clone()
    n = new.shape[1]
    return (old.sum(1, keepdim=True) / n).repeat_interleave(n, 1).contiguous()


def _told(start: Model, begin: Model, *, is_alike: bool, is_encoder: bool) -> str:
    """Return in one sentence what differs, and what is anew for it."""
    parts = []
    n, before = begin.n_channels, start.n_channels
    if n != before:
        parts.append(
            f"{n} channel{'s' if n > 1 else ''} instead of {before}: the first layer "
            "begins with its mean over the channels"
        )
    if not is_alike:
        now, then = _what_differs(begin, start)
        anew = "all but the encoder" if is_encoder else "the last layer"
        parts.append(f"{now} instead of {then}: {anew} begins anew")
    elif is_encoder:
        parts.append("as asked for, the encoder alone is kept, the rest is anew")
    return f"The model to start from is fitted to the images; {'; '.join(parts)}"


def _what_differs(begin: Model, start: Model) -> tuple[str, str]:
    """Return what two models make that the other doesn't, in words."""
    if not are_same_classes(begin.class_names, start.class_names):
        first, second = (", ".join(m.class_names[1:]) for m in (begin, start))
        return first or "values", second or "values"
    if _kinds(begin.roles) != _kinds(start.roles):
        return ", ".join(begin.roles), ", ".join(start.roles)
    finer, before = begin.network.upscale, start.network.upscale
    return f"outputs {finer} times as fine", f"{before} times"
