"""The optimisers, by the name that they have in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from napari_unet.config import TrainConfig
    from napari_unet.learning.device import DeviceChoice


def build_optimizer(
    parameters: list[nn.Parameter], config: TrainConfig, device: DeviceChoice
) -> torch.optim.Optimizer:
    """Return an optimiser with its memory: its first step needs no more of the device.

    Fused where torch has it, and with zeros from the start: a fused SGD whose first
    step is left out (not finite) would go on with uninitialised velocities.

    Parameters
    ----------
    parameters : list of Parameter
        On the device, in the layout in which they are trained.
    config : TrainConfig
        `optimizer`, `learning_rate`, `momentum`, `weight_decay`.
    device : DeviceChoice
        Where they are.

    References
    ----------
    Loshchilov, Hutter: Decoupled weight decay regularization. ICLR 2019.
    """
    # One pass over the memory of each weight instead of six.
    is_fused = device.name in {"cpu", "cuda"}
    if config.optimizer == "sgd":
        sgd = torch.optim.SGD(
            parameters,
            config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=is_fused,
        )
        if config.momentum > 0:
            for p in parameters:
                sgd.state[p] = {"momentum_buffer": _zeros_like(p)}
        return sgd
    adamw = torch.optim.AdamW(
        parameters,
        config.learning_rate,
        weight_decay=config.weight_decay,
        fused=is_fused,
    )
    for p in parameters:
        adamw.state[p] = {
            "step": torch.zeros((), device=p.device if is_fused else "cpu"),
            "exp_avg": _zeros_like(p),
            "exp_avg_sq": _zeros_like(p),
        }
    return adamw


def _zeros_like(parameter: nn.Parameter) -> Tensor:
    # In the layout of the weight, as the optimiser itself makes it.
    return torch.zeros_like(parameter, memory_format=torch.preserve_format).detach()
