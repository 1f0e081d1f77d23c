"""From probabilities to cells, and the settings for that from annotated cells."""

from __future__ import annotations

from itertools import groupby, permutations, product
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.segmentation import relabel_sequential, watershed

from napari_unet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig


# What other programs call the output that keeps cells apart.
BOUNDARY = ("bound", "border", "edge", "contour", "outline")
_EACH_ITS_OWN = ("sigmoid", "probability")
_BACKGROUND = ("softmax:background", "probability:background")
_BOUNDARY_CLASS, DISTANCE = "softmax-boundary", "distance"


def is_like(name: str, words: Sequence[str]) -> bool:
    """Return whether a name holds one of these words.

    Examples
    --------
    >>> is_like("Cell boundaries", BOUNDARY)
    True
    """
    return any(word in name.lower() for word in words)


def is_boundary(role: str) -> bool:
    """Return whether an output is of the boundaries of cells.

    Examples
    --------
    >>> is_boundary("softmax-boundary"), is_boundary("sigmoid:edge")
    (True, True)
    """
    kind, _, name = role.partition(":")
    is_named_so = kind in _EACH_ITS_OWN and is_like(name, BOUNDARY)
    return kind == _BOUNDARY_CLASS or is_named_so


def is_cell(role: str) -> bool:
    """Return whether an output is of a class of single cells.

    Examples
    --------
    >>> is_cell("softmax:cell"), is_cell("softmax:background"), is_cell("distance")
    (True, False, False)
    """
    kinds = ("softmax", *_EACH_ITS_OWN)
    is_class = role.partition(":")[0] in kinds and role not in _BACKGROUND
    return is_class and not is_boundary(role)


def foreground(
    outputs: NDArray[np.float32], roles: Sequence[str]
) -> NDArray[np.float32]:
    """Return the probability of being any cell, float32 (Y, X), in [0, 1].

    Areas (``"softmax-area:..."``) and boundaries with a probability of their own
    (``"sigmoid:boundary"``) are no cells; the class of the boundaries of cells
    (``"softmax-boundary"``) belongs to them. Without a background it is the largest of
    the outputs.

    Parameters
    ----------
    outputs : ndarray of float32, shape (K, Y, X)
        Probabilities of the classes.
    roles : sequence of str
        Meaning of each channel; the sum over all classes is 1.

    Examples
    --------
    >>> outputs = np.array([[[0.75]], [[0.25]]], np.float32)
    >>> foreground(outputs, ["softmax:background", "softmax:cell"])
    array([[0.25]], dtype=float32)
    >>> foreground(outputs, ["sigmoid:cell", "sigmoid:boundary"])
    array([[0.75]], dtype=float32)
    """
    background = next((i for i, r in enumerate(roles) if r in _BACKGROUND), None)
    if background is None:
        own = [i for i, role in enumerate(roles) if is_cell(role)]
        return np.asarray(outputs[own].max(0))
    cells = 1 - outputs[background]
    for output, role in zip(outputs, roles, strict=True):
        if role.startswith("softmax-area:"):
            cells -= output
    return np.asarray(cells)


def has_cells(roles: Sequence[str]) -> bool:
    """Return whether a model has a class of single cells, and not only areas.

    Examples
    --------
    >>> has_cells(["softmax:background", "softmax-area:membrane"])
    False
    """
    return any(map(is_cell, roles))


def finds_cells(roles: Sequence[str]) -> bool:
    """Return whether a model's outputs tell cells or areas, and not only values.

    Examples
    --------
    >>> finds_cells(["value:denoised"])
    False
    """
    return has_cells(roles) or any(r.startswith("softmax-area:") for r in roles)


def check_finds_cells(roles: Sequence[str]) -> None:
    """Refuse a model whose outputs are no classes.

    Raises
    ------
    ModelError
        All outputs are values, or boundaries (NU-M11).
    """
    if not finds_cells(roles):
        raise ModelError(
            "NU-M11",
            f"the model gives {', '.join(roles)} and no classes, so it finds no cells: "
            "use its outputs themselves, which napari-unet predict writes",
        )


