"""Axes by name: never guessed, always returned in one order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ORDER = "CTZYX"
_CHOICES = {
    3: "ZYX (depth), TYX (time), CYX (channels) or YXC (colours last)",
    4: "TZYX, CZYX, ZCYX, TCYX or CTYX",
    5: "TZCYX, CTZYX or TCZYX",
}


def arrange(
    array: NDArray[Any], axes: str, *, wanted: str | None = None, name: str = "image"
) -> tuple[NDArray[Any], str]:
    """Put the axes of an array into the order C, T, Z, Y, X.

    Parameters
    ----------
    array : ndarray
        Pixels as stored.
    axes : str
        One letter an axis; a letter other than T, C, Z, Y, X and S (samples of a
        colour picture) is an axis that nothing names.
    wanted : str, optional
        What the user says that the axes are; goes before `axes`.
    name : str
        File or layer, for messages.

    Returns
    -------
    array : ndarray
        With channels first; axes of length 1 are gone, except C, Y and X.
    axes : str
        Its axes, such as ``"CYX"`` or ``"CTZYX"``.

    Raises
    ------
    ImageError
        Fewer than two axes (NU-I06), axes that nothing names, or `wanted` that does
        not fit (NU-I09).

    Examples
    --------
    >>> arrange(np.zeros((64, 48, 3)), "YXS")[0].shape
    (3, 64, 48)
    >>> arrange(np.zeros((5, 64, 48)), "QYX", wanted="ZYX")[1]
    'CZYX'
    """
    if array.ndim < 2:
        raise ImageError(
            "NU-I06",
            f"{name} has the shape {array.shape}, but an image needs at least 2 "
            "dimensions: check what was saved",
        )
    if wanted:
        array, axes = _rename(array, axes, wanted.upper(), name)
    array, axes = drop_singletons(array, axes)
    if not are_axes(axes):
        raise ImageError(
            "NU-I09",
            f"{name} has {array.ndim} axes of {_sizes(array)} and nothing in it says "
            f"which is which: name them with --axes or in the form, as "
            f"{_CHOICES.get(array.ndim, 'TZCYX')}",
        )
    return _reorder(array, axes)


def _sizes(array: NDArray[Any]) -> str:
    return " x ".join(str(n) for n in array.shape)


def are_axes(axes: str) -> bool:
    """Return whether each letter names an axis, none of them twice, with Y and X."""
    return len(set(axes)) == len(axes) and set("YX") <= set(axes) <= set(_ORDER) | {"S"}


def _rename(
    array: NDArray[Any], axes: str, wanted: str, name: str
) -> tuple[NDArray[Any], str]:
    if not are_axes(wanted):
        raise ImageError(
            "NU-I09",
            f"the axes {wanted!r} given for {name} are not understood: use each of "
            "T, Z, C, Y, X at most once, with Y and X, such as ZYX or TZCYX",
        )
    if len(wanted) != array.ndim:
        array, axes = drop_singletons(array, axes)
    if len(wanted) != array.ndim:
        raise ImageError(
            "NU-I09",
            f"{name} has {array.ndim} axes of {_sizes(array)} but the axes {wanted!r} "
            f"given for it are {len(wanted)}: give one letter for each axis",
        )
    return array, wanted


def drop_singletons(array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    """Return the array without its axes of length 1, except C, Y and X."""
    dropped = tuple(
        i
        for i, (n, axis) in enumerate(zip(array.shape, axes, strict=True))
        if n == 1 and axis not in "CYX"
    )
    kept = "".join(axis for i, axis in enumerate(axes) if i not in dropped)
    return array.squeeze(axis=dropped), kept


def is_same_but_for_singletons(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Return whether two shapes ([T,] [Z,] Y, X) differ in axes of length 1 alone.

    Examples
    --------
    >>> is_same_but_for_singletons((1, 30, 40), (30, 40))
    True
    >>> is_same_but_for_singletons((1, 40), (40, 1))
    False
    """
    stacks = [[n for n in shape[:-2] if n > 1] for shape in (a, b)]
    return a[-2:] == b[-2:] and stacks[0] == stacks[1]


def index_like(
    plane: tuple[int, ...], stack: tuple[int, ...], old: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Return the index of a plane in a stack that has more or fewer axes of length 1.

    Parameters
    ----------
    plane : tuple of int
        Index of the plane.
    stack : tuple of int
        Shape ([T,] [Z]) that the stack has now; empty for a single plane.
    old : tuple of int, optional
        Shape of the stack that `plane` counts in. Where it is not known, zeros are
        taken for what is too much.

    Returns
    -------
    tuple of int
        `plane` itself where no place of it in the stack is sure.

    Examples
    --------
    >>> index_like((0,), ()), index_like((2,), (3, 1)), index_like((4,), ())
    ((), (2, 0), (4,))
    """
    n_long = sum(n > 1 for n in stack)
    if old is not None and len(old) == len(plane):
        left = [i for i, n in zip(plane, old, strict=True) if n > 1 or i]
    elif len(plane) in (len(stack), n_long):
        left = list(plane)
    else:
        left = [i for i in plane if i] or [0] * n_long
    if len(left) != n_long:
        return plane
    indices = iter(left)
    return tuple(next(indices) if n > 1 else 0 for n in stack)


def _reorder(array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    if "S" in axes and "C" in axes:  # several colour pictures: all their channels
        array = np.moveaxis(array, [axes.index("C"), axes.index("S")], [0, 1])
        array = array.reshape(-1, *array.shape[2:])
        axes = "C" + axes.replace("C", "").replace("S", "")
    axes = axes.replace("S", "C")
    if "C" not in axes:
        array, axes = array[np.newaxis], "C" + axes
    order = "".join(axis for axis in _ORDER if axis in axes)
    return array.transpose([axes.index(axis) for axis in order]), order
