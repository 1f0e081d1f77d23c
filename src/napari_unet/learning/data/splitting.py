"""What is held back from training, so that scores are honest.

Nothing that is learned from may be seen in what is held back: not a pixel, not a copy
of the image, not the next slice of the stack.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.events import Region
from napari_unet.imaging.windows import whole
from napari_unet.learning.data.cuts import MIN_BLOCK_PX, best_cut, lines
from napari_unet.learning.data.grouping import groups_of
from napari_unet.learning.data.pairs import called

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_unet.imaging.windows import Window
    from napari_unet.learning.data.fields import Field
    from napari_unet.learning.data.summaries import PairSummary, PlaneSummary

_MIN_IMAGES_TO_HOLD_BACK_WHOLE = 5
_MIN_SLICES_TO_HOLD_BACK_WHOLE = 5
_MAX_SHARE_OF_IMAGES = 0.5


@dataclass(frozen=True)
class Division:
    """Which regions are learned from and which are held back, and how that was decided.

    Parameters
    ----------
    train, held_back : tuple of Region
        Regions with something known; none of them overlap.
    spare : tuple of Region
        Planes on which nothing is known yet, where they may be learned from.
    how : str
        In words.
    is_held_back : bool
        Whether anything is; else scores are on the training pixels.
    """

    train: tuple[Region, ...]
    held_back: tuple[Region, ...]
    spare: tuple[Region, ...]
    how: str
    is_held_back: bool = True


@dataclass(frozen=True, eq=False)
class Split:
    """What to learn from, what to validate on, and how that was decided.

    Parameters
    ----------
    train, validation : sequence of Field
        Planes, or blocks of large ones, that are read when needed.
    how : str
        How the pixels to validate on were chosen, in words.
    is_held_back : bool
        Whether they are kept from training.
    held_back : tuple of Region
        Where they are. Validation images that were given are counted on behind the
        images to learn from.
    spare : sequence of Field
        Planes on which nothing is known yet, for strokes that are still to come.
    """

    train: Sequence[Field]
    validation: Sequence[Field]
    how: str
    is_held_back: bool = True
    held_back: tuple[Region, ...] = ()
    spare: Sequence[Field] = field(default=(), repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return what is held back, to be written beside the model."""
        return {
            "how": self.how,
            "is_held_back": self.is_held_back,
            "held_back": [
                {
                    "image": region.image,
                    "source": region.source,
                    "plane": list(region.plane),
                    "start": list(region.start),
                    "shape": list(region.shape),
                }
                for region in self.held_back
            ],
        }


def given_apart(pairs: Sequence[PairSummary], n_train: int) -> Division:
    """Return the division where images to validate on were given, after the others."""
    train: list[Region] = []
    spare: list[Region] = []
    held: list[Region] = []
    for i, pair in enumerate(pairs):
        (train if i < n_train else held).extend(_regions(i, pair, pair.planes))
        if i < n_train:
            spare += _unknown(i, pair)
    n = len(pairs) - n_train
    how = f"{n} validation image{'s' if n > 1 else ''}"
    return Division(tuple(train), tuple(held), tuple(spare), how)


def hold_back(
    pairs: Sequence[PairSummary],
    fraction: float,
    rng: np.random.Generator,
) -> Division:
    """Hold back whole images where there are five or more, else parts of each.

    Whole images are held back by field (`groups_of`). Of fewer images it is a run of
    slices of each stack, with a gap of one slice, where there are five or more, and
    else a block at one side, the same for all slices of a stack and all copies. Cells
    that the line cuts are learned from and not validated on, and between the two
    parts there are 4 px that are neither.

    Parameters
    ----------
    pairs : sequence of PairSummary
        The images and what is known of them.
    fraction : float
        Share to hold back.
    rng : numpy.random.Generator
        Decides which images.
    """
    fields = groups_of(pairs)
    if len(pairs) >= _MIN_IMAGES_TO_HOLD_BACK_WHOLE:
        division = _whole_images(pairs, fields, fraction, rng)
        if division is not None:
            return division
    return _parts(pairs, fields, fraction)


