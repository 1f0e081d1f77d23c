"""What other formats have no place for, in a member that only napari-unet reads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_unet.errors import LabelError
from napari_unet.files.annotations import (
    Region,
    StoredAnnotation,
    Unpainted,
    known_pixels,
)
from napari_unet.files.formats.shapes import clean_name
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.files.formats.shapes import Classes

OWN = "napari_unet"

_AXES = "T?Z?YX"

_Index = Annotated[int, Field(ge=0, lt=2**31)]
_Coordinate = Annotated[float, Field(ge=-1e7, le=1e7)]
_Corners = Annotated[
    tuple[tuple[_Coordinate, _Coordinate], ...], Field(min_length=3, max_length=10_000)
]


class OwnMember(BaseModel):
    """What a format of cells alone does not hold of one annotation.

    `area_classes` counts in `class_names`, and `painted_background` holds objects in
    the way of the format.
    """

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    class_names: tuple[str, ...] = ()
    class_colors: tuple[Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")], ...] = ()
    area_classes: tuple[_Index, ...] = ()
    unpainted: Unpainted | None = None
    regions: tuple[tuple[tuple[_Index, ...], _Corners], ...] = ()
    shape: tuple[Annotated[int, Field(ge=1, lt=2**31)], ...] | None = Field(
        None, min_length=2, max_length=4
    )
    axes: str = Field("", pattern=f"^({_AXES})?$")
    pixel_size_um: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, min_length=2, max_length=3
    )
    painted_background: tuple[Any, ...] = ()


def own_member(
    stored: StoredAnnotation,
    class_names: Sequence[str],
    painted_background: Sequence[Any],
) -> dict[str, Any]:
    """Return the member for one annotation, whose class names are `class_names`.

    Raises
    ------
    LabelError
        A finished region that is none (NU-L09).
    """
    annotation = stored.annotation
    try:
        own = OwnMember(
            class_names=tuple(class_names),
            class_colors=annotation.class_colors,
            area_classes=tuple(sorted(annotation.area_classes)),
            unpainted=stored.unpainted,
            regions=tuple((tuple(r.plane), _corners(r)) for r in stored.regions),
            shape=annotation.labels.shape,
            axes=stored.axes if re.fullmatch(_AXES, stored.axes) else "",
            pixel_size_um=stored.pixel_size_um,
            painted_background=tuple(painted_background),
        )
    except ValidationError as error:
        raise LabelError(
            "NU-L09",
            f"a finished region in {annotation.source} has fewer than 3 corners, more "
            "than 10,000 or one that is no place: draw it again",
        ) from error
    return own.model_dump(mode="json", exclude_defaults=True)


def _corners(region: Region) -> tuple[tuple[float, float], ...]:
    return tuple((float(y), float(x)) for y, x in region.vertices)


def parse_own_member(value: Any, name: str, notes: list[str]) -> OwnMember:
    """Return the member of a file as it was written; an empty one if it is none."""
    if value is None:
        return OwnMember()
    try:
        own = OwnMember.model_validate(value)
    except ValidationError:
        notes.append(
            f"{name}: what napari-unet kept beside the cells is damaged and was left "
            "out: check the finished regions and what unpainted pixels are"
        )
        return OwnMember()
    is_whole = len(own.class_colors) == len(own.class_names)
    colors = own.class_colors if is_whole else ()
    names = unique_names(own.class_names)
    return own.model_copy(update={"class_names": names, "class_colors": colors})


def to_stored(
    labels: NDArray[np.int32],
    label_class: Mapping[int, int],
    classes: Classes,
    own: OwnMember,
    *,
    source: str,
    notes: list[str],
) -> StoredAnnotation:
    """Return painted labels and what the member says as a `StoredAnnotation`."""
    regions = tuple(Region(plane, corners) for plane, corners in own.regions)
    try:
        known = known_pixels(labels, regions, own.unpainted)
    except LabelError:
        notes.append(
            f"{source}: {len(regions)} finished regions don't fit the image and were "
            "left out"
        )
        regions, known = (), known_pixels(labels, (), own.unpainted)
    is_painted = set(label_class) & set(np.unique(labels).tolist())
    annotation = Annotation(
        labels,
        {i: label_class[i] for i in sorted(is_painted)},
        known=known,
        class_names=classes.names,
        class_colors=classes.colors,
        area_classes=frozenset(i for i in own.area_classes if i < len(classes.names)),
        source=source,
    )
    fits = len(own.axes) == labels.ndim
    return StoredAnnotation(
        annotation,
        regions,
        own.unpainted,
        axes=own.axes if fits else "",
        pixel_size_um=own.pixel_size_um,
    )


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return clean class names, no two of which are the same.

    Examples
    --------
    >>> unique_names(["background", "cell", "cell"])
    ('background', 'cell', 'cell 2')
    """
    found: list[str] = []
    for name in map(clean_name, names):
        n, unique = 1, name
        while unique in found:
            n += 1
            unique = f"{name[:90]} {n}"
        found.append(unique)
    return tuple(found)


def changed_names(names: Sequence[str], written: Sequence[str], name: str) -> list[str]:
    r"""Return a note on class names that are written otherwise than they are.

    Examples
    --------
    >>> changed_names(["background", "T\tcell"], ["background", "T cell"], "a.zip")
    ["a.zip: 1 class name was changed: 'T\\tcell' to 'T cell'"]
    """
    pairs = [
        f"{old[:40]!r} to {new[:40]!r}"
        for old, new in zip(names, written, strict=True)
        if old != new
    ]
    if not pairs:
        return []
    are = "class name was" if len(pairs) == 1 else "class names were"
    more = ", ..." * (len(pairs) > 3)
    return [f"{name}: {len(pairs)} {are} changed: {', '.join(pairs[:3])}{more}"]


def left_out(stored: StoredAnnotation, n_background: int, to: str) -> str:
    """Return what other programs don't see of an annotation, or an empty text.

    Parameters
    ----------
    stored : StoredAnnotation
        What is written.
    n_background : int
        Number of objects of painted background.
    to : str
        What people call the format.
    """
    annotation = stored.annotation
    areas = [annotation.class_names[i] for i in sorted(annotation.area_classes)]
    counts = (
        (len(stored.regions), "finished region"),
        (n_background, "painted background object"),
        (len(areas), "area class" + "e" * (len(areas) > 1)),
    )
    parts = [f"{n:,} {what}{'s' * (n > 1)}" for n, what in counts if n]
    if areas:
        parts[-1] += f" ({', '.join(areas[:5])}{', ...' * (len(areas) > 5)})"
    if stored.unpainted != "background" and not annotation.is_known.all():
        parts.append("what is not painted being unknown")
    if not parts:
        return ""
    *most, last = parts
    both = f"{', '.join(most)} and {last}" if most else last
    return (
        f"{to} has no place for {both}: napari-unet reads that back, other programs "
        "don't see it"
    )
