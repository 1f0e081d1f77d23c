"""Gradients of the whole batch, of which each process learns from its share.

Where several processes train, `torch.nn.parallel.DistributedDataParallel` adds up their
gradients while the backward pass goes on. There a process that runs out of memory
halfway leaves the others waiting for gradients that never come. So the first steps of
each size, which show whether it fits, are taken with care: gradients are added up after
the backward pass, once all processes came through, and where one did not, all take
less. What runs out of memory later ends the training, which can be gone on with.
"""

from __future__ import annotations

import warnings
from collections import Counter
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from napari_unet.learning.loop.parallel import SeveralRanks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import nn

    from napari_unet.learning.augmentation import Batch
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.loop.parallel import Ranks

# The first step of a size may need more than the others, since algorithms are tried.
_N_CAREFUL = 3
# As it is called from torch 2.13 on, and before.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel).parameters
)


class Gradients:
    """Those of one process alone, at no cost.

    Parameters
    ----------
    net : nn.Module
        What learns.

    Attributes
    ----------
    module : nn.Module
        What to send images through: the network, perhaps wrapped.
    """

    def __init__(self, net: nn.Module) -> None:
        self.module = net

    def summed(
        self, parts: Sequence[Batch], size: tuple[int, ...]
    ) -> AbstractContextManager[Iterable[Batch]]:
        """Yield the parts to learn from; afterwards gradients are those of all.

        Parameters
        ----------
        parts : sequence of Batch
            This process' patches, to go forward and backward one after the other.
        size : tuple of int
            What the need of memory depends on, the same in all processes.

        Raises
        ------
        ResourceError
            NU-R02 in all processes where one has too little memory for a size that is
            new; NU-R06 there, and NU-R05 in the others, where it is not.
        """
        del size
        return nullcontext(parts)


class SummedGradients(Gradients):
    """Those of several processes, added up; all begin with the weights of the first.

    Parameters
    ----------
    net : nn.Module
        What learns, in its final layout. Running statistics stay those of each process.
    ranks : SeveralRanks
        The processes.
    device : DeviceChoice
        Where the network is.
    """

    module: DistributedDataParallel

    def __init__(
        self, net: nn.Module, ranks: SeveralRanks, device: DeviceChoice
    ) -> None:
        self._ranks, self._device = ranks, device
        self._n_careful: Counter[tuple[int, ...]] = Counter()
        own_buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
        with ranks.all_or_end(device):
            # Gradients that are views of what is sent take no memory of their own.
            module = DistributedDataParallel(
                net,
                process_group=ranks.group,
                gradient_as_bucket_view=True,
                **own_buffers,
            )
        # Kernels of one pixel or one channel: two layouts, one order in memory.
        warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
        module.register_comm_hook(ranks.group, _sum)
        super().__init__(module)

    @contextmanager
    def summed(
        self, parts: Sequence[Batch], size: tuple[int, ...]
    ) -> Iterator[Iterable[Batch]]:
        """Yield the parts to learn from; afterwards gradients are sums."""
        if self._n_careful[size] == _N_CAREFUL:
            with self._ranks.all_or_end(self._device):
                yield self._in_turn(parts)
            return
        with self._ranks.all_or_none(self._device), self.module.no_sync():
            yield parts
        grads = (p.grad for p in self.module.parameters())
        self._ranks.add_up([grad for grad in grads if grad is not None])
        self._n_careful[size] += 1

    def _in_turn(self, parts: Sequence[Batch]) -> Iterator[Batch]:
        """Yield the parts: in the backward pass of the last, gradients are sent."""
        *others, last = parts
        with self.module.no_sync():
            yield from others
        yield last


def gradients_of(net: nn.Module, ranks: Ranks, device: DeviceChoice) -> Gradients:
    """Return what makes a network's gradients those of all processes."""
    if isinstance(ranks, SeveralRanks):
        return SummedGradients(net, ranks, device)
    return Gradients(net)


# DDP refuses annotations that are text, as all are here.
def _sum(group, bucket):  # type: ignore[no-untyped-def]
    """Add up gradients of all processes: sums, not the means that are usual."""
    whole = bucket.buffer()
    if whole.is_cuda:
        sent = dist.all_reduce(whole, group=group, async_op=True).get_future()
        return sent.then(lambda done: done.value()[0])
    # Each by itself, so that bits don't depend on what is sent together: that changes
    # after the first step, also the first after a training was gone on with.
    each = [
        dist.all_reduce(gradient, group=group, async_op=True).get_future()
        for gradient in bucket.gradients()
    ]

    def arrived(done):  # type: ignore[no-untyped-def]
        done.value()  # raises what went wrong
        return whole

    return torch.futures.collect_all(each).then(arrived)
