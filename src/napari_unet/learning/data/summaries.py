"""What is known of a pair and its planes without keeping their pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_unet.files.lazy import part_of
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.imaging.intensity import intensity_range
from napari_unet.imaging.resampling import resample
from napari_unet.imaging.windows import blocks, boxes
from napari_unet.learning.data.fingerprint import PairDigest
from napari_unet.learning.data.pairs import Facts, check_not_constant
from napari_unet.learning.data.value_units import likeness

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.config import NormalizationConfig
    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.imaging.windows import Window
    from napari_unet.learning.data.pairs import LazyPair

_BLOCK_PX = 1024**2
_GRID_PX = 256
_VIEW_PX = 64
_SMOOTH_PX = 3

Parts = list[tuple["Window", Annotation]]


@dataclass(frozen=True, eq=False)
class Cells:
    """The painted objects of one plane, areas included; one row each.

    Parameters
    ----------
    ids : ndarray of int32, shape (n,)
        As painted.
    kinds : ndarray of int16, shape (n,)
        Class of each.
    areas : ndarray of int64, shape (n,)
        Pixels of each.
    boxes : ndarray of int64, shape (n, 4)
        First row and column, and those behind the last.
    is_cell : ndarray of bool, shape (n,)
        False for areas.
    """

    ids: NDArray[np.int32]
    kinds: NDArray[np.int16]
    areas: NDArray[np.int64]
    boxes: NDArray[np.int64]
    is_cell: NDArray[np.bool_]

    def inside(self, window: Window) -> NDArray[np.bool_]:
        """Return which lie within a window with all their pixels."""
        first = self.boxes[:, :2] >= [side.start for side in window]
        last = self.boxes[:, 2:] <= [side.stop for side in window]
        return np.asarray((first & last).all(axis=1))

    def meeting(self, window: Window) -> NDArray[np.bool_]:
        """Return which may have a pixel in a window."""
        first = self.boxes[:, :2] < [side.stop for side in window]
        last = self.boxes[:, 2:] > [side.start for side in window]
        return np.asarray((first & last).all(axis=1))

    def centred_in(self, window: Window) -> NDArray[np.bool_]:
        """Return whose box has its middle in a window: in one of a partition."""
        middle = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2
        first = middle >= [side.start for side in window]
        last = middle < [side.stop for side in window]
        return np.asarray((first & last).all(axis=1))


@dataclass(frozen=True, eq=False)
class PlaneSummary:
    """What is known of one plane without keeping its pixels.

    Parameters
    ----------
    index : tuple of int
        Which plane of the stack.
    known, painted : (ndarray of int64 (Y,), ndarray of int64 (X,))
        Known and painted pixels in each row and each column.
    grid : ndarray of int32
        Known pixels in squares of 256 px.
    cells : Cells
        What is painted.
    """

    index: tuple[int, ...]
    known: tuple[NDArray[np.int64], NDArray[np.int64]]
    painted: tuple[NDArray[np.int64], NDArray[np.int64]]
    grid: NDArray[np.int32]
    cells: Cells

    @property
    def n_known(self) -> int:
        """Number of known pixels."""
        return int(self.known[0].sum())

    def may_be_known(self, window: Window) -> bool:
        """Return whether a window may have a known pixel."""
        squares = tuple(
            slice(side.start // _GRID_PX, -(-side.stop // _GRID_PX)) for side in window
        )
        return bool(self.grid[squares].any())


@dataclass(frozen=True, eq=False)
class PairSummary:
    """What is known of one pair without keeping its pixels.

    Parameters
    ----------
    facts : Facts
        What agrees among all pairs.
    source : str
        File or layer of the image.
    shape : tuple of int
        ([T,] [Z,] Y, X).
    pixel_size_um, channel_names, class_colors, dtype
        As the image and the annotation say.
    span : IntensityRange
        Of the image, as it was given.
    value_span : IntensityRange, optional
        Of the image to be made; to regress only.
    value_names : tuple of str
        Its channels, where named.
    likeness : float
        How alike both are; -1 where there is no image to be made.
    planes : tuple of PlaneSummary
        Those with a known pixel.
    n_px_of_class : tuple of int
        Known pixels of each class.
    digest : bytes
        Of pixels and labels; for the fingerprint.
    pixels : bytes
        Of the pixels alone: two copies of one image have the same.
    view : ndarray of float32
        Fine structure of the middle plane at 64 x 64, of mean 0 and length 1.
    """

    facts: Facts
    source: str
    shape: tuple[int, ...]
    pixel_size_um: tuple[float, ...] | None
    channel_names: tuple[str, ...]
    class_colors: tuple[str, ...]
    dtype: str
    span: IntensityRange
    value_span: IntensityRange | None
    value_names: tuple[str, ...]
    likeness: float
    planes: tuple[PlaneSummary, ...]
    n_px_of_class: tuple[int, ...]
    digest: bytes
    pixels: bytes
    view: NDArray[np.float32]

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Shape (Y, X) of one plane."""
        return (self.shape[-2], self.shape[-1])

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Shape of what comes before Y and X; empty for one plane."""
        return self.shape[:-2]

    @property
    def field_name(self) -> str:
        """Name of the field that the image shows: without the number of its tile.

        Examples
        --------
        >>> _field_name("images/well 3_tile12.tif")
        'images/well 3'
        """
        return _field_name(self.source)


_TILE = re.compile(
    r"[ _.-]*(tile|crop|patch|block|part)[ _-]?\(?[a-z]?\d+([ _x-]\d+)*\)?$",
    re.IGNORECASE,
)


def _field_name(source: str) -> str:
    path = Path(source)
    stem = path.name
    for suffix in (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".png"):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    bare = _TILE.sub("", stem)
    return (path.parent / bare).as_posix() if bare and bare != stem else source


def summarize(pair: LazyPair, policy: NormalizationConfig) -> PairSummary:
    """Look at a pair once, block by block.

    Parameters
    ----------
    pair : LazyPair
        Checked against each other.
    policy : NormalizationConfig
        How the range of the image is measured.

    Raises
    ------
    ImageError
        All pixels are alike (NU-I12), or none is finite (NU-I08).
    LabelError
        Labels that are none.
    """
    image, made = pair.image, pair.annotation
    span = intensity_range(image, policy)
    check_not_constant(image.source, span)
    facts, digest = Facts.of(pair), PairDigest(pair)
    counts = np.zeros(max(1, len(facts.class_names)), np.int64)
    planes = []
    for index in np.ndindex(image.stack_shape):
        parts: Parts = []
        for window in blocks(image.plane_shape, _BLOCK_PX):
            painted = _painted(pair, index, window, digest)
            known = painted.class_map()[painted.is_known]
            counts += np.bincount(known, minlength=len(counts))
            parts.append((window, painted))
        if any(painted.is_known.any() for _, painted in parts):
            planes.append(_plane_summary(index, parts, image.plane_shape))
    made_image = made if isinstance(made, Image) else None
    return PairSummary(
        facts=facts,
        source=image.source,
        shape=image.shape,
        pixel_size_um=image.pixel_size_um,
        channel_names=image.channel_names,
        class_colors=() if isinstance(made, Image) else made.class_colors,
        dtype=str(image.data.dtype),
        span=span,
        value_span=intensity_range(made_image, policy) if made_image else None,
        value_names=made_image.channel_names if made_image else (),
        likeness=likeness(image, made_image) if made_image else -1.0,
        planes=tuple(planes),
        n_px_of_class=tuple(counts.tolist()),
        digest=digest.whole(),
        pixels=digest.pixels(),
        view=_view(image),
    )


def _painted(
    pair: LazyPair, index: tuple[int, ...], window: Window, digest: PairDigest
) -> Annotation:
    """Return what is painted in a window; of images to be made where they are known."""
    image, made = pair.image, pair.annotation
    pixels = np.asarray(image.data[(slice(None), *index, *window)])
    if not isinstance(made, Image):
        painted = part_of(made, index, window)
        digest.add(pixels, painted)
        return painted
    upscale = made.shape[-1] // image.shape[-1]
    finer = tuple(slice(upscale * s.start, upscale * s.stop) for s in window)
    values = np.asarray(made.data[(slice(None), *index, *finer)])
    digest.add(pixels, values)
    known = coarser(np.isfinite(values).all(axis=0), upscale)
    nothing = np.zeros(known.shape, np.int32)
    return Annotation(nothing, known=known, class_names=("background",))


def coarser(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Return a mask of squares of `factor` pixels: True where any of them is.

    Examples
    --------
    >>> coarser(np.array([[True, False, False, False], [False] * 4]), 2)
    array([[ True, False]])
    """
    height, width = (n // factor for n in mask.shape)
    squares = mask.reshape(height, factor, width, factor)
    return np.asarray(squares.any(axis=(1, 3)))


def _plane_summary(
    index: tuple[int, ...], parts: Parts, shape: tuple[int, int]
) -> PlaneSummary:
    known = tuple(np.zeros(n, np.int64) for n in shape)
    inked = tuple(np.zeros(n, np.int64) for n in shape)
    grid = np.zeros([-(-n // _GRID_PX) for n in shape], np.int32)
    for window, painted in parts:
        is_known, is_painted = painted.is_known, painted.class_map() > 0
        for axis, side in enumerate(window):
            known[axis][side] += is_known.sum(axis=1 - axis)
            inked[axis][side] += is_painted.sum(axis=1 - axis)
        # Blocks are multiples of a square, but for the last ones.
        tops = [np.arange(0, s.stop - s.start, _GRID_PX) for s in window]
        sums = np.add.reduceat(is_known.astype(np.int32), tops[0], axis=0)
        at = tuple(slice(s.start // _GRID_PX, -(-s.stop // _GRID_PX)) for s in window)
        grid[at] = np.add.reduceat(sums, tops[1], axis=1)
    rows, columns = known
    inked_rows, inked_columns = inked
    return PlaneSummary(
        index, (rows, columns), (inked_rows, inked_columns), grid, _cells_of(parts)
    )


def _cells_of(parts: Parts) -> Cells:
    """Return the painted objects of all blocks, those across blocks joined."""
    rows: dict[int, list[int]] = {}
    kinds: dict[int, int] = {}
    for (top, left), painted in parts:
        labels = painted.labels
        for i, (y, x) in boxes(labels):
            kind = painted.label_class.get(i, 1)
            if kind == 0:
                continue
            kinds[i] = kind
            area = int(np.count_nonzero(labels[y, x] == i))
            box = [top.start + y.start, left.start + x.start]
            box += [top.start + y.stop, left.start + x.stop]
            if i in rows:
                area += rows[i][0]
                box[:2] = map(min, box[:2], rows[i][1:3])
                box[2:] = map(max, box[2:], rows[i][3:])
            rows[i] = [area, *box]
    ids = np.array(sorted(rows), np.int32)
    table = np.array([rows[i] for i in ids.tolist()], np.int64).reshape(-1, 5)
    kind_of = np.array([kinds[i] for i in ids.tolist()], np.int16)
    areas = parts[0][1].area_classes
    is_cell = ~np.isin(kind_of, sorted(areas))
    return Cells(ids, kind_of, table[:, 0], table[:, 1:], is_cell)


def _view(image: Image) -> NDArray[np.float32]:
    """Return the fine structure of the middle plane, to tell copies from others.

    What is smooth is taken away: all images of one microscope may share it.
    """
    index = tuple(n // 2 for n in image.stack_shape)
    steps = [slice(None, None, max(1, n // (4 * _VIEW_PX))) for n in image.plane_shape]
    plane = np.asarray(image.data[(slice(0, 1), *index, *steps)])[0].astype(np.float64)
    plane = np.nan_to_num(plane, nan=0, posinf=0, neginf=0)
    plane -= ndimage.gaussian_filter(plane, _SMOOTH_PX)
    edge = 2 * _SMOOTH_PX if min(plane.shape) >= 16 * _SMOOTH_PX else 0
    plane = plane[edge : plane.shape[0] - edge, edge : plane.shape[1] - edge]
    # What is resampled becomes float32, which has no room for the largest values.
    plane /= max(float(np.abs(plane).max(initial=0)), np.finfo(float).tiny)
    small = resample(plane, (_VIEW_PX, _VIEW_PX))
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-12)
