"""What scores are made of, true cell by true cell, and how certain they are."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_unet.imaging.arrays import as_label_ids
from napari_unet.imaging.scores import (
    THRESHOLDS,
    Tally,
    judged,
    matches,
    overlaps,
    touching_pairs,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    # From sums of `CellCounts.table` (..., n_columns) to a score (...).
    ScoreOf = Callable[[NDArray[np.float64]], NDArray[np.float64]]

# Columns of `CellCounts.table`; after them the matches at each of THRESHOLDS.
_N_TRUTH, _N_PRED, _TRUTH_PX, _PRED_PX, _COMMON_PX, _MATCHED = range(6)
_AP50 = _MATCHED  # the first threshold


@dataclass(frozen=True, eq=False)
class CellCounts:
    """Counts of true cells and of what was predicted around each of them.

    Each pixel belongs to the true cell next to it, and each predicted cell to the
    true one that it overlaps most, or else to the next; so the rows add up to the
    counts of the whole plane. A plane without a true cell is one row, of label 0.

    Parameters
    ----------
    label : ndarray of int64, shape (n,)
        Ids of the true cells.
    middle : ndarray of float64, shape (n, 2)
        Their centroids, row and column, in pixels.
    best_iou : ndarray of float64, shape (n,)
        Largest IoU with any predicted cell.
    matched_iou : ndarray of float64, shape (n,)
        IoU with the predicted cell that it is matched to at 0.5; 0 where there is none.
    seg : ndarray of float64, shape (n,)
        IoU with the predicted cell that covers more than half of it.
    truth_px, pred_px, common_px, n_pred : ndarray of int64, shape (n,)
        Foreground pixels in the truth, in the prediction, in both; predicted cells.
    touching : ndarray of int64, shape (m, 2)
        Rows of the pairs of true cells that touch.
    """

    label: NDArray[np.int64]
    middle: NDArray[np.float64]
    best_iou: NDArray[np.float64]
    matched_iou: NDArray[np.float64]
    seg: NDArray[np.float64]
    truth_px: NDArray[np.int64]
    pred_px: NDArray[np.int64]
    common_px: NDArray[np.int64]
    n_pred: NDArray[np.int64]
    touching: NDArray[np.int64]

    @property
    def table(self) -> NDArray[np.float64]:
        """What adds up, float64 (n, 5 + number of thresholds): see `score_of`."""
        matched = self.matched_iou[:, None] >= np.array(THRESHOLDS)
        columns = (self.label > 0, self.n_pred, self.truth_px, self.pred_px)
        return np.column_stack([*columns, self.common_px, matched]).astype(float)

    def tally(self) -> Tally:
        """Return the counts of the whole plane."""
        sums = self.table.sum(0)
        matched = [self.matched_iou[self.matched_iou >= t] for t in THRESHOLDS]
        is_matched = self.matched_iou > 0
        return Tally(
            n_truth=int(sums[_N_TRUTH]),
            n_pred=int(sums[_N_PRED]),
            truth_px=int(sums[_TRUTH_PX]),
            pred_px=int(sums[_PRED_PX]),
            common_px=int(sums[_COMMON_PX]),
            matched=tuple(found.size for found in matched),
            matched_iou=tuple(float(found.sum()) for found in matched),
            seg_sum=float(self.seg.sum()),
            n_touching_pairs=len(self.touching),
            separated_pairs=int(is_matched[self.touching].all(axis=1).sum()),
        )


class TrueCells:
    """The true cells of one plane, made ready to count many predictions against.

    Parameters
    ----------
    labels : ndarray of int, shape (Y, X)
        Instance ids; 0 is background.
    known : ndarray of bool, shape (Y, X), optional
        Where the truth is known; see `napari_unet.imaging.scores.tally`.

    Examples
    --------
    >>> truth = TrueCells(np.array([[1, 1, 0, 2], [1, 1, 0, 2]]))
    >>> counts = truth.count(np.array([[5, 5, 0, 0], [5, 5, 0, 6]]))
    >>> counts.best_iou, counts.n_pred
    (array([1. , 0.5]), array([1, 1]))
    """

    def __init__(
        self, labels: NDArray[Any], known: NDArray[np.bool_] | None = None
    ) -> None:
        self.labels = as_label_ids(np.asarray(labels), source="truth")
        self._known = None if known is None or known.all() else known
        self.ids, self.sizes = np.unique(
            self.labels[self.labels > 0], return_counts=True
        )
        self._n_rows = max(self.ids.size, 1)
        self._touching = np.searchsorted(self.ids, touching_pairs(self.labels))
        self._middle = np.zeros((1, 2))
        # The row of each pixel: that of the true cell next to it.
        self._zones = np.zeros(self.labels.shape, np.intp)
        if self.ids.size:
            at = ndimage.distance_transform_edt(
                self.labels == 0, return_distances=False, return_indices=True
            )
            self._zones = np.searchsorted(self.ids, self.labels[tuple(at)])
            middles = ndimage.center_of_mass(self.labels > 0, self.labels, self.ids)
            self._middle = np.array(middles, float).reshape(-1, 2)

    def count(self, predicted: NDArray[Any]) -> CellCounts:
        """Return what was predicted around each true cell.

        Parameters
        ----------
        predicted : ndarray of int, shape (Y, X)
            Instance ids; 0 is background.
        """
        b = as_label_ids(np.asarray(predicted), source="prediction")
        b = b if self._known is None else judged(b, self._known)
        i, j, common = overlaps(self.labels, b)
        is_pred = b > 0
        b_ids, b_first, b_sizes = np.unique(
            b[is_pred], return_index=True, return_counts=True
        )
        i, j = np.searchsorted(self.ids, i), np.searchsorted(b_ids, j)
        iou = common / (self.sizes[i] + b_sizes[j] - common)
        zones = self._zones[is_pred]
        # By the largest overlap, or by its first pixel where it overlaps nothing.
        home = zones[b_first]
        by_size = np.argsort(common, kind="stable")
        home[j[by_size]] = i[by_size]
        i_matched, iou_matched = matches(i, j, iou)
        covers = 2 * common > self.sizes[i]
        return CellCounts(
            label=self.ids.astype(np.int64) if self.ids.size else np.zeros(1, np.int64),
            middle=self._middle,
            best_iou=self._largest(i, iou),
            matched_iou=self._largest(i_matched, iou_matched),
            seg=self._largest(i[covers], iou[covers]),
            truth_px=self._whole(np.arange(self.ids.size), self.sizes),
            pred_px=self._whole(zones),
            common_px=self._whole(i, common),
            n_pred=self._whole(home),
            touching=self._touching,
        )

    def _largest(
        self, rows: NDArray[np.intp], values: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        found = np.zeros(self._n_rows)
        np.maximum.at(found, rows, values)
        return found

    def _whole(
        self, rows: NDArray[np.intp], weights: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        return np.bincount(rows, weights, self._n_rows).astype(np.int64)


def joined(counts: Sequence[CellCounts]) -> CellCounts:
    """Return the counts of several planes as those of one, plane after plane."""
    starts = np.cumsum([0, *(c.label.size for c in counts[:-1])])
    columns: dict[str, Any] = {
        entry.name: np.concatenate([getattr(c, entry.name) for c in counts])
        for entry in fields(CellCounts)
    }
    pairs = [c.touching + start for c, start in zip(counts, starts, strict=True)]
    return CellCounts(**(columns | {"touching": np.concatenate(pairs)}))


def score_of(name: str | None) -> ScoreOf:
    """Return how sums over cells become a score, for many sums at once.

    Parameters
    ----------
    name : {"mean_ap", "ap", "f1", "iou"} or None
        Which score; any other takes the mean of mean AP and IoU.

    Examples
    --------
    >>> counts = TrueCells(np.array([[1, 1, 0, 2]])).count(np.array([[1, 1, 0, 0]]))
    >>> score_of("f1")(counts.table.sum(0))
    array(0.66666667)
    """
    by_name: dict[str | None, ScoreOf] = {
        "mean_ap": _mean_ap,
        "ap": lambda sums: _ap(sums)[..., 0],
        "f1": lambda sums: _share(
            2 * sums[..., _AP50], sums[..., _N_TRUTH] + sums[..., _N_PRED]
        ),
        "iou": _iou,
    }
    return by_name.get(name, lambda sums: (_mean_ap(sums) + _iou(sums)) / 2)


def standard_error(
    now: NDArray[np.float64], before: NDArray[np.float64], score: ScoreOf
) -> float:
    """Return how uncertain the difference of two scores of the same cells is.

    The jackknife: each cell is left out in turn, from both.

    Parameters
    ----------
    now, before : ndarray of float64, shape (n, n_columns)
        Rows of two predictions of the same n true cells (`CellCounts.table`).
    score : callable
        See `score_of`.

    Returns
    -------
    float
        Standard error; infinite for fewer than two cells.

    References
    ----------
    Efron, Tibshirani: An Introduction to the Bootstrap. 1993, eq. 11.5.
    """
    n = len(now)
    if n < 2:
        return float("inf")
    left_out = score(now.sum(0) - now) - score(before.sum(0) - before)
    return float(np.sqrt((n - 1) * np.var(left_out)))


def resampled(
    tables: Sequence[NDArray[np.float64]],
    score: ScoreOf,
    *,
    n_draws: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return scores of predictions of the same units, drawn again with replacement.

    Parameters
    ----------
    tables : sequence of ndarray of float64, shape (n, n_columns)
        Rows of several predictions; row by row of the same unit, a cell or an image.
    score : callable
        See `score_of`.
    n_draws : int
        How often n units are drawn.
    rng : numpy.random.Generator
        Decides which.

    Returns
    -------
    ndarray of float64, shape (number of tables, n_draws)
        The same units were drawn for all tables: differences are paired.

    References
    ----------
    Efron: Bootstrap methods. Annals of Statistics 7, 1979.
    """
    n = len(tables[0])
    times = rng.multinomial(n, np.full(n, 1 / n), size=n_draws).astype(float)
    return np.array([score(times @ table) for table in tables])


def _ap(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    both = sums[..., _N_TRUTH] + sums[..., _N_PRED]
    matched = sums[..., _MATCHED:]
    return _share(matched, both[..., None] - matched)


def _mean_ap(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(_ap(sums).mean(-1))


def _iou(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    common = sums[..., _COMMON_PX]
    return _share(common, sums[..., _TRUTH_PX] + sums[..., _PRED_PX] - common)


def _share(
    part: NDArray[np.float64], whole: NDArray[np.float64]
) -> NDArray[np.float64]:
    # A share of nothing is 1, as everywhere.
    return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)