def _whole_images(
    pairs: Sequence[PairSummary],
    fields: Sequence[int],
    fraction: float,
    rng: np.random.Generator,
) -> Division | None:
    """Hold back about a share of the images, never a part of a field."""
    n_wanted = max(1, round(fraction * len(pairs)))
    sizes = np.bincount(fields)
    held: set[int] = set()
    n_held = 0
    for group in rng.permutation(len(sizes)).tolist():
        n = int(sizes[group])
        fits = n_held + n <= max(n_wanted, _MAX_SHARE_OF_IMAGES * len(pairs))
        if n_held < n_wanted and fits and len(held) + 1 < len(sizes):
            held.add(group)
            n_held += n
    is_back = [group in held for group in fields]
    is_kept = [not back for back in is_back]
    if not (_has_objects(pairs, is_back) and _has_objects(pairs, is_kept)):
        return None
    regions: tuple[list[Region], list[Region]] = ([], [])
    spare = []
    for i, pair in enumerate(pairs):
        regions[is_back[i]].extend(_regions(i, pair, pair.planes))
        if not is_back[i]:
            spare += _unknown(i, pair)
    of_fields = f", of {len(held)} fields" if len(sizes) < len(pairs) else ""
    how = f"{n_held} of {len(pairs)} images held back{of_fields}"
    return Division(tuple(regions[0]), tuple(regions[1]), tuple(spare), how)


def _has_objects(pairs: Sequence[PairSummary], chosen: Sequence[bool]) -> bool:
    is_regression = not pairs[0].facts.class_names
    return any(
        is_regression or plane.cells.ids.size
        for pair, is_chosen in zip(pairs, chosen, strict=True)
        if is_chosen
        for plane in pair.planes
    )


def _regions(
    image: int,
    pair: PairSummary,
    planes: Sequence[PlaneSummary],
    window: Window | None = None,
) -> Iterator[Region]:
    for plane in planes:
        yield _region(image, pair, plane.index, window)


def _region(
    image: int, pair: PairSummary, index: tuple[int, ...], window: Window | None = None
) -> Region:
    top, left = window or whole(pair.plane_shape)
    shape = (top.stop - top.start, left.stop - left.start)
    return Region(image, index, (top.start, left.start), shape, pair.source)


def _unknown(
    image: int, pair: PairSummary, window: Window | None = None
) -> list[Region]:
    """Return the planes of an image on which nothing is known."""
    known = {plane.index for plane in pair.planes}
    return [
        _region(image, pair, index, window)
        for index in np.ndindex(pair.stack_shape)
        if index not in known
    ]


def _parts(
    pairs: Sequence[PairSummary], fields: Sequence[int], fraction: float
) -> Division:
    """Hold back slices or a block of each image, alike for all images of a field."""
    train: list[Region] = []
    held: list[Region] = []
    spare: list[Region] = []
    ways: list[str] = []
    for group in range(max(fields) + 1):
        members = [i for i, number in enumerate(fields) if number == group]
        for alike in _of_one_shape(pairs, members):
            parts = _slices(pairs, alike, fraction) or _block(pairs, alike, fraction)
            if parts is None:
                for i in alike:
                    train += _regions(i, pairs[i], pairs[i].planes)
                    spare += _unknown(i, pairs[i])
                continue
            train += parts.train
            held += parts.held_back
            spare += parts.spare
            ways.append(parts.how)
    if not held:
        how = f"{_why_none(pairs, fraction)}; scores are on the training pixels"
        return Division(tuple(train), tuple(train), tuple(spare), how, False)
    return Division(tuple(train), tuple(held), tuple(spare), _how(ways, held, pairs))


