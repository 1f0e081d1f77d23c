"""What a bioimage.io package does before and after its network, in our terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.config import InstanceConfig, NormalizationConfig
from napari_unet.errors import ConfigError
from napari_unet.imaging.instances import BOUNDARY, is_like
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.sharing.zoo_geometry import (
    cannot,
    channel_names,
    n_channels,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Limits = tuple[float | None, float | None]
_FREE: Limits = (None, None)
_TELLING = ("ground", "fg", "cell", "nucle", "mask", "object", "interior")


@dataclass(frozen=True)
class Scaling:
    """How intensities become what the network takes.

    Parameters
    ----------
    config : NormalizationConfig
        The policy.
    span : IntensityRange, optional
        What becomes 0 and 1, for the policy "dataset".
    clip : tuple of float or None
        Limits of the scaled intensities.
    """

    config: NormalizationConfig
    span: IntensityRange | None = None
    clip: Limits = _FREE


def scaling(tensor: Any, name: str) -> Scaling:
    """Return the declared preprocessing of an input as one normalisation.

    Known are a scaling by fixed numbers (``scale_linear``,
    ``fixed_zero_mean_unit_variance``), one measured on the image (``scale_range``,
    ``zero_mean_unit_variance``; what fixed scaling comes before changes nothing), and
    ``clip`` after either or before a fixed one.

    Raises
    ------
    ModelError
        Any other operation, or order of operations (NU-M23).
    """
    n = n_channels(tensor)
    # The fixed scaling so far: out = gain * intensity + offset, for each channel.
    gain, offset = [1.0] * n, [0.0] * n
    measured: NormalizationConfig | None = None
    clip = _FREE
    for step in tensor.preprocessing:
        operation, kwargs = str(step.id), step.kwargs
        if operation == "ensure_dtype" and kwargs.dtype.startswith("float"):
            continue
        if operation == "clip":
            clip = _tighter(clip, _limits(kwargs, name))
            continue
        is_fixed = operation in {"scale_linear", "fixed_zero_mean_unit_variance"}
        if is_fixed and measured is None:
            gains, offsets = _fixed(operation, kwargs, n, name)
            if clip != _FREE and (len(set(gains)) > 1 or len(set(offsets)) > 1):
                raise cannot(name, "it clips before it scales each channel otherwise")
            clip = _scaled(clip, gains[0], offsets[0])
            gain = [g * a for g, a in zip(gain, gains, strict=True)]
            offset = [o * a + b for o, a, b in zip(offset, gains, offsets, strict=True)]
        elif measured is None and clip == _FREE:
            measured = _measured(operation, kwargs, n, name)
        else:
            raise _unknown(name, operation)
    if measured is not None:
        return Scaling(measured, None, clip)
    low = tuple(-o / g for g, o in zip(gain, offset, strict=True))
    high = tuple((1 - o) / g for g, o in zip(gain, offset, strict=True))
    policy = NormalizationConfig(policy="dataset")
    return Scaling(policy, IntensityRange(low, high), clip)


def _unknown(name: str, operation: str) -> Exception:
    return cannot(name, f"it asks for {operation!r}, which is not done here")


def _limits(kwargs: Any, name: str) -> Limits:
    if getattr(kwargs, "min_percentile", None) or getattr(
        kwargs, "max_percentile", None
    ):
        raise cannot(name, "it clips by percentiles, which is not done here")
    return kwargs.min, kwargs.max


def _tighter(a: Limits, b: Limits) -> Limits:
    lows = [low for low in (a[0], b[0]) if low is not None]
    highs = [high for high in (a[1], b[1]) if high is not None]
    return max(lows, default=None), min(highs, default=None)


def _scaled(clip: Limits, gain: float, offset: float) -> Limits:
    low, high = (None if v is None else v * gain + offset for v in clip)
    return low, high


def _fixed(
    operation: str, kwargs: Any, n: int, name: str
) -> tuple[list[float], list[float]]:
    """Return gain and offset of each channel."""
    if getattr(kwargs, "axis", "channel") not in ("channel", "c"):
        raise cannot(name, f"it does {operation!r} along the axis {kwargs.axis}")
    if operation == "scale_linear":
        gains, offsets = _each(kwargs.gain, n), _each(kwargs.offset, n)
    else:
        gains = [1 / std for std in _each(kwargs.std, n)]
        means = _each(kwargs.mean, n)
        offsets = [-mean * g for mean, g in zip(means, gains, strict=True)]
    if len(gains) != n or len(offsets) != n or min(gains) <= 0:
        raise cannot(
            name, f"its {operation!r} inverts intensities or fits no {n} channels"
        )
    return gains, offsets


def _each(value: Any, n: int) -> list[float]:
    return [float(v) for v in value] if isinstance(value, list | tuple) else [value] * n


def _measured(operation: str, kwargs: Any, n: int, name: str) -> NormalizationConfig:
    """Return the policy of an operation that measures the image."""
    if operation not in {"scale_range", "zero_mean_unit_variance"}:
        raise _unknown(name, operation)
    # No axes are all axes: over the channels together, which only one channel allows.
    axes = None if kwargs.axes is None else {str(axis) for axis in kwargs.axes}
    is_joint = axes is None or "channel" in axes
    if (is_joint and n > 1) or (axes is not None and not {"y", "x"} <= axes):
        raise cannot(name, f"its {operation!r} is not over each channel's whole plane")
    if getattr(kwargs, "reference_tensor", None) not in (None, ""):
        raise cannot(name, f"its {operation!r} rests on another image")
    if operation == "zero_mean_unit_variance":
        return NormalizationConfig(policy="standardize")
    return NormalizationConfig(
        low_percentile=kwargs.min_percentile, high_percentile=kwargs.max_percentile
    )


@dataclass(frozen=True)
class Meaning:
    """What the outputs are.

    Parameters
    ----------
    roles : tuple of str
        One an output channel.
    class_names : tuple of str
        Background first.
    instances : InstanceConfig
        How probabilities become cells, with a declared threshold.
    """

    roles: tuple[str, ...]
    class_names: tuple[str, ...]
    instances: InstanceConfig


def meaning(
    tensor: Any,
    tags: Sequence[str],
    class_names: Sequence[str],
    name: str,
    *,
    sums_to_one: bool = False,
) -> Meaning:
    """Return what the output channels mean.

    Probabilities are what a declared sigmoid or softmax gives, and what the network
    gives itself where names, tags or the user say that it segments; else they are
    values. Of several without a telling name, the first is background where they sum to
    1, and two that don't are foreground and boundary, as is common.

    Parameters
    ----------
    tensor : tensor description of bioimageio.spec, format 0.5
        Of the output.
    tags : sequence of str
        Of the package.
    class_names : sequence of str
        Names of the output channels, where the user gives them; with one more, the
        first is background and none of them.
    name : str
        Of the package, for messages.
    sums_to_one : bool
        Whether the network's outputs sum to 1 in each pixel.

    Raises
    ------
    ModelError
        A declared operation that is not done here (NU-M23).
    ConfigError
        Not as many names as there are outputs (NU-C01).
    """
    kind, threshold = _activation(tensor, name)
    n = n_channels(tensor)
    if kind == "softmax" and n < 2:
        raise cannot(name, "its softmax is over one output, which is always 1")
    if class_names:
        names = _given_names(class_names, n)
    else:
        names = _own_names(tensor, n, is_shared=kind == "softmax" or sums_to_one)
    if not kind:
        kind = "probability" if _segments(tensor, tags, class_names) else "value"
    if kind == "softmax" and "background" not in names:
        names = ("background", *names[1:])
    classes = names if names[0] == "background" else ("background", *names)
    roles = tuple(f"{kind}:{own}" for own in names)
    return Meaning(roles, classes, _instances(names, threshold))


def _segments(tensor: Any, tags: Sequence[str], class_names: Sequence[str]) -> bool:
    """Return whether anything says that the outputs are classes."""
    told = (*tags, *channel_names(tensor))
    words = ("segment", "foreground", "nucle", *BOUNDARY)
    return bool(class_names) or any(is_like(own, words) for own in told)


def _instances(names: Sequence[str], threshold: float | None) -> InstanceConfig:
    """Return settings for networks that were not trained here, nor tuned."""
    # Seeds are what is foreground and no boundary, which is seldom sure.
    seed = 0.5 if any(is_like(own, BOUNDARY) for own in names) else 0.7
    if threshold is None or not 0 < threshold < 1:
        return InstanceConfig(seed_threshold=seed, give_back_gap=False)
    return InstanceConfig(
        threshold=threshold, seed_threshold=max(seed, threshold), give_back_gap=False
    )


def _activation(tensor: Any, name: str) -> tuple[str, float | None]:
    """Return the declared activation, if any, and a declared threshold."""
    kind, threshold = "", None
    for step in tensor.postprocessing:
        operation, kwargs = str(step.id), step.kwargs
        is_identity = operation == "scale_linear" and (
            {*_each(kwargs.gain, 1)} == {1.0} and {*_each(kwargs.offset, 1)} == {0.0}
        )
        if operation in {"ensure_dtype", "clip"} or is_identity:
            continue
        if operation in {"sigmoid", "softmax"} and not kind and threshold is None:
            kind = operation
        elif operation == "binarize" and isinstance(kwargs.threshold, int | float):
            threshold = float(kwargs.threshold)
        else:
            raise _unknown(name, operation)
    return kind, threshold


def _given_names(class_names: Sequence[str], n: int) -> tuple[str, ...]:
    own = tuple(class_names)[len(class_names) == n + 1 :]
    if len(own) != n or len(set(own)) < n:
        raise ConfigError(
            "NU-C01",
            f"{len(class_names)} classes are named ({', '.join(class_names)}), but "
            f"the network has {n} outputs: name each once",
        )
    return own


def _own_names(tensor: Any, n: int, *, is_shared: bool) -> tuple[str, ...]:
    """Return the declared names, or what they may be."""
    declared = channel_names(tensor) or ("",) * n
    words = (*_TELLING, *BOUNDARY)
    if any(is_like(own, words) for own in declared) and len(set(declared)) == n:
        return declared
    if n == 1:
        return ("foreground",)
    if is_shared:
        return ("background", *(f"class {i}" for i in range(1, n)))
    if n == 2:
        return ("foreground", "boundary")
    return tuple(f"channel {i}" for i in range(n))
