"""One ImageJ ROI: its rings, its plane, its class; and a ROI from rings.

ImageJ's corners (x, y) are those of pixels: pixel (0, 0) spans 0 to 1. Rings here are
(y, x) with 0 at the centre of the first pixel, as everywhere in napari-unet.
"""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from roifile import ImagejRoi

    from napari_unet.imaging.outlines import Rings

# What roifile raises on damaged ROIs.
RAISED_ON_DAMAGE = (
    struct.error,
    ArithmeticError,
    AssertionError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
_MAX_CORNER = 1e7
_N_CURVE_STEPS = 16
# Numbers after each step of a path: move, line, quadratic and cubic curve, close.
_N_NUMBERS = {0: 2, 1: 2, 2: 4, 3: 6, 4: 0}
_MAX_INTEGER = 32_000
_OUR_NAME = re.compile(r"(\d{1,10})(?:-[tz]\d+)*(?: (.+))?", re.DOTALL)
_SLICE_NAME = re.compile(r"(\d{4,9})-\d{4,}-\d{4,}(-\d+)?")
_WORDS = re.compile(r"(\D*[^\W\d_]\D*?)(-\d+)?")


class Position(NamedTuple):
    """Where in a stack a ROI is, counted from 1; 0 is nowhere in particular."""

    position: int
    z: int
    t: int

    def plane(self, stack: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the index of its plane; None stands for all, negatives for none."""
        if not stack:
            return ()
        if len(stack) == 1:
            n = self.position or max(self.z, self.t)
            return (n - 1,) if n else None
        if self.z or self.t:
            return (max(self.t, 1) - 1, max(self.z, 1) - 1)
        if not self.position:
            return None
        t, z = divmod(self.position - 1, stack[1])
        return (t, z)


def position_of(roi: ImagejRoi, name: str) -> Position:
    """Return where a ROI is; by ImageJ's own name of it if nothing else says so."""
    found = [roi.position, roi.z_position, roi.t_position]
    if not any(n > 0 for n in found) and (match := _SLICE_NAME.fullmatch(name)):
        return Position(int(match[1]), 0, 0)
    return Position(*(max(n, 0) for n in found))


def id_and_class(name: str, group: int) -> tuple[int | None, str]:
    """Return the id and the class that the name and the group of a ROI stand for.

    Examples
    --------
    >>> id_and_class("12-z003 mitosis", 2), id_and_class("mitosis-3", 0)
    ((12, 'mitosis'), (None, 'mitosis'))
    >>> id_and_class("0012-0345", 0), id_and_class("F02-C1", 4)
    ((None, 'cell'), (None, 'group 4'))
    """
    by_group = f"group {group}" if group > 0 else "cell"
    if match := _OUR_NAME.fullmatch(name):
        return int(match[1]), match[2] or by_group
    if match := _WORDS.fullmatch(name):
        return None, match[1]
    return None, by_group


def n_corners(roi: ImagejRoi) -> int:
    """Return about how many corners the rings of a ROI have."""
    if roi.roitype.name in {"RECT", "OVAL"} and not roi.composite:
        is_round = roi.roitype.name == "OVAL" or roi.rounded_rect_arc_size
        return 4 * max(int(roi.bottom - roi.top), 1) if is_round else 4
    return int(roi.n_coordinates) + max(int(roi.shape_roi_size), 0) // 2


def rings_of(roi: ImagejRoi) -> Rings | None:
    """Return the rings around the area of a ROI, or None if it has no area.

    Splines are taken as the polygons of their corners.

    Raises
    ------
    ValueError
        A path that is none, or corners that are no places in an image.
    """
    from roifile import ROI_SUBTYPE as SUBTYPE
    from roifile import ROI_TYPE as TYPE

    if roi.subtype in {SUBTYPE.TEXT, SUBTYPE.IMAGE, SUBTYPE.ARROW}:
        return None
    rings: list[NDArray[Any]]
    if roi.composite and roi.roitype == TYPE.RECT:
        rings = list(_path_rings(np.asarray(roi.multi_coordinates, float)))
    elif roi.roitype in {TYPE.RECT, TYPE.OVAL}:
        rings = [_box_ring(roi, is_oval=roi.roitype == TYPE.OVAL)]
    elif roi.roitype in {TYPE.POLYGON, TYPE.FREEHAND, TYPE.TRACED}:
        rings = [np.asarray(roi.coordinates(), float)]
    else:
        return None
    placed = [ring[:, ::-1] - 0.5 for ring in rings if len(ring)]
    if not all((np.abs(ring) < _MAX_CORNER).all() for ring in placed):  # NaN neither
        raise ValueError("its corners are no places in an image")
    return placed


def _path_rings(path: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the rings (x, y) of a path as a composite ROI stores it."""
    numbers = path.tolist()
    ring: list[tuple[float, float]] = []
    i = 0
    while i < len(numbers):
        step = numbers[i]
        n = _N_NUMBERS.get(step)
        if n is None or i + n >= len(numbers):
            raise ValueError("its path is damaged")
        ends = list(
            zip(numbers[i + 1 : i + n : 2], numbers[i + 2 : i + n + 1 : 2], strict=True)
        )
        if step == 0 and ring:
            yield np.array(ring)
            ring = []
        if step in (2, 3) and ring:
            ends = _curve([ring[-1], *ends])
        ring += ends
        i += n + 1
    if ring:
        yield np.array(ring)


def _curve(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points along a Bezier curve (de Casteljau), without the first."""
    t = np.linspace(0, 1, _N_CURVE_STEPS + 1)[1:, np.newaxis]
    level = [np.broadcast_to(np.asarray(p), (len(t), 2)) for p in points]
    while len(level) > 1:
        level = [(1 - t) * a + t * b for a, b in pairwise(level)]
    return [(float(x), float(y)) for x, y in level[0]]


def _box_ring(roi: ImagejRoi, *, is_oval: bool) -> NDArray[np.float64]:
    """Return the ring (x, y) of a rectangle, with round corners maybe, or an oval.

    Row by row, with the width at the centre line of the row: a pixel is inside if its
    centre is.
    """
    left, top = float(roi.left), float(roi.top)
    width, height = float(roi.right - roi.left), float(roi.bottom - roi.top)
    if roi.subpixelrect:
        left, top, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
    if not all(abs(v) < _MAX_CORNER for v in (left, top, width, height)):
        raise ValueError("its corners are no places in an image")
    if width <= 0 or height <= 0:
        return np.empty((0, 2))
    radius = max(roi.rounded_rect_arc_size, 0) / 2
    rx, ry = (
        (width / 2, height / 2)
        if is_oval
        else (min(radius, width / 2), min(radius, height / 2))
    )
    if not rx or not ry:
        right, bottom = left + width, top + height
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    row = np.arange(np.floor(top), np.ceil(top + height))
    off = np.abs(row + 0.5 - (top + height / 2))  # of centre lines, from the middle
    row, off = row[off < height / 2], off[off < height / 2]
    part = np.maximum(off - (height / 2 - ry), 0) / ry
    half = np.repeat(width / 2 - rx + rx * np.sqrt(1 - part**2), 2)
    y = np.stack([row, row + 1], axis=1).ravel()
    middle = left + width / 2
    right_side = np.stack([middle + half, y], axis=1)
    left_side = np.stack([middle - half, y], axis=1)[::-1]
    return np.concatenate([right_side, left_side])


def roi_of(pieces: Sequence[Rings]) -> ImagejRoi:
    """Return a ROI of the outlines of a cell: traced, or composite with holes.

    Parameters
    ----------
    pieces : sequence of list of ndarray
        As `imaging.outlines.outlines` returns them.
    """
    from roifile import ROI_TYPE, ImagejRoi

    rings = [ring[:, ::-1] + 0.5 for piece in pieces for ring in piece]
    corners = np.rint(np.concatenate(rings)).astype(np.int32)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    # ImageJ stores a corner of a traced ROI in 16 bits.
    if len(rings) == 1 and max(right, bottom) <= _MAX_INTEGER:
        roi = ImagejRoi(roitype=ROI_TYPE.TRACED, n_coordinates=len(corners))
        roi.integer_coordinates = corners - (left, top)
    else:
        path = np.concatenate([_path(ring) for ring in rings])
        roi = ImagejRoi(roitype=ROI_TYPE.RECT, shape_roi_size=len(path))
        roi.multi_coordinates = path
    roi.left, roi.top, roi.right, roi.bottom = map(int, (left, top, right, bottom))
    return roi


def _path(ring: NDArray[Any]) -> NDArray[np.float32]:
    """Return a ring (x, y) as a path: move, lines, close."""
    steps = np.ones((len(ring), 3), np.float32)
    steps[0, 0] = 0
    steps[:, 1:] = ring
    return np.append(steps.ravel(), np.float32(4))
