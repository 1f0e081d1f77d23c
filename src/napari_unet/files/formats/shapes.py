"""Labels out of the shapes that other programs store, object by object."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError, LabelError
from napari_unet.imaging.outlines import indices_of, runs_inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

_MAX_PIXELS = 2**29
_MAX_PIXELS_GUESSED = 2**28
_MAX_PLANES = 100_000
_MAX_COORDINATE = 1e7
_MAX_CROSSINGS = 2**24
_MAX_COVER = 8  # how many times all objects together may cover the image
_MAX_NAME = 100
_CHUNK = 2**22
# Okabe and Ito (2008), for classes without a colour where others have one.
_COLORS = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
)  # fmt: skip


def check_pixels(name: str, *shapes: tuple[int, ...]) -> None:
    """Raise before labels are allocated that are too large.

    Raises
    ------
    ImageError
        All shapes together have more pixels than are read at once, or one has too
        many planes (NU-I03).
    """
    n_planes = max((math.prod(shape[:-2]) for shape in shapes), default=0)
    if n_planes > _MAX_PLANES:
        raise ImageError(
            "NU-I03",
            f"{name} claims an image of {n_planes:,} planes, but at most "
            f"{_MAX_PLANES:,} are read: check it, or split it",
        )
    n_pixels = sum(math.prod(shape) for shape in shapes)
    if n_pixels > _MAX_PIXELS:
        raise ImageError(
            "NU-I03",
            f"{name} claims images of {n_pixels:,} pixels, but at most "
            f"{_MAX_PIXELS:,} are read at once: check it, or split it",
        )


def check_guess(name: str, shape: tuple[int, ...]) -> None:
    """Raise before labels are allocated whose size only the objects say.

    Raises
    ------
    ImageError
        An object is far away from the first pixel (NU-I03).
    """
    check_pixels(name, shape)
    if math.prod(shape) > _MAX_PIXELS_GUESSED:
        raise ImageError(
            "NU-I03",
            f"{name} has objects that only an image of {math.prod(shape):,} pixels "
            f"would hold, but without its image at most {_MAX_PIXELS_GUESSED:,} are "
            "read: give the image",
        )


def clean_name(text: Any, default: str = "cell") -> str:
    r"""Return a name as one short line of printable text.

    Examples
    --------
    >>> clean_name("T\ncell\x1b[31m"), clean_name(None)
    ('T cell[31m', 'cell')
    """
    words = str(text if isinstance(text, str | int) else "")[: 10 * _MAX_NAME].split()
    printable = "".join(c for c in " ".join(words) if c.isprintable())
    return printable[:_MAX_NAME].strip() or default


class Classes:
    """The classes that objects name, in the order in which they come.

    Examples
    --------
    >>> classes = Classes()
    >>> classes.index("T cell", "#ff0000"), classes.index(None), classes.index("T cell")
    (1, 2, 1)
    >>> classes.names
    ('background', 'T cell', 'cell')
    """

    def __init__(
        self, names: Sequence[str] = ("background",), colors: Sequence[str] = ()
    ) -> None:
        self._colors: dict[str, str | None] = dict.fromkeys(names)
        self._colors |= zip(names, colors, strict=False)
        self._index = {name: i for i, name in enumerate(self._colors)}

    def index(self, name: Any, color: str | None = None) -> int:
        """Return the class of a name, a new one where it is new; keep its colour."""
        name = clean_name(name)
        self._colors[name] = self._colors.get(name) or color
        return self._index.setdefault(name, len(self._index))

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each class, background first and at least one more."""
        names = tuple(self._colors)
        return names if len(names) > 1 else (*names, "cell")

    @property
    def colors(self) -> tuple[str, ...]:
        """Colour of each class, or empty if no object came with one."""
        return with_all_colors([self._colors.get(name) for name in self.names])


def with_all_colors(given: Sequence[str | None]) -> tuple[str, ...]:
    """Return a colour for each class, or none if no class has one.

    Examples
    --------
    >>> with_all_colors([None, "#ff0000"]), with_all_colors([None, None])
    (('#000000', '#ff0000'), ())
    """
    if not any(given):
        return ()
    others = ["#000000", *(_COLORS[i % len(_COLORS)] for i in range(len(given)))]
    return tuple(color or other for color, other in zip(given, others, strict=False))


