"""GeoJSON as QuPath writes it: cells as polygons, with their classes."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_unet.errors import LabelError
from napari_unet.files.atomic import write_text
from napari_unet.files.formats.own_member import (
    OWN,
    changed_names,
    left_out,
    own_member,
    parse_own_member,
    to_stored,
    unique_names,
)
from napari_unet.files.formats.shapes import (
    Canvas,
    Classes,
    as_ring,
    check_guess,
    check_pixels,
    clean_name,
    color_of,
    number,
    objects,
)
from napari_unet.files.json_files import read_foreign_json
from napari_unet.imaging.outlines import label_outlines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_unet.files.annotations import StoredAnnotation

_LABEL = "napari_unet_label"
_MAX_CHILDREN = 64
_DETECTIONS = {"cell", "detection", "tile"}


class _Shape(NamedTuple):
    """An object of the file that is made of polygons."""

    polygons: list[list[NDArray[np.float64]]]
    z: int
    t: int
    is_detection: bool
    class_name: str | None
    color: str | None
    wanted_id: int | None


def read_geojson(
    path: str | Path,
    *,
    shape: tuple[int, ...] | None = None,
    notes: list[str] | None = None,
) -> StoredAnnotation:
    """Read the objects of one image from a GeoJSON file, such as QuPath exports.

    Parameters
    ----------
    path : path
        A FeatureCollection, a list of features or a single one. Polygons become
        cells, classifications become classes. Detections are painted before
        annotations, which often surround them.
    shape : tuple of int, optional
        Shape ([T,] [Z,] Y, X) of the image; without it what the file says if it comes
        from here, or just large enough for the objects.
    notes : list of str, optional
        What got lost or was assumed is added here.

    Returns
    -------
    StoredAnnotation
        With `unpainted` None where the file doesn't say what it is.

    Raises
    ------
    FolderError, ConfigError
        Missing, not readable, or too large (NU-F04, NU-C01).
    ImageError
        An image that is too large (NU-I03).
    LabelError
        No GeoJSON file (NU-A02), an object that can't be one (NU-A03).
    """
    path, notes = Path(path), [] if notes is None else notes
    content = read_foreign_json(path)
    own_value = content.get(OWN) if isinstance(content, dict) else None
    own = parse_own_member(own_value, path.name, notes)
    cells = _shapes(content, path, notes)
    background = _shapes([*own.painted_background], path, notes)
    classes = Classes(own.class_names or ("background",), own.class_colors)
    kinds = [classes.index(cell.class_name, cell.color) for cell in cells]
    kinds += [0] * len(background)
    shapes = [*cells, *background]
    size = shape or own.shape or _size_of(shapes, path.name, notes)
    check_pixels(str(path), size)
    planes = _planes(shapes, size[:-2])
    all_of = zip(shapes, kinds, planes, strict=True)
    placed = [(one, k, plane) for one, k, plane in all_of if plane is not None]
    if len(placed) < len(shapes):
        notes.append(
            f"{path.name}: {objects(len(shapes) - len(placed))} left out on planes "
            "that the image does not have"
        )
    canvas = Canvas(size, path.name)
    ids = number([one.wanted_id for one, *_ in placed], [plane for *_, plane in placed])
    # What people draw around cells would otherwise be painted before the cells in it.
    for n in sorted(range(len(placed)), key=lambda n: not placed[n][0].is_detection):
        one, _, plane = placed[n]
        canvas.paint_polygons(ids[n], one.polygons, plane)
    notes += canvas.notes()
    label_class = {i: kind for i, (_, kind, _) in zip(ids, placed, strict=True)}
    return to_stored(
        canvas.labels, label_class, classes, own, source=str(path), notes=notes
    )


def write_geojson(
    path: str | Path, stored: StoredAnnotation, *, notes: list[str] | None = None
) -> None:
    """Write the annotation of one image as GeoJSON, atomically and to the pixel.

    Each cell, on each plane of a stack, is an annotation that QuPath can import, with
    its class and colour. Ids go to QuPath's metadata; finished regions, painted
    background and what unpainted pixels are go to a member called ``napari_unet``,
    which other programs leave alone. The same annotation gives the same bytes.

    Parameters
    ----------
    path : path
        File to write.
    stored : StoredAnnotation
        What to write.
    notes : list of str, optional
        What other programs won't see is added here.

    Raises
    ------
    SaveError
        The file can't be written (NU-S01).
    """
    annotation = stored.annotation
    names = unique_names(annotation.class_names)
    colors = annotation.class_colors or (None,) * len(names)
    cells, background = [], []
    for i, feature in _features(annotation.labels, stored.axes):
        kind = annotation.label_class.get(i, 1)
        if kind == 0:
            background.append(feature)
        else:
            about = {"name": names[kind]} | _rgb(colors[kind])
            feature["properties"] |= {"classification": about}
            cells.append(feature)
    member = own_member(stored, names, background)
    content = {"type": "FeatureCollection", "features": cells, OWN: member}
    write_text(path, json.dumps(content, ensure_ascii=False))
    if notes is None:
        return
    name = Path(path).name
    notes += changed_names(annotation.class_names, names, name)
    if note := left_out(stored, len(background), "GeoJSON"):
        notes.append(f"{name}: {note}")


def _shapes(content: Any, path: Path, notes: list[str]) -> list[_Shape]:
    """Return the objects in a file that are made of polygons."""
    found: list[_Shape] = []
    others: dict[str, int] = {}
    n_nuclei = 0
    for n, feature in enumerate(_flat(content, path), 1):
        geometry = feature.get("geometry")
        geometry = geometry if isinstance(geometry, dict) else {}
        kind = clean_name(geometry.get("type"), "no geometry")
        n_nuclei += "nucleusGeometry" in feature
        if kind not in ("Polygon", "MultiPolygon"):
            others[kind] = others.get(kind, 0) + 1
            continue
        polygons = _polygons(geometry, f"object {n} in {path}")
        found.append(_shape(feature, geometry, polygons))
    skipped = [f"{count:,} {kind}" for kind, count in list(others.items())[:5]]
    if skipped:
        notes.append(
            f"{path.name}: {', '.join(skipped)} left out, because only areas are read"
        )
    if n_nuclei:
        notes.append(
            f"{path.name}: {objects(n_nuclei)} read by the outline of the cell, "
            "without the nucleus"
        )
    return found


def _flat(content: Any, path: Path) -> Iterator[dict[str, Any]]:
    """Yield all features, those inside others as well (QuPath's hierarchy)."""
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    waiting = content if isinstance(content, list) else [content]
    for _ in range(_MAX_CHILDREN):
        children: list[Any] = []
        for feature in waiting:
            if not isinstance(feature, dict) or feature.get("type") != "Feature":
                raise LabelError(
                    "NU-A02",
                    f"{path} is not a GeoJSON annotation file: it should be a "
                    "FeatureCollection, a list of features or one feature",
                )
            yield feature
            inside = _properties(feature).get("childObjects")
            children += inside if isinstance(inside, list) else []
        waiting = children


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    value = feature.get("properties")
    return value if isinstance(value, dict) else {}


def _polygons(geometry: dict[str, Any], where: str) -> list[list[NDArray[np.float64]]]:
    """Return each polygon's rings (y, x), 0 the centre of the first pixel."""
    coordinates = geometry.get("coordinates")
    polygons = [coordinates] if geometry["type"] == "Polygon" else coordinates
    is_nested = isinstance(polygons, list) and all(
        isinstance(rings, list) and all(isinstance(ring, list) for ring in rings)
        for rings in polygons
    )
    if not isinstance(polygons, list) or not is_nested:
        raise LabelError("NU-A03", f"{where} has no list of outlines: export it again")
    # QuPath's first pixel spans 0 to 1, here -0.5 to 0.5.
    return [
        [as_ring(ring, where)[:, ::-1] - 0.5 for ring in rings] for rings in polygons
    ]


def _shape(
    feature: dict[str, Any],
    geometry: dict[str, Any],
    polygons: list[list[NDArray[np.float64]]],
) -> _Shape:
    properties = _properties(feature)
    about = properties.get("classification")
    about = about if isinstance(about, dict) else {"name": about}
    name = about.get("name")
    if isinstance(about.get("names"), list):
        name = ": ".join(map(str, about["names"]))
    plane = geometry.get("plane", properties.get("plane"))
    metadata = properties.get("metadata")
    label = str(metadata.get(_LABEL) if isinstance(metadata, dict) else "")
    is_id = label.isascii() and label.isdigit() and len(label) <= 10
    return _Shape(
        polygons,
        z=_index_in(plane, "z"),
        t=_index_in(plane, "t"),
        is_detection=str(properties.get("objectType")) in _DETECTIONS,
        class_name=name,
        color=color_of(about.get("color", about.get("colorRGB"))),
        wanted_id=int(label) if is_id else None,
    )


def _index_in(plane: Any, axis: str) -> int:
    i = plane.get(axis) if isinstance(plane, dict) else 0
    return i if isinstance(i, int) and 0 <= i < 2**31 else 0


def _size_of(shapes: Sequence[_Shape], name: str, notes: list[str]) -> tuple[int, ...]:
    """Return the smallest shape that holds all objects."""
    notes.append(
        f"{name} doesn't say how large the image is: it was taken to be just large "
        "enough for the objects"
    )
    size, n_z, n_t = np.ones(2), 1, 1
    for one in shapes:
        n_z, n_t = max(n_z, one.z + 1), max(n_t, one.t + 1)
        for rings in one.polygons:
            for ring in rings:
                size = np.max([size, *np.ceil(ring + 0.5)], axis=0)
    height, width = size.astype(int).tolist()
    stack = ((n_t,) if n_t > 1 else ()) + ((n_z,) if n_z > 1 else ())
    check_guess(name, (*stack, height, width))
    return (*stack, height, width)


def _planes(
    shapes: Sequence[_Shape], stack: tuple[int, ...]
) -> list[tuple[int, ...] | None]:
    """Return the plane in a stack that each object is on; None where there is none."""
    if not stack and len({(one.z, one.t) for one in shapes}) == 1:
        return [()] * len(shapes)
    is_time = len(stack) == 1 and not any(one.z for one in shapes)
    planes: list[tuple[int, ...] | None] = []
    for one in shapes:
        index = (one.z, one.t) if is_time else (one.t, one.z)
        beyond, plane = index[: 2 - len(stack)], index[2 - len(stack) :]
        fits = all(i < n for i, n in zip(plane, stack, strict=True))
        planes.append(plane if fits and not any(beyond) else None)
    return planes


def _features(
    labels: NDArray[np.int32], axes: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the id of each cell on each plane, and its feature without a class."""
    stack = labels.shape[:-2]
    is_time = len(stack) == 1 and axes.startswith("T")
    for index in np.ndindex(stack):
        t, z = (index[0], 0) if is_time else (0, 0, *index)[-2:]
        plane = {"plane": {"c": -1, "z": z, "t": t}} if z or t else {}
        for i, pieces in label_outlines(labels[index]).items():
            polygons = [[_coordinates(ring) for ring in rings] for rings in pieces]
            geometry = (
                {"type": "Polygon", "coordinates": polygons[0]}
                if len(polygons) == 1
                else {"type": "MultiPolygon", "coordinates": polygons}
            )
            name = f"{i} {index} {polygons}"
            yield (
                i,
                {
                    "type": "Feature",
                    "id": str(uuid.uuid5(uuid.NAMESPACE_OID, name)),
                    "geometry": geometry | plane,
                    "properties": {
                        "objectType": "annotation",
                        "metadata": {_LABEL: str(i)},
                    },
                },
            )


def _coordinates(ring: NDArray[np.float64]) -> list[list[int]]:
    corners: list[list[int]] = (ring[:, ::-1] + 0.5).astype(int).tolist()
    return [*corners, corners[0]]


def _rgb(color: str | None) -> dict[str, list[int]]:
    return {"color": [int(color[k : k + 2], 16) for k in (1, 3, 5)]} if color else {}
