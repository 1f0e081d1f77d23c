"""From probabilities to cells, and the settings for that from annotated cells."""

from __future__ import annotations

from itertools import groupby, product
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.segmentation import relabel_sequential, watershed

from napari_unet.errors import ModelError
from napari_unet.imaging.targets import separate_touching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig
    from napari_unet.imaging.scores import Tally


# What other programs call the output that keeps cells apart.
BOUNDARY = ("bound", "border", "edge", "contour", "outline")
_EACH_ITS_OWN = ("sigmoid", "probability")
_BACKGROUND = ("softmax:background", "probability:background")
_BOUNDARY_CLASS, _DISTANCE = "softmax-boundary", "distance"
# Where to begin: half as deep as it can be, for a distance.
_SEED_DISTANCE = 0.5

# What is tried for the settings, in turn: values; steps from, and multiples of, the
# best so far. Small objects are often pieces, or what nobody cared to annotate.
_VALUES, _STEPS, _MULTIPLES = "values", "steps", "multiples"
_SEARCH: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("threshold", _VALUES, (0.35, 0.42, 0.58, 0.65, 0.72)),
    ("seed_threshold", _VALUES, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.87, 0.93, 0.97)),
    ("smoothing_px", _VALUES, (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)),
    ("min_size_px", _MULTIPLES, (0.5, 1.5, 2.0, 3.0, 4.0)),
    ("seed_threshold", _STEPS, (-0.06, -0.03, 0.03, 0.06)),
    ("threshold", _STEPS, (-0.06, -0.03, 0.03, 0.06)),
)


def is_like(name: str, words: Sequence[str]) -> bool:
    """Return whether a name holds one of these words.

    Examples
    --------
    >>> is_like("Cell boundaries", BOUNDARY)
    True
    """
    return any(word in name.lower() for word in words)


def _is_boundary(role: str) -> bool:
    kind, _, name = role.partition(":")
    is_named_so = kind in _EACH_ITS_OWN and is_like(name, BOUNDARY)
    return kind == _BOUNDARY_CLASS or is_named_so


def _is_cell(role: str) -> bool:
    kinds = ("softmax", *_EACH_ITS_OWN)
    is_class = role.partition(":")[0] in kinds and role not in _BACKGROUND
    return is_class and not _is_boundary(role)


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
        own = [i for i, role in enumerate(roles) if _is_cell(role)]
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
    return any(map(_is_cell, roles))


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
    outputs: NDArray[np.float32], roles: Sequence[str], config: InstanceConfig
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
        Thresholds, smoothing and minimum size.

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
    sizes = np.bincount(labels.ravel())
    labels[sizes[labels] < config.min_size_px] = 0
    if config.give_back_gap:
        labels = give_back_gap(labels)
    return np.asarray(relabel_sequential(labels)[0], np.int32)


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
    if _DISTANCE in roles:
        return np.asarray(outputs[list(roles).index(_DISTANCE)])
    probability = foreground(outputs, roles)
    boundaries = [i for i, role in enumerate(roles) if _is_boundary(role)]
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
    as do gaps of three pixels and more.

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
    filled = labels.copy()
    is_owned = owner < none
    filled[tuple((pixels[is_owned] - 2).T)] = owner[is_owned]
    return filled


def gap_is_from_cutting(labels: Sequence[NDArray[np.int32]]) -> bool:
    """Return whether narrow gaps between cells rather come from cutting them apart.

    Cells may also truly have gaps of one or two pixels, such as membranes, which
    `give_back_gap` would fill. So it is tried on the annotation: it is worth it where
    it restores more pixels than it fills wrongly.

    Parameters
    ----------
    labels : sequence of ndarray of int32, shape (Y, X)
        Annotated cells, as painted.

    Examples
    --------
    >>> gap_is_from_cutting([np.array([[1, 1, 1, 2, 2, 2]], np.int32)])
    True
    >>> gap_is_from_cutting([np.array([[1, 1, 0, 0, 2, 2]], np.int32)])
    False
    """
    gain = 0
    for plane in labels:
        cut = separate_touching(plane)
        filled = give_back_gap(cut)[cut == 0]
        painted = plane[cut == 0]
        is_filled = filled > 0
        gain += int(np.sum(np.where(filled == painted, 1, -1)[is_filled]))
    return gain > 0


def minimum_size(areas: NDArray[np.int64]) -> int:
    """Return half the 5th percentile of the areas of annotated cells, in pixels.

    Examples
    --------
    >>> minimum_size(np.array([100, 100, 100]))
    50
    """
    return int(np.percentile(areas, 5) / 2) if areas.size else 0


def derive_instances(
    base: InstanceConfig,
    roles: Sequence[str],
    labels: Sequence[NDArray[np.int32]],
    areas: NDArray[np.int64],
) -> InstanceConfig:
    """Return settings with what follows from the outputs and the annotated cells.

    Parameters
    ----------
    base : InstanceConfig
        The other settings.
    roles : sequence of str
        Meaning of each output: seeds begin at 0.5 where there is a distance, and only
        where there is no boundary was a gap cut that may be given back.
    labels : sequence of ndarray of int32, shape (Y, X)
        Annotated cells, for `gap_is_from_cutting`.
    areas : ndarray of int, shape (n,)
        Areas of all annotated cells, in pixels, for `minimum_size`.

    Examples
    --------
    >>> from napari_unet.config import InstanceConfig
    >>> labels = [np.array([[1, 1, 1, 2, 2, 2]], np.int32)]
    >>> roles = ["softmax:background", "softmax:cell", "softmax-boundary"]
    >>> derived = derive_instances(InstanceConfig(), roles, labels, np.array([3, 3]))
    >>> derived.give_back_gap, derived.min_size_px
    (False, 1)
    """
    has_gap = not any(map(_is_boundary, roles))
    derived: dict[str, float] = {
        "min_size_px": minimum_size(areas),
        "give_back_gap": has_gap and gap_is_from_cutting(labels),
    }
    if _DISTANCE in roles and "seed_threshold" not in base.model_fields_set:
        derived["seed_threshold"] = _SEED_DISTANCE
    return base.model_copy(update=derived)


def tune_instances(
    count: Callable[[InstanceConfig], Tally], start: InstanceConfig
) -> tuple[InstanceConfig, Tally]:
    """Choose thresholds, smoothing and minimum size in turn, twice, by the best score.

    Parameters
    ----------
    count : callable
        Compares cells found with the given settings with the truth; asked once for
        each.
    start : InstanceConfig
        Where to begin: `derive_instances`.

    Returns
    -------
    InstanceConfig, Tally
        The best settings and what they reached.
    """
    best = start
    best_counts = count(best)
    best_score = _score(best_counts)
    seen = {start}
    # What is best for one depends on the others, which are better the second time.
    for name, kind, given in (*_SEARCH, *_SEARCH):
        for value in _tried(getattr(best, name), kind, given):
            config = best.model_copy(update={name: value})
            if config in seen:
                continue
            seen.add(config)
            counts = count(config)
            # Strictly better: of equals the one nearer to the defaults stays.
            if (score := _score(counts)) > best_score:
                best, best_counts, best_score = config, counts, score
    return best, best_counts


def _tried(best: float, kind: str, given: Sequence[float]) -> list[float]:
    if kind == _MULTIPLES:
        return [round(best * factor) for factor in given]
    if kind == _STEPS:
        return [v for d in given if 0 < (v := round(best + d, 3)) < 1]
    return list(given)


def _score(counts: Tally) -> float:
    scores = counts.scores()
    return scores.ap["0.5"] + scores.map
