"""One step of the optimiser: forward, loss, backward, update."""

from __future__ import annotations

import math
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_unet.learning.device import (
    autocast,
    channels_last,
    training_precision,
    with_channels_last,
)
from napari_unet.learning.loop.gradients import gradients_of
from napari_unet.learning.loop.optimizers import build_optimizer
from napari_unet.learning.loop.parallel import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor

    from napari_unet.config import TrainConfig
    from napari_unet.learning.augmentation import Batch
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.loop.parallel import Ranks
    from napari_unet.learning.losses.by_role import LossByRole
    from napari_unet.learning.networks.network import Network

    _Summed = AbstractContextManager[Iterable[Batch]]

_MAX_GRADIENT_NORM = 5.0
# A scale below this can't be what keeps fp16 gradients from being finite.
_LEAST_SCALE = 1.0


class Stepper:
    """Takes steps: forward, loss, backward, clipping, and the optimiser's update.

    Parameters
    ----------
    net : Network
        On the device; its weights are laid out anew in place (channels last), keeping
        their values.
    loss : LossByRole
        What is made small.
    config : TrainConfig
        `optimizer`, `momentum`, `weight_decay`, `precision`.
    device : DeviceChoice
        Where the network is.
    precision : {"fp32", "bf16", "fp16"}, optional
        That of the forward pass; without it, chosen by `training_precision`. Weights,
        gradients and the loss are float32 always.
    ranks : Ranks, optional
        The processes that train this network together. All take the same steps, on the
        gradient of the whole batch, of which each goes through its own share.

    Attributes
    ----------
    precision : {"fp32", "bf16", "fp16"}
        What is used, for the record.
    """

    def __init__(
        self,
        net: Network,
        loss: LossByRole,
        config: TrainConfig,
        device: DeviceChoice,
        precision: str | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        channels_last(net)
        self.precision = precision or training_precision(device, config.precision)
        self._net, self._loss, self._device = net, loss, device
        self._ranks = ranks
        self._gradients = gradients_of(net, ranks, device)
        self._names = {p: name for name, p in net.named_parameters()}
        self._optimizer = build_optimizer(list(self._names), config, device)
        # In fp16 it keeps small gradients from becoming 0. On CUDA it also leaves out
        # a step that is not finite without the CPU having to wait and look.
        self._scaler = torch.amp.GradScaler(
            device.name,
            init_scale=2.0**16 if self.precision == "fp16" else 1.0,
            enabled=device.name == "cuda" or self.precision == "fp16",
        )
        self._begun: tuple[Tensor, Tensor] | None = None

    def step(self, batch: Batch, lr: float, n_micro: int = 1) -> float:
        """Take a step and return the mean loss of the batch.

        Parameters
        ----------
        batch : Batch
            Patches on the device, those of all processes. The middle of their target,
            as large as the network's output, is what is learned.
        lr : float
            Learning rate of this step.
        n_micro : int
            In how many parts the share of this process goes through the network, one
            after the other: less memory, the same gradient. (BatchNorm sees each part
            by itself.)

        Returns
        -------
        float
            NaN if the loss or its gradient is not finite: weights and optimiser are
            then as they were. What BatchNorm keeps of the batch is not.
        """
        self.begin(batch, lr, n_micro)
        return self.finish()

    def begin(self, batch: Batch, lr: float, n_micro: int = 1) -> None:
        """Begin a step: on CUDA, enqueue it all without waiting for it.

        Parameters
        ----------
        batch, lr, n_micro
            As for `step`.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad(set_to_none=True)
        parts = self._ranks.own(batch).parts(n_micro)
        summed = self._gradients.summed(parts, size=(*batch.image.shape, n_micro))
        with self._algorithms():
            if len(parts) == self._ranks.n == 1:
                loss = self._learn(parts[0])
            elif self._loss.is_mean_over_pixels:
                loss = self._learn_means(summed, batch)
            else:
                loss = self._learn_pooled(parts, summed, batch)
        with self._ranks.all_or_end(self._device):
            self._update(loss)

    def _update(self, loss: Tensor) -> None:
        self._scaler.unscale_(self._optimizer)
        norm = self._clip()
        self._begun = loss, norm
        if self._scaler.is_enabled():
            self._scaler.step(self._optimizer)
            # In bf16 and fp32 the scale is 1 and stays.
            self._scaler.update(None if self.precision == "fp16" else 1.0)
        elif math.isfinite(loss) and math.isfinite(norm):
            self._optimizer.step()

    def finish(self) -> float:
        """Wait for the step that was begun and return its loss, as `step` does."""
        if self._begun is None:
            raise ValueError("no step was begun")
        (loss, norm), self._begun = self._begun, None
        is_finite = math.isfinite(loss) and (
            math.isfinite(norm)
            # A scale that was too large is halved, and the step left out.
            or (self.precision == "fp16" and self._scaler.get_scale() >= _LEAST_SCALE)
        )
        return float(loss) if is_finite else math.nan

    def _clip(self) -> Tensor:
        """Shorten the gradient to the norm that is allowed; return its norm before."""
        grads = [p.grad for p in self._names if p.grad is not None]
        norm = nn.utils.get_total_norm(grads)
        # Most gradients are short enough, and a look saves the CPU a pass over them. A
        # GPU would have to be waited for.
        if self._device.name == "cuda" or norm > _MAX_GRADIENT_NORM:
            nn.utils.clip_grads_with_norm_(list(self._names), _MAX_GRADIENT_NORM, norm)
        return norm

    def _logits(self, part: Batch) -> Tensor:
        with autocast(self._device, self.precision):
            logits: Tensor = self._gradients.module(with_channels_last(part.image))
        return logits

    def _loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        return self._loss(logits, batch.middle(logits.shape[-1]))

    def _backward(self, loss: Tensor) -> None:
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def _learn(self, part: Batch) -> Tensor:
        loss = self._loss_of(self._logits(part), part)
        self._backward(loss)
        return loss.detach()

    def _learn_means(self, summed: _Summed, batch: Batch) -> Tensor:
        """Add up the parts' gradients, each by its share of the weights."""
        total, losses = None, []
        with summed as turns:
            for part in turns:
                logits = self._logits(part)
                if total is None:
                    total = batch.middle(logits.shape[-1]).weights.sum()
                share = part.middle(logits.shape[-1]).weights.sum() / total.clamp_min(
                    torch.finfo(total.dtype).tiny
                )
                loss = share * self._loss_of(logits, part)
                self._backward(loss)
                losses.append(loss.detach())
        found = torch.stack(losses).sum()
        self._ranks.add_up([found])
        return found

    def _learn_pooled(
        self, parts: list[Batch], summed: _Summed, batch: Batch
    ) -> Tensor:
        """Learn from a loss of the whole batch, part by part.

        References
        ----------
        Gao et al.: Scaling deep contrastive learning batch size under memory limited
        setup. RepL4NLP 2021, section 3: first the gradient at the outputs of all parts,
        then each part again, from that gradient back.
        """
        with self._ranks.all_or_none(self._device), torch.no_grad(), self._looking():
            own = torch.cat([self._logits(part) for part in parts])
        logits = self._ranks.joined(own, len(batch.image)).requires_grad_()
        with summed as turns:
            loss = self._loss_of(logits, batch)
            (gradient,) = torch.autograd.grad(self._scaler.scale(loss), logits)
            gradient = self._ranks.rows(gradient)
            sizes = [len(part.image) for part in parts]
            for part, there in zip(turns, torch.split(gradient, sizes), strict=True):
                self._logits(part).backward(there)  # type: ignore[no-untyped-call]
        return loss.detach()

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Leave no trace: random numbers and running statistics as they were."""
        buffers = {name: b.clone() for name, b in self._net.named_buffers()}
        devices = [torch.cuda.current_device()] if self._device.name == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            yield
        for name, buffer in self._net.named_buffers():
            buffer.copy_(buffers[name])

    def _algorithms(self) -> AbstractContextManager[Any]:
        """Return the context of forward and backward: both in TF32, or neither."""
        if self._device.name != "cuda":
            return nullcontext()
        is_fast = self.precision != "fp32"
        # The sizes stay the same from step to step: trying algorithms pays.
        return torch.backends.cudnn.flags(
            enabled=True, benchmark=is_fast, allow_tf32=is_fast
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of optimiser and scaler, flat, on the CPU.

        Returns
        -------
        dict of str to Tensor
            ``optimizer.<slot>.<parameter>`` and ``scaler.<name>``: copies, ready for a
            safetensors file.
        """
        found = self._tensors()
        if self.precision == "fp16":
            scaler = self._scaler.state_dict()
            found["scaler.scale"] = torch.tensor(scaler["scale"], dtype=torch.float64)
            found["scaler.n_good"] = torch.tensor(scaler["_growth_tracker"])
        return {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in found.items()
        }

    def _tensors(self) -> dict[str, Tensor]:
        return {
            f"optimizer.{slot}.{name}": value
            for parameter, name in self._names.items()
            for slot, value in self._optimizer.state[parameter].items()
            if isinstance(value, torch.Tensor)
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned, to the bit on the same machine.

        Parameters
        ----------
        state : dict of str to Tensor
            From a stepper of the same network, settings and precision.

        Raises
        ------
        ValueError
            The state is another network's, or of other settings.
        """
        ours = self._tensors()
        theirs = {name: t for name, t in state.items() if name.startswith("optimizer.")}
        for name in sorted(ours.keys() | theirs.keys()):
            if name not in ours or name not in theirs:
                raise ValueError(f"{name} is in one of network and state only")
            if ours[name].shape != theirs[name].shape:
                shapes = f"{tuple(theirs[name].shape)}, not {tuple(ours[name].shape)}"
                raise ValueError(f"{name} is of shape {shapes}")
        for name, tensor in ours.items():
            tensor.copy_(theirs[name])
        if self.precision == "fp16":
            scaler = self._scaler.state_dict()
            scaler["scale"] = float(state["scaler.scale"])
            scaler["_growth_tracker"] = int(state["scaler.n_good"])
            self._scaler.load_state_dict(scaler)
