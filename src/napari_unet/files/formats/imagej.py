"""ImageJ ROIs: a zip from the ROI Manager, or a single `.roi`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.files.annotations import StoredAnnotation
from napari_unet.files.formats.common_classes import place_holder
from napari_unet.files.formats.not_held import not_held
from napari_unet.files.formats.own_member import changed_names, unique_names
from napari_unet.files.formats.roi_shapes import (
    RAISED_ON_DAMAGE,
    Position,
    id_and_class,
    n_corners,
    position_of,
    rings_of,
    roi_of,
)
from napari_unet.files.formats.roi_zip import (
    MAX_ROIS,
    read_members,
    refused,
    write_members,
)
from napari_unet.files.formats.shapes import (
    Canvas,
    Classes,
    check_guess,
    clean_name,
    number,
)
from napari_unet.files.stored import name_of
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.outlines import label_outlines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from roifile import ImagejRoi

    from napari_unet.imaging.outlines import Rings

_MAX_CORNERS = 2**23
_MAX_CROSSINGS = 2**26
_MAX_CLASSES = 100
_BACKGROUND = "background"
_AXES = {2: "YX", 3: "", 4: "TZYX"}
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f<>:"/\\|?*]')


class _Area(NamedTuple):
    """One ROI that has an area."""

    rings: Rings
    position: Position
    wanted_id: int | None
    class_name: str
    group: int
    color: str | None


def read_imagej(
    path: str | Path,
    *,
    shape: tuple[int, ...] | None = None,
    notes: list[str] | None = None,
) -> StoredAnnotation:
    """Read ImageJ ROIs as cells.

    A cell keeps its id and its class where the name of its ROI is ``"12 mitosis"``, as
    `write_imagej` writes it; other ROIs are numbered in their order, and of the class
    of their name, if that is a word, or of their group. What unpainted pixels are is
    left open (`unpainted` is None).

    Parameters
    ----------
    path : path
        A ``.zip`` of ROIs, or a ``.roi``.
    shape : tuple of int, optional
        Shape ([T,] [Z,] Y, X) of the image that the ROIs lie on; the smallest that
        holds them by default.
    notes : list of str, optional
        What got lost or was assumed is added here.

    Raises
    ------
    FolderError
        No such file (NU-F01), not readable (NU-F04).
    LabelError
        Not a sound set of ROIs (NU-L11), or ROIs that cover the image far too often
        (NU-A03).
    ImageError
        ROIs that would need a huge image (NU-I03).
    """
    path, notes = Path(path), [] if notes is None else notes
    name = name_of(path)
    areas = _read_areas(path, notes)
    if shape is None:
        shape = _smallest_shape(areas, name)
        notes.append(f"{name} has no image size: {shape} holds all ROIs")
    areas = _one_class_if_many(areas, name, notes)
    annotation = _paint(areas, shape, path, notes)
    return StoredAnnotation(annotation, axes=_AXES.get(len(shape), ""))


def _read_areas(path: Path, notes: list[str]) -> list[_Area]:
    from roifile import ImagejRoi

    name, areas, n_others, n_all = name_of(path), [], 0, 0
    for member, content in read_members(path, notes):
        try:
            roi = ImagejRoi.frombytes(content)
            n_all += n_corners(roi)
            if n_all > _MAX_CORNERS:
                raise refused(name, f"it has more than {_MAX_CORNERS:,} corners")
            rings = rings_of(roi)
        except RAISED_ON_DAMAGE as error:
            member = clean_name(member)
            raise refused(name, f"its ROI {member!r} is damaged") from error
        if rings is None:
            n_others += 1
        else:
            areas.append(_area(roi, rings, member))
    if n_others:
        notes.append(
            f"{name}: {n_others} ROI{'s' * (n_others != 1)} without an area (points, "
            "lines, texts) were left out"
        )
    return areas


def _area(roi: ImagejRoi, rings: Rings, member: str) -> _Area:
    name = roi.name or member
    group = max(int(roi.group), 0)
    wanted_id, class_name = id_and_class(name, group)
    return _Area(
        rings,
        position_of(roi, name),
        wanted_id,
        clean_name(class_name),
        group,
        roi.hexcolor(roi.stroke_color),
    )


def _smallest_shape(areas: list[_Area], name: str) -> tuple[int, ...]:
    corners = [ring.max(axis=0) for area in areas for ring in area.rings]
    if not corners:
        raise refused(name, "it has no ROI with an area")
    y, x = np.maximum(np.ceil(np.max(corners, axis=0) + 0.5), 1).astype(int).tolist()
    n_z = max(area.position.z for area in areas)
    n_t = max(area.position.t for area in areas)
    n = max(*(area.position.position for area in areas), n_z, n_t)
    stack = (n_t, n_z) if n_t > 1 and n_z > 1 else (n,) if n > 1 else ()
    check_guess(name, (*stack, y, x))
    return (*stack, y, x)


def _one_class_if_many(areas: list[_Area], name: str, notes: list[str]) -> list[_Area]:
    """Return the areas as one class where each seems to have a name of its own."""
    n_classes = len({area.class_name for area in areas})
    if n_classes <= _MAX_CLASSES:
        return areas
    notes.append(
        f"{name}: the ROIs have {n_classes:,} different names, which are taken as "
        "names of cells, not of classes"
    )
    return [area._replace(class_name="cell", color=None) for area in areas]


def _paint(
    areas: list[_Area], shape: tuple[int, ...], path: Path, notes: list[str]
) -> Annotation:
    name = name_of(path)
    planes = [_plane(area, shape) for area in areas]
    n_outside = planes.count(None)
    if n_outside:
        notes.append(f"{name}: {_rois(n_outside)} on planes that the image lacks")
    n_everywhere = sum(area.position.plane(shape[:-2]) is None for area in areas)
    if n_everywhere:
        notes.append(
            f"{name}: {_rois(n_everywhere)} on no particular plane and put on all, as "
            "ImageJ shows them"
        )
    _check_crossings(areas, shape, name)
    classes = _classes(areas)
    ids = number(
        [area.wanted_id for area in areas],
        [plane or () for plane in planes],
    )
    canvas = Canvas(shape, name)
    label_class: dict[int, int] = {}
    for area, i, where in zip(areas, ids, planes, strict=True):
        label_class.setdefault(i, classes.index(area.class_name, area.color))
        if where is not None:
            canvas.paint_polygons(i, [area.rings], where)
    notes.extend(canvas.notes())
    painted = set(np.unique(canvas.labels).tolist())
    return Annotation(
        canvas.labels,
        {i: kind for i, kind in label_class.items() if i in painted},
        class_names=classes.names,
        class_colors=classes.colors,
        source=str(path),
    )


def _rois(n: int) -> str:
    return "1 ROI is" if n == 1 else f"{n:,} ROIs are"


def _plane(area: _Area, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the plane of an image that an area is on; () for all, None for none."""
    stack = shape[:-2]
    plane = area.position.plane(stack)
    if plane is None:
        return ()
    is_there = all(0 <= i < n for i, n in zip(plane, stack, strict=True))
    return plane if is_there else None