def _why_none(pairs: Sequence[PairSummary], fraction: float) -> str:
    """Say why no block could be held back, and what to do where that helps."""

    def is_wide_enough(share: float) -> bool:
        each = (lines(pair.planes, pair.plane_shape, share) for pair in pairs)
        return any(True for found in each for _ in found)

    if is_wide_enough(fraction):
        # One or two: nothing can be held back without losing what there is.
        return "too few cells to hold any back"
    if is_wide_enough(0.5):
        return (
            f"a validation share of {fraction:g} leaves a block under {MIN_BLOCK_PX} "
            "px, too narrow to hold back: set it (val_fraction) nearer to 0.5"
        )
    return "too small to hold a part back"


def _how(ways: list[str], held: list[Region], pairs: Sequence[PairSummary]) -> str:
    if set(ways) != {"block"}:
        return "; ".join(dict.fromkeys(way for way in ways if way != "block")) + (
            "; a block of each other image held back" if "block" in ways else ""
        )
    n_planes = sum(len(pair.planes) for pair in pairs)
    n = len({(region.image, region.plane) for region in held})
    some = "each" if n == n_planes else f"{n}"
    of = "the image" if n_planes == 1 else f"{some} of {n_planes} planes"
    return f"a block of {of} held back"


def _of_one_shape(
    pairs: Sequence[PairSummary], members: Sequence[int]
) -> Iterator[list[int]]:
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i in members:
        by_shape.setdefault(pairs[i].shape, []).append(i)
    yield from by_shape.values()


def _slices(
    pairs: Sequence[PairSummary], alike: Sequence[int], fraction: float
) -> Division | None:
    """Hold back the last slices of stacks, with a gap; None where there are too few."""
    planes = [(i, plane) for i in alike for plane in pairs[i].planes]
    for axis in range(len(pairs[alike[0]].stack_shape)):
        places = sorted({plane.index[axis] for _, plane in planes})
        if len(places) < _MIN_SLICES_TO_HOLD_BACK_WHOLE:
            continue
        n_held = max(1, round(fraction * len(places)))
        first = places[-n_held]
        kept = [(i, p) for i, p in planes if p.index[axis] < first - 1]
        back = [(i, p) for i, p in planes if p.index[axis] >= first]
        is_regression = not pairs[0].facts.class_names
        if not all(
            is_regression or any(p.cells.ids.size for _, p in part)
            for part in (kept, back)
        ):
            continue
        spare = [
            region
            for i in alike
            for region in _unknown(i, pairs[i])
            if region.plane[axis] < first - 1
        ]
        named = f" of {called(pairs[alike[0]].source)}" if len(pairs) > 1 else ""
        how = (
            f"the last {n_held} of {len(places)} annotated slices{named} held back, "
            "with a gap of one"
        )
        return Division(
            tuple(r for i, p in kept for r in _regions(i, pairs[i], [p])),
            tuple(r for i, p in back for r in _regions(i, pairs[i], [p])),
            tuple(spare),
            how,
        )
    return None


def _block(
    pairs: Sequence[PairSummary], alike: Sequence[int], fraction: float
) -> Division | None:
    """Hold back a block at one side; None where that would leave no cell."""
    planes = [plane for i in alike for plane in pairs[i].planes]
    is_regression = not pairs[0].facts.class_names
    cut = best_cut(planes, pairs[alike[0]].plane_shape, fraction, is_regression)
    if cut is None:
        return None
    kept, back = cut
    train: list[Region] = []
    held: list[Region] = []
    spare: list[Region] = []
    for i in alike:
        for plane in pairs[i].planes:
            # A plane without anything known on one side is no part of it.
            if plane.may_be_known(kept):
                train += _regions(i, pairs[i], [plane], kept)
            if plane.may_be_known(back):
                held += _regions(i, pairs[i], [plane], back)
        spare += _unknown(i, pairs[i], kept)
    return Division(tuple(train), tuple(held), tuple(spare), "block")
