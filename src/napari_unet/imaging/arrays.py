"""The types that travel between the rooms, checked once, at construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from napari_unet.errors import ImageError, LabelError
from napari_unet.imaging.given import (
    as_area_classes,
    as_array,
    as_class_colors,
    as_class_names,
    as_known,
    as_label_class,
    as_pixels,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

_MAX_ID = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class Image:
    """A microscope image with its channels first.

    Parameters
    ----------
    data : array of a real dtype, shape (C, [T,] [Z,] Y, X)
        Intensities; numpy, or anything lazy that slices to numpy (zarr, dask).
    axes : str
        One letter an axis, such as ``"CYX"``, ``"CZYX"`` or ``"CTYX"``; empty takes
        ``"CYX"`` or ``"CZYX"`` by the number of axes.
    pixel_size_um : tuple of float, optional
        Size of a pixel in micrometres along ([Z,] Y, X); None where unknown.
    channel_names : tuple of str
        One a channel, or empty.
    source : str
        File or layer that it came from; named in messages.

    Raises
    ------
    ImageError
        Empty, fewer than two spatial axes, a dtype that holds no real numbers, or
        axes that don't fit.
    """

    data: Any
    axes: str = ""
    pixel_size_um: tuple[float, ...] | None = None
    channel_names: tuple[str, ...] = ()
    source: str = "image"

    def __post_init__(self) -> None:
        if not hasattr(self.data, "dtype"):
            object.__setattr__(self, "data", as_pixels(self.data, source=self.source))
        shape = tuple(self.data.shape)
        if not self.axes:
            object.__setattr__(self, "axes", {3: "CYX", 4: "CZYX"}.get(len(shape), ""))
        _check_image(self, shape)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.data.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the channels: ([T,] [Z,] Y, X)."""
        return tuple(int(n) for n in self.data.shape[1:])

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Shape (Y, X) of one plane."""
        return (self.shape[-2], self.shape[-1])

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Shape of what comes before Y and X; empty for one plane."""
        return self.shape[:-2]

    def plane(self, index: tuple[int, ...] = ()) -> NDArray[Any]:
        """Return one plane as an array of shape (C, Y, X)."""
        return np.asarray(self.data[(slice(None), *index)])

    def planes(self) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
        """Yield each plane's index in the stack and the plane (C, Y, X)."""
        for index in np.ndindex(self.stack_shape):
            yield index, self.plane(index)


def _check_image(image: Image, shape: tuple[int, ...]) -> None:
    kind = np.dtype(image.data.dtype).kind
    if kind not in "biuf":
        raise ImageError(
            "NU-I07",
            f"{image.source} has {image.data.dtype} values, which are not supported: "
            "give an image of whole or real numbers",
        )
    if not image.axes:
        raise ImageError(
            "NU-I06",
            f"{image.source} has {len(shape)} axes {shape}: an image needs at least "
            "2 dimensions and, beyond a stack of planes, named axes",
        )
    letters_ok = len(set(image.axes)) == len(image.axes) == len(shape)
    if not (letters_ok and image.axes[0] == "C" and image.axes.endswith("YX")):
        raise ImageError(
            "NU-I09",
            f"{image.source} of shape {shape} does not fit the axes {image.axes!r}: "
            "channels come first, Y and X last",
        )
    if 0 in shape:
        raise ImageError("NU-I06", f"{image.source} is an empty image {shape}")


