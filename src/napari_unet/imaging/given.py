"""What callers give, in its plain form, or one sentence on what is wrong with it."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping
from numbers import Integral
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ConfigError, ImageError, LabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Their squares, and the ratio of any two of them, are still numbers.
LEAST, MOST = 1e-30, 1e30

_COLOR = re.compile("#[0-9a-fA-F]{6}")


def shown(value: Any) -> str:
    """Return a value as a message shows it: short, and on one line.

    Examples
    --------
    >>> shown(np.eye(9))
    'array([[1., 0... 0., 0., 1.]])'
    """
    return " ".join(reprlib.repr(value).split())


def as_array(value: Any, *, source: str) -> NDArray[Any]:
    """Return an array of what is one, or refuse it (NU-L01).

    Examples
    --------
    >>> as_array([[1, 2]], source="labels")
    array([[1, 2]])
    """
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise LabelError(
            "NU-L01",
            f"{source} is no array: give rows of one length, with one whole number a "
            "pixel",
        ) from error


def as_pixels(value: Any, *, source: str) -> NDArray[Any]:
    """Return the array of an image, or refuse what is none (NU-I07).

    Examples
    --------
    >>> as_pixels([[0.5, 1]], source="image")
    array([[0.5, 1. ]])
    """
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ImageError(
            "NU-I07", f"{source} is no array: give rows of numbers of one length"
        ) from error


def as_known(known: Any, shape: tuple[int, ...], *, source: str) -> NDArray[np.bool_]:
    """Return where unpainted pixels are background; nowhere if None.

    Examples
    --------
    >>> as_known([[0, 1]], (1, 2), source="a.tif")
    array([[False,  True]])
    """
    if known is None:
        return np.zeros(shape, bool)
    array = as_array(known, source=f"`known` of {source}")
    if array.shape != shape:
        raise LabelError(
            "NU-L02",
            f"{source} has labels of shape {shape} but `known` of shape "
            f"{array.shape}: give both the same shape",
        )
    is_number = array.dtype.kind in "iuf"
    if array.dtype.kind != "b" and not (
        is_number and ((array == 0) | (array == 1)).all()
    ):
        raise LabelError(
            "NU-L01",
            f"{source} has `known` of {array.dtype} values: give True (or 1) where "
            "unpainted pixels are background and False (or 0) where they are unknown",
        )
    return np.asarray(array, bool)


def as_class_names(names: Any, *, source: str) -> tuple[str, ...]:
    """Return the names of the classes, background first (NU-L06).

    Examples
    --------
    >>> as_class_names(["background", "cell"], source="a.tif")
    ('background', 'cell')
    """
    found = _items(names)
    is_text = all(isinstance(name, str) and name for name in found)
    if not (found and is_text and len(set(found)) == len(found)):
        raise LabelError(
            "NU-L06",
            f"{source} has the class names {shown(names)}: give each class a name of "
            "its own, background first",
        )
    return found


def as_class_colors(colors: Any, n_classes: int, *, source: str) -> tuple[str, ...]:
    """Return the colours of the classes, or none (NU-L06).

    Examples
    --------
    >>> as_class_colors(["#000000", "#ff8000"], 2, source="a.tif")
    ('#000000', '#ff8000')
    """
    found = _items(colors)
    if len(found) not in {n_classes, 0} or not is_list(colors):
        raise LabelError(
            "NU-L06",
            f"{source} has the class colours {shown(colors)} but {n_classes} classes: "
            "give each class a colour, or none",
        )
    if not all(isinstance(color, str) and _COLOR.fullmatch(color) for color in found):
        raise LabelError(
            "NU-L06",
            f"{source} has the class colours {shown(colors)}: write each as #rrggbb, "
            "such as #ff8000",
        )
    return found


def is_list(value: Any) -> bool:
    """Return whether a value is several; a text or a mapping is not.

    Examples
    --------
    >>> is_list((1, 2)), is_list("ab"), is_list(1)
    (True, False, False)
    """
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _items(values: Any) -> tuple[Any, ...]:
    return tuple(values) if is_list(values) else ()


def as_label_class(
    label_class: Any, n_classes: int, *, source: str
) -> Mapping[int, int]:
    """Return the classes of ids, not to be written to (NU-L06).

    Examples
    --------
    >>> dict(as_label_class({np.int32(7): 2}, 3, source="a.tif"))
    {7: 2}
    """
    if not isinstance(label_class, Mapping):
        raise LabelError(
            "NU-L06",
            f"{source} has label_class {shown(label_class)}: give a mapping of id to "
            "class, such as {3: 2}",
        )
    if not _are_whole(label_class):
        raise LabelError(
            "NU-L06",
            f"{source} has label_class {shown(dict(label_class))}: ids are whole "
            "numbers",
        )
    _check_used(tuple(label_class.values()), 0, n_classes, source=source)
    return MappingProxyType({int(i): int(kind) for i, kind in label_class.items()})


def as_area_classes(areas: Any, n_classes: int, *, source: str) -> frozenset[int]:
    """Return the classes that are areas (NU-L06).

    Examples
    --------
    >>> as_area_classes([2], 3, source="a.tif")
    frozenset({2})
    """
    if not is_list(areas):
        raise LabelError(
            "NU-L06",
            f"{source} has area_classes {shown(areas)}: give a set of classes, such as "
            "{2}",
        )
    found = tuple(areas)
    _check_used(found, 1, n_classes, source=source)
    return frozenset(map(int, found))


def _are_whole(values: Iterable[Any]) -> bool:
    # By type, of which there are few: there may be thousands of ids.
    return all(issubclass(kind, Integral) for kind in set(map(type, values)))


def _check_used(
    used: tuple[Any, ...], least: int, n_classes: int, *, source: str
) -> None:
    if not _are_whole(used) or min(used, default=least) < least:
        wrong = next(k for k in used if not isinstance(k, Integral) or k < least)
        raise LabelError(
            "NU-L06",
            f"{source} uses class {shown(wrong)}: classes are whole numbers, from "
            f"{least} here",
        )
    worst = max(used, default=0)
    if worst >= n_classes:
        raise LabelError(
            "NU-L06",
            f"{source} uses class {worst} but only {n_classes} classes "
            "(background included) have a name",
        )


def check_n_dims(n_dims: Any, n_axes: int, *, source: str) -> int:
    """Return how many axes make one field: 2 or 3, and no more than there are.

    Examples
    --------
    >>> check_n_dims(2, 3, source="labels")
    2
    """
    n = int(n_dims) if isinstance(n_dims, Integral) else 0
    if n not in {2, 3} or n > n_axes:
        raise ConfigError(
            "NU-C01",
            f"n_dims is {shown(n_dims)} and {source} has {n_axes} axes: give 2 for "
            "planes, or 3 for volumes of 3 axes or more",
        )
    return n


def as_sizes(sizes: Any, n_axes: int, *, name: str) -> tuple[float, ...]:
    """Return a size along each axis, from one for each or one for all (NU-C01).

    Examples
    --------
    >>> as_sizes(0.5, 2, name="spacing")
    (0.5, 0.5)
    """
    try:
        given = np.atleast_1d(np.asarray(sizes))
    except (ValueError, TypeError):
        given = np.empty(0)
    is_number = given.dtype.kind in "iuf" and given.shape in {(1,), (n_axes,)}
    if not (is_number and ((given >= LEAST) & (given <= MOST)).all()):
        raise ConfigError(
            "NU-C01",
            f"{name} is {shown(sizes)}: give one size, or one for each of the "
            f"{n_axes} axes, from {LEAST:g} to {MOST:g}",
        )
    return tuple(float(size) for size in np.broadcast_to(given, (n_axes,)))
