"""Several processes that train one network, each on its share of every batch.

Data-parallel training: all processes hold the same weights, draw the same batch, learn
from their own patches of it, add up their gradients, and take the same step. What
depends on a clock, on free memory or on the held-back pixels is decided by the first
process (rank 0); a process that runs out of memory makes all of them step down.
How gradients are added up, by `torch.nn.parallel.DistributedDataParallel`, is in
`gradients.py`.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
import torch.distributed as dist

from napari_unet.errors import ConfigError, ResourceError
from napari_unet.events import WHY_ENDED, Mailbox
from napari_unet.learning.device import own_memory_errors
from napari_unet.learning.loop import launched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from napari_unet.events import Event, Reason
    from napari_unet.learning.augmentation import Batch
    from napari_unet.learning.device import DeviceChoice

T = TypeVar("T")

# A process that is gone is noticed at once, one that hangs after so long. The others
# wait while the first validates and tunes.
_PATIENCE = timedelta(minutes=10)
# Steps stay far below: each process has random numbers of its own.
_RANK_SHIFT = 40
_TOLD = "napari-unet/told"


class Ranks:
    """The processes of a training: here this one alone, at no cost.

    Attributes
    ----------
    rank : int
        Which of them this is, from 0.
    n : int
        How many there are.
    """

    rank, n = 0, 1

    @property
    def is_first(self) -> bool:
        """Whether this one decides and writes."""
        return self.rank == 0

    def check(self, batch_size: int, device: DeviceChoice) -> None:
        """Refuse batches that leave a process without a patch (NU-C32), and MPS."""
        if self.n > 1 and device.name == "mps":
            raise ResourceError(
                "NU-R01",
                "there is but one Apple GPU, and several processes can't share it: "
                "start one process, or set device to 'cpu'",
            )
        if batch_size < self.n:
            raise ConfigError(
                "NU-C32",
                f"a batch of {batch_size} patches can't be shared by {self.n} "
                f"processes: set batch_size to {self.n} or more, or start fewer",
            )

    def hears(self, mailbox: Mailbox) -> Mailbox:
        """Return the mailbox that the training looks into."""
        return mailbox

    def own(self, batch: Batch) -> Batch:
        """Return this process' patches of a batch: about as many as each other has."""
        return batch

    def rows(self, whole: Tensor) -> Tensor:
        """Return what belongs to this process' patches of a batch, (N, ...)."""
        return whole

    def seed(self, seed: int) -> int:
        """Return the seed of what each process draws by itself: dropout."""
        return seed

    def decide(self, work: Callable[[], T]) -> T:
        """Return what the first process makes of work that only that one does.

        Where it has too little memory for it, all raise (NU-R02).
        """
        return work()

    def any_wants(self, wish: bool) -> bool:
        """Return whether any process wants something."""
        return wish

    def any_reason(self, reason: Reason | None) -> Reason | None:
        """Return a reason to end if any process has one, the same in all."""
        return reason

    def all_or_none(self, device: DeviceChoice) -> AbstractContextManager[None]:
        """Come through in all processes; where one lacks memory, all raise (NU-R02)."""
        del device
        return nullcontext()

    def all_or_end(self, device: DeviceChoice) -> AbstractContextManager[None]:
        """Do what can't be done again; one that lacks memory ends all (NU-R06)."""
        del device
        return nullcontext()

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over the processes."""

    def joined(self, part: Tensor, whole: int) -> Tensor:
        """Return the `whole` rows of which each process has its share."""
        del whole
        return part

    def led(self, events: Iterator[Event]) -> Iterator[Event]:
        """Let the first process work alone; the last event is that of all."""
        return events


class SeveralRanks(Ranks):
    """The processes of a training that `torchrun` started.

    Parameters
    ----------
    group : process group
        Over which gradients go: NCCL between GPUs, else gloo.
    control : process group
        Over which all else goes, always gloo: it needs no GPU, and notices at once
        when a process is gone.
    """

    def __init__(self, group: Any, control: Any) -> None:
        self.rank, self.n = dist.get_rank(), dist.get_world_size()
        self.group, self._control = group, control

    def hears(self, mailbox: Mailbox) -> Mailbox:
        """Return a mailbox that hears nothing but the wish to stop.

        What is painted in one process the others don't know.
        """
        return _StopOnly(mailbox)

    def own(self, batch: Batch) -> Batch:
        """Return this process' patches."""
        return batch.parts(self.n)[self.rank]

    def rows(self, whole: Tensor) -> Tensor:
        """Return what belongs to this process' patches."""
        return whole[self._bounds(len(whole))]

    def _bounds(self, n: int) -> slice:
        # As `Batch.parts` has them.
        return slice(self.rank * n // self.n, (self.rank + 1) * n // self.n)

    def seed(self, seed: int) -> int:
        """Return a seed of this process."""
        return (seed + (self.rank << _RANK_SHIFT)) % 2**63

    def decide(self, work: Callable[[], T]) -> T:
        """Return what the first process makes of it; the others wait."""
        decision: _Decision[T] | None = None
        if self.is_first:
            try:
                decision = _Decision(work())
            except ResourceError as error:
                if error.code != "NU-R02":
                    raise
                decision = _Decision(error=error)
        decision = self._told(decision)
        if decision.error is not None:
            raise decision.error
        return decision.value  # type: ignore[return-value]

    def _told(self, message: T | None) -> T:
        held = [message]
        with _reached():
            # From our own processes alone: what is unpickled was pickled by us.
            dist.broadcast_object_list(held, 0, self._control)
        return held[0]  # type: ignore[return-value]

    def any_wants(self, wish: bool) -> bool:
        """Return whether any process wants something."""
        return bool(self._largest(wish))

    def any_reason(self, reason: Reason | None) -> Reason | None:
        """Return the last in `WHY_ENDED` of all processes' reasons."""
        reasons = (None, *WHY_ENDED)
        return reasons[self._largest(reasons.index(reason))]

    def _largest(self, number: int) -> int:
        held = torch.tensor([number])
        with _reached():
            dist.all_reduce(held, dist.ReduceOp.MAX, self._control)
        return int(held)

    @contextmanager
    def all_or_none(self, device: DeviceChoice) -> Iterator[None]:
        """Come through in all processes, or raise in all."""
        own: ResourceError | None = None
        try:
            with own_memory_errors(device):
                yield
        except ResourceError as error:
            if error.code != "NU-R02":
                raise
            own = error
        if not self._largest(own is not None):
            return
        raise own or ResourceError(
            "NU-R02", "another process has too little memory for this: take less"
        )

    @contextmanager
    def all_or_end(self, device: DeviceChoice) -> Iterator[None]:
        """End all where this one lacks memory: the others are past being told."""
        try:
            with _reached(), own_memory_errors(device):
                yield
        except ResourceError as error:
            if error.code != "NU-R02":
                raise
            raise ResourceError(
                "NU-R06",
                f"{device.label} has too little memory to go on with what the other "
                "processes of this training have begun, so that all end: close other "
                "programs, then give the same command with --resume to go on from "
                "the last checkpoint",
            ) from error

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums, the same to the bit in all processes."""
        with _reached():
            sent = [
                dist.all_reduce(tensor, group=self.group, async_op=True)
                for tensor in tensors
            ]
            for each in sent:
                each.wait()

    def joined(self, part: Tensor, whole: int) -> Tensor:
        """Return all rows, those of the others without a way back."""
        # Sums with 0, since shares may be of two sizes.
        rows = part.new_zeros((whole, *part.shape[1:]))
        rows[self._bounds(whole)] = part
        self.add_up([rows])
        return rows

    def led(self, events: Iterator[Event]) -> Iterator[Event]:
        """Yield the first one's events there, and the last of them everywhere."""
        last: Event | None = None
        if self.is_first:
            for last in events:
                yield last
            self._told(last)
        else:
            yield self._told(last)


@dataclass(frozen=True)
class _Decision(Generic[T]):
    value: T | None = None
    error: ResourceError | None = None


class _StopOnly(Mailbox):
    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._whole = mailbox

    @property
    def wants_stop(self) -> bool:
        return self._whole.wants_stop


ALONE = Ranks()
_joined: SeveralRanks | None = None


def join(device_name: str) -> Ranks:
    """Return the processes that train together: `ALONE` outside `torchrun`.

    Parameters
    ----------
    device_name : {"auto", "cuda", "mps", "cpu"}
        Where to train. On a machine with several GPUs each process gets its own, which
        is torch's current one from then on.

    Raises
    ------
    ResourceError
        NU-R01: more processes than GPUs; NU-R05: a process is missing.
    """
    global _joined
    if launched.n_ranks() == 1:
        return ALONE
    if _joined is None:
        has_gpu = device_name in {"auto", "cuda"} and torch.cuda.is_available()
        if has_gpu:
            _take_gpu()
        with _reached():
            if not dist.is_initialized():
                dist.init_process_group("gloo", timeout=_PATIENCE)
            control = dist.new_group(backend="gloo", timeout=_PATIENCE)
            group = (
                dist.new_group(backend="nccl", timeout=_PATIENCE)
                if has_gpu
                else control
            )
            _joined = SeveralRanks(group, control)
    return _joined


def leave() -> None:
    """Part from the other processes, where there are any: before the program ends."""
    global _joined
    if _joined is not None:
        _joined = None
        dist.destroy_process_group()


def is_first_to_fail() -> bool:
    """Return whether this process is the first to ask: it says what went wrong.

    One sentence for all of them. Where nobody can be asked, all are the first.
    """
    if launched.n_ranks() == 1:
        return True
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=5),
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return int(store.add(f"{_TOLD}/{attempt}", 1)) == 1
    except (RuntimeError, ValueError):
        return True


def _take_gpu() -> None:
    own, n = launched.local_rank(), torch.cuda.device_count()
    if own >= n:
        raise ResourceError(
            "NU-R01",
            f"this machine has {n} GPU{'s' if n > 1 else ''} but was given a process "
            f"number {own + 1}: start as many processes as there are GPUs, or train "
            "with device 'cpu'",
        )
    torch.cuda.set_device(own)


@contextmanager
def _reached() -> Iterator[None]:
    """Turn torch's errors of processes that can't be reached into ours (NU-R05)."""
    try:
        yield
    except RuntimeError as error:
        raise ResourceError(
            "NU-R05",
            "another process of this training is gone or doesn't answer, so that all "
            "end: see what it said, then give the same command with --resume to go on "
            "from the last checkpoint",
        ) from error
