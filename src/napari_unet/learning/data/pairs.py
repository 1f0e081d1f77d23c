"""Images and their annotations, checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ConfigError, ImageError, LabelError
from napari_unet.files.inputs import as_annotation, as_image
from napari_unet.files.lazy import ImageFile, LazyLabels, MaskFile, is_lazy
from napari_unet.files.stored import name_of
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.learning.data.fit import size_difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_unet.imaging.intensity import IntensityRange
    from napari_unet.learning.data.summaries import PairSummary
    from napari_unet.learning.model import Model

    ImageLike = Image | ImageFile | NDArray[Any] | Path | str
    AnnotationLike = Annotation | LazyLabels | MaskFile | NDArray[Any] | Path | str


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and its annotation, checked against each other."""

    image: Image
    annotation: Annotation


@dataclass(frozen=True, eq=False)
class LazyPair:
    """An image and what is to be learned from it, read as they are needed.

    Parameters
    ----------
    image : Image
        Its data may be lazy.
    annotation : Annotation, LazyLabels or Image
        What is painted; or, to regress, the image to be made.
    """

    image: Image
    annotation: Annotation | LazyLabels | Image


def called(source: str) -> str:
    """Return what messages call an image or annotation, as those of reading it do.

    Examples
    --------
    >>> Path(called(str(Path("day 1", "masks", "a.tif")))).as_posix()
    'masks/a.tif'
    """
    return name_of(Path(source)) if source else source


def open_pair(
    image: ImageLike,
    annotation: Any,
    *,
    is_regression: bool = False,
    notes: list[str] | None = None,
) -> LazyPair:
    """Return a pair as it was given; files are read, lazy arrays are not.

    Parameters
    ----------
    image, annotation
        As `train` takes them.
    is_regression : bool
        The annotation is an image, to be made from the first.
    notes : list of str, optional
        What the user should know about the way the files were read is added here.

    Raises
    ------
    UNetError
        As the readers of files; the two are not yet checked against each other.
    """
    read = _opened(image, notes)
    if is_regression:
        return LazyPair(read, _opened(annotation, notes))
    if isinstance(annotation, str | Path):
        annotation = MaskFile(Path(annotation))
    if isinstance(annotation, MaskFile):
        return LazyPair(read, annotation.read(read, notes))
    if isinstance(annotation, LazyLabels):
        return LazyPair(read, annotation)
    if not isinstance(annotation, Annotation) and is_lazy(annotation):
        return LazyPair(read, LazyLabels(annotation, source="array"))
    return LazyPair(read, as_annotation(annotation))


def _opened(given: Any, notes: list[str] | None) -> Image:
    if isinstance(given, str | Path):
        given = ImageFile(Path(given))
    return given.read(notes) if isinstance(given, ImageFile) else as_image(given)


def check_several(
    images: Sequence[object],
    annotations: Sequence[object],
    *,
    what: str = "annotation",
) -> None:
    """Refuse what are no two lists of one length (NU-C03)."""
    if not (_is_several(images) and _is_several(annotations)):
        raise ConfigError(
            "NU-C03",
            f"a single image or {what} came where several are wanted: give two "
            f"lists, such as [image] and [{what}]",
        )
    if len(images) != len(annotations) or not images:
        raise ConfigError(
            "NU-C03",
            f"{len(images)} images came with {len(annotations)} {what}s: give "
            f"one {what} for each of one or more images",
        )


def pair_up(
    images: Sequence[ImageLike], annotations: Sequence[AnnotationLike]
) -> list[Pair]:
    """Return checked pairs of image and annotation, all read.

    Raises
    ------
    ConfigError, ImageError, LabelError
        Numbers, shapes, channels or classes that don't fit each other.
    """
    check_several(images, annotations)
    pairs = [
        Pair(as_image(image), as_annotation(annotation))
        for image, annotation in zip(images, annotations, strict=True)
    ]
    first = Facts.of(pairs[0])
    for pair in pairs:
        check_pair(Facts.of(pair), first)
    return pairs


@dataclass(frozen=True)
class Facts:
    """What must agree within a pair, and among the pairs."""

    image: str
    annotation: str
    image_shape: tuple[int, ...]
    annotation_shape: tuple[int, ...]
    n_channels: int
    class_names: tuple[str, ...]
    area_classes: frozenset[int]

    @classmethod
    def of(cls, pair: Pair | LazyPair) -> Facts:
        """Return what there is to compare of a pair."""
        image, given = pair.image, pair.annotation
        shape = given.labels.shape if isinstance(given, Annotation) else given.shape
        names: tuple[str, ...] = ()
        areas: frozenset[int] = frozenset()
        if not isinstance(given, Image):
            names, areas = given.class_names, given.area_classes
        return cls(
            called(image.source),
            called(given.source),
            image.shape,
            shape,
            image.n_channels,
            names,
            areas,
        )


