"""Sizes and axes that a bioimage.io package declares, as one geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from napari_unet.errors import ModelError

_TYPES = {"batch": "N", "channel": "C"}
# Where sizes don't start at a multiple of their step, one of about this is taken.
_COMMON_SIZE = 256


# A side of the drawn cells that each model is tried with.
SMALLEST_OUTPUT_PX = 32


def cannot(name: str, what: str) -> ModelError:
    """Return the error for a package that asks for what this program can't do."""
    return ModelError(
        "NU-M23",
        f"{name} can't be used here: {what}; run it in a program of the BioImage Model "
        "Zoo, such as bioimageio.core",
    )


@dataclass(frozen=True)
class Sizes:
    """Which sizes an input takes, along each axis of space.

    Parameters
    ----------
    multiple, least : int
        Sizes are ``least + k * multiple``.
    fixed : int, optional
        The only size, if so.
    """

    multiple: int = 1
    least: int = 1
    fixed: int | None = None


def axes_of(tensor: Any, name: str) -> str:
    """Return the axes of a tensor's description, such as "NCYX".

    Raises
    ------
    ModelError
        An axis that is neither batch, channel nor space (NU-M23).
    """
    letters = [_TYPES.get(axis.type, _space(axis)) for axis in tensor.axes]
    axes = "".join(letter for letter in letters if letter)
    n_dims = sum(letter in "ZYX" for letter in axes)
    known = n_dims in (2, 3) and "Y" in axes and "X" in axes
    if "" in letters or not known or len(set(axes)) < len(axes):
        told = ", ".join(str(axis.id) for axis in tensor.axes)
        raise cannot(name, f"its tensor {tensor.id} has the axes {told}, not planes")
    return axes


def _space(axis: Any) -> str:
    letter = str(axis.id).upper()
    return letter if axis.type == "space" and letter in {"Z", "Y", "X"} else ""


def space_axes(tensor: Any) -> list[Any]:
    """Return the axes of space in a tensor's description."""
    return [axis for axis in tensor.axes if axis.type == "space"]


def n_channels(tensor: Any) -> int:
    """Return the number of channels of a tensor's description."""
    return len(channel_names(tensor)) or 1


def channel_names(tensor: Any) -> tuple[str, ...]:
    """Return the names of the channels; none where there is no such axis."""
    axes = [axis for axis in tensor.axes if axis.type == "channel"]
    return tuple(str(name) for axis in axes for name in axis.channel_names)


def input_sizes(tensor: Any, name: str) -> Sizes:
    """Return the sizes that the input takes.

    Raises
    ------
    ModelError
        Sizes that have to differ from axis to axis (NU-M23).
    """
    own = {axis.id: axis.size for axis in space_axes(tensor)}
    # One size may be said to be that of another axis.
    for key, size in own.items():
        if hasattr(size, "axis_id"):
            if size.tensor_id != tensor.id or size.offset or size.axis_id not in own:
                raise cannot(name, f"the size of its axis {key} rests on another input")
            own[key] = own[size.axis_id]
    fixed = [int(size) for size in own.values() if isinstance(size, int)]
    if fixed:
        if len(fixed) < len(own) or len(set(fixed)) > 1:
            told = " x ".join(str(getattr(s, "min", s)) for s in own.values())
            raise cannot(name, f"it takes images of {told} only, which is no square")
        return Sizes(fixed=fixed[0])
    steps = [max(int(size.step), 1) for size in own.values()]
    least = [int(size.min) for size in own.values()]
    multiple, largest = math.lcm(*steps), max(least)
    if len(set(zip(steps, least, strict=True))) == 1:
        return Sizes(multiple, largest)
    if any(low % step for low, step in zip(least, steps, strict=True)):
        raise cannot(name, "no size fits all of its axes")
    return Sizes(multiple, -(-largest // multiple) * multiple)


@dataclass(frozen=True)
class OutputSizes:
    """How large an output is: (n - 2 * shrink) * upscale pixels for n.

    Parameters
    ----------
    shrink : int
        Input pixels lost on each side.
    upscale : int
        Output pixels for each input pixel.
    halo : int, optional
        Declared context in input pixels.
    """

    shrink: int
    upscale: int
    halo: int | None


def output_sizes(given: Any, output: Any, sizes: Sizes, name: str) -> OutputSizes:
    """Return how large the output is.

    Raises
    ------
    ModelError
        It depends on the image's content, is coarser than the input, or differs from
        axis to axis (NU-M23).
    """
    ids = {axis.id: axis for axis in space_axes(given)}
    found = {_one(axis, ids, sizes, name) for axis in space_axes(output)}
    if len(found) != 1:
        raise cannot(name, "its output differs from the input in another way each axis")
    upscale, lost = found.pop()
    if lost % (2 * upscale):
        raise cannot(name, f"its output lacks {lost} pixels, which is not even")
    halos = [int(getattr(axis, "halo", 0)) for axis in space_axes(output)]
    shrink = lost // (2 * upscale)
    # Without padding the output depends on what it lacks.
    halo = -(-max(halos) // upscale) or shrink or None
    return OutputSizes(shrink, upscale, halo)


def _one(axis: Any, inputs: dict[Any, Any], sizes: Sizes, name: str) -> tuple[int, int]:
    """Return upscale and what is lost, in output pixels, along one axis."""
    size = axis.size
    if isinstance(size, int) and sizes.fixed is not None:
        n = int(size)
        upscale = max(n // sizes.fixed, 1)
        lost = sizes.fixed * upscale - n
    elif hasattr(size, "axis_id") and size.axis_id in inputs:
        ratio = inputs[size.axis_id].scale / axis.scale
        upscale, lost = round(ratio), -int(size.offset)
        if upscale < 1 or abs(ratio - upscale) > 1e-3 * upscale:
            raise cannot(name, f"its output is coarser than the image ({ratio:.3g})")
    else:
        raise cannot(name, "the size of its output is not told by that of the input")
    if lost < 0 or upscale > 16:
        raise cannot(name, "its output is larger than what it sees")
    return upscale, lost


def geometry(given: Any, output: Any, name: str) -> dict[str, Any]:
    """Return the fields of a `ForeignConfig` about sizes and axes.

    Parameters
    ----------
    given, output : tensor description of bioimageio.spec, format 0.5
        Of the input and the output.
    name : str
        Of the package, for messages.

    Raises
    ------
    ModelError
        What this program can't do (NU-M23).
    """
    sizes = input_sizes(given, name)
    out = output_sizes(given, output, sizes, name)
    fixed = sizes.fixed
    if fixed is None and not out.shrink and sizes.least % sizes.multiple:
        # Tiles start at multiples; so all are of one size that is allowed.
        steps = max(-(-(_COMMON_SIZE - sizes.least) // sizes.multiple), 0)
        fixed = sizes.least + steps * sizes.multiple
    if fixed is not None and fixed - 2 * out.shrink < SMALLEST_OUTPUT_PX:
        raise cannot(
            name,
            f"it takes only images of {fixed} pixels a side and gives "
            f"{fixed - 2 * out.shrink}, but {SMALLEST_OUTPUT_PX} are the least",
        )
    axes = axes_of(given, name)
    return {
        "in_channels": n_channels(given),
        "out_channels": n_channels(output),
        "n_dims": sum(axis in "ZYX" for axis in axes),
        "input_axes": axes,
        "output_axes": axes_of(output, name),
        "multiple": 1 if fixed else sizes.multiple,
        "min_size": fixed or sizes.least,
        "fixed_size": fixed,
        "halo": out.halo,
        "shrink": out.shrink,
        "upscale": out.upscale,
    }
