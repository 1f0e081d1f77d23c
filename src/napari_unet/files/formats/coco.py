"""COCO JSON: cells as polygons or run lengths, for many images in one file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError
from scipy import ndimage

from napari_unet.errors import LabelError
from napari_unet.files.atomic import write_text
from napari_unet.files.formats.coco_content import (
    CocoContent,
    CocoImage,
    CocoObject,
    Id,
    parse_coco,
    polygons_of,
    size_of,
)
from napari_unet.files.formats.image_names import image_name
from napari_unet.files.formats.own_member import (
    OWN,
    OwnMember,
    changed_names,
    left_out,
    own_member,
    parse_own_member,
    to_stored,
    unique_names,
)
from napari_unet.files.formats.run_lengths import decode_counts, encode_counts
from napari_unet.files.formats.shapes import (
    Canvas,
    Classes,
    check_guess,
    check_pixels,
    clean_name,
    color_of,
    number,
)
from napari_unet.files.formats.shapes import objects as counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.files.annotations import StoredAnnotation
    from napari_unet.imaging.arrays import Annotation


def read_coco(
    path: str | Path, *, notes: list[str] | None = None
) -> dict[str, StoredAnnotation]:
    """Read the annotations of all images in a COCO file.

    Parameters
    ----------
    path : path
        JSON of COCO's "object detection" kind: polygons and run lengths become
        cells, categories become classes. One that is called as the background is
        painted background.
    notes : list of str, optional
        What got lost or was assumed is added here.

    Returns
    -------
    dict of str to StoredAnnotation
        By the images' names as the file has them: relative to the image folder, with
        forward slashes. `unpainted` is None where the file doesn't say what it is.

    Raises
    ------
    FolderError, ConfigError
        Missing, not readable, or too large (NU-F04, NU-C01).
    ImageError
        Images that are too large together (NU-I03).
    LabelError
        An image outside of the image folder (NU-A01), no COCO file (NU-A02), an object
        that can't be one (NU-A03).
    """
    path, notes = Path(path), [] if notes is None else notes
    content = parse_coco(path)
    names = _names_by_id(path, content.images)
    objects = _objects_by_image(path, content, notes)
    members = _own_members(content, names, notes)
    shapes = {
        image.id: _shape(
            image, objects[image.id], f"{names[image.id]} in {path}", notes
        )
        for image in content.images
    }
    check_pixels(str(path), *shapes.values())
    classes, class_of = _class_of_category(content, members)
    painted = {}
    for i, name in names.items():
        own, where = members[i], f"{name} in {path}"
        cells = [(one, class_of[one.category_id]) for one in objects[i]]
        background = [(one, 0) for one in _background(own.painted_background)]
        labels, label_class = _paint(
            shapes[i], [*cells, *background], name=where, notes=notes
        )
        painted[name] = to_stored(
            labels, label_class, classes, own, source=where, notes=notes
        )
    return painted


def write_coco(
    path: str | Path,
    annotations: Mapping[str, StoredAnnotation],
    *,
    notes: list[str] | None = None,
) -> None:
    """Write annotations of planes as a COCO file, atomically and to the pixel.

    Cells are written as run lengths, which hold holes, too. Ids of cells, finished
    regions, painted background and what unpainted pixels are go to members called
    ``napari_unet``, which other programs leave alone.

    Parameters
    ----------
    path : path
        File to write.
    annotations : mapping of str to StoredAnnotation
        By the names of the images, relative to the image folder.
    notes : list of str, optional
        What other programs won't see is added here.

    Raises
    ------
    LabelError
        A name outside of the image folder (NU-A01), a stack (NU-A04).
    SaveError
        The file can't be written (NU-S01).
    """
    notes = [] if notes is None else notes
    classes, unified = _with_common_classes(annotations)
    images: list[Any] = []
    objects: list[Any] = []
    members: dict[str, Any] = {}
    told: dict[str, list[str]] = {}
    for i, (key, stored) in enumerate(unified.items(), 1):
        name = image_name(key, str(path))
        height, width = _plane_shape(name, stored)
        images.append({"id": i, "file_name": name, "width": width, "height": height})
        background = []
        for kind, one in _written_objects(stored.annotation):
            if kind == 0:
                background.append(one)
            else:
                ids = {"id": len(objects) + 1, "image_id": i, "category_id": kind}
                objects.append(ids | one)
        members[str(i)] = own_member(stored, classes.names, background)
        told.setdefault(left_out(stored, len(background), "COCO"), []).append(name)
    content = {
        "images": images,
        "categories": _categories(classes),
        "annotations": objects,
        OWN: {"images": members},
    }
    write_text(path, json.dumps(content, ensure_ascii=False))
    for note, (first, *others) in told.items():
        more = f" and {len(others):,} more" if others else ""
        notes += [f"{first}{more}: {note}"] if note else []
    for stored in annotations.values():
        names = stored.annotation.class_names
        found = changed_names(names, unique_names(names), Path(path).name)
        notes += [note for note in found if note not in notes]


def _names_by_id(path: Path, images: Sequence[CocoImage]) -> dict[Id, str]:
    names: dict[Id, str] = {}
    seen: set[str] = set()
    for image in images:
        name = image_name(image.file_name, str(path))
        if image.id in names or name in seen:
            raise LabelError(
                "NU-A02",
                f"{path} has the image {name} or the image number {image.id!r:.40} "
                "twice: give each image one entry and one number",
            )
        names[image.id] = name
        seen.add(name)
    return names


def _objects_by_image(
    path: Path, content: CocoContent, notes: list[str]
) -> dict[Id, list[CocoObject]]:
    """Return the objects of each image that have a shape."""
    objects: dict[Id, list[CocoObject]] = {image.id: [] for image in content.images}
    n_strays = n_boxes = n_crowds = 0
    for one in content.annotations:
        if one.image_id not in objects:
            n_strays += 1
        elif not one.segmentation:
            n_boxes += 1
        else:
            n_crowds += bool(one.iscrowd)
            objects[one.image_id].append(one)
    told = (
        (n_strays, "left out that belonged to no image in the file"),
        (n_boxes, "left out that had a box or nothing, but no shape"),
        (n_crowds, "marked as a crowd, each of which was read as one cell"),
    )
    notes += [f"{path.name}: {counted(n)} {what}" for n, what in told if n]
    return objects


def _own_members(
    content: CocoContent, names: Mapping[Id, str], notes: list[str]
) -> dict[Id, OwnMember]:
    images = content.own.get("images") if isinstance(content.own, dict) else None
    values = images if isinstance(images, dict) else {}
    return {
        i: parse_own_member(values.get(str(i)), name, notes)
        for i, name in names.items()
    }


def _class_of_category(
    content: CocoContent, members: Mapping[Id, OwnMember]
) -> tuple[Classes, dict[Id | None, int]]:
    """Return the classes, and the class of each category that objects name."""
    own = next(iter(members.values()), OwnMember())
    classes = Classes(own.class_names or ("background",), own.class_colors)
    class_of: dict[Id | None, int] = {}
    for category in content.categories:
        name = clean_name(category.name, f"category {category.id!r:.40}")
        class_of[category.id] = classes.index(name, color_of(category.color))
    for one in content.annotations:
        if one.category_id not in class_of:
            is_none = one.category_id is None
            name = "cell" if is_none else f"category {one.category_id!r:.40}"
            class_of[one.category_id] = classes.index(name)
    return classes, class_of


def _shape(
    image: CocoImage, objects: Sequence[CocoObject], name: str, notes: list[str]
) -> tuple[int, int]:
    if image.height and image.width:
        return image.height, image.width
    notes.append(
        f"{name} has no size there: it was taken to be just large enough for its "
        "objects"
    )
    shape = (1, 1)
    for one in objects:
        if isinstance(one.segmentation, dict):
            return size_of(one.segmentation, name)
        for ring in polygons_of(one, name):
            corner = np.ceil(ring.max(axis=0) + 0.5).astype(int).tolist()
            shape = (max(shape[0], corner[0]), max(shape[1], corner[1]))
    check_guess(name, shape)
    return shape


def _paint(
    shape: tuple[int, int],
    objects: Sequence[tuple[CocoObject, int]],
    *,
    name: str,
    notes: list[str],
) -> tuple[NDArray[np.int32], dict[int, int]]:
    """Return the labels of one image, and the class of each."""
    canvas = Canvas(shape, name)
    ids = number([one.wanted_id for one, _ in objects], [()] * len(objects))
    for i, (one, _) in zip(ids, objects, strict=True):
        segmentation = one.segmentation
        where = f"annotation {one.id!r:.40} of {name}"
        if isinstance(segmentation, dict):
            if size_of(segmentation, where) != shape:
                raise LabelError(
                    "NU-A03",
                    f"{where} has run lengths for another size than its image's "
                    f"{shape[0]} x {shape[1]} (height x width): export it again",
                )
            runs = decode_counts(segmentation.get("counts"), shape, where=where)
            canvas.paint(i, runs, by_column=True)
        else:
            rings = polygons_of(one, where)
            canvas.paint_polygons(i, [[ring] for ring in rings])
    notes += canvas.notes()
    return canvas.labels, {i: k for i, (_, k) in zip(ids, objects, strict=True)}


def _background(values: Sequence[Any]) -> list[CocoObject]:
    """Return painted background as `write_coco` kept it."""
    found = []
    for value in values:
        with contextlib.suppress(ValidationError, TypeError):
            found.append(CocoObject.model_validate({"image_id": 0} | value))
    return [one for one in found if one.segmentation]


def _plane_shape(name: str, stored: StoredAnnotation) -> tuple[int, int]:
    shape = stored.annotation.labels.shape
    if len(shape) != 2:
        raise LabelError(
            "NU-A04",
            f"{name} is a stack of shape {shape}, but COCO holds single planes: write "
            "TIFF or GeoJSON, or its planes one by one",
        )
    return shape


def _with_common_classes(
    annotations: Mapping[str, StoredAnnotation],
) -> tuple[Classes, dict[str, StoredAnnotation]]:
    """Return classes for all annotations, and these with such classes."""
    all_names = [unique_names(s.annotation.class_names) for s in annotations.values()]
    classes = Classes(all_names[0][:1] if all_names else ("background",))
    turns = []
    for stored, names in zip(annotations.values(), all_names, strict=True):
        colors = stored.annotation.class_colors or [None] * len(names)
        classes.index(classes.names[0], colors[0])
        pairs = zip(names[1:], colors[1:], strict=True)
        turns.append([0, *(classes.index(name, color) for name, color in pairs)])
    unified = {}
    for (key, stored), turn in zip(annotations.items(), turns, strict=True):
        old = stored.annotation
        ids = dict.fromkeys(np.unique(old.labels[old.labels > 0]).tolist(), 1)
        annotation = dataclasses.replace(
            old,
            label_class={i: turn[old.label_class.get(i, k)] for i, k in ids.items()},
            class_names=classes.names,
            class_colors=classes.colors,
            area_classes=frozenset(turn[k] for k in old.area_classes),
        )
        unified[key] = dataclasses.replace(stored, annotation=annotation)
    return classes, unified


def _categories(classes: Classes) -> list[dict[str, Any]]:
    colors = classes.colors or (None,) * len(classes.names)
    return [
        {"id": i, "name": name, "supercategory": "cell"}
        | ({"color": [int(color[k : k + 2], 16) for k in (1, 3, 5)]} if color else {})
        for i, (name, color) in enumerate(zip(classes.names, colors, strict=True))
        if i
    ]


def _written_objects(annotation: Annotation) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the class of each cell, and the cell in COCO's way, without numbers."""
    labels = annotation.labels
    shape = labels.shape
    ids = np.unique(labels[labels > 0])
    # Numbered anew: ids may be far apart, and there is a slice for each number.
    numbers = np.searchsorted(ids, labels).astype(np.int32) + 1
    numbers[labels == 0] = 0
    boxes = ndimage.find_objects(numbers)
    for n, (i, (rows, columns)) in enumerate(zip(ids.tolist(), boxes, strict=True), 1):
        mask = numbers[rows, columns] == n
        counts = encode_counts(mask, (rows.start, columns.start), shape)
        yield (
            annotation.label_class.get(i, 1),
            {
                "segmentation": {"size": list(shape), "counts": counts},
                "area": int(mask.sum()),
                "bbox": [columns.start, rows.start, *mask.shape[::-1]],
                "iscrowd": 0,
                OWN: {"label": i},
            },
        )
