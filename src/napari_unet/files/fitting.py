"""An annotation in the shape of its image, which is read without axes of length 1."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.files.annotations import Region
from napari_unet.files.axes import index_like, is_same_but_for_singletons

if TYPE_CHECKING:
    from napari_unet.files.annotations import StoredAnnotation


def fit_to_shape(
    stored: StoredAnnotation, shape: tuple[int, ...], axes: str = ""
) -> StoredAnnotation:
    """Return an annotation in the shape of its image, if only axes of length 1 differ.

    Images are read without such axes; what was painted on one slice of a stack may
    have one. An annotation that does not fit the image at all is returned as it is.

    Parameters
    ----------
    stored : StoredAnnotation
        What was loaded.
    shape : tuple of int
        Shape ([T,] [Z,] Y, X) of the image.
    axes : str
        Its axes, where they are known.
    """
    old = stored.annotation.labels.shape
    if old == shape or not is_same_but_for_singletons(old, shape):
        return stored
    if not axes and len(stored.axes) == len(old):
        pairs = zip(stored.axes, old, strict=True)
        axes = "".join(axis for axis, n in pairs if n > 1 or axis in "YX")
    axes = axes if len(axes) == len(shape) else ""
    size = stored.pixel_size_um
    if size is not None and axes and "Z" not in axes:
        size = size[-2:]
    annotation = replace(
        stored.annotation,
        labels=stored.annotation.labels.reshape(shape),
        known=stored.annotation.is_known.reshape(shape),
    )
    regions = tuple(
        Region(index_like(tuple(plane), shape[:-2], old[:-2]), corners)
        for plane, corners in stored.regions
    )
    return replace(
        stored,
        annotation=annotation,
        regions=regions,
        axes=axes,
        pixel_size_um=size,
    )