def color_of(value: Any) -> str | None:
    """Return ``"#rrggbb"`` for [r, g, b], a packed integer or ``"#rrggbb"``.

    Examples
    --------
    >>> color_of([200, 0, 0]), color_of(-3670016), color_of("#C80000"), color_of("?")
    ('#c80000', '#c80000', '#c80000', None)
    """
    if isinstance(value, list) and len(value) >= 3:
        whole = [v for v in value[:3] if isinstance(v, int) and 0 <= v <= 255]
        return "#{:02x}{:02x}{:02x}".format(*whole) if len(whole) == 3 else None
    if isinstance(value, int) and not isinstance(value, bool):
        return f"#{value & 0xFFFFFF:06x}"
    if isinstance(value, str) and len(value) == 7 and value[0] == "#":
        is_hex = all(c in "0123456789abcdef" for c in value[1:].lower())
        return value.lower() if is_hex else None
    return None


def as_ring(vertices: Any, where: str) -> NDArray[np.float64]:
    """Return a ring (N, 2) of vertices as a file gives them, or say what is wrong.

    Parameters
    ----------
    vertices : list
        Pairs, or a flat list of them; more than two numbers a vertex are cut off.
    where : str
        File and object; named in messages.

    Raises
    ------
    LabelError
        Not a list of places in an image (NU-A03).
    """
    try:
        array = np.asarray(vertices, float)
        ring = array.reshape(-1, 2) if array.ndim == 1 else array[:, :2]
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise _no_place(where) from error
    # Not the other way around: a comparison with NaN is never true.
    if ring.shape != (len(ring), 2) or not (np.abs(ring) <= _MAX_COORDINATE).all():
        raise _no_place(where)
    return ring


def _no_place(where: str) -> LabelError:
    return LabelError(
        "NU-A03",
        f"{where} has corners that are no places in an image: give each two numbers "
        f"within {_MAX_COORDINATE:,.0f} pixels, or delete it there",
    )


def number(wanted: Sequence[Any], planes: Sequence[tuple[int, ...]]) -> list[int]:
    """Return an id for each object: the wanted one, or the smallest that is free.

    Objects of one wanted id on different planes are one cell; on one plane only the
    first gets it.

    Examples
    --------
    >>> number([7, None, 7, 7], [(0,), (0,), (0,), (1,)])
    [7, 1, 2, 7]
    """
    ids: list[int] = []
    taken: set[tuple[int, tuple[int, ...]]] = set()
    reserved = {i for i in wanted if _is_id(i)}
    free = 0
    for i, plane in zip(wanted, planes, strict=True):
        if not _is_id(i) or (i, plane) in taken:
            free += 1
            while free in reserved:
                free += 1
            i = free
        taken.add((i, plane))
        ids.append(int(i))
    return ids


def _is_id(i: Any) -> bool:
    return isinstance(i, int) and not isinstance(i, bool) and 0 < i < 2**31


