"""One row for each cell: where it is, how large, of what shape and how bright."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.measure import regionprops_table

from napari_unet.imaging.instances import is_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image

# Of regionprops, in planes and in volumes; lengths and areas come by the pixel size.
_IN_PLANES = (
    "axis_major_length",
    "axis_minor_length",
    "eccentricity",
    "orientation",
    "solidity",
)
_IN_VOLUMES = ("axis_major_length", "axis_minor_length")
_INTENSITIES: dict[str, Callable[[NDArray[np.float64]], Any]] = {
    "mean": np.mean,
    "sd": np.std,
    "min": np.min,
    "max": np.max,
}
# What the axes before those of a plane (or volume) are called.
STACK = {"T": "frame", "Z": "plane"}


@dataclass(frozen=True, eq=False)
class Measurements:
    """Columns of one length, a row for each cell.

    Parameters
    ----------
    columns : dict of str to ndarray, shape (n,)
        By name, in order: ``label`` first. What has a unit ends in it: ``_um``,
        ``_um2``, ``_um3``, ``_px``, ``_deg``. Text columns have dtype object.
    """

    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["label"])


def measure(
    labels: NDArray[Any],
    image: Image,
    *,
    n_dims: int = 2,
    classes: NDArray[Any] | None = None,
) -> Measurements:
    """Measure each cell of an image.

    Areas, lengths and places are in micrometres where the image says how large its
    pixels are, else in pixels; places are those of pixel centres, the first at 0.

    Parameters
    ----------
    labels : ndarray of int, shape ([T,] [Z,] Y, X)
        Instance ids, each in one plane (or volume); 0 is background.
    image : Image
        What the cells were found in, of the same shape without channels.
    n_dims : int
        2 where each plane has its own cells, 3 where cells are volumes.
    classes : ndarray of str, shape (n + 1,), optional
        Name of the class of each id.

    Returns
    -------
    Measurements
        Rows in the order of the planes, then of the ids.

    Raises
    ------
    ValueError
        Labels of another shape.

    References
    ----------
    scikit-image, `skimage.measure.regionprops`: ellipses have the second moments of
    the cell; solidity is its share of its convex hull.

    Examples
    --------
    >>> from napari_unet.imaging.arrays import Image
    >>> pixels = np.zeros((1, 4, 6))
    >>> pixels[0, 1:3, 1:5] = 3
    >>> labels = (pixels[0] > 0).astype(np.int32)
    >>> found = measure(labels, Image(pixels, pixel_size_um=(0.5, 0.5))).columns
    >>> float(found["area_um2"][0]), float(found["x_um"][0]), float(found["mean"][0])
    (2.0, 1.25, 3.0)
    """
    if tuple(labels.shape) != image.shape:
        raise ValueError(f"labels of {labels.shape} for an image of {image.shape}")
    stack = labels.shape[:-n_dims]
    parts = [
        _plane(labels[index], np.asarray(image.data[(slice(None), *index)]), image)
        | dict(zip(stack_names(image, n_dims), index, strict=True))
        for index in np.ndindex(stack)
    ]
    n_rows = [len(part["label"]) for part in parts]
    columns = {
        name: np.concatenate(
            [np.broadcast_to(p[name], n) for p, n in zip(parts, n_rows, strict=True)]
        )
        for name in in_order(parts[0])
    }
    if classes is not None:
        own = np.asarray(classes, object)[columns["label"]]
        columns = {"label": columns.pop("label"), "class": own, **columns}
    return Measurements(columns)


def stack_names(image: Image, n_dims: int) -> list[str]:
    """Return the columns that say in which plane (or volume) a cell lies."""
    return [STACK[axis] for axis in image.axes[1:-n_dims]]


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names with those that say which cell it is first."""
    first = ["label", *STACK.values()]
    return sorted(names, key=lambda n: first.index(n) if n in first else len(first))


def _plane(labels: NDArray[Any], pixels: NDArray[Any], image: Image) -> dict[str, Any]:
    """Return the columns for the cells of one plane (or volume)."""
    n_dims = labels.ndim
    size = image.pixel_size_um
    spacing = size[-n_dims:] if size is not None else (1.0,) * n_dims
    unit = "um" if size is not None else "px"
    found = regionprops_table(
        labels,
        properties=("label", "centroid", "area", *_shapes(n_dims)),
        spacing=spacing,
    )
    columns: dict[str, Any] = {"label": found["label"]}
    for i, axis in enumerate("zyx"[-n_dims:]):
        columns[f"{axis}_{unit}"] = found[f"centroid-{i}"]
    extent = found["area"]
    if n_dims == 2:
        columns[f"area_{unit}{'2' if unit == 'um' else ''}"] = extent
        columns[f"diameter_{unit}"] = np.sqrt(4 * extent / math.pi)
    else:
        columns[f"volume_{unit}{'3' if unit == 'um' else ''}"] = extent
        columns[f"diameter_{unit}"] = np.cbrt(6 * extent / math.pi)
    columns[f"major_axis_{unit}"] = found["axis_major_length"]
    columns[f"minor_axis_{unit}"] = found["axis_minor_length"]
    if n_dims == 2:
        columns["eccentricity"] = found["eccentricity"]
        columns["orientation_deg"] = np.degrees(found["orientation"])
        columns["solidity"] = found["solidity"]
    ids = found["label"]
    columns["neighbours"] = neighbours(labels)[ids]
    columns["at_border"] = np.isin(ids, _at_border(labels))
    return columns | _intensities(labels, pixels, ids, image.channel_names)


