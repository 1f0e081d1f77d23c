"""Settings that the user left open, chosen from the images and the device.

Each rule is one function, and says in a sentence why it chose what it did;
docs/science/planning.md gives the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.config import NetworkConfig
from napari_unet.learning.memory import free_bytes
from napari_unet.learning.planning_rules import (
    RULES,
    Draft,
    typical_px,
    wanted_px,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_unet.config import TrainConfig
    from napari_unet.events import Choice
    from napari_unet.learning.data.survey import Survey
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.model import Model

# Resampling blurs: it is not worth it for less.
_NOT_WORTH_IT = 1.25
# Fewer cells of an image don't say how large its cells are.
_ENOUGH_CELLS = 3
_SMALLEST_SCALE, _LARGEST_SCALE = 1 / 16, 4.0


@dataclass(frozen=True)
class Plan:
    """What to train with.

    Parameters
    ----------
    config : TrainConfig
        The given one, completed.
    network : NetworkConfig
        Likewise; channels and classes are not looked at.
    scale : float
        Pixels that the network sees for each pixel of a typical image.
    scales : tuple of float
        The same for each image, in the order of the survey.
    choices : tuple of Choice
        What was chosen, and why; nothing that was given.
    """

    config: TrainConfig
    network: NetworkConfig
    scale: float
    scales: tuple[float, ...]
    choices: tuple[Choice, ...]


def plan(
    survey: Survey,
    config: TrainConfig,
    network: NetworkConfig | None,
    device: DeviceChoice,
    *,
    start: Model | None = None,
    is_anew: bool = False,
    memory_bytes: int | None = None,
) -> Plan:
    """Choose what the user left open: the same survey and device give the same plan.

    Parameters
    ----------
    survey : Survey
        What there is to learn from, in numbers.
    config : TrainConfig
        Fields that were given (``model_fields_set``) stay as they are.
    network : NetworkConfig, optional
        Likewise.
    device : DeviceChoice
        Where training will run.
    start : Model, optional
        The model to go on from: its network stays, and its cells' size.
    is_anew : bool
        Of that model the encoder alone goes on.
    memory_bytes : int, optional
        What is free on the device; asked for if omitted.

    Returns
    -------
    Plan
        Its choices come in the order in which they were made: each rests on those
        before it.
    """
    own = network or NetworkConfig()
    if start is not None and isinstance(start.network, NetworkConfig):
        own = start.network
    free = free_bytes(device) if memory_bytes is None else memory_bytes
    draft = Draft(survey, config, own, device.name, free, start, [], is_anew=is_anew)
    scales = _choose_scale(draft)
    for rule in RULES:
        rule(draft)
    return Plan(draft.config, draft.network, draft.scale, scales, tuple(draft.choices))


def image_scales(
    diameters_of: Sequence[NDArray[np.float64]], working_px: float, default: float
) -> tuple[float, ...]:
    """Return for each image the scale at which its cells are as large as wanted.

    Parameters
    ----------
    diameters_of : sequence of ndarray of float
        Diameters of the annotated cells of each image, in its pixels.
    working_px : float
        What that of a typical one is to be, in pixels that the network sees.
    default : float
        For images with fewer than three cells.
    """
    return tuple(
        _bounded(working_px / typical_px(own)) if len(own) >= _ENOUGH_CELLS else default
        for own in diameters_of
    )


def _bounded(scale: float) -> float:
    """Return a scale within bounds, with three digits."""
    return float(f"{min(max(scale, _SMALLEST_SCALE), _LARGEST_SCALE):.3g}")


def _choose_scale(draft: Draft) -> tuple[float, ...]:
    """Choose how large the network sees cells; return the scale of each image."""
    n_images, given = draft.survey.n_images, draft.config.working_scale
    if given is not None:
        draft.scale = given
    elif draft.diameter and draft.config.task == "segment":
        # A patch that was given is one of the images' pixels.
        if draft.is_open("patch_size") or draft.start is not None:
            return _scale_by_cells(draft)
    elif draft.start is not None:
        draft.scale = draft.start.scale
    return (draft.scale,) * n_images


def _scale_by_cells(draft: Draft) -> tuple[float, ...]:
    wanted, said = wanted_px(draft.diameter), "the size that is learned best"
    start = draft.start
    if start is not None:
        if not start.cell_diameter_px:
            draft.scale = start.scale
            return (draft.scale,) * draft.survey.n_images
        wanted = start.cell_diameter_px * start.scale
        said = "as large as the model to start from knows them"
    factor = _bounded(wanted / draft.diameter)
    each = image_scales(draft.survey.cell_diameters_of, wanted, factor)
    is_alike = max(each) / min(each) <= _NOT_WORTH_IT
    if is_alike and 1 / _NOT_WORTH_IT <= factor <= _NOT_WORTH_IT:
        return (1.0,) * len(each)
    draft.scale = factor
    seen = f"{draft.diameter:.3g} px across, {draft.working_px:.3g} for the network"
    why = f"Working scale {factor:.3g}: cells are {seen}, {said}"
    if is_alike:
        draft.choose("working_scale", factor, f"{why}.")
        return (factor,) * len(each)
    span = f"{min(each):.2g} to {max(each):.2g}"
    draft.tell(
        "working_scale",
        factor,
        f"{why}; cells differ between images, so each image has its own ({span}).",
    )
    return each
