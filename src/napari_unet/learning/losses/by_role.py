"""The loss of a network by what its outputs mean: classes, distances, images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.errors import ConfigError
from napari_unet.learning.applying.outputs import is_of_softmax
from napari_unet.learning.losses import LOSSES, REGRESSION_LOSSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_unet.config import TrainConfig
    from napari_unet.learning.augmentation import Batch

_VALUES = ("distance", "value")
# Dice is pooled over the batch: that of the whole is no mean of those of its parts.
_POOLED = frozenset({"dice", "combined"})


@dataclass(frozen=True)
class LossByRole:
    """The sum of the classes' loss and the values' loss, with the pixels' weights.

    Parameters
    ----------
    of_classes, of_values : str or None
        Names in `LOSSES` and `REGRESSION_LOSSES`; None where there are no such outputs.
    classes, values : tuple of int
        Channels of the one softmax, and those that are values, in the order of
        `Batch.values`.
    """

    of_classes: str | None
    of_values: str | None
    classes: tuple[int, ...]
    values: tuple[int, ...]

    @property
    def is_mean_over_pixels(self) -> bool:
        """Whether that of a batch is the weighted mean of those of its parts."""
        return self.of_classes not in _POOLED

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss, a float32 scalar.

        Parameters
        ----------
        logits : Tensor of float, shape (N, K, Y, X)
            Outputs of the network, one channel a role.
        batch : Batch
            Target of the same size (Y, X): `classes` where there are classes,
            `values` where there are values.

        Raises
        ------
        ValueError
            The batch lacks what the roles ask for: a mistake of the caller.
        """
        losses = []
        if self.of_classes is not None:
            if batch.classes is None:
                raise ValueError("outputs are classes, but the batch has none")
            found = _channels(logits, self.classes)
            losses.append(LOSSES[self.of_classes](found, batch.classes, batch.weights))
        if self.of_values is not None:
            if batch.values is None:
                raise ValueError("outputs are values, but the batch has none")
            found = _channels(logits, self.values)
            loss_of = REGRESSION_LOSSES[self.of_values]
            losses.append(loss_of(found, batch.values, batch.weights))
        return sum(losses[1:], losses[0])


def loss_for(config: TrainConfig, roles: Sequence[str]) -> LossByRole:
    """Return what training makes small.

    Parameters
    ----------
    config : TrainConfig
        `loss` is that of the classes; `regression_loss` that of the values where
        the task is "regress": next to classes distances are learned by their mean
        absolute error, like StarDist's.
    roles : sequence of str
        Role of each output: ``softmax:<class>`` and ``softmax-area:<class>`` share
        one softmax, ``distance`` and ``value:<name>`` are values.

    Raises
    ------
    ConfigError
        An output of another kind, which can't be learned (NU-C05).

    References
    ----------
    Schmidt, Weigert, Broaddus, Myers: Cell detection with star-convex polygons. MICCAI
    2018, section 2.2: cross entropy plus the mean absolute error of the distances.

    Examples
    --------
    >>> from napari_unet.config import TrainConfig
    >>> roles = ("softmax:background", "distance", "softmax:cell")
    >>> loss_for(TrainConfig(), roles)
    LossByRole(of_classes='cross_entropy', of_values='mae', classes=(0, 2), values=(1,))
    """
    classes = tuple(i for i, role in enumerate(roles) if is_of_softmax(role))
    values = tuple(i for i, role in enumerate(roles) if _is_value(role))
    for i, role in enumerate(roles):
        if i not in classes and i not in values:
            raise ConfigError(
                "NU-C05",
                f"an output {role!r} can't be trained, only classes of one softmax, "
                "distances and values: start from another model",
            )
    of_values = config.regression_loss if config.task == "regress" else "mae"
    return LossByRole(
        config.loss if classes else None, of_values if values else None, classes, values
    )


def _is_value(role: str) -> bool:
    return role.partition(":")[0] in _VALUES


def _channels(logits: Tensor, which: tuple[int, ...]) -> Tensor:
    if which == tuple(range(logits.shape[1])):
        return logits
    return logits[:, list(which)]
