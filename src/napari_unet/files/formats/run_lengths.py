"""COCO's run lengths: down the columns, background first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import LabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_CHARACTERS = 7  # of one number: 35 bits


def encode_counts(
    mask: NDArray[np.bool_], corner: tuple[int, int], shape: tuple[int, int]
) -> list[int]:
    """Return the run lengths of a mask that lies in an image.

    Parameters
    ----------
    mask : ndarray of bool, shape (Y, X)
        With at least one pixel.
    corner : (int, int)
        Where in the image (y, x) its first pixel is.
    shape : (int, int)
        Shape of the image.

    Returns
    -------
    list of int
        Numbers of pixels off, on, off and so on, down the columns.

    Examples
    --------
    >>> encode_counts(np.array([[True, True], [True, False]]), (1, 0), (3, 3))
    [1, 2, 1, 1, 4]
    """
    column, row = np.nonzero(mask.T)
    index = (column + corner[1]) * shape[0] + row + corner[0]
    new = np.flatnonzero(np.diff(index) != 1)
    start = index[np.concatenate([[0], new + 1])]
    stop = index[np.concatenate([new, [len(index) - 1]])] + 1
    edges = np.stack([start, stop], axis=1).ravel()
    ends = np.concatenate([[0], edges, [shape[0] * shape[1]]])
    counts: list[int] = np.diff(ends).tolist()
    return counts if counts[-1] else counts[:-1]


def decode_counts(
    counts: Any, shape: tuple[int, int], *, where: str
) -> NDArray[np.int64]:
    """Return the runs of pixels that are on, in the image flattened by columns.

    Parameters
    ----------
    counts : list of int, or str
        Run lengths as `encode_counts` gives them, or COCO's compressed text.
    shape : (int, int)
        Shape of the image. Nothing of its size is allocated.
    where : str
        File and object; named in messages.

    Returns
    -------
    ndarray of int64, shape (N, 2)
        First index and the one after the last.

    Raises
    ------
    LabelError
        No run lengths, or of more pixels than the image has (NU-A03).

    Examples
    --------
    >>> decode_counts([1, 2, 1, 1, 4], (3, 3), where="a.json").tolist()
    [[1, 3], [4, 5]]
    """
    try:
        lengths = _from_text(counts) if isinstance(counts, str) else _from_list(counts)
    except ValueError as error:
        raise LabelError(
            "NU-A03",
            f"{where} has run lengths that are none ({error}): export it again",
        ) from error
    n_pixels = shape[0] * shape[1]
    # One by one first: the sum of wrong numbers may not fit into an integer.
    if (lengths < 0).any() or (lengths > n_pixels).any() or lengths.sum() > n_pixels:
        raise LabelError(
            "NU-A03",
            f"{where} has run lengths that don't fit its image of {shape[0]} x "
            f"{shape[1]} pixels (height x width): export it again",
        )
    edges = np.cumsum(lengths)
    edges = edges[: len(edges) // 2 * 2].reshape(-1, 2)
    return edges[edges[:, 0] < edges[:, 1]]


def _from_list(counts: Any) -> NDArray[np.int64]:
    numbers = counts if isinstance(counts, list) else [None]
    if not all(type(n) is int and abs(n) < 2**40 for n in numbers):
        raise ValueError("no list of whole numbers")
    return np.array(numbers, np.int64)


def _from_text(text: str) -> NDArray[np.int64]:
    """Return the numbers of COCO's compressed text, six bits a character.

    Of each character five bits belong to a number, the lowest first; the sixth says
    that more follow. The last one's highest bit is the sign. From the fourth on a
    number is the difference to the one two before.
    """
    values = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    values -= 48
    if ((values < 0) | (values > 63)).any() or (len(values) and values[-1] & 32):
        raise ValueError("the compressed text is damaged")
    if not len(values):
        return values
    last = np.flatnonzero(values < 32)
    first = np.concatenate([[0], last[:-1] + 1])
    n_characters = last - first + 1
    if n_characters.max() > _MAX_CHARACTERS:
        raise ValueError("a number is too large")
    place = np.arange(len(values)) - np.repeat(first, n_characters)
    numbers = np.add.reduceat((values & 31) << 5 * place, first)
    numbers -= (values[last] & 16 > 0) * (np.int64(1) << 5 * n_characters)
    for start in (1, 2):
        numbers[start::2] = np.cumsum(numbers[start::2])
    return numbers
