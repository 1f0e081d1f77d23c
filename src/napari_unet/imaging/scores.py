"""How good a segmentation is: pixels, and cells matched one to one."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.imaging.arrays import as_label_ids

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# k / 100 is the double nearest to the written number, as is an IoU computed by one
# division: an IoU of exactly 3/5 counts at 0.6.
THRESHOLDS = tuple(k / 100 for k in range(50, 100, 5))


@dataclass(frozen=True)
class Scores:
    """The scores of one image or of many pooled; all but the counts are 0 to 1.

    What is a share of nothing (no cells in truth and none predicted) is 1.

    Parameters
    ----------
    iou, dice : float
        Agreement of the foreground pixels.
    ap, f1, pq : dict of str to float
        By IoU threshold, "0.5" to "0.95": TP / (TP + FP + FN), 2 TP / (2 TP + FP +
        FN), and panoptic quality (F1 times the mean IoU of the matched cells).
    map : float
        Mean of `ap` over the thresholds.
    seg : float
        Mean over the true cells of the IoU with the object that covers more than
        half of it, 0 where none does (Cell Tracking Challenge).
    n_truth, n_pred : int
        Number of cells.
    n_touching_pairs, separated_pairs : int
        Pairs of true cells that touch, and those of them whose cells are both
        matched at IoU 0.5 (each to its own object).
    """

    iou: float
    dice: float
    ap: dict[str, float]
    f1: dict[str, float]
    pq: dict[str, float]
    map: float
    seg: float
    n_truth: int
    n_pred: int
    n_touching_pairs: int
    separated_pairs: int

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain numbers and dicts, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Tally:
    """Counts that add up over images; `scores` makes scores of them.

    Parameters
    ----------
    n_truth, n_pred : int
        Number of cells.
    truth_px, pred_px, common_px : int
        Foreground pixels in the truth, in the prediction, in both.
    matched : tuple of int
        Matched cells at each of `THRESHOLDS`.
    matched_iou : tuple of float
        Sum of their IoU.
    seg_sum : float
        Sum of SEG over the true cells.
    n_touching_pairs, separated_pairs : int
        See `Scores`.
    """

    n_truth: int = 0
    n_pred: int = 0
    truth_px: int = 0
    pred_px: int = 0
    common_px: int = 0
    matched: tuple[int, ...] = (0,) * len(THRESHOLDS)
    matched_iou: tuple[float, ...] = (0.0,) * len(THRESHOLDS)
    seg_sum: float = 0.0
    n_touching_pairs: int = 0
    separated_pairs: int = 0

    def __add__(self, other: Tally) -> Tally:
        sums: dict[str, Any] = {}
        for name in (entry.name for entry in fields(self)):
            a, b = getattr(self, name), getattr(other, name)
            both = isinstance(a, tuple)
            sums[name] = tuple(map(sum, zip(a, b, strict=True))) if both else a + b
        return Tally(**sums)

    def scores(self) -> Scores:
        """Return the scores of all that was counted."""
        either_px = self.truth_px + self.pred_px - self.common_px
        n_both = self.n_truth + self.n_pred
        names = [f"{t:g}" for t in THRESHOLDS]
        ap = [_share(tp, n_both - tp) for tp in self.matched]
        f1 = [_share(2 * tp, n_both) for tp in self.matched]
        pq = [_share(2 * iou, n_both) for iou in self.matched_iou]
        return Scores(
            iou=_share(self.common_px, either_px),
            dice=_share(2 * self.common_px, self.truth_px + self.pred_px),
            ap=dict(zip(names, ap, strict=True)),
            f1=dict(zip(names, f1, strict=True)),
            pq=dict(zip(names, pq, strict=True)),
            map=sum(ap) / len(ap),
            seg=_share(self.seg_sum, self.n_truth),
            n_truth=self.n_truth,
            n_pred=self.n_pred,
            n_touching_pairs=self.n_touching_pairs,
            separated_pairs=self.separated_pairs,
        )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def score(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    *,
    known: NDArray[np.bool_] | None = None,
) -> Scores:
    """Score one segmentation against the truth.

    Parameters
    ----------
    truth, predicted : ndarray of int, same shape ([Z,] Y, X)
        Instance ids; 0 is background. Ids need not agree, and may have gaps.
    known : ndarray of bool, same shape, optional
        Where the truth is known; see `tally`.

    Returns
    -------
    Scores
        IoU, Dice, AP, F1, PQ, SEG and touching pairs.

    Raises
    ------
    LabelError
        The shapes differ (NU-L02) or an array is no label image.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1, 1, 1, 0, 2, 2], [1, 1, 1, 0, 2, 2]])
    >>> predicted = np.array([[7, 7, 0, 0, 3, 3], [7, 7, 0, 0, 3, 3]])
    >>> scores = score(truth, predicted)
    >>> scores.ap["0.65"], scores.ap["0.7"]
    (1.0, 0.3333333333333333)
    >>> scores.iou
    0.8
    """
    return tally(truth, predicted, known=known).scores()


def pool(tallies: Iterable[Tally]) -> Scores:
    """Score many images as one: cells and pixels are counted over all of them.

    Examples
    --------
    >>> import numpy as np
    >>> cell, nothing = np.ones((4, 4), int), np.zeros((4, 4), int)
    >>> pool([tally(cell, cell), tally(cell, nothing)]).ap["0.5"]
    0.5
    """
    return sum(tallies, start=Tally()).scores()


def tally(
    truth: NDArray[Any],
    predicted: NDArray[Any],
    *,
    known: NDArray[np.bool_] | None = None,
) -> Tally:
    """Count what scores are made of, so that counts of many images can be added.

    A true and a predicted cell match at threshold t where their IoU is t or more;
    each cell has one partner at most. The array is one field: count the frames of a
    movie one by one.

    Parameters
    ----------
    truth, predicted : ndarray of int, same shape ([Z,] Y, X)
        Instance ids; 0 is background.
    known : ndarray of bool, same shape, optional
        Where the truth is known. A predicted cell that lies mostly elsewhere is
        neither right nor wrong, and does not count.

    Returns
    -------
    Tally
        The counts of this image.

    Raises
    ------
    LabelError
        The shapes differ (NU-L02) or an array is no label image.

    Examples
    --------
    >>> import numpy as np
    >>> tally(np.array([[1, 1, 2]]), np.array([[5, 5, 0]])).n_truth
    2
    """
    a = as_label_ids(np.asarray(truth), source="truth")
    b = as_label_ids(np.asarray(predicted), source="prediction")
    if a.shape != b.shape:
        raise LabelError(
            "NU-L02",
            f"the truth is {a.shape} but the prediction {b.shape}: score label images "
            "of one shape",
        )
    if known is not None and not known.all():
        b = judged(b, known)
    a_ids, a_sizes = np.unique(a[a > 0], return_counts=True)
    b_ids, b_sizes = np.unique(b[b > 0], return_counts=True)
    i, j, common = overlaps(a, b)
    i, j = np.searchsorted(a_ids, i), np.searchsorted(b_ids, j)
    iou = common / (a_sizes[i] + b_sizes[j] - common)
    i_matched, iou_matched = matches(i, j, iou)
    touching = np.searchsorted(a_ids, touching_pairs(a))
    covers = 2 * common > a_sizes[i]
    return Tally(
        n_truth=a_ids.size,
        n_pred=b_ids.size,
        truth_px=int(a_sizes.sum()),
        pred_px=int(b_sizes.sum()),
        common_px=int(common.sum()),
        matched=tuple(int((iou_matched >= t).sum()) for t in THRESHOLDS),
        matched_iou=tuple(
            float(iou_matched[iou_matched >= t].sum()) for t in THRESHOLDS
        ),
        seg_sum=float(iou[covers].sum()),
        n_touching_pairs=len(touching),
        separated_pairs=int(np.isin(touching, i_matched).all(axis=1).sum()),
    )


def judged(predicted: NDArray[np.int32], known: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return predicted cells without those that lie mostly where nothing is known."""
    ids, inverse, sizes = np.unique(predicted, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(predicted.shape)
    n_known = np.bincount(inverse[known], minlength=ids.size)
    return np.where(2 * n_known > sizes, ids, 0)[inverse].astype(np.int32)


def overlaps(
    a: NDArray[np.int32], b: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of each overlapping pair and their common pixels."""
    both = (a > 0) & (b > 0)
    # Two ids below 2**31 fit into one int64.
    pairs, common = np.unique(
        a[both].astype(np.int64) << 31 | b[both], return_counts=True
    )
    return pairs >> 31, pairs & (2**31 - 1), common


def matches(
    i: NDArray[np.intp], j: NDArray[np.intp], iou: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the true cells matched at IoU 0.5, and their IoU.

    Above 0.5 partners are unique. At exactly 0.5 a cell can have two, each of them a
    half of it that overlaps nothing else: whichever is taken, the counts and the
    sums are the same. So one pass over each side gives a largest matching.
    """
    enough = iou >= THRESHOLDS[0]
    i, j, iou = i[enough], j[enough], iou[enough]
    first = np.unique(i, return_index=True)[1]
    i, j, iou = i[first], j[first], iou[first]
    first = np.unique(j, return_index=True)[1]
    return i[first], iou[first]


def touching_pairs(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the pairs of cells that touch, if only at a corner.

    Parameters
    ----------
    labels : ndarray of int32, shape ([Z,] Y, X)
        Instance ids; 0 is background.

    Returns
    -------
    ndarray of int64, shape (n, 2)
        Both ids of each pair, the lower one first.

    Examples
    --------
    >>> touching_pairs(np.array([[5, 5, 2, 0, 1]], np.int32))
    array([[2, 5]])
    """
    found = [np.empty(0, np.int64)]
    steps = itertools.product((-1, 0, 1), repeat=labels.ndim)
    for step in (s for s in steps if s > (0,) * labels.ndim):
        ahead = tuple(slice(max(s, 0), min(s, 0) or None) for s in step)
        behind = tuple(slice(max(-s, 0), min(-s, 0) or None) for s in step)
        p, q = labels[ahead], labels[behind]
        touch = (p != q) & (p > 0) & (q > 0)
        low, high = np.minimum(p[touch], q[touch]), np.maximum(p[touch], q[touch])
        found.append(np.unique(low.astype(np.int64) << 31 | high))
    pairs = np.unique(np.concatenate(found))
    return np.stack([pairs >> 31, pairs & (2**31 - 1)], axis=1)
