"""How far training is, what it has seen so far, and which model is the best."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_unet.learning.model import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from napari_unet.config import TrainConfig
    from napari_unet.learning.model import Model
    from napari_unet.learning.quality.validation import Validation

_WARM_UP_SHARE = 0.05
# What is left of the peak learning rate for strokes that come after all steps.
_FLOOR = 0.1
_MAX_LOOKS = 1000


class Best:
    """The best model so far, and for how many validations it has been that."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.n_worse = 0
        # Score, and minus the loss.
        self._rank = (-math.inf, -math.inf)

    @property
    def is_found(self) -> bool:
        """Whether any validation gave a number."""
        return self._rank > (-math.inf, -math.inf)

    def is_beaten_by(self, result: Validation) -> bool:
        """Return whether a result is better, and count it; a NaN never is.

        A score on few cells is mostly noise: of models whose scores can't be told
        apart the one that was trained longest is taken for the best.
        """
        if not (math.isfinite(result.loss) and math.isfinite(result.rank)):
            self.n_worse += 1
            return False
        # Early on no cell is found at all: then the loss says which is better.
        rank = (result.rank, -result.loss)
        is_record = rank > self._rank
        is_alike = result.score > 0 and result.rank > self._rank[0] - result.noise
        self._rank = max(rank, self._rank)
        self.n_worse = 0 if is_record else self.n_worse + 1
        return is_record or is_alike

    def state_dict(self) -> dict[str, Any]:
        """Return the best model's weights and numbers, for a checkpoint."""
        state: dict[str, Any] = {"n_worse": self.n_worse, "model": None}
        if self.is_found:
            state["rank"] = list(self._rank)
            state["model"] = {
                "weights": dict(self.model.state),
                "step": self.model.step,
                "scores": dict(self.model.scores),
                "history": _as_rows(self.model.history),
            }
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint of the same training."""
        self.n_worse = state["n_worse"]
        if (model := state["model"]) is None:
            return
        self._rank = tuple(state["rank"])
        self.model = replace(
            self.model,
            state=model["weights"],
            step=model["step"],
            scores=model["scores"],
            history=_as_looks(model["history"]),
        )


class History:
    """The learning curve of a model, gone on with where one is trained further.

    Its steps count from the very first training of the weights. What the model to
    start from saw after its own step is left out: these weights never were there.

    Parameters
    ----------
    start : Model
        The model to begin with; a fresh one has step 0 and no history.
    """

    def __init__(self, start: Model) -> None:
        self._first_step = start.step
        self._looks = [look for look in start.history if look.step <= start.step]

    def total(self, step: int) -> int:
        """Return the steps of all trainings by then, for a step of this one."""
        return self._first_step + step

    def add(self, step: int, loss: float | None, result: Validation) -> None:
        """Keep what a validation after a step of this training saw.

        A loss that is no number is left out, since a model file holds none. Of
        more than 1000 looks every second is forgotten, but not the last.
        """
        if math.isfinite(result.loss):
            look = Look(self.total(step), loss, result.loss, result.score)
            self._looks.append(look)
        if len(self._looks) > _MAX_LOOKS:
            self._looks = [*self._looks[:-1:2], self._looks[-1]]

    @property
    def looks(self) -> tuple[Look, ...]:
        """All looks, the oldest first."""
        return tuple(self._looks)

    def state_dict(self) -> dict[str, Any]:
        """Return all looks, for a checkpoint."""
        return {"looks": _as_rows(self._looks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint of the same training."""
        self._looks = list(_as_looks(state["looks"]))


def _as_rows(looks: Iterable[Look]) -> list[list[float | None]]:
    return [[k.step, k.loss, k.validation_loss, k.score] for k in looks]


def _as_looks(rows: Iterable[Any]) -> tuple[Look, ...]:
    return tuple(Look(*row) for row in rows)


class Clock:
    """Seconds of training; pauses don't count, nor what lies between two sittings."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made, without those left out."""
        return time.monotonic() - self._start

    def go_on_from(self, elapsed_s: float) -> None:
        """Count on from the seconds of an earlier sitting."""
        self._start = time.monotonic() - elapsed_s

    def leave_out(self, wait: Callable[[float], object], timeout_s: float) -> None:
        """Wait for up to `timeout_s` seconds that don't count."""
        before = time.monotonic()
        wait(timeout_s)
        self._start += time.monotonic() - before


class Pace:
    """When something that takes time is due: at every n-th step, or more rarely.

    Parameters
    ----------
    every : int
        Steps from one time to the next.
    max_share : float, optional
        Of the time of training, to be spent on it at most: where it takes longer it is
        due more rarely. None for every n-th step whatever it takes.
    """

    def __init__(self, every: int, max_share: float | None = None) -> None:
        self._every = every
        self._max_share = max_share
        self._next = every

    def is_due(self, step: int) -> bool:
        """Return whether it is to be done after this step."""
        return step >= self._next

    def took(self, seconds: float, step: int, elapsed_s: float) -> None:
        """Say that it was done after this step, and how long it and training took."""
        n_steps = 1.0
        if self._max_share is not None and step > 0 and elapsed_s > 0:
            n_steps = seconds / (self._max_share * elapsed_s / step)
        # At a multiple again, so that runs are alike in all but what was left out.
        n_more = max(1, math.ceil((step % self._every + n_steps) / self._every))
        self._next = (step // self._every + n_more) * self._every

    def state_dict(self) -> dict[str, Any]:
        """Return the step at which it is due, for a checkpoint."""
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint of the same training."""
        self._next = state["next"]


def share_done(step: int, elapsed_s: float, config: TrainConfig) -> float:
    """Return the share of training that is done, by steps or by time."""
    by_time = elapsed_s / (60 * config.max_minutes) if config.max_minutes else 0.0
    return min(1.0, max(step / config.max_steps, by_time))


def learning_rate(
    progress: float, config: TrainConfig, peak: float | None = None
) -> float:
    """Return the learning rate of a step: a short warm-up, then a cosine to zero.

    Parameters
    ----------
    progress : float
        Share of training that is done after the step.
    config : TrainConfig
        `learning_rate`, the peak; `max_steps`; with `keep_learning` a tenth of the
        peak is left for what is painted late.
    peak : float, optional
        Another peak than that of the settings.
    """
    # Half a step back: the last step should still learn something.
    progress = max(progress - 0.5 / config.max_steps, 0.0)
    share = schedule(progress)
    if config.keep_learning and progress > _WARM_UP_SHARE:
        share = max(share, _FLOOR)
    return (peak or config.learning_rate) * share


def schedule(progress: float) -> float:
    """Return the learning rate as a share of its peak, for a progress of 0 to 1."""
    if progress < _WARM_UP_SHARE:
        return progress / _WARM_UP_SHARE
    rest = (progress - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE)
    return 0.5 * (1 + math.cos(math.pi * rest))
