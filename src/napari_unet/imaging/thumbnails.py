"""A small picture of an image, with the outlines of its cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.segmentation import find_boundaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Image

SIDE_PX = 256
# Of the pixels, on either side, may be darker or brighter than black and white.
_CUT_PERCENT = 0.5
_COLOUR = (255, 210, 0)
_COLOURS = ("red", "green", "blue")
# Outlines of cells that are smaller than this would hide the picture: they are fainter.
_CLEAR_CELL_PX, _FAINTEST = 8.0, 0.35
# An outline is half a pixel wide on either side of the edge.
_FINER = 2
_BAND_PX = 2**23


def thumbnail(
    image: Image, labels: Any = None, *, cell_px: float | None = None
) -> NDArray[np.uint8]:
    """Draw a plane of an image, stretched in contrast, and the outlines of cells.

    Of a movie it is the first frame, of a stack the middle plane (`shown_plane`).
    Three colours stay colours; of other channels the first is drawn. What is lazy is
    read in bands of rows.

    Parameters
    ----------
    image : Image
        What to draw.
    labels : array of int, shape ([T,] [Z,] Y, X), optional
        Instance ids, 0 is background; may be on a finer grid than the image.
    cell_px : float, optional
        Diameter of a typical cell in pixels of the labels.

    Returns
    -------
    ndarray of uint8, shape (Y, X, 3)
        Neither side is longer than 256 px; small images are enlarged by whole numbers.

    Examples
    --------
    >>> from napari_unet.imaging.arrays import Image
    >>> thumbnail(Image(np.zeros((1, 60, 100)))).shape
    (120, 200, 3)
    """
    height, width = image.plane_shape
    scale = SIDE_PX / max(height, width)
    # An image of less than half the side is enlarged, without inventing pixels.
    scale = float(math.floor(scale)) if scale >= 1 else scale
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    index = shown_plane(image)
    picture = _stretched(_reduced(image, index, shape))
    if labels is None:
        return picture
    lines = _outlines(labels, _index_of(labels, image, index), shape)
    if cell_px is not None:
        drawn_px = cell_px * shape[0] / labels.shape[-2]
        lines *= np.clip(drawn_px / _CLEAR_CELL_PX, _FAINTEST, 1)
    blended = picture + lines[..., np.newaxis] * (np.array(_COLOUR) - picture)
    return np.rint(blended).astype(np.uint8)


def shown_plane(image: Image) -> tuple[int, ...]:
    """Return which plane of an image is drawn: of the first frame, the middle one.

    Examples
    --------
    >>> from napari_unet.imaging.arrays import Image
    >>> shown_plane(Image(np.zeros((1, 5, 9, 8, 8)), axes="CTZYX"))
    (0, 4)
    """
    stack = zip(image.axes[1:-2], image.stack_shape, strict=True)
    return tuple(0 if axis == "T" else n // 2 for axis, n in stack)


def caption(image: Image) -> str:
    """Return what of an image is drawn, where that is not all of it.

    Examples
    --------
    >>> from napari_unet.imaging.arrays import Image
    >>> caption(Image(np.zeros((2, 5, 9, 8, 8)), axes="CTZYX"))
    'frame 1 of 5, plane 5 of 9, channel 1 of 2'
    >>> caption(Image(np.zeros((1, 8, 8))))
    ''
    """
    names = {"T": "frame", "Z": "plane"}
    stack = zip(image.axes[1:-2], shown_plane(image), image.stack_shape, strict=True)
    parts = [f"{names[axis]} {i + 1} of {n}" for axis, i, n in stack if n > 1]
    if image.n_channels > 1 and not _is_coloured(image):
        named = image.channel_names[0] if image.channel_names else "1"
        parts.append(f"channel {named} of {image.n_channels}")
    return ", ".join(parts)


def _is_coloured(image: Image) -> bool:
    return image.channel_names == _COLOURS


def _index_of(labels: Any, image: Image, index: Sequence[int]) -> tuple[int, ...]:
    """Return the same plane in labels, which may be finer along Z."""
    lengths = zip(index, image.stack_shape, labels.shape[:-2], strict=True)
    return tuple(int((i + 0.5) * finer / n) for i, n, finer in lengths)


def _reduced(
    image: Image, index: tuple[int, ...], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the channels to draw at another size, (C, Y, X): means, or repeated."""
    n_channels = len(_COLOURS) if _is_coloured(image) else 1
    own = image.plane_shape
    starts, counts = zip(*map(_bins, own, shape), strict=True)
    picture = np.zeros((n_channels, *shape))

    for drawn, rows in _bands(starts[0], own):
        part = image.data[(slice(0, n_channels), *index, rows, slice(None))]
        if np.dtype(image.data.dtype).kind == "f":
            part = np.nan_to_num(part, posinf=0, neginf=0)
        first = starts[0][drawn] - rows.start
        sums = np.add.reduceat(np.asarray(part), first, axis=1, dtype=np.float64)
        picture[:, drawn] = np.add.reduceat(sums, starts[1], axis=2)
    n_pixels = counts[0][:, np.newaxis] * counts[1]
    return np.asarray(picture / n_pixels)


