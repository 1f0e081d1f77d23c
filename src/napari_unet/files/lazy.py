"""What is read when it is needed: files that are named, and arrays that are sliced."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import FolderError, LabelError
from napari_unet.files.annotations import path_of_json
from napari_unet.files.images import read_image
from napari_unet.files.masks import read_mask
from napari_unet.files.stored import name_of
from napari_unet.imaging.arrays import Annotation, Image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.imaging.windows import Window


@dataclass(frozen=True)
class ImageFile:
    """An image in a file, read when it is needed.

    Parameters
    ----------
    path : Path
        TIFF or PNG.
    axes, channels
        As for `read_image`.
    """

    path: Path
    axes: str | None = None
    channels: tuple[str | int, ...] | None = None

    def read(self, notes: list[str] | None = None) -> Image:
        """Read it (see `read_image`)."""
        return read_image(
            self.path, axes=self.axes, channels=self.channels, notes=notes
        )


@dataclass(frozen=True)
class MaskFile:
    """An annotation in a file, read when it is needed.

    Parameters
    ----------
    path : Path
        A label image, or an annotation with its JSON file beside it.
    axes : str, optional
        What the user says that the axes of its image are.
    """

    path: Path
    axes: str | None = None

    def read(
        self, image: Image | None = None, notes: list[str] | None = None
    ) -> Annotation:
        """Read it (see `read_mask`), in the order of its image."""
        return read_mask(self.path, image=image, axes=self.axes, notes=notes).annotation


@dataclass(frozen=True, eq=False)
class LazyLabels:
    """Labels that are read window by window; all that is unpainted is background.

    Parameters
    ----------
    data : lazy array of whole numbers, shape ([T,] [Z,] Y, X)
        Anything with `dtype` and `shape` that slices to numpy (zarr, dask).
    source : str
        Named in messages.
    """

    data: Any
    source: str = "annotation"
    class_names: tuple[str, ...] = ("background", "cell")
    class_colors: tuple[str, ...] = ()
    area_classes: frozenset[int] = frozenset()
    label_class: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if len(self.shape) < 2 or 0 in self.shape:
            raise LabelError(
                "NU-L07",
                f"{self.source} of shape {self.shape} is no label image: it is empty "
                "or has fewer than 2 dimensions",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape ([T,] [Z,] Y, X)."""
        return tuple(int(n) for n in self.data.shape)

    def part(self, where: tuple[int | slice, ...]) -> Annotation:
        """Return a window of one plane, completely annotated."""
        return Annotation.complete(self.data[where], source=self.source)


def part_of(
    annotation: Annotation | LazyLabels, plane: tuple[int, ...], window: Window
) -> Annotation:
    """Return a window of one plane as an annotation (Y, X) of its own.

    Raises
    ------
    LabelError
        What is read there is no label image.
    """
    where: tuple[int | slice, ...] = (*plane, *window)
    if isinstance(annotation, LazyLabels):
        return annotation.part(where)
    return Annotation(
        annotation.labels[where],
        annotation.label_class,
        annotation.is_known[where],
        annotation.class_names,
        annotation.class_colors,
        annotation.area_classes,
        annotation.source,
    )


class WithChannel:
    """A lazy array (Y, X) seen as one of a single channel (1, Y, X)."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.dtype = data.dtype
        self.shape = (1, *data.shape)

    def __getitem__(self, where: Any) -> Any:
        """Return a part as numpy, with the axis of channels first."""
        where = where if isinstance(where, tuple) else (where,)
        return np.asarray(self._data[where[1:]])[np.newaxis][where[:1]]


def is_lazy(given: object) -> bool:
    """Return whether this is an array that is read in parts: zarr, dask, a memory map.

    Examples
    --------
    >>> is_lazy(np.zeros((2, 2))), is_lazy([[0, 1]])
    (False, False)
    """
    if isinstance(given, np.ndarray):
        return isinstance(given, np.memmap)
    parts = ("dtype", "shape", "__getitem__")
    return all(hasattr(given, name) for name in parts)


Stamp = tuple[tuple[str, int, int], ...]


def stamp_of(image: object, annotation: object) -> Stamp:
    """Return size and time of the files of a pair; nothing for what is no file.

    Raises
    ------
    FolderError
        NU-F11: one of them is not there any more.
    """
    paths = [path for path in map(_path_of, (image, annotation)) if path is not None]
    painted = _path_of(annotation)
    # What says which pixels of an annotation are known.
    if painted is not None and path_of_json(painted).is_file():
        paths.append(path_of_json(painted))
    return tuple(_stamp(path) for path in paths)


def _path_of(given: object) -> Path | None:
    if isinstance(given, ImageFile | MaskFile):
        return given.path
    return Path(given) if isinstance(given, str | Path) else None


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise FolderError(
            "NU-F11",
            f"{name_of(path)} is gone while it is learned from: put it back and train "
            "again, and leave the images alone until training has ended",
        ) from error
    return str(path), found.st_size, found.st_mtime_ns


def check_unchanged(before: Stamp, now: Stamp) -> None:
    """Refuse files that are not as they were when training began.

    Raises
    ------
    FolderError
        NU-F11, with the name of the first one.
    """
    if before == now:
        return
    old = set(before)
    changed = next((s for s in now if s not in old), before[0])
    raise FolderError(
        "NU-F11",
        f"{name_of(Path(changed[0]))} was changed while it is learned from: train "
        "again, and leave the images alone until training has ended",
    )
