"""What the last annotations brought, and what the next ones may bring."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.learning.model import Round
from napari_unet.learning.quality.comparison import held_back_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.learning.data.fields import Field
    from napari_unet.learning.data.planes import Plane
    from napari_unet.learning.quality.scoring import Validation

_MIN_POINTS = 3
_N_DRAWS = 2000
_SEED = 0
_BAND = (10, 90)  # percentiles
# Exponents that are tried: slower is no power law any more that one could tell, faster
# is as good as an end.
_EXPONENTS = np.geomspace(0.1, 2.0, 40)
# Two trainings of the same cells differ by about this, however many cells are scored.
_BETWEEN_SEEDS = 0.01
_OF_IMAGES = frozenset({"psnr", "ssim", "loss"})


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """A score as a function of how many cells were annotated: a - b n^-c.

    Parameters
    ----------
    a, b, c : float
        Where it ends, how far below it begins, and how fast it rises.
    draws : ndarray of float64, shape (n_draws, 3)
        a, b and c of scores that might as well have been seen.
    n : ndarray of float64, shape (k,)
        Numbers of cells that it was fitted to.
    """

    a: float
    b: float
    c: float
    draws: NDArray[np.float64] = field(repr=False)
    n: NDArray[np.float64] = field(repr=False)

    def estimate(self, n: float) -> tuple[float, float, float]:
        """Return the low, middle and high score to expect of `n` cells.

        Low and high leave out 10 % each: an estimate, not a promise.
        """
        middle = _power_law(np.array([[self.a, self.b, self.c]]), n)[0]
        return _band(_power_law(self.draws, n), middle)

    def gain(self, n: float, n_more: float) -> tuple[float, float, float]:
        """Return the low, middle and high gain to expect of `n_more` after `n`."""
        own = np.array([[self.a, self.b, self.c]])
        gains = _power_law(self.draws, n + n_more) - _power_law(self.draws, n)
        middle = _power_law(own, n + n_more)[0] - _power_law(own, n)[0]
        return _band(gains, middle)

    def sentence(self, n: int, n_more: int) -> str:
        """Say what `n_more` cells after `n` may bring."""
        low, _, high = self.gain(n, n_more)
        return f"{n_more} more may bring {low:+.2f} to {high:+.2f} (an estimate)"


def fit_learning_curve(
    n: Sequence[float], score: Sequence[float], n_per_score: Sequence[float]
) -> LearningCurve:
    """Fit an inverse power law to scores, and say how uncertain it is.

    Least squares, each score counting by its variance: p (1 - p) / m for a share p of
    m held-back cells, and 0.01 for what two trainings differ by. a is at most 1, b at
    least 0. The uncertainty is that of 2000 fits to scores with as much noise added,
    each score by itself: scores on the same cells err together, so that a gain is more
    certain than is said here.

    Parameters
    ----------
    n : sequence of float
        Number of annotated cells.
    score : sequence of float
        Score reached with them, 0 to 1, all on the same held-back pixels.
    n_per_score : sequence of float
        Number of held-back cells that each score rests on.

    Returns
    -------
    LearningCurve

    Raises
    ------
    LabelError
        Fewer than three different numbers of cells (NU-L13).

    References
    ----------
    Figueroa, Zeng-Treitler, Kandula, Ngo: Predicting sample size required for
    classification performance. BMC Med. Inform. Decis. Mak. 12, 8 (2012): the model
    and its weighted fit. Viering, Loog: The shape of learning curves. IEEE TPAMI 45
    (2022): how often it fails.

    Examples
    --------
    >>> n = [20, 40, 80, 160]
    >>> curve = fit_learning_curve(n, [0.9 - 2 / k for k in n], [1e6] * 4)
    >>> low, middle, high = curve.estimate(320)
    >>> low < middle < high, round(middle, 2)
    (True, 0.89)
    """
    x, y, m = (np.asarray(values, float) for values in (n, score, n_per_score))
    is_usable = np.isfinite(y) & (x > 0) & (m > 0)
    x, y, m = x[is_usable], y[is_usable], m[is_usable]
    if (n_points := np.unique(x).size) < _MIN_POINTS:
        raise LabelError(
            "NU-L13",
            f"{n_points} different numbers of annotated cells are too few for a "
            "learning curve: annotate and train at least three times on the same "
            "held-back pixels, or let fractions of the annotations be trained on",
        )
    p = np.clip(y, 0.5 / m, 1 - 0.5 / m)
    sigma = np.sqrt(p * (1 - p) / m + _BETWEEN_SEEDS**2)
    noise = np.random.default_rng(_SEED).normal(size=(_N_DRAWS, y.size)) * sigma
    a, b, c = _fit(x, y[None], sigma)[0]
    draws = _fit(x, np.clip(y + noise, 0, 1), sigma)
    return LearningCurve(float(a), float(b), float(c), draws, x)


def same_held_back(rounds: Sequence[Round]) -> tuple[Round, ...]:
    """Return the rounds that were scored as the last one was, on the same pixels."""
    if not rounds:
        return ()
    last = rounds[-1]
    return tuple(
        r for r in rounds if (r.held_back, r.name) == (last.held_back, last.name)
    )


def curve_of(rounds: Sequence[Round]) -> LearningCurve:
    """Fit the rounds of annotation that a model went through.

    Parameters
    ----------
    rounds : sequence of Round
        `Model.rounds`; those on other pixels than the last are left out.

    Raises
    ------
    LabelError
        Too few rounds, or scores that are no share of cells (NU-L13).
    """
    own = same_held_back(rounds)
    if own and own[-1].name in _OF_IMAGES:
        raise LabelError(
            "NU-L13",
            f"scores by {own[-1].name} are no share of cells, of which alone a "
            "learning curve can be estimated: train with another score to choose by",
        )
    return fit_learning_curve(
        [r.n_cells for r in own], [r.score for r in own], [r.n_held_back for r in own]
    )


def what_they_brought(rounds: Sequence[Round]) -> str:
    """Say what the annotations since the round before the last one brought.

    Parameters
    ----------
    rounds : sequence of Round
        `Model.rounds`.

    Examples
    --------
    >>> rounds = [Round(40, 0.6, 500, "a"), Round(80, 0.7, 500, "a")]
    >>> what_they_brought(rounds)
    'The last 40 cells brought +0.10 (0.60 -> 0.70, on 500 held-back cells)'
    """
    own = same_held_back(rounds)
    if len(own) < 2 or rounds[-2] != own[-2]:
        return (
            "What the last cells brought can't be said: no earlier round was scored on "
            "the same pixels"
        )
    old, new = own[-2:]
    n, gain = new.n_cells - old.n_cells, new.score - old.score
    since = f"The last {n} cells" if n > 0 else "Training again, without more cells,"
    digits = 1 if new.name == "psnr" else 2
    sentence = (
        f"{since} brought {gain:+.{digits}f} ({old.score:.{digits}f} -> "
        f"{new.score:.{digits}f}, on {new.n_held_back} held-back cells"
    )
    p = float(np.clip((old.score + new.score) / 2, 0, 1))
    noise = np.sqrt(2 * p * (1 - p) / max(new.n_held_back, 1))
    is_noise = new.name not in _OF_IMAGES and abs(gain) < noise
    return sentence + (", which is within the noise)" if is_noise else ")")


def in_words(rounds: Sequence[Round]) -> str:
    """Say what the last annotations brought, and what as many more may bring."""
    brought = what_they_brought(rounds)
    own = same_held_back(rounds)
    n_more = own[-1].n_cells - own[-2].n_cells if len(own) > 1 else 0
    try:
        curve = curve_of(rounds)
    except LabelError:
        return f"{brought}; what more would bring can be told after three rounds"
    if n_more <= 0:
        return brought
    return f"{brought}; {curve.sentence(own[-1].n_cells, n_more)}"


def next_round(
    n_cells: int, fields: Sequence[Field | Plane], result: Validation
) -> Round:
    """Return the point of the learning curve that a training adds.

    Parameters
    ----------
    n_cells : int
        Annotated cells that were learned from.
    fields : sequence of Field or Plane
        What is held back.
    result : Validation
        What the tuned model reached there.
    """
    n = result.n_images if result.scores is None else result.scores.n_truth
    name = result.choose_by or ("psnr" if result.scores is None else "score")
    return Round(n_cells, result.score, n, held_back_id(fields), name)


def _power_law(abc: NDArray[np.float64], n: float) -> NDArray[np.float64]:
    return np.asarray(abc[:, 0] - abc[:, 1] * n ** -abc[:, 2])


def _band(values: NDArray[np.float64], middle: float) -> tuple[float, float, float]:
    low, high = np.percentile(values, _BAND).tolist()
    return min(low, float(middle)), float(middle), max(high, float(middle))


def _fit(
    n: NDArray[np.float64], scores: NDArray[np.float64], sigma: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a, b and c of the least squares fit of each row of scores, (draws, 3).

    For each exponent the rest is a straight line in n^-c, whose ends are held to
    a <= 1 and b >= 0.
    """
    w = 1 / sigma**2
    w = w / w.sum()
    best = np.zeros((len(scores), 3))
    least = np.full(len(scores), np.inf)
    mean = scores @ w
    for c in _EXPONENTS:
        z = n**-c
        z_mean = z @ w
        slope = ((scores - mean[:, None]) * (z - z_mean)) @ w / ((z - z_mean) ** 2 @ w)
        b = np.maximum(-slope, 0)
        a = mean + b * z_mean
        # At its bound a is 1, and b alone is left to fit.
        b = np.where(a > 1, np.maximum((1 - scores) @ (w * z) / (z**2 @ w), 0), b)
        a = np.minimum(a, 1)
        error = (scores - a[:, None] + b[:, None] * z) ** 2 @ w
        is_better = error < least
        least = np.where(is_better, error, least)
        best[is_better] = np.column_stack([a, b, np.full(len(scores), c)])[is_better]
    return best