def _bins(n: int, n_drawn: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where the pixels of a row begin that one drawn pixel stands for."""
    starts = np.arange(n_drawn) * n // n_drawn
    return starts, np.maximum(np.diff(starts, append=n), 1)


def _bands(
    starts: NDArray[np.intp], own: tuple[int, int]
) -> Iterator[tuple[slice, slice]]:
    """Yield drawn rows, and the rows of the image that they stand for."""
    n_drawn, (height, width) = len(starts), own
    n_each = max(1, _BAND_PX * n_drawn // (height * width))
    for first in range(0, n_drawn, n_each):
        last = min(first + n_each, n_drawn)
        stop = int(starts[last]) if last < n_drawn else height
        # Of an enlarged image several drawn rows stand for one.
        stop = max(stop, int(starts[last - 1]) + 1)
        yield slice(first, last), slice(int(starts[first]), stop)


def _stretched(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return channels (C, Y, X) as colours, (Y, X, 3), from black to white."""
    low, high = np.percentile(picture, (_CUT_PERCENT, 100 - _CUT_PERCENT))
    shares = (picture - low) / (high - low) if high > low else np.zeros_like(picture)
    colours = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    return np.broadcast_to(np.moveaxis(colours, 0, -1), (*picture.shape[1:], 3))


def _outlines(
    labels: Any, index: tuple[int, ...], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return which share of each drawn pixel is outline, (Y, X)."""
    own = tuple(labels.shape[-2:])
    rows, columns = (
        (2 * np.arange(_FINER * n_drawn) + 1) * n // (2 * _FINER * n_drawn)
        for n_drawn, n in zip(shape, own, strict=True)
    )
    drawn = np.concatenate(
        [
            np.asarray(labels[(*index, band, slice(None))])[rows[at] - band.start]
            for at, band in _bands(rows, own)
        ]
    )[:, columns]
    lines = find_boundaries(drawn, mode="thick")
    split = (shape[0], _FINER, shape[1], _FINER)
    shares: NDArray[np.float64] = lines.reshape(split).mean((1, 3))
    return shares


def sizes_of(
    labels: Any, planes: Sequence[tuple[int, ...]], read_px: int = _BAND_PX
) -> NDArray[np.int64]:
    """Return the size of each cell in pixels, plane by plane (or volume by volume).

    Parameters
    ----------
    labels : array of int, shape ([T,] [Z,] Y, X)
        Instance ids; what is lazy is read in parts.
    planes : sequence of tuple of int
        Index of each plane (or volume): an id in two of them is two cells.
    read_px : int
        How many pixels are looked at at once.

    Examples
    --------
    >>> sizes_of(np.array([[[1, 1, 0, 2]], [[1, 0, 0, 0]]]), [(0,), (1,)])
    array([2, 1, 1])
    """
    found = [np.zeros(0, np.int64)]
    for index in planes:
        length, *rest = labels.shape[len(index) :]
        n_each = max(1, read_px // math.prod(rest))
        sizes = np.zeros(1, np.int64)
        for first in range(0, length, n_each):
            part = np.asarray(labels[(*index, slice(first, first + n_each))])
            sizes = _added(sizes, np.bincount(part.ravel()))
        found.append(sizes[1:][sizes[1:] > 0])
    return np.concatenate(found)


def _added(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    total = np.zeros(max(len(a), len(b)), np.int64)
    total[: len(a)] += a
    total[: len(b)] += b
    return total
