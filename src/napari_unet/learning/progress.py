"""How far training is, what it has seen so far, and which model is the best."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from napari_unet.learning.model import Look

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.config import TrainConfig
    from napari_unet.learning.model import Model
    from napari_unet.learning.validation import Validation

_WARM_UP_SHARE = 0.05
_MAX_LOOKS = 1000


class Best:
    """The best model so far, and for how many validations it has been that."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.n_worse = 0
        self._rank = (-math.inf, -math.inf)

    @property
    def is_found(self) -> bool:
        """Whether any validation gave a number."""
        return self._rank > (-math.inf, -math.inf)

    def is_beaten_by(self, result: Validation) -> bool:
        """Return whether a result is better, and count it; a NaN never is.

        A score on few cells is mostly noise: of models whose scores differ by less
        than half a cell the one that was trained longest is taken for the best.
        """
        if not math.isfinite(result.loss):
            self.n_worse += 1
            return False
        # Early on no cell is found at all: then the loss says which is better.
        rank = (result.score, -result.loss)
        is_record = rank > self._rank
        noise = 0.5 / max(result.scores.n_truth, 1)
        is_alike = result.score > 0 and result.score > self._rank[0] - noise
        self._rank = max(rank, self._rank)
        self.n_worse = 0 if is_record else self.n_worse + 1
        return is_record or is_alike


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


class Clock:
    """Seconds of training; pauses don't count."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made, without those left out."""
        return time.monotonic() - self._start

    def leave_out(self, wait: Callable[[float], object], timeout_s: float) -> None:
        """Wait for up to `timeout_s` seconds that don't count."""
        before = time.monotonic()
        wait(timeout_s)
        self._start += time.monotonic() - before


def share_done(step: int, elapsed_s: float, config: TrainConfig) -> float:
    """Return the share of training that is done, by steps or by time."""
    by_time = elapsed_s / (60 * config.max_minutes) if config.max_minutes else 0.0
    return min(1.0, max(step / config.max_steps, by_time))


def learning_rate(progress: float, config: TrainConfig) -> float:
    """Return the learning rate of a step: a short warm-up, then a cosine to zero.

    Parameters
    ----------
    progress : float
        Share of training that is done after the step.
    config : TrainConfig
        `learning_rate`, the peak, and `max_steps`.
    """
    # Half a step back: the last step should still learn something.
    progress = max(progress - 0.5 / config.max_steps, 0.0)
    return config.learning_rate * schedule(progress)


def schedule(progress: float) -> float:
    """Return the learning rate as a share of its peak, for a progress of 0 to 1."""
    if progress < _WARM_UP_SHARE:
        return progress / _WARM_UP_SHARE
    rest = (progress - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE)
    return 0.5 * (1 + math.cos(math.pi * rest))