def find_instances(
    outputs: NDArray[np.float32],
    roles: Sequence[str],
    config: InstanceConfig,
    *,
    open_sides: Sequence[tuple[bool, bool]] = (),
) -> NDArray[np.int32]:
    """Label the cells of one plane, or of one volume.

    A cell grows from each confident region, by a watershed that stays where the
    probability of being a cell is above the threshold. What has no confident region is
    one cell. What is smoothed and has to be above the seed threshold is the distance
    to the border where there is such an output, else the probability of being a cell,
    less that of being a boundary (`seed_map`). Where all classes are areas, each area
    is labelled with the number of its class.

    Parameters
    ----------
    outputs : ndarray of float32, shape (K, [Z,] Y, X)
        Probabilities, as the network gives them.
    roles : sequence of str
        Meaning of each channel.
    config : InstanceConfig
        Thresholds, smoothing, minimum size, and what else is done to the cells.
    open_sides : sequence of (bool, bool), optional
        Of a window of a larger image: whether the image goes on before and after it,
        one pair an axis. Cells that touch such a side stay, however small they are
        here; and none is cleared at the border, for it may go on to it elsewhere.

    Returns
    -------
    ndarray of int32, shape ([Z,] Y, X)
        Ids 1..n without gaps; 0 is background.

    Raises
    ------
    ModelError
        The model has no classes (NU-M11).
    """
    check_finds_cells(roles)
    if not has_cells(roles):
        return np.asarray(outputs.argmax(0), np.int32)
    probability = foreground(outputs, roles)
    mask = probability > config.threshold
    smooth = ndimage.gaussian_filter(seed_map(outputs, roles), config.smoothing_px)
    seeds, n_seeds = ndimage.label((smooth > config.seed_threshold) & mask)
    parts, n_parts = ndimage.label(mask)
    has_seed = np.zeros(n_parts + 1, bool)
    has_seed[np.unique(parts[seeds > 0])] = True
    without = ~has_seed[parts] & mask
    seeds[without] = parts[without] + n_seeds
    labels = watershed(-smooth, seeds, mask=mask)
    if config.fill_holes:
        labels = fill_holes(labels)
    drops = np.bincount(labels.ravel()) < config.min_size_px
    drops[_touching(labels, open_sides)] = False
    labels[drops[labels]] = 0
    if config.give_back_gap:
        labels = give_back_gap(labels)
    if config.clear_border and not open_sides:
        at_border = _touching(labels, [(True, True)] * labels.ndim)
        labels[np.isin(labels, at_border)] = 0
    return np.asarray(relabel_sequential(labels)[0], np.int32)


def _touching(
    labels: NDArray[np.int32], sides: Sequence[tuple[bool, bool]]
) -> NDArray[np.int32]:
    """Return the ids at some sides of an image: before and after, one pair an axis."""
    found = [
        labels.take(i, axis).ravel()
        for axis, wanted in enumerate(sides)
        for i, is_wanted in zip((0, -1), wanted, strict=True)
        if is_wanted
    ]
    return np.concatenate([np.zeros(0, np.int32), *found])


