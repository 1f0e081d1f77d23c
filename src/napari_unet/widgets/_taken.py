"""What a training was given to learn from, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.events import Event, Note
from napari_unet.files.folders import find_images
from napari_unet.files.pairs import as_files, find_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari.layers import Layer

    from napari_unet.imaging.arrays import Annotation
    from napari_unet.widgets._painted import Painted

    # Images, and what is to be learned from each: an annotation or a target image.
    Pairs = list[tuple[Any, Any]]
    ReadPairs = Callable[[], Generator[Event, None, Pairs]]

_N_NAMED = 3


@dataclass(frozen=True)
class Counted(Event):
    """The slices of an annotation that count in training are counted."""

    text: str


def _none() -> None:
    return None


@dataclass(frozen=True, eq=False)
class TrainedLayers:
    """Layers that training was given: they may change while it runs.

    Parameters
    ----------
    grid : callable
        Returns the layer that has the pixels of the image, or None once it is gone:
        the annotation, or the image where images are made.
    source : str
        What the image calls itself.
    name : str
        Name of the image's layer.
    painted : Painted, optional
        The annotation that training was given; nobody writes to its array any more.
    target : callable
        Returns the layer of the image to be made, or None where there is none.
    """

    grid: Callable[[], Layer | None]
    source: str
    name: str
    painted: Painted | None = None
    target: Callable[[], Layer | None] = _none


@dataclass(frozen=True, eq=False)
class Taken:
    """What to learn from: how to read it, and where it is.

    Either its layers or its folders, as (images, masks or targets, pattern, axes).
    """

    read: ReadPairs
    layers: TrainedLayers | None = None
    folders: tuple[str, str, str, str] | None = None
    target: str = ""


def taken_folders(
    images: str, learned: str, pattern: str, axes: str, *, are_targets: bool = False
) -> Taken:
    """Return two folders to learn from; an empty pattern takes all images."""
    read = partial(
        read_folders,
        Path(images),
        Path(learned),
        pattern or None,
        axes or None,
        are_targets=are_targets,
    )
    return Taken(read, folders=(images, learned, pattern, axes))


def read_folders(
    images: Path,
    learned: Path,
    pattern: str | None,
    axes: str | None,
    *,
    are_targets: bool = False,
) -> Generator[Event, None, Pairs]:
    """Find images and what is learned from them; yield notes, return the pairs.

    They are files that training reads when it needs them.

    Parameters
    ----------
    images, learned : Path
        Folders of images, and of masks or targets of the same names.
    pattern, axes : str, optional
        Which files, and their axes where they don't say.
    are_targets : bool
        They are images to be made.

    Raises
    ------
    UNetError
        A folder is missing, or nothing fits together.
    """
    what = "target" if are_targets else "mask"
    pairs, missing = find_pairs(find_images(images, pattern), learned, what=what)
    if missing:
        names = ", ".join(path.name for path in missing[:_N_NAMED])
        n_more = len(missing) - _N_NAMED
        more = f" and {n_more} more" if n_more > 0 else ""
        told = f"no {what} in {learned} for {names}{more}: left out"
        yield Note(told, is_warning=True)
    n = len(pairs)
    yield Note(f"{n} image{'s' if n > 1 else ''} with {what}s")
    return list(zip(*as_files(pairs, axes, are_targets=are_targets), strict=True))


def counting(painted: Painted) -> Generator[Event, None, None]:
    """Count the slices that count, and yield the count."""
    yield Counted(count_slices(painted.annotation()))


def count_slices(annotation: Annotation) -> str:
    """Return how many slices of a stack count in training; "" for a plane."""
    if annotation.labels.ndim == 2:
        return ""
    counts = annotation.is_known.any(axis=(-2, -1))
    return (
        f"{np.count_nonzero(counts)} of {counts.size} slices count: those with a "
        "painted pixel or a finished region"
    )