def _shapes(n_dims: int) -> tuple[str, ...]:
    return _IN_PLANES if n_dims == 2 else _IN_VOLUMES


def _intensities(
    labels: NDArray[Any],
    pixels: NDArray[Any],
    ids: NDArray[np.integer[Any]],
    names: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """Return mean, standard deviation and extremes for each channel."""
    where = labels.ravel() > 0
    order = np.argsort(labels.ravel()[where], kind="stable")
    starts = np.searchsorted(labels.ravel()[where][order], ids)
    columns = {}
    for i, channel in enumerate(pixels):
        own = channel.ravel()[where][order].astype(np.float64)
        cells = np.split(own, starts[1:]) if len(ids) else []
        suffix = "" if len(pixels) == 1 else f"_{names[i] if names else i + 1}"
        for what, statistic in _INTENSITIES.items():
            columns[f"{what}{suffix}"] = np.array(
                [statistic(c) for c in cells], np.float64
            )
    return columns


def _at_border(labels: NDArray[Any]) -> NDArray[Any]:
    sides = [
        labels.take(i, axis).ravel() for axis in range(labels.ndim) for i in (0, -1)
    ]
    return np.unique(np.concatenate(sides))


def neighbours(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return with how many others each cell touches, if only at a corner.

    Parameters
    ----------
    labels : ndarray of int, shape ([Z,] Y, X)
        Instance ids; 0 is background.

    Returns
    -------
    ndarray of int64, shape (largest id + 1,)
        By id.

    Examples
    --------
    >>> neighbours(np.array([[1, 1, 0], [2, 0, 3]]))
    array([0, 2, 1, 1])
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for step in product((-1, 0, 1), repeat=labels.ndim):
        if step <= (0,) * labels.ndim:  # each pair once
            continue
        here, there = (labels[_shifted(step, labels.shape, by)] for by in (-1, 1))
        touch = (here != there) & (here > 0) & (there > 0)
        both = np.stack([here[touch], there[touch]], 1).astype(np.int64)
        pairs.append(np.unique(np.sort(both), axis=0))
    unique = np.unique(np.concatenate(pairs), axis=0)
    return np.bincount(unique.ravel(), minlength=int(labels.max(initial=0)) + 1)


def _shifted(step: Sequence[int], shape: Sequence[int], by: int) -> tuple[slice, ...]:
    """Return where pixels lie that have one `by` steps back."""
    return tuple(
        slice(max(by * s, 0), n + min(by * s, 0))
        for s, n in zip(step, shape, strict=True)
    )


def classes_of(
    labels: NDArray[Any], outputs: NDArray[np.float32], roles: Sequence[str]
) -> NDArray[np.object_]:
    """Return the name of the class of each cell: that of most of its pixels.

    Parameters
    ----------
    labels : ndarray of int, shape ([T,] [Z,] Y, X)
        Instance ids; 0 is background.
    outputs : ndarray of float32, shape (K, [T,] [Z,] Y, X)
        Probabilities; the most probable class of cells counts, pixel by pixel.
    roles : sequence of str
        Meaning of each channel.

    Returns
    -------
    ndarray of str, shape (largest id + 1,)
        By id; empty for the background.

    Examples
    --------
    >>> outputs = np.array([[[0.1, 0.1]], [[0.6, 0.5]], [[0.3, 0.4]]], np.float32)
    >>> roles = ["softmax:background", "softmax:round", "softmax:long"]
    >>> classes_of(np.array([[1, 1]]), outputs, roles).tolist()
    ['', 'round']
    """
    cells = [i for i, role in enumerate(roles) if is_cell(role)]
    names = np.array([roles[i].partition(":")[2] for i in cells], object)
    n = int(labels.max(initial=0)) + 1
    likeliest = outputs[cells].argmax(0)
    votes = np.bincount(
        (labels.astype(np.int64) * len(cells) + likeliest).ravel(),
        minlength=n * len(cells),
    )
    found: NDArray[np.object_] = names[votes.reshape(n, len(cells)).argmax(1)]
    found[0] = ""
    return found
