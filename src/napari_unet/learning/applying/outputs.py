"""What a network's output channels mean: logits become outputs, in this one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor

_SOFTMAX, _SIGMOID, _AS_THEY_ARE = "softmax", "sigmoid", "linear"
# What is done to a channel, by what stands before the colon of its role.
KINDS = {
    "softmax": _SOFTMAX,
    "softmax-area": _SOFTMAX,
    "softmax-boundary": _SOFTMAX,
    "sigmoid": _SIGMOID,
    # What another program's network has activated itself.
    "probability": _AS_THEY_ARE,
    "value": _AS_THEY_ARE,
    "distance": _AS_THEY_ARE,
}
# What keeps touching cells apart comes after the classes.
_APART: dict[str, tuple[str, ...]] = {
    "gap": (),
    "boundary": ("softmax-boundary",),
    "distance": ("distance",),
}


def roles_for(
    target: str, class_names: Sequence[str], area_classes: Collection[int] = ()
) -> tuple[str, ...]:
    """Return the role of each output of a network that is to learn a target.

    Parameters
    ----------
    target : {"gap", "boundary", "distance"}
        What keeps touching cells apart
        (`napari_unet.imaging.targets.make_target`): boundaries are one class more,
        after all others, and the distance is one channel more.
    class_names : sequence of str
        Name of each class, background first.
    area_classes : collection of int
        Classes that are areas and not single cells. Where no other class is left
        there are no cells to keep apart: then all targets are the same.

    Returns
    -------
    tuple of str
        One role an output channel; channel k < len(class_names) is class k.

    Examples
    --------
    >>> roles_for("boundary", ["background", "cell"])
    ('softmax:background', 'softmax:cell', 'softmax-boundary')
    >>> roles_for("distance", ["background", "cell", "tissue"], {2})
    ('softmax:background', 'softmax:cell', 'softmax-area:tissue', 'distance')
    """
    classes = tuple(
        f"softmax-area:{name}" if i in area_classes else f"softmax:{name}"
        for i, name in enumerate(class_names)
    )
    has_cells = any(i not in area_classes for i in range(1, len(class_names)))
    return classes + _APART[target if has_cells else "gap"]


def activate(logits: Tensor, roles: Sequence[str], dim: int = 0) -> Tensor:
    """Return what the channels of a network mean: probabilities and values.

    Parameters
    ----------
    logits : Tensor of float, shape (K, [Z,] Y, X) or (N, K, [Z,] Y, X)
        What the network gave, of any precision.
    roles : sequence of str
        Role of each of the K channels, in any order: ``softmax:<class>``,
        ``softmax-area:<class>`` and ``softmax-boundary`` share one softmax, each
        ``sigmoid:<name>`` has its own, ``value:<name>``, ``distance`` and what
        another program's network has activated itself (``probability:<name>``) stay
        as they are.
    dim : int
        Axis of the channels: 0, or 1 for a batch.

    Returns
    -------
    Tensor of float32, of the same shape
        The logits themselves are not changed.

    Raises
    ------
    ModelError
        There is not one known role a channel.
    """
    kinds = [_known_kind(role) for role in roles]
    if len(kinds) != logits.shape[dim]:
        raise ModelError(
            "NU-M10",
            f"the model names {len(kinds)} outputs but its network has "
            f"{logits.shape[dim]}: export or train the model again",
        )
    # float32 first: a softmax in bf16 would have three digits.
    logits = logits.float()
    if set(kinds) == {_SOFTMAX}:
        return torch.softmax(logits, dim)
    outputs = list(logits.unbind(dim))
    classes = [i for i, kind in enumerate(kinds) if kind == _SOFTMAX]
    if classes:
        shared = torch.softmax(torch.stack([outputs[i] for i in classes], dim), dim)
        for i, probability in zip(classes, shared.unbind(dim), strict=True):
            outputs[i] = probability
    for i, kind in enumerate(kinds):
        if kind == _SIGMOID:
            outputs[i] = torch.sigmoid(outputs[i])
    return torch.stack(outputs, dim)


def kind_of(role: str) -> str | None:
    """Return what is done to a channel of this role; None where nobody knows.

    Examples
    --------
    >>> kind_of("softmax-area:membrane"), kind_of("flow:y")
    ('softmax', None)
    """
    return KINDS.get(role.partition(":")[0])


def is_of_softmax(role: str) -> bool:
    """Return whether a channel of this role shares the softmax of the classes."""
    return kind_of(role) == _SOFTMAX


def _known_kind(role: str) -> str:
    kind = kind_of(role)
    if kind is None:
        raise ModelError(
            "NU-M10",
            f"the model has an output {role!r} of an unknown kind, not one of "
            f"{', '.join(KINDS)}: install a newer napari-unet",
        )
    return kind
