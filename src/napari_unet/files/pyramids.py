"""All levels of an OME-Zarr image, for what shows no more than it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.errors import ImageError
from napari_unet.files.axes import arrange
from napari_unet.files.lazy_array import LazyArray
from napari_unet.files.stored import name_of

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    import zarr

    path = Path(path)
    name = name_of(path)
    try:
        group = zarr.open_group(path, mode="r")
        attributes: Mapping[str, Any] = dict(group.attrs)
        described = attributes.get("ome", attributes)["multiscales"][0]
        names = "".join(str(axis["name"]).upper() for axis in described["axes"])
        levels = [LazyArray(group[level["path"]]) for level in described["datasets"]]
    except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
        raise ImageError(
            "NU-I14",
            f"{name} is a Zarr folder without an OME-Zarr image in it: give the folder "
            "whose metadata has 'multiscales'",
        ) from error
    return [
        arrange(level, names, wanted=axes, name=name)[0]  # type: ignore[arg-type]
        for level in levels
    ]
