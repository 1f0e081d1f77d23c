"""All that a training works with, and all of it that changes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_unet.learning.loop.averaging import Average
from napari_unet.learning.loop.parallel import ALONE
from napari_unet.learning.loop.progress import History
from napari_unet.learning.loop.snapshots import Snapshot, copied

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_unet.config import TrainConfig
    from napari_unet.learning.augmentation import Batch
    from napari_unet.learning.data.splitting import Split
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.loop.live import Strokes
    from napari_unet.learning.loop.parallel import Ranks
    from napari_unet.learning.loop.previews import Preview
    from napari_unet.learning.loop.progress import Best, Clock, Pace
    from napari_unet.learning.loop.stepping import Stepper
    from napari_unet.learning.model import Model
    from napari_unet.learning.networks.network import Network
    from napari_unet.learning.patches import PatchSource
    from napari_unet.learning.quality.held_back import HeldBack
    from napari_unet.learning.recovery import Buffers, Memory, Stability


@dataclass(eq=False)
class RunState:
    """What the loop of training works with.

    Random numbers have no state of their own here: what is drawn depends on the seed
    and the step alone.

    Parameters
    ----------
    model : Model
        The one to begin with, and all settings as they were decided.
    split, held, source, strokes, preview
        What is learned from and validated on, and how; what was painted meanwhile,
        and what is shown.
    device, net, stepper, average, buffers
        The network in training, its optimiser and its averaged weights.
    best, history, clock, memory, stability, looks, checkpoints
        What was seen so far, and what is due when.
    folder : path, optional
        The run folder; None in all processes but the first.
    ranks : Ranks
        The processes that train together.
    decided : dict
        What is not decided again when the run is gone on with (see `Snapshot`).
    step : int
        Steps done.
    loss : float, optional
        That of the last step.
    looked_at, saved_at : int
        Step of the last validation and checkpoint; -1 before the first.
    peak : float, optional
        Peak learning rate that was asked for while training ran.
    asked_peak : float, optional
        What the mailbox said of it last.
    has_diverged : bool
        The loss is no number, again and again.
    keeps_learning : bool
        Training goes on after all steps.
    may_forget : bool
        Of a model to start from that knows little of these images the encoder alone is
        kept.
    has_forgotten : bool
        It was.
    rate_anew : float, optional
        Peak learning rate from then on, where that was left open.
    n_cells : int
        Annotated cells that are learned from.
    drawn
        Windows drawn ahead, and what for: step and size.
    """

    model: Model
    split: Split
    held: HeldBack
    source: PatchSource
    strokes: Strokes
    preview: Preview
    device: DeviceChoice
    net: Network
    stepper: Stepper
    average: Average
    buffers: Buffers
    best: Best
    history: History
    clock: Clock
    memory: Memory
    stability: Stability
    looks: Pace
    checkpoints: Pace
    folder: Path | None = None
    ranks: Ranks = ALONE
    decided: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    loss: float | None = None
    looked_at: int = -1
    saved_at: int = -1
    peak: float | None = None
    asked_peak: float | None = None
    has_diverged: bool = False
    keeps_learning: bool = False
    may_forget: bool = False
    has_forgotten: bool = False
    rate_anew: float | None = None
    n_cells: int = 0
    drawn: tuple[tuple[int, int] | None, Batch | None] = (None, None)
    _good: dict[str, Any] = field(default_factory=dict)
    _good_step: int = 0

    @property
    def config(self) -> TrainConfig:
        """How to train, as it was decided."""
        return self.model.training

    def keep_good(self) -> None:
        """Remember the weights as good ones to go back to, on the CPU."""
        self._good, self._good_step = copied(self._learned()), self.step

    def go_back(self) -> int:
        """Take the last good weights again; return the step that they are of."""
        self._load_learned(self._good)
        return self._good_step

    def begin_with(self, state: Mapping[str, Tensor]) -> None:
        """Take other weights before the first step, those of another beginning."""
        training = self.config
        if self.rate_anew is not None:
            training = training.model_copy(update={"learning_rate": self.rate_anew})
            self.decided["config"] = training.model_dump(mode="json")
        self.model = replace(self.model, training=training)
        self._forget_past()
        self.net.load_state_dict(state)
        self.average = Average(self.net, self.config.ema_decay)
        self.buffers.keep()
        self.keep_good()

    def _forget_past(self) -> None:
        """Count steps from here, and let the learning curve begin here."""
        self.has_forgotten = True
        self.model = replace(self.model, step=0, history=())
        self.history = History(self.model)

    def averaged_weights(self) -> dict[str, Tensor]:
        """Return a copy of the averaged weights, on the CPU."""
        with self.average.swapped(self.net):
            return copied(dict(self.net.state_dict()))

    def snapshot(self) -> Snapshot:
        """Return all that is needed to go on from here; its tensors are no copies."""
        state = self._learned() | {
            "best": self.best.state_dict(),
            "history": self.history.state_dict(),
            "memory": self.memory.state_dict(),
            "stability": self.stability.state_dict(),
            "looks": self.looks.state_dict(),
            "held": self.held.state_dict(),
            "elapsed_s": self.clock.elapsed_s,
            **{name: getattr(self, name) for name in _PLAIN},
        }
        return Snapshot(self.step, state, self.decided)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of this run."""
        state = snapshot.state
        self._load_learned(state)
        for name in _PLAIN:
            setattr(self, name, state.get(name, getattr(self, name)))
        if self.has_forgotten:
            self._forget_past()
        for name in ("best", "history", "memory", "stability", "looks", "held"):
            getattr(self, name).load_state_dict(state[name])
        self.clock.go_on_from(state["elapsed_s"])
        self.step = self.saved_at = snapshot.step
        self.checkpoints.took(0.0, self.step, 0.0)
        self.keep_good()

    def _learned(self) -> dict[str, Any]:
        return {
            "net": dict(self.net.state_dict()),
            "average": self.average.state_dict(),
            "stepper": self.stepper.state_dict(),
        }

    def _load_learned(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.stepper.load_state_dict(state["stepper"])
        self.buffers.keep()


_PLAIN = ("loss", "looked_at", "peak", "has_diverged", "has_forgotten")
