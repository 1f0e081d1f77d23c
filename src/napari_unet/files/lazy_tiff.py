"""The pixels of a TIFF, read as far as they are needed."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.files.stored import name_of
from napari_unet.files.tiff_damage import damaged, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    import tifffile
    from numpy.typing import NDArray

# Smaller images are read at once: that is faster, and finds all damage at the start.
LAZY_FROM_BYTES = 2**28
# A strip or tile is decoded whole, however small a window is wanted of it.
_LARGEST_SEGMENT_BYTES = 2**26
_JPEG = {6, 7, 33007, 34892}


def open_lazily(path: Path, series: tifffile.TiffPageSeries) -> _Pixels | None:
    """Return the pixels of an image in a TIFF, to be read when they are sliced.

    The file is opened for each reading and closed again. What is then found to be
    damaged raises `ImageError` (NU-I02).

    Parameters
    ----------
    path : Path
        The TIFF.
    series : tifffile.TiffPageSeries
        Its image, whose pages were checked to be there.

    Returns
    -------
    array or None
        With `shape` and `dtype` (in the machine's byte order), to be sliced with one
        slice an axis; None where the image is small, or stored so that reading a
        part of it would mean decoding all.
    """
    axes, page = series.axes, series.keyframe
    has_both_kinds = {"C", "S"} <= set(axes)
    if series.nbytes < LAZY_FROM_BYTES or has_both_kinds or page.dtype is None:
        return None
    if series.dataoffset is not None:
        is_by_rows = -1 < axes.find("Y") < axes.find("X")
        return _Run(path, series, series.dataoffset) if is_by_rows else None
    shape, n = tuple(series.shape), len(page.shape)
    is_in_pages = shape[-n:] == page.shape
    is_in_parts = math.prod(_segment_shape(page)) * page.dtype.itemsize
    if not is_in_pages or is_in_parts > _LARGEST_SEGMENT_BYTES or not _places(page):
        return None
    return _Segments(path, series)


class _Pixels:
    """Pixels in a file; each axis is sliced with a positive step."""

    def __init__(self, path: Path, series: tifffile.TiffPageSeries) -> None:
        self._path, self._name = path, name_of(path)
        self.shape = tuple(int(n) for n in series.shape)
        self.dtype = np.dtype(series.keyframe.dtype).newbyteorder("=")

    def __getitem__(self, key: Sequence[slice]) -> NDArray[Any]:
        parts = [range(*k.indices(n)) for k, n in zip(key, self.shape, strict=True)]
        out = np.empty([len(part) for part in parts], self.dtype)
        if out.size:
            with reading(self._name) as findings, self._path.open("rb") as file:
                self._read(file, parts, out)
            if harm := findings.harmful():
                raise damaged(self._name, harm)
        return out

    def _read(self, file: BinaryIO, parts: Sequence[range], out: NDArray[Any]) -> None:
        raise NotImplementedError

    def _bytes(self, file: BinaryIO, offset: int, n: int) -> bytes:
        file.seek(offset)
        found = file.read(n)
        if len(found) < n:
            raise damaged(self._name, f"it ends before byte {offset + n:,}")
        return found


class _Run(_Pixels):
    """An image that is one run of bytes."""

    def __init__(
        self, path: Path, series: tifffile.TiffPageSeries, offset: int
    ) -> None:
        super().__init__(path, series)
        self._offset = offset
        self._stored = self.dtype.newbyteorder(series.keyframe.parent.byteorder)
        self._y, self._x = series.axes.index("Y"), series.axes.index("X")

    def _read(self, file: BinaryIO, parts: Sequence[range], out: NDArray[Any]) -> None:
        whole = [range(n) for n in self.shape]
        # Whole rows are read at once, else the wanted part of each row by itself.
        takes_rows = list(parts[self._x :]) == whole[self._x :]
        at = self._y if takes_rows and parts[self._y].step == 1 else self._x
        first, rest = parts[at], self.shape[at + 1 :]
        n_px = (first[-1] + 1 - first[0]) * math.prod(rest)
        inner = (slice(None, None, first.step), *map(_as_slice, parts[at + 1 :]))
        outer = itertools.product(*(enumerate(part) for part in parts[:at]))
        for pairs in outer:
            place = (*(i for _, i in pairs), first[0], *[0] * len(rest))
            start = int(np.ravel_multi_index(place, self.shape))
            n_bytes = n_px * self.dtype.itemsize
            found = self._bytes(
                file, self._offset + start * self.dtype.itemsize, n_bytes
            )
            pixels = np.frombuffer(found, self._stored).reshape(-1, *rest)
            out[tuple(k for k, _ in pairs)] = pixels[inner]


@dataclass(frozen=True)
class _Page:
    """Where the strips or tiles of a page are, and what turns them into pixels."""

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    decode: Callable[..., Any]
    arguments: dict[str, Any]


class _Segments(_Pixels):
    """An image of pages in strips or tiles, of which those that are needed are read.

    Within a page pixels are counted as tifffile does: separate samples, depth, rows,
    columns, samples side by side.
    """

    def __init__(self, path: Path, series: tifffile.TiffPageSeries) -> None:
        super().__init__(path, series)
        page = series.keyframe
        self._places = _places(page)
        self._sides = _segment_shape(page)
        self._counts = [
            -(-n // side) for n, side in zip(page.shaped, self._sides, strict=True)
        ]
        self._pages = [_page(page) for page in series.pages]

    def _read(self, file: BinaryIO, parts: Sequence[range], out: NDArray[Any]) -> None:
        n_stack = len(self.shape) - len(self._places)
        window = [range(1)] * 5
        for place, part in zip(self._places, parts[n_stack:], strict=True):
            window[place] = part
        for pairs in itertools.product(*(enumerate(part) for part in parts[:n_stack])):
            i = 0
            for (_, index), n in zip(pairs, self.shape, strict=False):
                i = i * n + index
            plane = out[tuple(k for k, _ in pairs)]
            plane = plane.reshape([len(part) for part in window])
            self._read_page(file, self._pages[i], window, plane)

    def _read_page(
        self, file: BinaryIO, page: _Page, window: Sequence[range], out: NDArray[Any]
    ) -> None:
        touched = [
            range(part[0] // side, part[-1] // side + 1)
            for part, side in zip(window, self._sides, strict=True)
        ]
        for place in itertools.product(*touched):
            i = int(np.ravel_multi_index(place, self._counts))
            stored = self._bytes(file, int(page.offsets[i]), int(page.counts[i]))
            pixels, starts, _ = page.decode(stored, i, **page.arguments)
            pixels = pixels[np.newaxis]
            pairs = [
                _common(part, start, n)
                for part, start, n in zip(window, starts, pixels.shape, strict=True)
            ]
            out[tuple(to for _, to in pairs)] = pixels[tuple(of for of, _ in pairs)]


def _segment_shape(page: Any) -> tuple[int, ...]:
    """Return the shape of a strip or tile, with its samples."""
    if page.is_tiled:
        sides = (page.tiledepth, page.tilelength, page.tilewidth)
    else:
        # Of a page of one strip it may be 2**32 - 1.
        sides = (1, min(page.rowsperstrip, page.imagelength), page.imagewidth)
    return (1, *sides, page.shaped[-1])


def _places(page: Any) -> list[int]:
    """Return which of tifffile's five axes those of a page are; empty if unclear."""
    by_letter = {"Z": 1, "Y": 2, "X": 3, "S": 0 if page.planarconfig == 2 else 4}
    places = [by_letter.get(axis, -1) for axis in page.axes]
    shape = [1] * 5
    for place, n in zip(places, page.shape, strict=True):
        shape[place] = n
    return places if tuple(shape) == page.shaped and -1 not in places else []


def _page(page: Any) -> _Page:
    key = page.keyframe
    arguments = {}
    if key.compression in _JPEG:
        arguments = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
    offsets, counts = (
        np.array(n, np.int64) for n in (page.dataoffsets, page.databytecounts)
    )
    return _Page(offsets, counts, key.decode, arguments)


def _common(part: range, start: int, n: int) -> tuple[slice, slice]:
    """Return what of a segment is wanted, and where in the result that belongs."""
    first = max(-(-(start - part.start) // part.step), 0)
    last = min(-(-(start + n - part.start) // part.step), len(part))
    of = slice(
        part.start + first * part.step - start,
        part.start + (last - 1) * part.step - start + 1,
        part.step,
    )
    return of, slice(first, last)


def _as_slice(part: range) -> slice:
    return slice(part.start, part.stop, part.step)