@dataclass(frozen=True, eq=False)
class Annotation:
    """What people painted, and what they left unknown.

    Parameters
    ----------
    labels : array of int, shape ([T,] [Z,] Y, X)
        Instance ids: 0 = nothing painted, 1..n = painted objects. Any integer dtype,
        or floats that are whole numbers; kept as int32. Negative ids are ignored
        pixels.
    label_class : mapping of int to int
        Id -> class, 0 = background. Ids that are not named are of class 1.
    known : array of bool (or of 0 and 1), shape of `labels`, optional
        Where nothing is painted: True = background, False = unknown. None means
        unknown everywhere; painted pixels are known in any case.
    class_names : tuple of str
        Name of each class, background first; no two alike.
    class_colors : tuple of str
        Colour of each class as ``"#rrggbb"``, background first; empty where nobody
        chose any.
    area_classes : set of int
        Classes that are areas (tissue, membrane) and not single cells: their ids are
        neither cut apart nor get border weights.
    source : str
        File or layer that it came from; named in messages.

    Raises
    ------
    LabelError
        Fractions, ids beyond 2**31 - 1, an empty array, shapes that differ, a class
        without a name, or a colour that is none.
    """

    labels: NDArray[np.int32]
    label_class: Mapping[int, int] = field(default_factory=dict)
    known: NDArray[np.bool_] | None = None
    class_names: tuple[str, ...] = ("background", "cell")
    class_colors: tuple[str, ...] = ()
    area_classes: frozenset[int] = frozenset()
    source: str = "annotation"

    def __post_init__(self) -> None:
        source = self.source
        raw = as_array(self.labels, source=source)
        labels = as_label_ids(raw, source=source)
        known = as_known(self.known, raw.shape, source=source)
        known = (known & ~(raw < 0)) | (labels > 0)
        names = as_class_names(self.class_names, source=source)
        colors = as_class_colors(self.class_colors, len(names), source=source)
        areas = as_area_classes(self.area_classes, len(names), source=source)
        label_class = as_label_class(self.label_class, len(names), source=source)
        _check_unnamed(labels, label_class, names, source=source)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "known", known)
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "class_colors", colors)
        object.__setattr__(self, "area_classes", areas)
        object.__setattr__(self, "label_class", label_class)

    @classmethod
    def complete(cls, labels: Any, *, source: str = "annotation") -> Self:
        """Return an annotation in which everything unpainted is background."""
        array = as_array(labels, source=source)
        return cls(labels=array, known=np.ones(array.shape, bool), source=source)

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Where something is known: painted, or known to be background."""
        if self.known is None:  # pragma: no cover - never after construction
            return self.labels > 0
        return self.known

    def class_map(self) -> NDArray[np.int16]:
        """Return the class of each pixel; unpainted pixels are class 0.

        Returns
        -------
        ndarray of int16, shape of `labels`
            0 = background (or unknown, see `is_known`).
        """
        return classes_of(self.labels, self.label_class)

    def cells(self) -> NDArray[np.int32]:
        """Return the ids of single cells; painted background and areas are 0.

        Returns
        -------
        ndarray of int32, shape of `labels`
            Not to be written to: without background or areas it is `labels` itself.
        """
        no_cells = {0, *self.area_classes}
        ids = [i for i, kind in self.label_class.items() if kind in no_cells]
        if not ids and 1 not in no_cells:
            return self.labels
        cells = np.where(np.isin(self.labels, ids), np.int32(0), self.labels)
        if 1 in no_cells:  # ids that are not named are of class 1
            cells[~np.isin(cells, list(self.label_class))] = 0
        return cells


def classes_of(
    labels: NDArray[np.int32], label_class: Mapping[int, int]
) -> NDArray[np.int16]:
    """Return the class of each pixel, by its id; 0 where the id is 0 or below.

    Examples
    --------
    >>> classes_of(np.array([[0, 5, 7]], np.int32), {5: 2})
    array([[0, 2, 1]], dtype=int16)
    """
    classes = (labels > 0).astype(np.int16)
    named = {i: kind for i, kind in label_class.items() if i > 0 and kind != 1}
    if not named:
        return classes
    ids = np.fromiter(sorted(named), np.int64, len(named))
    kinds = np.array([named[i] for i in ids.tolist()], np.int16)
    if ids[-1] < labels.size:  # a table is short, and several times faster
        table = np.ones(int(ids[-1]) + 2, np.int16)
        table[ids], table[0] = kinds, 0
        return table[np.clip(labels, 0, len(table) - 1)]
    place = np.minimum(np.searchsorted(ids, labels), len(ids) - 1)
    return np.where(ids[place] == labels, kinds[place], classes)


def _check_unnamed(
    labels: NDArray[np.int32],
    label_class: Mapping[int, int],
    names: tuple[str, ...],
    *,
    source: str,
) -> None:
    """Refuse ids that are of class 1 where there is none."""
    if len(names) > 1:
        return
    unnamed = np.setdiff1d(labels, [0, *label_class])
    if unnamed.size:
        raise LabelError(
            "NU-L06",
            f"{source} uses class 1, as of id {unnamed[0]}, but only background has a "
            "name",
        )


def as_label_ids(given: Any, *, source: str, copy: bool = True) -> NDArray[np.int32]:
    """Return instance ids as int32, negative ids as 0, or say what is wrong.

    Always a copy, for the caller may go on painting; with ``copy=False`` the array
    itself where it is what is wanted, and then not to be written to.
    """
    array = as_array(given, source=source)
    if array.size == 0 or array.ndim < 2:
        raise LabelError(
            "NU-L07",
            f"{source} of shape {array.shape} is no label image: it is empty"
            " or has fewer than 2 dimensions",
        )
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array == np.floor(array)).all()):
            raise LabelError(
                "NU-L01",
                f"{source} holds values that are not whole numbers: a label image has "
                "one whole number for each cell",
            )
    elif array.dtype.kind not in "biu":
        raise LabelError(
            "NU-L01",
            f"{source} has {array.dtype} values: a label image has one whole number "
            "for each cell",
        )
    # As a whole number: float32 has none between 2**31 - 128 and 2**31.
    if int(array.max()) > _MAX_ID:
        raise LabelError(
            "NU-L01", f"{source} has ids above {_MAX_ID}: renumber the cells"
        )
    if not copy and array.dtype == np.int32 and array.min() >= 0:
        return array
    ids: NDArray[np.int32] = np.empty(array.shape, np.int32)
    np.maximum(array, 0, out=ids, casting="unsafe")
    return ids


@dataclass(frozen=True, eq=False)
class Target:
    """What the network should learn, pixel by pixel.

    Parameters
    ----------
    classes : ndarray of int16, shape ([T,] [Z,] Y, X), or None
        Class of each pixel, touching cells cut apart by a gap of background.
    weights : ndarray of float32, same shape
        Weight of each pixel in the loss, exactly 0 where ignored.
    values : ndarray of float32, shape (M, [T,] [Z,] Y, X), or None
        Values to regress.
    """

    classes: NDArray[np.int16] | None
    weights: NDArray[np.float32]
    values: NDArray[np.float32] | None = None