def _check_crossings(areas: Iterable[_Area], shape: tuple[int, ...], name: str) -> None:
    """Raise where filling the rings would take for ever."""
    n = 0.0
    for area in areas:
        for ring in area.rings:
            y = np.clip(ring[:, 0], 0, shape[-2])
            n += float(np.abs(np.diff(y, append=y[:1])).sum() + 1)
    if n > _MAX_CROSSINGS:
        raise refused(name, "its outlines are longer than those of any cells")


def _classes(areas: list[_Area]) -> Classes:
    """Return the classes in the order of their groups, then of the ROIs."""
    first: dict[str, tuple[int, str | None]] = {}
    for area in areas:
        first.setdefault(area.class_name, (area.group, area.color))
    classes = Classes(_numbered_names(areas) or (_BACKGROUND,))
    for class_name in sorted(first, key=lambda found: first[found][0]):
        classes.index(class_name, first[class_name][1])
    return classes


def _numbered_names(areas: list[_Area]) -> tuple[str, ...]:
    """Return the classes by the groups that `write_imagej` gave them, if it did.

    A class that no ROI is of keeps its number, for its name is in other files.
    """
    found: dict[int, str] = {}
    for area in areas:
        name, group = area.class_name, area.group
        is_ours = area.wanted_id is not None and name != f"group {group}"
        is_ours &= (name == _BACKGROUND) == (group == 0)
        if not is_ours or found.setdefault(group, name) != name:
            return ()
    n = max(found, default=0) + 1
    names = (_BACKGROUND, *(found.get(i, place_holder(i)) for i in range(1, n)))
    return names if len(set(names)) == n <= _MAX_CLASSES else ()


