"""Forward passes of a network over tiles: arrays in, activated outputs out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_unet.learning.applying.outputs import activate
from napari_unet.learning.device import own_memory_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.networks import Network


class Turn(NamedTuple):
    """A symmetry of the square: first Y and X are swapped, then axes are mirrored."""

    swaps: bool
    flips: tuple[int, ...]


def turns(name: str) -> tuple[Turn, ...]:
    """Return the symmetries of a test-time augmentation, that of no change first.

    Parameters
    ----------
    name : {"off", "flips", "all"}
        One, the four by mirroring Y and X, or all eight.

    Examples
    --------
    >>> [len(turns(name)) for name in ("off", "flips", "all")]
    [1, 4, 8]
    """
    swaps = (False, True) if name == "all" else (False,)
    flips = ((),) if name == "off" else ((), (-1,), (-2,), (-2, -1))
    return tuple(Turn(s, f) for s in swaps for f in flips)


class Passes:
    """A network's forward passes on its device.

    Parameters
    ----------
    net : Network
        Ready to predict, on the device.
    device : DeviceChoice
        Where it is.
    roles : sequence of str
        What each of its outputs means.
    test_time_augmentation : {"off", "flips", "all"}
        See `turns`: the outputs are the mean over them.

    Attributes
    ----------
    gives_spread : bool
        With test-time augmentation: one more output then is the standard deviation over
        it of that output in which it is largest.
    """

    def __init__(
        self,
        net: Network,
        device: DeviceChoice,
        roles: Sequence[str],
        test_time_augmentation: str = "off",
    ) -> None:
        self._net, self._device, self._roles = net, device, roles
        self._turns = turns(test_time_augmentation)
        self.gives_spread = len(self._turns) > 1
        # CUDA computes by itself: meanwhile the next tile is read and the last written.
        self._n_ahead = 1 if device.name == "cuda" else 0

    def all(
        self,
        tiles: Iterable[tuple[NDArray[np.float32], tuple[slice, ...]]],
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the outputs of each tile, in their order.

        Parameters
        ----------
        tiles : iterable of (ndarray of float32, tuple of slice)
            What the network sees, (C, [Z,] Y, X), and which of the outputs, ([Z,] Y,
            X), are kept; asked for one ahead on CUDA.

        Yields
        ------
        ndarray of float32, shape (K, [Z,] Y, X)
            Activated; K is one more where the spread is given.

        Raises
        ------
        ResourceError
            Memory is too little for a tile (NU-R02).
        """
        begun: deque[Callable[[], NDArray[np.float32]]] = deque()
        with own_memory_errors(self._device):
            for given, kept in tiles:
                begun.append(self._begin(given, kept))
                if len(begun) > self._n_ahead:
                    yield begun.popleft()()
            while begun:
                yield begun.popleft()()

    @torch.inference_mode()
    def _begin(
        self, given: NDArray[np.float32], kept: tuple[slice, ...]
    ) -> Callable[[], NDArray[np.float32]]:
        """Begin a forward pass; return what waits for it and gives its outputs."""
        host = torch.from_numpy(given)[None]
        if self._device.name != "cuda":
            image = host.to(self._device.torch)
            found = self._outputs(image, kept).cpu()
            return found.numpy
        # Only from and to pinned memory does CUDA copy while it computes.
        image = host.pin_memory().to(self._device.torch, non_blocking=True)
        found = self._outputs(image, kept)
        here = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
        here.copy_(found, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()

        def waited() -> NDArray[np.float32]:
            copied.synchronize()
            outputs: NDArray[np.float32] = here.numpy()
            return outputs

        return waited

    def _outputs(self, image: Tensor, kept: tuple[slice, ...]) -> Tensor:
        crop = (slice(None), *kept)
        each = [
            activate(self._logits(image, turn)[crop], self._roles)
            for turn in self._turns
        ]
        if not self.gives_spread:
            return each[0]
        stack = torch.stack(each)
        spread = stack.std(0, correction=0).amax(0, keepdim=True)
        return torch.cat([stack.mean(0), spread])

    def _logits(self, image: Tensor, turn: Turn) -> Tensor:
        """Return what an image that is turned gives, (K, [Z,] Y, X), turned back."""
        seen = image.transpose(-1, -2) if turn.swaps else image
        axes = [seen.ndim + axis for axis in turn.flips]
        seen = torch.flip(seen, axes) if axes else seen
        logits: Tensor = self._net(seen.contiguous())[0]
        logits = torch.flip(logits, [axis - 1 for axis in axes]) if axes else logits
        return logits.transpose(-1, -2) if turn.swaps else logits
