"""Faults of memory and of numbers: step down, skip, go back. Called by the loop."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from napari_unet.errors import ResourceError
from napari_unet.events import Note
from napari_unet.learning.device import own_memory_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from torch import nn

    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.quality.held_back import HeldBack

T = TypeVar("T")

_SMALLER = 1.5  # a patch, at each step down
_N_CALM_STEPS = 20  # so far apart bad steps are skipped, each for itself
_MAX_ROLLBACKS = 3
_LARGE, _LEAST_TILE_PX = 1024, 128


class Memory:
    """What fits into memory: how a batch is taken in parts, and how large patches are.

    Parameters
    ----------
    device : DeviceChoice
        Where the training runs.
    batch_size, patch_size : int
        As asked for: patches per step, and their side in pixels.
    min_patch_size : int
        Smaller ones the network doesn't take, in pixels.
    """

    def __init__(
        self,
        device: DeviceChoice,
        *,
        batch_size: int,
        patch_size: int,
        min_patch_size: int,
    ) -> None:
        self._device = device
        self._batch_size = batch_size
        self._min_patch_size = min_patch_size
        self.n_micro = 1
        self.patch_size = max(patch_size, min_patch_size)
        self.tile_px: int | None = None
        self.told: list[str] = []

    def within(self, work: Callable[[], T]) -> Generator[Note, None, T]:
        """Do work that looks at `n_micro` and `patch_size`; where it fails, with less.

        Yields
        ------
        Note
            A sentence for each step down.

        Returns
        -------
        What `work` returns.

        Raises
        ------
        ResourceError
            NU-R02: there is too little memory even for the least.
        """
        while True:
            try:
                with own_memory_errors(self._device):
                    return work()
            except ResourceError as error:
                if error.code != "NU-R02":
                    raise
            # Only out here nothing holds the tensors of the failed work any more.
            free_memory()
            self.told.append(self._step_down())
            yield Note(self.told[-1], is_warning=True)

    def within_tiles(
        self, held: HeldBack, work: Callable[[], T]
    ) -> Generator[Note, None, T]:
        """Do work that predicts what is held back; where it fails, in smaller tiles.

        Tiles leave no trace (but in networks that see their whole input). Yields,
        returns and raises as `within` does.
        """
        while True:
            try:
                with own_memory_errors(self._device):
                    return work()
            except ResourceError as error:
                if error.code != "NU-R02" or (held.tile_px or _LARGE) <= _LEAST_TILE_PX:
                    raise
            free_memory()
            held.tile_px = (held.tile_px or _LARGE) // 2
            self.tile_px = held.tile_px
            self.told.append(
                f"{self._device.label} has too little memory to validate whole images: "
                f"they are predicted in tiles of {held.tile_px} px"
            )
            yield Note(self.told[-1], is_warning=True)

    def _step_down(self) -> str:
        """Take less at once, and say it in a sentence."""
        where = self._device.label
        if self.n_micro < self._batch_size:
            n_before = -(-self._batch_size // self.n_micro)
            self.n_micro = min(2 * self.n_micro, self._batch_size)
            return (
                f"{where} has too little memory for {n_before} patches of "
                f"{self.patch_size} px at once: each batch of {self._batch_size} is "
                f"now taken in {self.n_micro} parts, whose gradients are added up"
            )
        before = self.patch_size
        self.patch_size = max(int(before / _SMALLER), self._min_patch_size)
        if self.patch_size < before:
            return (
                f"{where} has too little memory even for one patch of {before} px at a "
                f"time: patches are {self.patch_size} px now"
            )
        raise ResourceError(
            "NU-R02",
            f"{where} has too little memory to train this network even on single "
            f"patches of {before} px: close other programs, or take a narrower or "
            "shallower network (base_width, depth)",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what was stepped down so far, as JSON knows it."""
        return {
            "n_micro": self.n_micro,
            "patch_size": self.patch_size,
            "tile_px": self.tile_px,
            "told": list(self.told),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what was stepped down before."""
        self.n_micro, self.patch_size = state["n_micro"], state["patch_size"]
        self.tile_px = state["tile_px"]
        self.told = list(state["told"])


def free_memory() -> None:
    """Give back what is no longer used, on the device as well."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


class Stability:
    """What is done about steps whose loss or gradient is no number.

    One bad step is skipped: a single batch may be at fault. When another follows soon,
    training goes back to the last weights that were validated well, with half the
    learning rate; after three times it ends.
    """

    def __init__(self) -> None:
        self.skipped: list[int] = []
        self.lr_factor = 1.0
        self._n_rollbacks = 0
        self._last_bad: int | None = None

    def judge(self, step: int) -> Literal["skip", "roll back", "stop"]:
        """Return what to do about a bad step, and count it."""
        is_alone = self._last_bad is None or step - self._last_bad > _N_CALM_STEPS
        if is_alone:
            self._last_bad = step
            self.skipped.append(step)
            return "skip"
        if self._n_rollbacks == _MAX_ROLLBACKS:
            return "stop"
        self._last_bad = None
        self._n_rollbacks += 1
        self.lr_factor /= 2
        return "roll back"

    def state_dict(self) -> dict[str, Any]:
        """Return what happened so far, as JSON knows it."""
        return {
            "skipped": list(self.skipped),
            "lr_factor": self.lr_factor,
            "n_rollbacks": self._n_rollbacks,
            "last_bad": self._last_bad,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what happened before."""
        self.skipped = list(state["skipped"])
        self.lr_factor = state["lr_factor"]
        self._n_rollbacks = state["n_rollbacks"]
        self._last_bad = state["last_bad"]


class Buffers:
    """A network's buffers after its last good step.

    A forward pass changes running means and variances before anybody knows whether
    the step succeeds: one NaN in them would stay for ever.
    """

    def __init__(self, net: nn.Module) -> None:
        self._own = [buffer.detach() for buffer in net.buffers()]
        self._good = [buffer.clone() for buffer in self._own]

    def keep(self) -> None:
        """Remember the buffers as they are."""
        if self._own:
            torch._foreach_copy_(self._good, self._own)

    def restore(self) -> None:
        """Let the network have its buffers of the last good step again."""
        if self._own:
            torch._foreach_copy_(self._own, self._good)
