"""Where tiles lie: what each reads, what it may keep, and where that belongs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Tile:
    """One tile; each field has one slice an axis, ([Z,] Y, X), in pixels.

    Parameters
    ----------
    read : tuple of slice
        What the network sees, in the image.
    crop : tuple of slice
        What is kept of the network's output, counted from the start of `read`.
    write : tuple of slice
        Where that belongs, in the image.
    weights : tuple of ndarray
        Of tiles that are blended, one array an axis, float32: how much of each pixel
        of the output counts. The product of all axes sums to 1 over the tiles, and
        `write` is what no later tile adds to. Empty where `crop` alone counts.
    """

    read: tuple[slice, ...]
    crop: tuple[slice, ...]
    write: tuple[slice, ...]
    weights: tuple[NDArray[np.float32], ...] = ()


def plan_tiles(
    shape: Sequence[int],
    *,
    tile_size: int,
    halo: int,
    multiple: int,
    within: Sequence[slice] | None = None,
    shift: int = 0,
) -> list[Tile]:
    """Divide an image into tiles whose `write` regions partition it exactly.

    `tile_size` and `halo` are rounded up to the multiple, so that each tile starts
    on the network's pooling grid. A tile reads its `write` region and a halo around
    it, which ends at the image border. Where the image's sides are multiples (see
    `pad_to_multiple`), so are those of everything that is read.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image without channels, ([Z,] Y, X).
    tile_size : int
        Side of a `write` region in pixels.
    halo : int
        Context around it in pixels.
    multiple : int
        What the network's input must be a multiple of, in pixels.
    within : sequence of slice, optional
        A window of the image, one slice an axis, in pixels: the tiles partition what
        it takes up of the pooling grid, and read beyond it. The whole image if omitted.
    shift : int
        By how much the first tiles are shorter than the others, in pixels: the seams
        lie elsewhere.

    Returns
    -------
    list of Tile
        In the order of the image's pixels.

    Raises
    ------
    ConfigError
        A size below 1 or a halo below 0.

    Examples
    --------
    >>> tiles = plan_tiles((16, 40), tile_size=24, halo=8, multiple=8)
    >>> [tile.write[1] for tile in tiles]
    [slice(0, 24, None), slice(24, 40, None)]
    >>> tiles[1].read[1], tiles[1].crop[1]
    (slice(16, 40, None), slice(8, 24, None))
    """
    if min(*shape, tile_size, multiple) < 1 or halo < 0:
        raise ConfigError(
            "NU-C01",
            f"tiles of {tile_size} px with a halo of {halo} px on a grid of {multiple} "
            f"px do not fit an image of {tuple(shape)}: sizes are 1 or more, a halo "
            "0 or more",
        )
    size = -(-tile_size // multiple) * multiple
    margin = -(-halo // multiple) * multiple
    first = size - shift // multiple * multiple % size
    window = within or [slice(0, length) for length in shape]
    axes = [
        _cut_axis(length, size, margin, _on_grid(part, multiple, length), first)
        for length, part in zip(shape, window, strict=True)
    ]
    return [
        Tile(*(tuple(parts) for parts in zip(*pieces, strict=True)))
        for pieces in itertools.product(*axes)
    ]


def _on_grid(part: slice, multiple: int, length: int) -> slice:
    """Return a window with its ends on the pooling grid, or at the image's end."""
    start = part.start // multiple * multiple
    return slice(start, min(-(-part.stop // multiple) * multiple, length))


def _cut_axis(
    length: int, size: int, margin: int, part: slice, first: int
) -> list[tuple[slice, slice, slice]]:
    """Return read, crop and write along one axis."""
    pieces = []
    starts = [part.start, *range(part.start + first, part.stop, size)]
    for start, stop in itertools.pairwise([*starts, part.stop]):
        before = max(start - margin, 0)
        read = slice(before, min(stop + margin, length))
        pieces.append((read, slice(start - before, stop - before), slice(start, stop)))
    return pieces


def plan_equal_tiles(
    shape: Sequence[int],
    *,
    sizes: Sequence[int],
    margin: int = 0,
    overlap: int = 0,
    multiple: int = 1,
    shift: int = 0,
) -> list[Tile]:
    """Divide an image into tiles of one size, whose outputs may overlap.

    For networks that lose a margin, that take one size only, or whose output depends
    on all of their input. `read` counts in the image padded by `margin` before it and,
    after it, as far as the last tile reads; each starts on the pooling grid.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image without channels, ([Z,] Y, X).
    sizes : sequence of int
        Output of one tile along each axis, in pixels of the image.
    margin : int
        What a tile reads on each side beyond its output, in pixels.
    overlap : int
        How far the outputs of neighbours overlap at least, in pixels. Above 0 they
        are blended: along an axis each counts by sin^2, 0 at its ends and 1 in its
        middle, divided by the sum over all tiles.
    multiple : int
        What tiles start on multiples of, in pixels; no size is smaller.
    shift : int
        By how much the tiles between the first and the last lie nearer to the first,
        in pixels: the seams lie elsewhere.

    Returns
    -------
    list of Tile
        In the order of the image's pixels.

    Raises
    ------
    ConfigError
        A size below the multiple, or a margin or overlap below 0.

    Examples
    --------
    >>> first, second = plan_equal_tiles((10,), sizes=[6], overlap=2)
    >>> first.read, second.read, second.write
    ((slice(0, 6, None),), (slice(4, 10, None),), (slice(4, 10, None),))
    >>> [round(float(w), 2) for w in first.weights[0]]
    [1.0, 1.0, 1.0, 1.0, 0.88, 0.12]
    """
    if min(*shape, multiple) < 1 or min(sizes) < multiple or min(margin, overlap) < 0:
        raise ConfigError(
            "NU-C01",
            f"tiles of {tuple(sizes)} px that overlap by {overlap} px on a grid of "
            f"{multiple} px do not fit an image of {tuple(shape)}: sizes are the "
            "grid's or more, an overlap 0 or more",
        )
    starts = [
        _starts(length, size, overlap, multiple, shift)
        for length, size in zip(shape, sizes, strict=True)
    ]
    is_blended = overlap > 0 and any(len(s) > 1 for s in starts)
    axes = [
        _equal_pieces(length, size, starts[i], margin)
        for i, (length, size) in enumerate(zip(shape, sizes, strict=True))
    ]
    tiles = []
    for pieces in itertools.product(*axes):
        read, crop, write, weights = zip(*pieces, strict=True)
        tiles.append(Tile(read, crop, write, weights if is_blended else ()))
    return tiles


def _starts(
    length: int, size: int, overlap: int, multiple: int, shift: int
) -> list[int]:
    """Return where tiles start, spread evenly; the last ends at the image or beyond."""
    last = -(-max(length - size, 0) // multiple) * multiple
    stride = max((size - overlap) // multiple, 1) * multiple
    n = -(-last // stride)
    if not n:
        return [0]
    even = [i * last // (n * multiple) * multiple for i in range(n + 1)]
    nearer = [start - shift // multiple * multiple for start in even[1:]]
    return sorted({0, last, *(start for start in nearer if start > 0)})


def _equal_pieces(
    length: int, size: int, starts: list[int], margin: int
) -> list[tuple[slice, slice, slice, NDArray[np.float32]]]:
    """Return read, crop, write and weights along one axis."""
    bump = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    total = np.zeros(starts[-1] + size)
    for start in starts:
        total[start : start + size] += bump
    pieces = []
    for start, stop in itertools.pairwise([*starts, length]):
        read = slice(start, start + size + 2 * margin)
        weights = (bump / total[start : start + size]).astype(np.float32)
        pieces.append((read, slice(0, stop - start), slice(start, stop), weights))
    return pieces


def pad_to_multiple(
    plane: NDArray[Any], multiple: int
) -> tuple[NDArray[Any], tuple[slice, ...]]:
    """Mirror an image at its end up to the next multiple of each side.

    Parameters
    ----------
    plane : ndarray, shape (C, [Z,] Y, X)
        Any dtype.
    multiple : int
        What each side but the channels' has to be a multiple of, in pixels.

    Returns
    -------
    padded : ndarray, shape (C, [Z',] Y', X')
        The image at its old place, its mirror image after it.
    crop : tuple of slice
        Index that takes the old part out of any array (K, [Z',] Y', X').

    Examples
    --------
    >>> import numpy as np
    >>> padded, crop = pad_to_multiple(np.array([[[1, 2, 3]]]), 4)
    >>> padded[0, 0], padded.shape
    (array([1, 2, 3, 2]), (1, 4, 4))
    >>> padded[crop]
    array([[[1, 2, 3]]])
    """
    pads = [(0, 0), *((0, -length % multiple) for length in plane.shape[1:])]
    crop = (slice(None), *(slice(0, length) for length in plane.shape[1:]))
    return mirror_pad(plane, pads), crop


def mirror_pad(array: NDArray[Any], pads: Sequence[tuple[int, int]]) -> NDArray[Any]:
    """Continue an array beyond its ends by its mirror image.

    The outermost pixel is the mirror and is not repeated. Where a pad is longer than
    the array the mirror images alternate; an axis of length 1 is repeated.

    Parameters
    ----------
    array : ndarray
        Any shape and dtype.
    pads : sequence of (int, int)
        Pixels before and after, one pair an axis.

    Returns
    -------
    ndarray
        The padded array; a new one, even where nothing is padded.

    Examples
    --------
    >>> import numpy as np
    >>> mirror_pad(np.array([1, 2, 3]), [(2, 5)])
    array([3, 2, 1, 2, 3, 2, 1, 2, 3, 2])
    """
    return np.pad(array, pads, mode="reflect")
