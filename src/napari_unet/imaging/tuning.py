"""Settings for finding cells: derived from annotated cells, and tuned on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.instances import DISTANCE, give_back_gap, is_boundary
from napari_unet.imaging.targets import separate_touching

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig
    from napari_unet.imaging.scores import Tally

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
    has_gap = not any(map(is_boundary, roles))
    derived: dict[str, float] = {
        "min_size_px": minimum_size(areas),
        "give_back_gap": has_gap and gap_is_from_cutting(labels),
    }
    if DISTANCE in roles and "seed_threshold" not in base.model_fields_set:
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
