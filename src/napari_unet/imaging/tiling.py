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
    """

    read: tuple[slice, ...]
    crop: tuple[slice, ...]
    write: tuple[slice, ...]


def plan_tiles(
    shape: Sequence[int], *, tile_size: int, halo: int, multiple: int
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
    axes = [_cut_axis(length, size, margin) for length in shape]
    return [
        Tile(*(tuple(parts) for parts in zip(*pieces, strict=True)))
        for pieces in itertools.product(*axes)
    ]


def _cut_axis(length: int, size: int, margin: int) -> list[tuple[slice, slice, slice]]:
    """Return read, crop and write along one axis."""
    pieces = []
    for start in range(0, length, size):
        stop = min(start + size, length)
        first = max(start - margin, 0)
        read = slice(first, min(stop + margin, length))
        pieces.append((read, slice(start - first, stop - first), slice(start, stop)))
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
