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
