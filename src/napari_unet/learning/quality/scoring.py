"""Scores of a network, put together from pieces of what is held back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.cell_counts import CellCounts, joined
from napari_unet.imaging.image_scores import psnr, ssim
from napari_unet.imaging.instances import find_instances
from napari_unet.learning.applying.outputs import is_of_softmax

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.config import InstanceConfig
    from napari_unet.imaging.scores import Scores
    from napari_unet.learning.model import Model
    from napari_unet.learning.quality.held_back import Piece

# Of 256: early in training cells have less than even chances, but no smaller ones.
_LEAST_THRESHOLD = 25
# On one cell; a share of .8 has a standard error of .4 there.
_NOISE = 0.15


@dataclass(frozen=True)
class Validation:
    """Loss and scores of a network on held-back planes.

    Parameters
    ----------
    loss : float
        That of training, each piece counting by the sum of its weights.
    scores : Scores, optional
        Of the cells; None where images are made.
    class_iou : mapping of str to float
        IoU of the pixels of each class but the background.
    psnr, ssim : float
        Means over the images, where images are made.
    n_images : int
        Number of images that were compared.
    choose_by : str, optional
        Score that decides which model is best (`TrainConfig.choose_by`).
    cells : CellCounts, optional
        What the scores of the cells are made of.
    informedness : float
        Share of the cells' pixels that are found, less that of the background's that
        are taken for cells, at the threshold from 0.1 on where this is largest: 1 is
        perfect, 0 chance (Youden 1950). NaN where there are no cells or no background.
    """

    loss: float
    scores: Scores | None
    class_iou: Mapping[str, float] = field(default_factory=dict)
    psnr: float = math.nan
    ssim: float = math.nan
    n_images: int = 0
    choose_by: str | None = None
    cells: CellCounts | None = field(default=None, repr=False)
    informedness: float = math.nan

    @property
    def score(self) -> float:
        """What decides which model is best, in its own unit; of a loss less is better.

        Without a choice it is PSNR for images, and for cells the mean of mean AP and
        IoU: the mean AP says most about cells, the IoU of the foreground also says
        which of two early models is better when neither finds a whole cell.
        """
        if self.choose_by == "loss":
            return self.loss
        if self.scores is None:
            return self.ssim if self.choose_by == "ssim" else self.psnr
        own = {
            "mean_ap": self.scores.map,
            "ap": self.scores.ap["0.5"],
            "f1": self.scores.f1["0.5"],
            "iou": self.scores.iou,
        }
        whole = (self.scores.map + self.scores.iou) / 2
        return own.get(self.choose_by or "", whole)

    @property
    def rank(self) -> float:
        """The score made so that more is better; a NaN is below everything."""
        score = -self.score if self.choose_by == "loss" else self.score
        return -math.inf if math.isnan(score) else score

    @property
    def noise(self) -> float:
        """How near two scores are that can't be told apart.

        About a third of the standard error of a share of so many cells.
        """
        if self.choose_by == "loss" or self.scores is None:
            return 0.0
        return _NOISE / math.sqrt(max(self.scores.n_truth, 1))

    def as_dict(self) -> dict[str, float]:
        """Return the scores by name, with the numbers that they rest on."""
        scores = self.scores
        if scores is None:
            own = {"loss": self.loss, "psnr": self.psnr, "ssim": self.ssim}
            return own | {"n_images": float(self.n_images)}
        n_pairs = scores.n_touching_pairs
        separated = {"separated": scores.separated_pairs / n_pairs} if n_pairs else {}
        return {
            "loss": self.loss,
            "iou": scores.iou,
            **{f"iou_{name}": iou for name, iou in self.class_iou.items()},
            "dice": scores.dice,
            "ap": scores.ap["0.5"],
            "f1": scores.f1["0.5"],
            "map": scores.map,
            **separated,
            "n_touching_pairs": float(n_pairs),
            "n_cells": float(scores.n_truth),
        }


@dataclass(frozen=True, eq=False)
class Seen:
    """What one piece adds to the scores.

    Parameters
    ----------
    loss, weight : float
        Its loss times the sum of its weights, and that sum.
    cells : CellCounts, optional
        Of its cells; None where images are made.
    confusion : ndarray of int64, shape (n, n), optional
        Pixels of each true class (rows) that were taken for each class.
    psnr, ssim : float
        Of its image, where images are made.
    histograms : ndarray of int64, shape (2, 256)
        Of the probability of being no background, in background and elsewhere.
    areas : ndarray of int64, shape (n,)
        Of the cells that were found, in pixels that the network sees.
    """

    loss: float
    weight: float
    cells: CellCounts | None = None
    confusion: NDArray[np.int64] | None = None
    psnr: float = math.nan
    ssim: float = math.nan
    histograms: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((2, 256), np.int64)
    )
    areas: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


def score_piece(
    piece: Piece,
    outputs: NDArray[np.float32],
    model: Model,
    instances: InstanceConfig,
    loss: float,
    weight: float,
) -> Seen:
    """Return what a piece adds to the scores.

    Parameters
    ----------
    piece : Piece
        What is true.
    outputs : ndarray of float32, shape (K, Y, X)
        What the network gave, activated.
    model : Model
        What that means.
    instances : InstanceConfig
        How it becomes cells.
    loss, weight : float
        Its loss times the sum of its weights, and that sum.
    """
    if piece.cells is None:
        return Seen(loss, weight, None, None, *image_scores(piece, outputs))
    found = find_instances(outputs, model.roles, instances)
    areas = np.bincount(found.ravel())[1:]
    cells, confusion = piece.cells.count(found), _confusion(piece, outputs, model)
    histograms = _histograms(piece, outputs, model)
    return Seen(loss, weight, cells, confusion, histograms=histograms, areas=areas)


def count_cells(
    piece: Piece,
    outputs: NDArray[np.float32],
    roles: Sequence[str],
    instances: InstanceConfig,
) -> CellCounts:
    """Return the cells of a piece, counted against what a network's outputs show.

    Parameters
    ----------
    piece : Piece
        With true cells.
    outputs : ndarray of float32, shape (K, Y, X)
        Probabilities and values.
    roles : sequence of str
        Meaning of each channel.
    instances : InstanceConfig
        How they become cells.
    """
    if piece.cells is None:
        raise TypeError("this piece is of an image to be made: it has no cells")
    return piece.cells.count(find_instances(outputs, roles, instances))


def image_scores(piece: Piece, outputs: NDArray[np.float32]) -> tuple[float, float]:
    """Return PSNR and SSIM of a piece, means over the channels of values.

    Parameters
    ----------
    piece : Piece
        With values to compare with; its own range is the range of the data.
    outputs : ndarray of float32, shape (M, Y, X)
        What the network made.
    """
    values, known = piece.plane.target.values, piece.plane.target.weights > 0
    if values is None:
        raise TypeError("this piece has no values to compare with")
    channels = list(zip(values, outputs, strict=True))
    found = [(psnr(a, b, known=known), ssim(a, b, known=known)) for a, b in channels]
    return tuple(np.mean(found, axis=0).tolist())


def _confusion(
    piece: Piece, outputs: NDArray[np.float32], model: Model
) -> NDArray[np.int64] | None:
    """Return how many pixels of each class were taken for which, (n, n)."""
    if piece.classes is None:
        return None
    n = len(model.class_names)
    # Boundaries come after the classes: such a pixel is of the likeliest cell class.
    channels = [i for i, role in enumerate(model.roles) if is_of_softmax(role)]
    found = outputs[channels[:n]].argmax(0)
    if len(channels) > n:
        is_boundary = outputs[channels].argmax(0) >= n
        found[is_boundary] = outputs[channels[1:n]].argmax(0)[is_boundary] + 1
    is_known = piece.classes >= 0
    pairs = piece.classes[is_known].astype(np.int64) * n + found[is_known]
    return np.bincount(pairs, minlength=n * n).reshape(n, n)


def _histograms(
    piece: Piece, outputs: NDArray[np.float32], model: Model
) -> NDArray[np.int64]:
    """Return how often each 256th of probability is in background and cells, (2, n)."""
    if piece.classes is None:
        return np.zeros((2, 256), np.int64)
    background = next(i for i, role in enumerate(model.roles) if is_of_softmax(role))
    is_known = piece.classes >= 0
    found = 1 - outputs[background][is_known]
    bins = (255 * np.clip(found, 0, 1)).astype(np.int64)
    bins += 256 * (piece.classes[is_known] > 0)
    return np.bincount(bins, minlength=512).reshape(2, 256)


def pooled(seen: Sequence[Seen], model: Model) -> Validation:
    """Return the scores of all pieces together.

    Parameters
    ----------
    seen : sequence of Seen
        At least one.
    model : Model
        Its classes, and by which score the best is chosen.
    """
    loss = sum(s.loss for s in seen) / max(sum(s.weight for s in seen), 1e-12)
    by = model.training.choose_by
    counts = [s.cells for s in seen if s.cells is not None]
    if not counts:
        with_ssim = [s.ssim for s in seen if not math.isnan(s.ssim)]
        return Validation(
            loss,
            None,
            psnr=float(np.mean([s.psnr for s in seen])),
            ssim=float(np.mean(with_ssim)) if with_ssim else math.nan,
            n_images=len(seen),
            choose_by=by,
        )
    cells = joined(counts)
    confusion = np.sum([s.confusion for s in seen if s.confusion is not None], axis=0)
    return Validation(
        loss,
        cells.tally().scores(),
        _class_iou(confusion, model.class_names),
        choose_by=by,
        cells=cells,
        informedness=_informedness(np.sum([s.histograms for s in seen], axis=0)),
    )


def _informedness(histograms: NDArray[np.int64]) -> float:
    n = histograms.sum(1, keepdims=True)
    if not n.all():
        return math.nan
    background, cells = histograms.cumsum(1) / n
    return float((background - cells)[_LEAST_THRESHOLD:].max())


def _class_iou(confusion: NDArray[np.int64], names: Sequence[str]) -> dict[str, float]:
    common = np.diag(confusion)
    either = confusion.sum(0) + confusion.sum(1) - common
    return {
        name: float(common[k] / either[k]) if either[k] else 1.0
        for k, name in enumerate(names)
        if k > 0
    }
