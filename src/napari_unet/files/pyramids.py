"""All levels of an OME-Zarr image, for what shows no more than it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_unet.files.axes import arrange
from napari_unet.files.lazy_array import LazyArray
from napari_unet.files.ome_zarr import names_of_axes, opened
from napari_unet.files.stored import name_of


def read_levels(path: str | Path, *, axes: str | None = None) -> list[Any]:
    """Read the levels of an OME-Zarr image or labels: what they are, not their pixels.

    Parameters
    ----------
    path : path
        Folder of the image, such as ``cells_labels.zarr``.
    axes : str, optional
        What the axes are; goes before what the file says.

    Returns
    -------
    list of LazyArray
        Each C, [T,] [Z,] Y, X, the finest first; read where they are sliced.

    Raises
    ------
    ImageError
        No OME-Zarr image, or a damaged one (NU-I14); axes that nothing names (NU-I09).
    """
    with opened(path) as (group, attributes):
        described = attributes["multiscales"][0]
        names = names_of_axes(described)
        levels: list[Any] = [
            LazyArray(group[level["path"]]) for level in described["datasets"]
        ]
    name = name_of(Path(path))
    return [arrange(level, names, wanted=axes, name=name)[0] for level in levels]
