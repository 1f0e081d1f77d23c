"""From probabilities to cells, and the settings for that from annotated cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.segmentation import relabel_sequential, watershed

from napari_unet.config import InstanceConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_unet.imaging.scores import Tally


def foreground(
    outputs: NDArray[np.float32], roles: Sequence[str]
) -> NDArray[np.float32]:
    """Return the probability of being any cell, float32 (Y, X), in [0, 1].

    Parameters
    ----------
    outputs : ndarray of float32, shape (K, Y, X)
        Probabilities of the classes.
    roles : sequence of str
        Meaning of each channel; the sum of ``"softmax:..."`` is 1.

    Examples
    --------
    >>> outputs = np.array([[[0.75]], [[0.25]]], np.float32)
    >>> foreground(outputs, ["softmax:background", "softmax:cell"])
    array([[0.25]], dtype=float32)
    """
    return np.asarray(1 - outputs[list(roles).index("softmax:background")])


def find_instances(
    outputs: NDArray[np.float32], roles: Sequence[str], config: InstanceConfig
) -> NDArray[np.int32]:
    """Label the cells of one plane.

    A cell grows from each confident region, by a watershed that stays where the
    probability is above the threshold. What has no confident region is one cell.

    Parameters
    ----------
    outputs : ndarray of float32, shape (K, Y, X)
        Probabilities, as the network gives them.
    roles : sequence of str
        Meaning of each channel.
    config : InstanceConfig
        Thresholds, smoothing and minimum size.

    Returns
    -------
    ndarray of int32, shape (Y, X)
        Ids 1..n without gaps; 0 is background.
    """
    probability = foreground(outputs, roles)
    mask = probability > config.threshold
    smooth = ndimage.gaussian_filter(probability, config.smoothing_px)
    seeds, n_seeds = ndimage.label((smooth > config.seed_threshold) & mask)
    parts, n_parts = ndimage.label(mask)
    has_seed = np.zeros(n_parts + 1, bool)
    has_seed[np.unique(parts[seeds > 0])] = True
    without = ~has_seed[parts] & mask
    seeds[without] = parts[without] + n_seeds
    labels = watershed(-smooth, seeds, mask=mask)
    sizes = np.bincount(labels.ravel())
    labels[sizes[labels] < config.min_size_px] = 0
    return np.asarray(relabel_sequential(labels)[0], np.int32)


def minimum_size(areas: NDArray[np.int64]) -> int:
    """Return half the 5th percentile of the areas of annotated cells, in pixels.

    Examples
    --------
    >>> minimum_size(np.array([100, 100, 100]))
    50
    """
    return int(np.percentile(areas, 5) / 2) if areas.size else 0


def tune_instances(
    count: Callable[[InstanceConfig], Tally], min_size_px: int
) -> tuple[InstanceConfig, Tally]:
    """Choose thresholds and smoothing, one after the other, by the best score.

    Parameters
    ----------
    count : callable
        Compares cells found with the given settings with the truth.
    min_size_px : int
        Minimum size, derived from the annotation.

    Returns
    -------
    InstanceConfig, Tally
        The best settings and what they reached.
    """
    best = InstanceConfig(min_size_px=min_size_px)
    best_counts = count(best)
    best_score = _score(best_counts)
    grids: list[tuple[str, tuple[float, ...]]] = [
        ("threshold", (0.35, 0.42, 0.58, 0.65, 0.72)),
        ("seed_threshold", (0.6, 0.7, 0.87, 0.93, 0.97)),
        ("smoothing_px", (0.5, 1.5, 2.0, 3.0, 4.0)),
        ("seed_threshold", (0.55, 0.65, 0.75, 0.83, 0.9)),
        ("threshold", (0.38, 0.46, 0.54, 0.62, 0.68)),
    ]
    for name, values in grids:
        for value in values:
            config = best.model_copy(update={name: value})
            counts = count(config)
            # Strictly better: of equals the one nearer to the defaults stays.
            if (score := _score(counts)) > best_score:
                best, best_counts, best_score = config, counts, score
    return best, best_counts


def _score(counts: Tally) -> float:
    scores = counts.scores()
    return scores.ap["0.5"] + scores.map