class Canvas:
    """Labels that objects are painted on one after the other; the first one wins.

    Parameters
    ----------
    shape : tuple of int
        ([T,] [Z,] Y, X).
    name : str
        File, and image in it; named in messages.
    """

    def __init__(self, shape: tuple[int, ...], name: str) -> None:
        self.labels = np.zeros(shape, np.int32)
        self.name = name
        self._n_px = 0
        self._overlaps: list[int] = []
        self._n_outside = 0
        self._n_empty = 0

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Shape (Y, X) of one plane."""
        return (self.labels.shape[-2], self.labels.shape[-1])

    def paint_polygons(
        self, i: int, polygons: Iterable[Sequence[NDArray[np.float64]]], plane: Any = ()
    ) -> None:
        """Paint one object of polygons, each an outer ring and its holes (y, x).

        Raises
        ------
        LabelError
            More edges than a cell could have (NU-A03).
        """
        height, width = self.plane_shape
        runs, is_outside = [np.empty((0, 2), np.int64)], False
        for rings in polygons:
            if not rings or len(rings[0]) < 3:
                continue
            for ring in filter(len, rings):
                y = np.clip(ring[:, 0], 0, height)
                if np.abs(np.diff(y, append=y[:1])).sum() > _MAX_CROSSINGS:
                    raise LabelError(
                        "NU-A03",
                        f"object {i} in {self.name} has {len(ring):,} corners, more "
                        "than any cell: simplify or delete it there",
                    )
                low, high = ring.min(axis=0), ring.max(axis=0)
                is_outside |= bool((low < -0.501).any() or high[0] > height - 0.499)
                is_outside |= bool(high[1] > width - 0.499)
            runs.append(runs_inside(rings, self.plane_shape))
        self._n_outside += is_outside
        self.paint(i, np.concatenate(runs), plane)

    def paint(
        self,
        i: int,
        runs: NDArray[np.int64],
        plane: Any = (),
        *,
        by_column: bool = False,
    ) -> None:
        """Paint one object of runs in its flattened plane, by rows or by columns.

        In a stack the plane () stands for all planes.

        Raises
        ------
        LabelError
            All objects together cover the image too many times (NU-A03).
        """
        height, width = self.plane_shape
        pixels = self.labels[plane].reshape(-1, height * width)
        n_px = int((runs[:, 1] - runs[:, 0]).sum())
        self._n_px += n_px * len(pixels)
        if self._n_px > _MAX_COVER * self.labels.size:
            raise LabelError(
                "NU-A03",
                f"the objects in {self.name} cover the image more than {_MAX_COVER} "
                "times: check that it is an annotation of single cells",
            )
        n_overlap = 0
        if len(pixels) == 1 and 8 * n_px > pixels.size and n_px > 64 * len(runs):
            n_overlap = self._paint_most(i, runs, pixels[0], by_column=by_column)
        else:
            for indices in _chunks(runs, max(_CHUNK // len(pixels), 1)):
                if by_column:
                    indices = indices % height * width + indices // height
                before = pixels[:, indices]
                pixels[:, indices] = np.where(before == 0, np.int32(i), before)
                n_overlap += int(np.count_nonzero((before != 0) & (before != i)))
        self._overlaps += [n_overlap] if n_overlap else []
        self._n_empty += n_px == 0

    def _paint_most(
        self, i: int, runs: NDArray[np.int64], pixels: NDArray[Any], *, by_column: bool
    ) -> int:
        """Paint few long runs as slices, much faster; return how many px overlap."""
        height, width = self.plane_shape
        mask = np.zeros(pixels.size, bool)
        for start, stop in runs.tolist():
            mask[start:stop] = True
        if by_column:
            mask = mask.reshape(width, height).T.reshape(-1)
        before = pixels != 0
        n_overlap = int(np.count_nonzero(mask & before & (pixels != i)))
        np.copyto(pixels, np.int32(i), where=mask & ~before)
        return n_overlap

    def notes(self) -> list[str]:
        """Return what the user should know about the objects, in sentences."""
        overlap = f"overlapped others in {sum(self._overlaps):,} pixels"
        told = (
            (len(self._overlaps), f"{overlap}, which the first one kept"),
            (self._n_outside, "cut off that reached beyond the image"),
            (self._n_empty, "left out that covered no pixel"),
        )
        return [f"{self.name}: {objects(n)} {what}" for n, what in told if n]


def _chunks(runs: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the indices in runs, not too many at once."""
    n = runs[:, 1] - runs[:, 0]
    n_parts = -(-n // size)
    first = np.cumsum(n_parts) - n_parts
    run = np.repeat(np.arange(len(runs)), n_parts)
    start = runs[run, 0] + (np.arange(len(run)) - first[run]) * size
    parts = np.stack([start, np.minimum(start + size, runs[run, 1])], axis=1)
    chunk = np.cumsum(parts[:, 1] - parts[:, 0]) // size
    for few in np.split(parts, np.flatnonzero(np.diff(chunk)) + 1):
        yield indices_of(few)


def objects(n: int) -> str:
    """Return a number of objects in words.

    Examples
    --------
    >>> objects(1), objects(2000)
    ('1 object', '2,000 objects')
    """
    return "1 object" if n == 1 else f"{n:,} objects"
