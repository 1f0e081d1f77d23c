"""An annotation on disk: a label TIFF and, beside it, what its labels mean."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from skimage.draw import polygon

from napari_unet.errors import ConfigError, LabelError, SaveError, UNetError
from napari_unet.files.atomic import write_text
from napari_unet.files.axes import index_like, is_same_but_for_singletons
from napari_unet.files.folders import stem_of
from napari_unet.files.images import LabelImage, read_label_image, write_labels
from napari_unet.files.json_files import read_json
from napari_unet.imaging.arrays import Annotation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

Unpainted = Literal["unknown", "background"]

_FORMAT = "napari-unet annotation"
_VERSION = 1
_AXES = {2: "YX", 3: "ZYX", 4: "TZYX"}
_Coordinate = Annotated[float, Field(ge=-1e7, le=1e7)]


class Region(NamedTuple):
    """An area in which everything is painted: the rest of it is background.

    Parameters
    ----------
    plane : tuple of int
        Index of its plane in a stack; empty for a single plane.
    vertices : sequence of (float, float)
        Corners (y, x) in pixels; 0 is the centre of the first pixel.
    """

    plane: tuple[int, ...]
    vertices: Sequence[Sequence[float]] | NDArray[np.float64]

    @property
    def outline(self) -> Literal["rectangle", "polygon"]:
        """What its outline is: an upright rectangle or any other polygon."""
        corners = {(float(y), float(x)) for y, x in self.vertices}
        is_upright = all(len({c[i] for c in corners}) == 2 for i in (0, 1))
        return "rectangle" if len(corners) == 4 and is_upright else "polygon"


class _RegionInFile(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    type: Literal["rectangle", "polygon"]
    plane: tuple[int, ...]
    vertices: tuple[tuple[_Coordinate, _Coordinate], ...] = Field(min_length=3)


class _AnnotationFile(BaseModel):
    """The JSON beside the labels."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["napari-unet annotation"]
    version: int
    labels_sha256: str
    unpainted: Unpainted
    class_names: tuple[str, ...] = Field(min_length=1)
    class_colors: tuple[Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")], ...] = ()
    area_classes: tuple[Annotated[int, Field(ge=1)], ...] = ()
    label_class: dict[int, Annotated[int, Field(ge=0)]]
    regions: tuple[_RegionInFile, ...]
    # The TIFF is read without its axes of length 1, and their pixel size.
    shape: tuple[Annotated[int, Field(ge=1)], ...] = ()
    axes: str = ""
    pixel_size_um: tuple[Annotated[float, Field(gt=0)], ...] | None = None


@dataclass(frozen=True, eq=False)
class StoredAnnotation:
    """An annotation as it was loaded.

    Parameters
    ----------
    annotation : Annotation
        Labels, classes and what is known.
    regions : sequence of Region
        Finished regions, which made part of `known`.
    unpainted : "unknown" or "background", or None
        What unpainted pixels outside finished regions are. None where only the
        TIFF was found: they count as unknown until the user says what they are.
    notes : tuple of str
        What the user should know about the way it was loaded.
    axes : str
        Axes of the labels, such as ``"ZYX"``; empty where nothing names them.
    pixel_size_um : tuple of float, optional
        Along ([Z,] Y, X), in micrometres.
    """

    annotation: Annotation
    regions: Sequence[Region] = ()
    unpainted: Unpainted | None = None
    notes: tuple[str, ...] = ()
    axes: str = ""
    pixel_size_um: tuple[float, ...] | None = None


def known_pixels(
    labels: NDArray[np.int32],
    regions: Iterable[tuple[tuple[int, ...], Any]] = (),
    unpainted: Unpainted | None = None,
) -> NDArray[np.bool_]:
    """Return where a pixel is background if nothing is painted on it.

    Parameters
    ----------
    labels : ndarray of int, shape ([T,] [Z,] Y, X)
        Instance ids.
    regions : iterable of Region, or (plane, vertices)
        Finished regions; a pixel belongs to one if its centre does.
    unpainted : "unknown", "background" or None
        What pixels outside the regions are; None counts as unknown. In a stack
        "background" holds for planes with a painted pixel: the others were not
        looked at.

    Returns
    -------
    ndarray of bool, shape of `labels`

    Raises
    ------
    LabelError
        A region on a plane that the labels don't have (NU-L02).

    Examples
    --------
    >>> square = Region((), [(0, 0), (0, 1), (1, 1), (1, 0)])
    >>> known_pixels(np.zeros((2, 3), np.int32), [square]).astype(int)
    array([[1, 1, 0],
           [1, 1, 0]])
    """
    known = np.zeros(labels.shape, bool)
    if unpainted == "background":
        painted = (labels > 0).any(axis=(-2, -1), keepdims=True)
        known |= painted | (labels.ndim == 2)
    for plane, vertices in regions:
        stack = labels.shape[:-2]
        if len(plane) != len(stack) or not all(map(_is_index, plane, stack)):
            raise LabelError(
                "NU-L02",
                f"a finished region is on plane {tuple(plane)} but the labels have the "
                f"shape {labels.shape}: draw it again",
            )
        rows, columns = np.asarray(vertices, float).T
        known[tuple(plane)][polygon(rows, columns, labels.shape[-2:])] = True
    return known


def _is_index(i: int, n: int) -> bool:
    return 0 <= i < n


def save_annotation(
    path: str | Path,
    annotation: Annotation,
    regions: Iterable[tuple[tuple[int, ...], Any]] = (),
    unpainted: Unpainted | None = "unknown",
    *,
    axes: str | None = None,
    pixel_size_um: Sequence[float] | None = None,
) -> None:
    """Write an annotation as x.tif and x.json, each atomically.

    Parameters
    ----------
    path : path
        ``x.tif`` or ``x.json``.
    annotation : Annotation
        Its labels and classes are kept; its `known` is not stored but made again
        from `regions` and `unpainted`, as `known_pixels` does.
    regions : iterable of Region, or (plane, vertices)
        Finished regions.
    unpainted : "unknown" or "background"
        What unpainted pixels outside the regions are; None counts as unknown.
    axes : str, optional
        Axes of the labels; YX, ZYX or TZYX by default.
    pixel_size_um : sequence of float, optional
        Along ([Z,] Y, X), in micrometres.

    Raises
    ------
    SaveError
        A file can't be written (NU-S01), or x.json belongs to something else
        (NU-S03).
    LabelError
        A region that is none or fits nowhere (NU-L02, NU-L09).
    """
    tif, beside = _pair(Path(path))
    if beside.exists():
        _check_is_ours(beside)
    labels = annotation.labels
    axes = axes or _AXES.get(labels.ndim, "YX")
    outlines = [Region(*region) for region in regions]
    in_file = tuple(_to_file(outline) for outline in outlines)
    known_pixels(labels, outlines)  # a region that fits nowhere could not be loaded
    # The labels first: they are large, and a full disk then leaves the old pair.
    write_labels(tif, labels, axes=axes, pixel_size_um=pixel_size_um)
    ids = [int(i) for i in np.unique(labels) if i > 0]
    about = _AnnotationFile(
        format="napari-unet annotation",
        version=_VERSION,
        labels_sha256=_sha256(tif),
        unpainted=unpainted or "unknown",
        class_names=annotation.class_names,
        class_colors=annotation.class_colors,
        area_classes=tuple(sorted(annotation.area_classes)),
        label_class=dict.fromkeys(ids, 1) | dict(annotation.label_class),
        regions=in_file,
        shape=labels.shape,
        axes=axes,
        pixel_size_um=tuple(map(float, pixel_size_um)) if pixel_size_um else None,
    )
    write_text(beside, json.dumps(about.model_dump(mode="json"), ensure_ascii=False))


def load_annotation(path: str | Path) -> StoredAnnotation:
    """Load an annotation from x.tif and, where it is there, x.json.

    Parameters
    ----------
    path : path
        ``x.tif`` or ``x.json``; a TIFF alone loads too, with `unpainted` None.

    Raises
    ------
    FolderError, ImageError, LabelError
        As `read_labels`; a region or a class that doesn't fit (NU-L02, NU-L06).
    ConfigError
        x.json is not an annotation's (NU-C01) or of a newer version (NU-C02).
    """
    tif, beside = _pair(Path(path))
    notes: list[str] = []
    read = read_label_image(tif, notes=notes)
    if not beside.exists():
        notes.append(f"{tif.name} came alone: say what unpainted pixels are")
        return StoredAnnotation(
            Annotation(labels=read.labels, source=str(tif)),
            notes=tuple(notes),
            axes=read.axes,
            pixel_size_um=read.pixel_size_um,
        )
    about = _read_about(beside)
    if about.labels_sha256 != _sha256(tif):
        notes.append(
            f"{beside} was written for another version of {tif.name}: check the "
            "classes and the finished regions"
        )
    labels, axes, pixel_size_um = _as_saved(read, about)
    regions = tuple(
        Region(index_like(region.plane, labels.shape[:-2]), region.vertices)
        for region in about.regions
    )
    annotation = Annotation(
        labels=labels,
        label_class=about.label_class,
        known=known_pixels(labels, regions, about.unpainted),
        class_names=about.class_names,
        class_colors=about.class_colors,
        area_classes=frozenset(about.area_classes),
        source=str(tif),
    )
    return StoredAnnotation(
        annotation, regions, about.unpainted, tuple(notes), axes, pixel_size_um
    )


def _as_saved(read: LabelImage, about: _AnnotationFile) -> LabelImage:
    """Return labels with the axes they were saved with, those of length 1, too."""
    labels, saved = read.labels, about.axes
    if len(saved) != len(about.shape):
        return read
    if len(read.axes) == labels.ndim and set(read.axes) <= set(saved):
        order = [read.axes.index(axis) for axis in saved if axis in read.axes]
        labels = labels.transpose(order)
    if not is_same_but_for_singletons(labels.shape, about.shape):
        return read
    pixel_size_um = read.pixel_size_um
    if pixel_size_um is None or set(read.axes) != set(saved):
        pixel_size_um = about.pixel_size_um
    return LabelImage(labels.reshape(about.shape), saved, pixel_size_um)


def _to_file(region: Region) -> _RegionInFile:
    try:
        return _RegionInFile(
            type=region.outline,
            plane=tuple(int(i) for i in region.plane),
            vertices=tuple((float(y), float(x)) for y, x in region.vertices),
        )
    except ValidationError as error:
        raise LabelError(
            "NU-L09",
            f"a finished region on plane {tuple(region.plane)} has fewer than 3 "
            "corners or one that is no place: draw it again",
        ) from error


def path_of_json(path: Path) -> Path:
    """Return the JSON file of a label image: ``a.ome.tif`` -> ``a.json``."""
    return path.with_name(f"{stem_of(path)}.json")


def _pair(path: Path) -> tuple[Path, Path]:
    if path.suffix.lower() == ".json":
        return path.with_suffix(".tif"), path
    return path, path_of_json(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_is_ours(beside: Path) -> None:
    try:
        _read_about(beside)
    except UNetError as error:
        raise SaveError(
            "NU-S03",
            f"{beside} is there already and is not an annotation of this version: "
            "save under another name",
        ) from error


def _read_about(beside: Path) -> _AnnotationFile:
    content = read_json(beside)
    is_ours = isinstance(content, dict) and content.get("format") == _FORMAT
    version = content.get("version") if is_ours else None
    if isinstance(version, int) and version > _VERSION:
        raise ConfigError(
            "NU-C02",
            f"{beside} was written by a newer version of napari-unet: update it",
        )
    try:
        return _AnnotationFile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            "NU-C01",
            f"{beside} does not describe an annotation ({where or 'content'}: "
            f"{first['msg']}): restore it, or move it away and set classes again",
        ) from error
