"""Images and their annotations, checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ConfigError, ImageError, LabelError
from napari_unet.files.inputs import as_annotation, as_image
from napari_unet.learning.fit import is_constant, size_difference

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.imaging.arrays import Annotation, Image
    from napari_unet.learning.model import Model

    ImageLike = Image | NDArray[Any] | Path | str
    AnnotationLike = Annotation | NDArray[Any] | Path | str


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its annotation, checked against each other."""

    image: Image
    annotation: Annotation


def pair_up(
    images: Sequence[ImageLike], annotations: Sequence[AnnotationLike]
) -> list[Pair]:
    """Return checked pairs of image and annotation.

    Raises
    ------
    ConfigError, ImageError, LabelError
        Numbers, shapes, channels or classes that don't fit each other.
    """
    if not (_is_several(images) and _is_several(annotations)):
        raise ConfigError(
            "NU-C03",
            "a single image or annotation came where several are wanted: give two "
            "lists, such as [image] and [annotation]",
        )
    if len(images) != len(annotations) or not images:
        raise ConfigError(
            "NU-C03",
            f"{len(images)} images came with {len(annotations)} annotations: give "
            "one annotation for each of one or more images",
        )
    pairs = [
        Pair(as_image(image), as_annotation(annotation))
        for image, annotation in zip(images, annotations, strict=True)
    ]
    first = pairs[0]
    for pair in pairs:
        _check_pair(pair, first)
    return pairs


def _is_several(given: object) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str)


def size_warnings(pairs: Sequence[Pair], start: Model | None) -> list[str]:
    """Return what differs in pixel size among the images, or from the model's."""
    first = pairs[0].image
    for pair in pairs:
        if differs := size_difference(pair.image.pixel_size_um, first.pixel_size_um):
            own, other = differs
            return [
                f"{pair.image.source} has {own:.3g} µm per pixel but {first.source} "
                f"{other:.3g} µm: cells of both sizes are learned; rescale the images "
                "to one size for a better model"
            ]
    size = None if start is None else start.pixel_size_um
    if differs := size_difference(first.pixel_size_um, size):
        own, other = differs
        return [
            f"{first.source} has {own:.3g} µm per pixel but the model to start from "
            f"was trained at {other:.3g} µm: rescale the image for a better start"
        ]
    return []


def _check_pair(pair: Pair, first: Pair) -> None:
    image, annotation = pair.image, pair.annotation
    if annotation.labels.shape != image.shape:
        raise LabelError(
            "NU-L02",
            f"{annotation.source} is {_times(annotation.labels.shape)} but its image "
            f"{image.source} is {_times(image.shape)}: annotate the full image, or "
            "crop both the same way",
        )
    if image.n_channels != first.image.n_channels:
        raise ImageError(
            "NU-I10",
            f"{image.source} has {image.n_channels} channels but "
            f"{first.image.source} has {first.image.n_channels}: train on images "
            "with the same channels",
        )
    if annotation.class_names != first.annotation.class_names:
        raise LabelError(
            "NU-L06",
            f"{annotation.source} has the classes {annotation.class_names} but "
            f"{first.annotation.source} has {first.annotation.class_names}: give all "
            "annotations the same classes",
        )
    if annotation.area_classes != first.annotation.area_classes:
        raise LabelError(
            "NU-L06",
            f"{annotation.source} and {first.annotation.source} don't agree on which "
            "classes are areas and which are cells: make them the same",
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def check_not_constant(image: Image) -> None:
    """Refuse an image whose pixels are all alike (NU-I12)."""
    if is_constant(image):
        raise ImageError(
            "NU-I12",
            f"{image.source} has nothing to learn from, all its pixels are alike: "
            "leave it out, or check how it was saved",
        )


def check_annotated(annotations: Sequence[Annotation]) -> None:
    """Refuse annotations from which nothing can be learned.

    Raises
    ------
    LabelError
        NU-L04: no cell is painted. NU-L08: cells, but no pixel that is known to be
        background.
    """
    named = _named([a.source for a in annotations])
    painted = [a for a in annotations if (a.class_map() > 0).any()]
    if not painted:
        raise LabelError(
            "NU-L04",
            f"{named} has no annotated cells: paint a few cells, each with its own "
            "label",
        )
    if not any((a.is_known & (a.class_map() == 0)).any() for a in annotations):
        raise LabelError(
            "NU-L08",
            f"{named} has cells but no known background: paint some background, draw "
            "a finished region, or choose 'unpainted is background'",
        )


def _named(sources: Sequence[str]) -> str:
    more = f" (and {len(sources) - 1} more)" if len(sources) > 1 else ""
    return f"{sources[0]}{more}"


def validation_pairs(
    first: Pair, validation: tuple[Sequence[ImageLike], Sequence[AnnotationLike]]
) -> list[Pair]:
    """Return the pairs to validate on, checked against those to learn from.

    Raises
    ------
    ConfigError, ImageError, LabelError
        As `pair_up`; NU-L04: no cell is painted.
    """
    pairs = pair_up(*validation)
    for pair in pairs:
        _check_pair(pair, first)
    if not any((pair.annotation.class_map() > 0).any() for pair in pairs):
        raise LabelError(
            "NU-L04",
            f"{pairs[0].annotation.source} has no annotated cells to validate on: give "
            "validation images with painted cells",
        )
    return pairs


def check_channels(model: Model, image: Image) -> None:
    """Refuse an image whose channels the model doesn't take.

    Raises
    ------
    ImageError
        NU-I10, with both numbers.
    """
    if image.n_channels != model.n_channels:
        raise ImageError(
            "NU-I10",
            f"the model expects {_channels(model.n_channels)}, {image.source} has "
            f"{image.n_channels}: choose the channels that it was trained on",
        )


def _channels(n: int) -> str:
    return f"{n} channel" if n == 1 else f"{n} channels"
