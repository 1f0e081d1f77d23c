"""A new model beside the one that it started from, on the same held-back pixels."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_unet.events import Compared
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.imaging.resampling import resample
from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.applying.outputs import activate
from napari_unet.learning.applying.scale import on_own_grid
from napari_unet.learning.quality.as_predicted import scales_of_prediction, seen_at
from napari_unet.learning.quality.held_back import HeldBack, predictions, subset
from napari_unet.learning.quality.scoring import pooled, score_piece
from napari_unet.learning.quality.uncertainty import (
    differences_drawn_again,
    score_of_images,
)
from napari_unet.learning.quality.worse_cells import worse_cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.events import WorseCell
    from napari_unet.learning.data.fields import Field
    from napari_unet.learning.data.planes import Plane
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.model import Model
    from napari_unet.learning.quality.scoring import Validation
    from napari_unet.learning.quality.uncertainty import Both

    Verdict = Literal["better", "same", "worse"]

_MAX_PX = 2**22
# From fewer, what is drawn again says too little about what was not seen.
_MIN_UNITS = 5
_INTERVAL = (2.5, 97.5)  # percentiles
# What the scores are called where they are told.
NAMES = {
    None: "mean of mean AP and IoU",
    "mean_ap": "mean AP",
    "ap": "AP at 0.5",
    "f1": "F1 at 0.5",
    "iou": "IoU",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a new model gained over the one that it started from.

    Parameters
    ----------
    verdict : {"better", "same", "worse"}
        "same" where 0 lies in the 95 % interval of the difference.
    before, now : Validation
        Scores of both on the same pixels, each with its own instance settings; no
        loss, since the models may have learned from different weights.
    difference : float
        Score now - score before.
    interval : (float, float)
        Its 95 % interval, by a paired bootstrap.
    n_units : int
        Number of cells, images or tiles that were drawn again.
    worse_cells : tuple of WorseCell
        What the model before had found and the new one finds no more or much worse,
        the greatest loss first.
    keep, rejected : Model
        The one to use, and the other one.
    is_new_kept : bool
        Whether `keep` is the new one: where it is better, or the same with a score
        that is not lower.
    may_be_known : bool
        Whether the model before may have learned from some of these pixels.
    """

    verdict: Verdict
    before: Validation
    now: Validation
    difference: float
    interval: tuple[float, float]
    n_units: int
    worse_cells: tuple[WorseCell, ...]
    keep: Model
    rejected: Model
    is_new_kept: bool
    may_be_known: bool = False

    @property
    def event(self) -> Compared:
        """What training tells."""
        before, now = (_without_loss(seen) for seen in (self.before, self.now))
        return Compared(self.verdict, before, now, self.worse_cells)

    @property
    def sentence(self) -> str:
        """What came out, how certain it is, and which model is kept."""
        is_of_cells = self.now.scores is not None
        digits = 2 if is_of_cells or self.now.choose_by == "ssim" else 1
        how = {"better": "better than", "same": "as good as", "worse": "worse than"}
        low, high = (f"{end:+.{digits}f}" for end in self.interval)
        name = NAMES[self.now.choose_by if is_of_cells else score_of_images(self.now)]
        n = self.now.scores.n_truth if self.now.scores else self.now.n_images
        what = ("cell" if is_of_cells else "image") + ("" if n == 1 else "s")
        whose = "new" if self.is_new_kept else "old"
        uncertain = f"between {low} and {high} at 95 %"
        if self.n_units < _MIN_UNITS:
            uncertain = "too few to tell how certain that is"
        parts = [
            f"The new model is {how[self.verdict]} the one it started from: {name} "
            f"{self.now.score:.{digits}f} instead of {self.before.score:.{digits}f} on "
            f"{n} held-back {what} ({self.difference:+.{digits}f}; {uncertain}); the "
            f"{whose} one is kept"
        ]
        if self.worse_cells:
            lost = len(self.worse_cells)
            parts.append(f"{lost} cell{' is' if lost == 1 else 's are'} found worse")
        if self.may_be_known:
            parts.append(
                "the old one may have learned from some of these pixels, which "
                "flatters it"
            )
        return "; ".join(parts)