def _is_several(given: object) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str)


def size_warnings(
    images: Sequence[Image | PairSummary],
    start: Model | None,
    *,
    are_rescaled: bool = False,
) -> list[str]:
    """Return what differs in pixel size among the images, or from the model's.

    Parameters
    ----------
    images : sequence of Image or PairSummary
        At least one.
    start : Model, optional
        The model to start from.
    are_rescaled : bool
        Images are learned from at one pixel size, or by the size of their cells.
    """
    first = images[0]
    for image in images:
        if differs := size_difference(image.pixel_size_um, first.pixel_size_um):
            own, other = differs
            remedy = (
                "it is rescaled for training, so check that both sizes are right"
                if are_rescaled
                else "both are learned as they are; rescale the images to one size for "
                "a better model"
            )
            return [
                f"{called(image.source)} has {own:.3g} µm per pixel but "
                f"{called(first.source)} {other:.3g} µm: {remedy}"
            ]
    size = None if start is None else start.pixel_size_um
    if differs := size_difference(first.pixel_size_um, size):
        own, other = differs
        return [
            f"{called(first.source)} has {own:.3g} µm per pixel but the model to "
            f"start from was trained at {other:.3g} µm: rescale the image for a "
            "better start"
        ]
    return []


def check_pair(pair: Facts, first: Facts) -> None:
    """Refuse an annotation that doesn't fit its image, or the pairs before it.

    Raises
    ------
    LabelError
        Another shape than the image's (NU-L02), other classes (NU-L06).
    ImageError
        Other channels (NU-I10).
    """
    if pair.annotation_shape != pair.image_shape:
        raise LabelError(
            "NU-L02",
            f"{pair.annotation} is {_times(pair.annotation_shape)} but its image "
            f"{pair.image} is {_times(pair.image_shape)}: annotate the full image, or "
            "crop both the same way",
        )
    _check_same_channels(pair, first)
    if pair.class_names != first.class_names:
        raise LabelError(
            "NU-L06",
            f"{pair.annotation} has the classes {pair.class_names} but "
            f"{first.annotation} has {first.class_names}: give all annotations the "
            "same classes",
        )
    if pair.area_classes != first.area_classes:
        raise LabelError(
            "NU-L06",
            f"{pair.annotation} and {first.annotation} don't agree on which "
            "classes are areas and which are cells: make them the same",
        )


def _check_same_channels(pair: Facts, first: Facts) -> None:
    if pair.n_channels != first.n_channels:
        raise ImageError(
            "NU-I10",
            f"{pair.image} has {pair.n_channels} channels but "
            f"{first.image} has {first.n_channels}: train on images "
            "with the same channels",
        )


def check_target_image(pair: LazyPair, first: LazyPair) -> int:
    """Refuse a target image that doesn't fit; return how much finer it is.

    Returns
    -------
    int
        1, 2 or 4: pixels of the target for each pixel of the image, along Y and X.

    Raises
    ------
    LabelError
        NU-L02: another size.
    ImageError
        NU-I10: other channels than the pairs before.
    """
    target = pair.annotation
    first_target = first.annotation
    if not isinstance(target, Image) or not isinstance(first_target, Image):
        raise TypeError("regression learns from two images")
    _check_same_channels(Facts.of(pair), Facts.of(first))
    if target.n_channels != first_target.n_channels:
        raise ImageError(
            "NU-I10",
            f"{called(target.source)} has {target.n_channels} channels but "
            f"{called(first_target.source)} has {first_target.n_channels}: give target "
            "images with the same channels",
        )
    upscale = target.shape[-1] // pair.image.shape[-1]
    height, width = pair.image.plane_shape
    finer = (*pair.image.stack_shape, upscale * height, upscale * width)
    if upscale not in {1, 2, 4} or target.shape != finer:
        raise LabelError(
            "NU-L02",
            f"{called(target.source)} is {_times(target.shape)} but its image "
            f"{called(pair.image.source)} is {_times(pair.image.shape)}: give a target "
            "of the same size, or 2 or 4 times finer along Y and X",
        )
    return upscale


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def check_not_constant(source: str, span: IntensityRange) -> None:
    """Refuse an image whose pixels are all alike (NU-I12)."""
    if span.low == span.high:
        raise ImageError(
            "NU-I12",
            f"{called(source)} has nothing to learn from, all its pixels are alike: "
            "leave it out, or check how it was saved",
        )


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
