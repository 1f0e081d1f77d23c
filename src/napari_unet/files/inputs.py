"""Arrays and file paths where an Image or an Annotation is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.files.images import read_image
from napari_unet.files.lazy import (
    ImageFile,
    LazyLabels,
    MaskFile,
    WithChannel,
    is_lazy,
)
from napari_unet.files.masks import read_mask
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.imaging.given import as_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray


def as_image(source: Image | ImageFile | NDArray[Any] | Path | str) -> Image:
    """Return an image from an image, a (Y, X) array, lazy or not, or a file.

    Raises
    ------
    ImageError
        The file can't be read, or an array has more axes than Y and X: what they
        mean is never guessed.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, ImageFile):
        return source.read()
    if isinstance(source, (str, Path)):
        return read_image(Path(source))
    array = source if is_lazy(source) else as_pixels(source, source="array")
    if len(array.shape) != 2:
        raise ImageError(
            "NU-I09",
            f"an array of shape {tuple(array.shape)} came without axes: give "
            "Image(array, axes='CYX') with the channels first, or 'CZYX', 'CTYX'",
        )
    if is_lazy(source):
        return Image(WithChannel(source), "CYX", source="array")
    return Image(array[np.newaxis], source="array")


def as_annotation(
    source: Annotation | LazyLabels | MaskFile | NDArray[Any] | Path | str,
) -> Annotation:
    """Return an annotation, read wholly; labels alone count as completely painted.

    A file is read as `read_mask` reads it: a JSON file beside it says what is known.
    """
    if isinstance(source, Annotation):
        return source
    if isinstance(source, MaskFile):
        return source.read()
    if isinstance(source, (str, Path)):
        return read_mask(source).annotation
    if isinstance(source, LazyLabels):
        return Annotation.complete(source.data, source=source.source)
    return Annotation.complete(source, source="array")