def compare(
    before: Model,
    now: Model,
    fields: Sequence[Field | Plane],
    device: DeviceChoice,
    *,
    tile_px: int | None = None,
) -> Comparison:
    """Compare two models on the same held-back pixels, in fp32.

    The difference is judged by a paired bootstrap: cells (or images, where there are
    ten or more) are drawn with replacement 4000 times, the same for both models. The
    new one is better or worse only where the 95 % interval of the difference leaves
    out 0, and of fewer than five cells nothing is concluded. An interval of cells
    says nothing about images that were not held back.

    Parameters
    ----------
    before : Model
        The one that training started from.
    now : Model
        What came of it; its task, its classes and the score to choose by count.
    fields : sequence of Field or Plane
        What is held back, normalised as for `now`. Each model sees it at the size at
        which it would predict it; scores are on the pixels that `now` sees.
    device : DeviceChoice
        Where to compute.
    tile_px : int, optional
        Side of the tiles that are predicted at once; None takes all that fits.

    Returns
    -------
    Comparison
        With what to keep.

    References
    ----------
    Efron, Tibshirani: An Introduction to the Bootstrap. 1993, chapter 13.
    """
    fields = subset(fields, _MAX_PX)
    scales = scales_of_prediction(now, fields, device)
    held = HeldBack(seen_at(scales, fields), now, max_px=_MAX_PX, tile_px=tile_px)
    pairs = list(_both(before, now, held, device))
    if now.training.choose_by == "loss":
        training = now.training.model_copy(update={"choose_by": None})
        now_scored = replace(now, training=training)
    else:
        now_scored = now
    first, second = (
        pooled([seen[k] for _, seen, _ in pairs], now_scored) for k in (0, 1)
    )
    draws = differences_drawn_again(pairs, second)
    difference = second.score - first.score
    interval, n_units = (math.nan, math.nan), 0
    verdict: Verdict = "same"
    if draws is not None:
        found, n_units = draws
        low, high = np.percentile(found, _INTERVAL).tolist()
        interval = (low, high)
        if n_units >= _MIN_UNITS and low > 0 and difference > 0:
            verdict = "better"
        elif n_units >= _MIN_UNITS and high < 0 and difference < 0:
            verdict = "worse"
    is_new = verdict == "better" or (verdict == "same" and not difference < 0)
    return Comparison(
        verdict,
        first,
        second,
        difference,
        interval,
        n_units,
        worse_cells(pairs),
        keep=now if is_new else before,
        rejected=before if is_new else now,
        is_new_kept=is_new,
        may_be_known=_may_be_known(before, held),
    )


def held_back_id(fields: Sequence[Field | Plane]) -> str:
    """Return the sha256 of which pixels are held back, in hex.

    Scores are points of one learning curve only where it is the same.
    """
    places = [
        (r.source or r.image, r.plane, r.start, r.shape)
        for r in (getattr(field, "region", None) for field in fields)
        if r is not None
    ]
    return hashlib.sha256(repr(sorted(map(repr, places))).encode()).hexdigest()


def _without_loss(seen: Validation) -> dict[str, float]:
    return {name: value for name, value in seen.as_dict().items() if name != "loss"}


def _both(
    before: Model, now: Model, held: HeldBack, device: DeviceChoice
) -> Iterator[Both]:
    fields = [piece.field for piece in held.pieces if piece.field is not None]
    old_held = held.seen_at(scales_of_prediction(before, fields, device))
    old_range = _other_range(before, now)
    if old_range is not None:
        old_held = old_held.changed(old_range)
    networks = [for_inference(m.build(), device, "fp32") for m in (before, now)]
    every = zip(
        predictions(networks[0], old_held, device),
        predictions(networks[1], held, device),
        strict=True,
    )
    for (old_piece, old), (piece, new) in every:
        a = activate(old, before.roles).cpu().numpy()
        b = activate(new, now.roles).cpu().numpy()
        own = before.instances
        if a.shape[1:] != b.shape[1:]:
            factor = (old_piece.scale / piece.scale,) * 2
            a, own = resample(a, b.shape[1:]), on_own_grid(own, factor)
        seen_a = score_piece(piece, a, before, own, math.nan, 0.0)
        seen_b = score_piece(piece, b, now, now.instances, math.nan, 0.0)
        yield piece, (seen_a, seen_b), (a, b)


def _other_range(before: Model, now: Model) -> IntensityRange | None:
    """Return what the range of `before` is in images that are normalised for `now`."""
    old, new = before.dataset_range, now.dataset_range
    if old is None or new is None or old == new:
        return None
    spans = [h - lo or 1.0 for lo, h in zip(new.low, new.high, strict=True)]
    low, high = (
        tuple((x - lo) / s for x, lo, s in zip(ends, new.low, spans, strict=True))
        for ends in (old.low, old.high)
    )
    return IntensityRange(low, high)


def _may_be_known(before: Model, held: HeldBack) -> bool:
    """Return whether images that were partly learned from are judged elsewhere now."""
    old = [
        (r.source, r.plane, *r.start, *r.shape) for r in before.held_back if r.source
    ]
    for piece in held.pieces:
        if (region := piece.plane.region) is None:
            continue
        own = [r[2:] for r in old if r[:2] == (region.source, region.plane)]
        (y, x), (height, width) = region.start, region.shape
        is_inside = any(
            a <= y and b <= x and y + height <= a + h and x + width <= b + w
            for a, b, h, w in own
        )
        if own and not is_inside:
            return True
    return False
