"""What a run was begun with, and whether it can be gone on with in the same way."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.errors import ConfigError
from napari_unet.learning.checkpoint import versions_now
from napari_unet.learning.loop.launched import n_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import BaseModel

    from napari_unet.learning.device import DeviceChoice

# Another device or a longer wait makes no other training.
_MAY_DIFFER = frozenset({"device", "keep_learning"})


def as_given(**settings: BaseModel | None) -> dict[str, dict[str, Any] | None]:
    """Return the settings that the user gave, by section, as JSON knows them."""
    return {
        name: None if part is None else part.model_dump(mode="json", exclude_unset=True)
        for name, part in settings.items()
    }


def check_same_settings(
    then: Mapping[str, Any], now: Mapping[str, Any], folder: Path
) -> None:
    """Refuse to go on with a run that was begun with other settings.

    Parameters
    ----------
    then, now : mapping
        From `as_given`.
    folder : path
        The run folder, for the sentence.

    Raises
    ------
    ConfigError
        NU-C30, naming the first setting that differs.
    """
    for section, settings in now.items():
        before, after = then.get(section) or {}, settings or {}
        for name in [*before, *(n for n in after if n not in before)]:
            if name in _MAY_DIFFER or before.get(name) == after.get(name):
                continue
            raise ConfigError(
                "NU-C30",
                f"the run in {folder} was begun with {_said(name, before)} but now "
                f"came {_said(name, after)}: give the same settings to go on with it, "
                "or begin a new one",
            )


def _said(name: str, settings: Mapping[str, Any]) -> str:
    if name not in settings:
        return f"no {name}"
    return f"{name} = {settings[name]}"


def check_same_data(
    then: Mapping[str, Any], now: Mapping[str, Any], folder: Path
) -> None:
    """Refuse to go on with a run that was begun with other images or another model.

    Parameters
    ----------
    then, now : mapping
        Of the same keys, words for what they are, to what stands for it.
    folder : path
        The run folder, for the sentence.

    Raises
    ------
    ConfigError
        NU-C30, naming what differs.
    """
    for what, value in now.items():
        if then.get(what) != value:
            raise ConfigError(
                "NU-C30",
                f"the run in {folder} was begun with other {what}: give the same to "
                "go on with it, or begin a new one",
            )


def environment(device: DeviceChoice) -> dict[str, str]:
    """Return what the bits of a training depend on besides its settings and data."""
    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "device": device.label if device.name != "cpu" else "CPU",
        "number of threads": str(torch.get_num_threads()),
        "number of processes": str(n_ranks()),
        "machine": f"{platform.machine()} {capability}, {os.cpu_count()} cores",
        **versions_now(),
    }


def what_differs(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return a sentence about what is not as it was; empty where all is.

    Examples
    --------
    >>> what_differs({"torch": "2.13", "numpy": "2.3"}, {"torch": "2.12"})
    'torch is 2.12 instead of 2.13: the numbers will not be quite those of a run that \
was never interrupted'
    """
    changes = [
        f"{name} is {value} instead of {then[name]}"
        for name, value in now.items()
        if name in then and then[name] != value
    ]
    if not changes:
        return ""
    return (
        f"{' and '.join(changes)}: the numbers will not be quite those of a run that "
        "was never interrupted"
    )