def fill_holes(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return labels in which what a single cell encloses belongs to it.

    A hole is background that nowhere reaches the border of the image and is beside one
    cell only; pixels that touch at a corner don't close it.

    Parameters
    ----------
    labels : ndarray of int32, shape ([Z,] Y, X)
        Instance ids; 0 is background.

    Examples
    --------
    >>> ring = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0]], np.int32)
    >>> fill_holes(ring)[1]
    array([1, 1, 1, 0], dtype=int32)
    """
    everywhere = ndimage.generate_binary_structure(labels.ndim, labels.ndim)
    parts, n_parts = ndimage.label(labels == 0, everywhere)
    none = np.iinfo(np.int32).max
    lowest, highest = np.full(n_parts + 1, none), np.zeros(n_parts + 1, np.int64)
    for axis in range(labels.ndim):
        for sides in permutations((slice(1, None), slice(None, -1))):
            at, of = ((*[slice(None)] * axis, side) for side in sides)
            meets = (parts[at] > 0) & (labels[of] > 0)
            np.minimum.at(lowest, parts[at][meets], labels[of][meets])
            np.maximum.at(highest, parts[at][meets], labels[of][meets])
    is_hole = lowest == highest
    is_hole[_touching(parts, [(True, True)] * labels.ndim)] = False
    filled = np.where(is_hole[parts] & (parts > 0), lowest[parts], labels)
    return np.asarray(filled, np.int32)


def seed_map(outputs: NDArray[np.float32], roles: Sequence[str]) -> NDArray[np.float32]:
    """Return what is highest in the middle of cells and low where two of them meet.

    Parameters
    ----------
    outputs : ndarray of float32, shape (K, [Z,] Y, X)
        Probabilities and distances, as the network gives them.
    roles : sequence of str
        Meaning of each channel.

    Returns
    -------
    ndarray of float32, shape ([Z,] Y, X)
        The distance to the border where there is such an output, else the probability
        of being a cell less that of being a boundary.

    Examples
    --------
    >>> outputs = np.array([[[0.25]], [[0.5]], [[0.25]]], np.float32)
    >>> seed_map(outputs, ["softmax:background", "softmax:cell", "softmax-boundary"])
    array([[0.5]], dtype=float32)
    >>> seed_map(outputs, ["softmax:background", "softmax:cell", "distance"])
    array([[0.25]], dtype=float32)
    """
    if DISTANCE in roles:
        return np.asarray(outputs[list(roles).index(DISTANCE)])
    probability = foreground(outputs, roles)
    boundaries = [i for i, role in enumerate(roles) if is_boundary(role)]
    if boundaries:
        probability = probability - outputs[boundaries].max(0)
    return probability


def give_back_gap(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return labels in which narrow gaps between two cells belong to them again.

    Training cuts touching cells apart by one pixel of each
    (`napari_unet.imaging.targets.separate_touching`), so the network finds a gap of
    two.
    A background pixel is given to the cell beside it where, on the straight line
    through both, another cell comes at once or one pixel later. Free outlines stay,
    as do gaps of three pixels and more, which along a diagonal are two: a pixel that
    would touch its cell by a corner only is not given.

    Parameters
    ----------
    labels : ndarray of int32, shape ([Z,] Y, X)
        Instance ids; 0 is background.

    Returns
    -------
    ndarray of int32, shape of `labels`
        Of the two cells beside one pixel the one with the lower id gets it.

    Examples
    --------
    >>> give_back_gap(np.array([[1, 1, 0, 0, 2, 2], [0, 0, 0, 0, 0, 0]], np.int32))
    array([[1, 1, 1, 2, 2, 2],
           [0, 0, 0, 0, 0, 0]], dtype=int32)
    """
    beside = ndimage.binary_dilation(labels > 0, np.ones((3,) * labels.ndim, bool))
    pixels = np.argwhere(beside & (labels == 0)) + 2
    padded = np.pad(labels, 2)
    none = np.iinfo(np.int32).max
    owner = np.full(len(pixels), none, np.int32)
    # Straight neighbours first: a diagonal only decides where they don't.
    steps = sorted(product((-1, 0, 1), repeat=labels.ndim), key=np.count_nonzero)[1:]
    for _, group in groupby(steps, key=np.count_nonzero):
        undecided = owner == none
        for step in group:
            own, next_, second = (
                padded[tuple((pixels + k * np.array(step)).T)] for k in (-1, 1, 2)
            )
            other = np.where(next_ > 0, next_, second)
            fits = undecided & (own > 0) & (other > 0) & (own != other)
            owner[fits] = np.minimum(owner[fits], own[fits])
    is_owned = owner < none
    pixels, owner = pixels[is_owned], owner[is_owned]
    padded[tuple(pixels.T)] = owner
    straight = [step for step in steps if np.count_nonzero(step) == 1]
    is_held = np.zeros(len(pixels), bool)
    for step in straight:
        is_held |= padded[tuple((pixels + np.array(step)).T)] == owner
    filled = labels.copy()
    filled[tuple((pixels[is_held] - 2).T)] = owner[is_held]
    return filled