def write_imagej(
    path: str | Path, stored: StoredAnnotation, *, notes: list[str] | None = None
) -> None:
    """Write an annotation as a zip of ROIs for ImageJ's ROI Manager.

    One ROI for each cell and plane: its name is ``"<id> <class>"`` (on stacks
    ``"<id>-z003 <class>"``), its group the number of the class, its stroke the colour
    of the class. A cell in one piece is a traced ROI along the edges of its pixels,
    one with holes or in pieces a composite ROI. No pixel is lost.

    Parameters
    ----------
    path : path
        The ``.zip`` to write.
    stored : StoredAnnotation
        What to write.
    notes : list of str, optional
        What got lost is added here.

    Raises
    ------
    LabelError
        More cells than are read back (NU-L12).
    SaveError
        The file can't be written (NU-S01).
    """
    path, annotation = Path(path), stored.annotation
    members = []
    for plane in np.ndindex(annotation.labels.shape[:-2]):
        members += list(_members_of(stored, plane))
        if len(members) > MAX_ROIS:
            raise LabelError(
                "NU-L12",
                f"{annotation.source} has more than {MAX_ROIS:,} outlines, too many "
                "for a zip of ROIs: save it as a label TIFF, or in parts",
            )
    write_members(path, members)
    if notes is None:
        return
    names = annotation.class_names
    written = _written_names(names)
    notes.extend(changed_names(names[1:], written[1:], path.name))
    notes.extend(not_held(stored, path.name, "ImageJ"))
    areas = [annotation.class_names[i] for i in sorted(annotation.area_classes)]
    if areas:
        notes.append(
            f"{path.name}: ImageJ does not know which classes are areas: "
            f"{', '.join(areas)} will be read as cells"
        )


def _members_of(
    stored: StoredAnnotation, plane: tuple[int, ...]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the ROIs of one plane."""
    annotation = stored.annotation
    letters = stored.axes[:-2].lower() if len(stored.axes) == len(plane) + 2 else ""
    names = _written_names(annotation.class_names)
    letters = letters or "tz"[-len(plane) :] * bool(plane)
    place = "".join(f"-{a}{i + 1:03}" for a, i in zip(letters, plane, strict=True))
    for i, pieces in label_outlines(annotation.labels[plane]).items():
        kind = annotation.label_class.get(i, 1)
        roi = roi_of(pieces)
        _set_position(roi, plane)
        roi.name = f"{i}{place} {names[kind]}"
        roi.group = kind
        if annotation.class_colors:
            roi.stroke_color = b"\xff" + bytes.fromhex(
                annotation.class_colors[kind][1:]
            )
        yield _NOT_IN_NAMES.sub("_", roi.name), roi.tobytes()


def _written_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes as names of ROIs can hold them."""
    # roifile counts characters, ImageJ units of UTF-16.
    plain = ["".join(c if ord(c) < 0x10000 else "?" for c in name) for name in names]
    return unique_names([_BACKGROUND, *plain[1:]])


def _set_position(roi: ImagejRoi, plane: tuple[int, ...]) -> None:
    # ImageJ forgets the one when it reads the other: the position holds for every
    # stack of one axis, z and t for stacks of both.
    if len(plane) == 1:
        roi.position = plane[0] + 1
    elif plane:
        roi.t_position, roi.z_position = (i + 1 for i in plane)
