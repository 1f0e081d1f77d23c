"""Averaged weights: what validation, previews and the kept model use."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn


class Average:
    """An exponential moving average of a network's weights and normalisation buffers.

    The averaged weights lag a few steps behind and swing less, which on few images is
    worth more than a better last step. After `t` updates a share of
    ``min(decay, (1 + t) / (10 + t))`` stays, so that it starts warm: the drawn weights
    are forgotten within a few dozen steps whatever the decay.

    Parameters
    ----------
    net : torch.nn.Module
        The network, on its device; the average lies there too.
    decay : float
        Share of the average that stays at each update, in [0, 1). With 0 it is the
        network itself, and takes no memory.

    References
    ----------
    Polyak, Juditsky: Acceleration of stochastic approximation by averaging. SIAM J.
    Control Optim. 30, 1992. The warm start is that of TensorFlow's
    ``ExponentialMovingAverage(num_updates)``.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._decay = decay
        self._n_updates = 0
        self._names = [name for name, _ in _tensors(net)]
        own = [tensor for _, tensor in _tensors(net)] if decay > 0 else []
        # clone() keeps the layout, so that a swapped-in weight is as fast.
        self._averages = [tensor.detach().clone() for tensor in own]

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take in the network as it is after a step."""
        if not self._averages:
            return
        share = min(self._decay, (1 + self._n_updates) / (10 + self._n_updates))
        self._n_updates += 1
        now = [tensor.detach() for _, tensor in _tensors(net)]
        pairs = list(zip(self._averages, now, strict=True))
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        averages, current = (list(side) for side in zip(*moving, strict=True))
        torch._foreach_lerp_(averages, current, 1 - share)
        for average, tensor in pairs:  # counts have no mean
            if not average.is_floating_point():
                average.copy_(tensor)

    @contextmanager
    def swapped(self, net: nn.Module) -> Iterator[None]:
        """Let the network hold the averaged weights inside; nothing is copied."""
        self._swap(net)
        try:
            yield
        finally:
            self._swap(net)

    def _swap(self, net: nn.Module) -> None:
        if not self._averages:
            return
        for i, (_, tensor) in enumerate(_tensors(net)):
            self._averages[i], tensor.data = tensor.data, self._averages[i]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by the network's names, and the number of updates.

        The tensors are the averages themselves: later updates change them.
        """
        named = dict(zip(self._names, self._averages, strict=False))
        return {**named, _N_UPDATES: torch.tensor(self._n_updates)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from an average of the same network and decay.

        Raises
        ------
        KeyError
            A tensor is missing.
        """
        self._n_updates = int(state[_N_UPDATES])
        for name, average in zip(self._names, self._averages, strict=False):
            average.copy_(state[name])


# No tensor of a module can have a name with a space.
_N_UPDATES = "n updates"


def _tensors(net: nn.Module) -> list[tuple[str, Tensor]]:
    return [*net.named_parameters(), *net.named_buffers()]
