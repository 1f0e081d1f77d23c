"""How certain the difference of two models is, on the same held-back pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.imaging.cell_counts import resampled, score_of
from napari_unet.imaging.image_scores import data_range, psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_unet.learning.quality.held_back import Piece
    from napari_unet.learning.quality.scoring import Seen, Validation

    Outputs = NDArray[np.float32]
    # What each of two models gave for a piece: scores and outputs.
    Both = tuple[Piece, tuple[Seen, Seen], tuple[Outputs, Outputs]]

_N_DRAWS = 4000
_SEED = 0
# Cells of one image fail together: with enough images these are drawn, not cells.
_MIN_IMAGES_TO_DRAW = 10
_TILE_PX = 64
_LEAST_ERROR = 1e-12  # of the squared range: a perfect image has no PSNR


def differences_drawn_again(
    pairs: Sequence[Both], now: Validation
) -> tuple[NDArray[np.float64], int] | None:
    """Return differences of the score when units are drawn again with replacement.

    The units are cells, or images where there are ten or more; of images that are
    made, and are fewer, the tiles of 64 px of each.

    Parameters
    ----------
    pairs : sequence of (Piece, (Seen, Seen), (outputs, outputs))
        What the one and the other model gave for each piece.
    now : Validation
        Says which score counts.

    Returns
    -------
    ndarray of float64, shape (4000,), and int
        The other's score less the one's, each time, and the number of units; None
        where there is nothing to draw.
    """
    rng = np.random.default_rng(_SEED)
    if now.scores is None:
        return _draws_of_images(pairs, score_of_images(now), rng)
    tables = [[_table(seen[k]) for _, seen, _ in pairs] for k in (0, 1)]
    images = _image_numbers([piece for piece, _, _ in pairs])
    if len(set(images)) >= _MIN_IMAGES_TO_DRAW:
        tables = [_by_image(own, images) for own in tables]
    first, second = (np.concatenate(own) for own in tables)
    a, b = resampled(
        [first, second], score_of(now.choose_by), n_draws=_N_DRAWS, rng=rng
    )
    return b - a, len(first)


def _table(seen: Seen) -> NDArray[np.float64]:
    if seen.cells is None:
        raise TypeError("there are no cells to draw")
    return seen.cells.table


def _image_numbers(pieces: Sequence[Piece]) -> list[int]:
    regions = [piece.plane.region for piece in pieces]
    return [k if r is None else r.image for k, r in enumerate(regions)]


def _by_image(
    tables: Sequence[NDArray[np.float64]], images: Sequence[int]
) -> list[NDArray[np.float64]]:
    sums = [table.sum(0) for table in tables]
    return [
        np.sum([s for s, i in zip(sums, images, strict=True) if i == image], axis=0)[
            None
        ]
        for image in sorted(set(images))
    ]


def score_of_images(seen: Validation) -> str:
    """Return which score of images counts: "psnr", or "ssim" if it was chosen."""
    return "ssim" if seen.choose_by == "ssim" else "psnr"


def _draws_of_images(
    pairs: Sequence[Both], by: str, rng: np.random.Generator
) -> tuple[NDArray[np.float64], int] | None:
    """Draw images again, or of few images the tiles of each."""
    tiles = [_tiles(piece, outputs, by) for piece, _, outputs in pairs]
    tiles = [own for own in tiles if len(own)]
    if not tiles:
        return None
    if len(tiles) >= _MIN_IMAGES_TO_DRAW:
        whole = np.array([_image_score(own.mean(0), by) for own in tiles])
        times = rng.multinomial(
            len(whole), np.full(len(whole), 1 / len(whole)), _N_DRAWS
        )
        found = times @ (whole[:, 1] - whole[:, 0]) / len(whole)
        return found, len(whole)
    found = np.zeros(_N_DRAWS)
    for own in tiles:
        n = len(own)
        times = rng.multinomial(n, np.full(n, 1 / n), _N_DRAWS)
        drawn = _image_score(times @ own / n, by)
        found += (drawn[:, 1] - drawn[:, 0]) / len(tiles)
    return found, sum(map(len, tiles))


def _image_score(means: NDArray[np.float64], by: str) -> NDArray[np.float64]:
    """Return the score of means over tiles: the mean SSIM, or PSNR of a mean error."""
    if by == "ssim":
        return means
    return np.asarray(-10 * np.log10(np.maximum(means, _LEAST_ERROR)))


def _tiles(
    piece: Piece, outputs: tuple[Outputs, Outputs], by: str
) -> NDArray[np.float64]:
    """Return the SSIM, or squared error by squared range, of tiles, (n, 2 models)."""
    values, known = piece.plane.target.values, piece.plane.target.weights > 0
    if values is None:
        raise TypeError("this piece has no values to compare with")
    height, width = known.shape
    rows = []
    for y in range(0, height, _TILE_PX):
        for x in range(0, width, _TILE_PX):
            at = (slice(y, y + _TILE_PX), slice(x, x + _TILE_PX))
            if known[at].any():
                rows.append(
                    [_tile_score(values, own, known, at, by) for own in outputs]
                )
    found: NDArray[np.float64] = np.array(rows, float).reshape(-1, 2)
    return found[~np.isnan(found).any(axis=1)]


def _tile_score(
    values: Outputs,
    own: Outputs,
    known: NDArray[np.bool_],
    at: tuple[slice, slice],
    by: str,
) -> float:
    found = []
    for truth, made in zip(values, own, strict=True):
        span = data_range(truth, known)
        if by == "ssim":
            found.append(ssim(truth[at], made[at], span=span, known=known[at]))
        else:
            decibels = psnr(truth[at], made[at], span=span, known=known[at])
            found.append(10 ** (-decibels / 10))
    return float(np.mean(found))
