"""OME-Zarr: images read part by part, and labels written block by block."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ImageError
from napari_unet.files.atomic import (
    Apart,
    digest,
    hidden_name,
    put_in_place,
    save_error,
)
from napari_unet.files.axes import arrange
from napari_unet.files.lazy_array import LazyArray
from napari_unet.files.ome import length_um
from napari_unet.files.stored import name_of
from napari_unet.imaging.arrays import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Region = tuple[slice, ...]

_MARKS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
# Along Y and X: some hundred files for each gigapixel of labels, which shrink well.
_CHUNK_PX = 1024
_SMALLEST_LEVEL_PX = 512
_VERSION = "0.4"


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return path.is_dir() and any((path / mark).is_file() for mark in _MARKS)


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Give the group of an OME-Zarr image and its metadata; what fails is NU-I14."""
    import zarr

    try:
        group = zarr.open_group(Path(path), mode="r")
        attributes: Mapping[str, Any] = dict(group.attrs)
        yield group, attributes.get("ome", attributes)
    except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
        raise ImageError(
            "NU-I14",
            f"{name_of(Path(path))} is a Zarr folder without an OME-Zarr image in it: "
            "give the folder whose metadata has 'multiscales'",
        ) from error


def names_of_axes(described: Mapping[str, Any]) -> str:
    """Return the axes of a multiscale image, such as ``"CYX"``."""
    return "".join(str(axis["name"]).upper() for axis in described["axes"])


def read_ome_zarr(path: str | Path, *, axes: str | None = None) -> Image:
    """Read an OME-Zarr image (version 0.4 or 0.5): what it is, not yet its pixels.

    Parameters
    ----------
    path : path
        Folder of the image, such as ``cells.zarr``.
    axes : str, optional
        What the axes are; goes before what the file says.

    Returns
    -------
    Image
        Of the finest level, with axes C, [T,] [Z,] Y, X; its data is read when it is
        sliced.

    Raises
    ------
    ImageError
        No OME-Zarr image, or a damaged one (NU-I14); axes that nothing names (NU-I09).

    References
    ----------
    Moore et al.: OME-NGFF: a next-generation file format for expanding bioimaging
    data-access strategies. Nature Methods 18, 1496 (2021).
    """
    with opened(path) as (group, attributes):
        described = attributes["multiscales"][0]
        finest = described["datasets"][0]
        array: Any = LazyArray(group[finest["path"]])
        names = names_of_axes(described)
        units = [str(axis.get("unit", "")) for axis in described["axes"]]
        sizes = _scale(described, finest, len(names))
        channels = _channel_names(attributes)
        data, order = arrange(
            array,
            names,
            wanted=axes,
            name=name_of(Path(path)),
        )
    lengths = {
        axis: length_um(size, unit)
        for axis, size, unit in zip(names, sizes, units, strict=True)
    }
    found = [lengths.get(axis) for axis in order if axis in "ZYX"]
    known = tuple(size for size in found if size is not None)
    return Image(
        data,
        axes=order,
        pixel_size_um=known if len(known) == len(found) else None,
        channel_names=channels if len(channels) == data.shape[0] else (),
        source=str(path),
    )


def _scale(
    described: Mapping[str, Any], dataset: Mapping[str, Any], n_axes: int
) -> list[float]:
    """Return the size of a pixel along each axis, in its unit."""
    sizes = np.ones(n_axes)
    for level in (described, dataset):
        for step in level.get("coordinateTransformations", ()):
            if step.get("type") == "scale":
                sizes *= np.asarray(step["scale"], float)
    return [float(size) for size in sizes]


def _channel_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    channels = attributes.get("omero", {}).get("channels", ())
    return tuple(str(channel.get("label", "")) for channel in channels)


class LabelStore:
    """Labels on the disk, written block by block, and there once they are whole.

    Until `finish` they are in a folder of their own beside the final one. The same
    labels, written by the same blocks, give the same bytes.

    Parameters
    ----------
    path : Path
        Where the labels go: a folder, such as ``cells_labels.zarr``.
    shape : sequence of int
        ([T,] [Z,] Y, X).
    axes : str
        Their axes, such as ``"YX"``.
    pixel_size_um : sequence of float, optional
        Along ([Z,] Y, X), in micrometres.
    chunk_px : int
        Side along Y and X of what is stored in one file.

    Raises
    ------
    SaveError
        The folder can't be written (NU-S01).
    """

    def __init__(
        self,
        path: Path,
        shape: Sequence[int],
        axes: str,
        pixel_size_um: Sequence[float] | None = None,
        *,
        chunk_px: int = _CHUNK_PX,
    ) -> None:
        import zarr

        self._path, self._axes, self._chunk_px = path, axes, chunk_px
        self._sizes = tuple(pixel_size_um or ())
        self._folder = hidden_name(path)
        self._is_given = False
        with self._saving():
            self._group = zarr.open_group(self._folder, mode="w", zarr_format=2)
            self.array = self._level(0, tuple(shape))

    def _level(self, k: int, shape: tuple[int, ...]) -> Any:
        sides = (min(self._chunk_px, n) for n in shape[-2:])
        return self._group.create_array(
            str(k),
            shape=shape,
            chunks=(*[1] * (len(shape) - 2), *sides),
            dtype="uint32",
            chunk_key_encoding={"name": "v2", "separator": "/"},
            fill_value=0,
        )

    def write(self, where: Region, labels: NDArray[Any]) -> None:
        """Write a block of labels; whole chunks are written fastest."""
        with self._saving():
            self.array[where] = labels.astype(np.uint32)
            # Chunks lie deeper: else the folder would look as if nobody wrote there.
            os.utime(self._folder)

    def read(self, where: Region) -> NDArray[np.uint32]:
        """Return a block of the labels that were written."""
        with self._saving():
            return np.asarray(self.array[where])

    def chunks(self, index: Sequence[int] = ()) -> Iterator[Region]:
        """Yield the parts of the finest level that are stored each in one file.

        Parameters
        ----------
        index : sequence of int
            Of a plane or volume, to which the parts belong; all if omitted.
        """
        return _chunks(self.array, index)

    def finish(self) -> None:
        """Add coarser levels, and let the labels be there under their name."""
        for error in put_in_place([self.apart()]).values():
            raise error

    def apart(self) -> Apart:
        """Add coarser levels; return what `put_in_place` gives its name.

        `discard` leaves it alone from now on.
        """
        with self._saving():
            datasets = [self._described(0)]
            level, k = self.array, 0
            while max(level.shape[-2:]) > _SMALLEST_LEVEL_PX:
                k += 1
                level = self._coarser(level, k)
                datasets.append(self._described(k))
            units = {"type": "space"}
            if self._sizes:
                units["unit"] = "micrometer"
            axes = [
                {"name": "t", "type": "time"}
                if a == "T"
                else {"name": a.lower()} | units
                for a in self._axes
            ]
            self._group.attrs["multiscales"] = [
                {
                    "version": _VERSION,
                    "name": self._path.stem,
                    "axes": axes,
                    "datasets": datasets,
                    "type": "nearest",
                }
            ]
            self._group.attrs["image-label"] = {"version": _VERSION}
            self._is_given = True
            return Apart(self._folder, self._path, digest(self._folder))

    def _described(self, k: int) -> dict[str, Any]:
        sizes = (1.0,) * len(self._axes)
        if self._sizes:
            sizes = (*sizes[: -len(self._sizes)], *self._sizes)
        scale = [
            s * 2**k if a in "YX" else s for s, a in zip(sizes, self._axes, strict=True)
        ]
        return {
            "path": str(k),
            "coordinateTransformations": [{"type": "scale", "scale": scale}],
        }

    def _coarser(self, finer: Any, k: int) -> Any:
        """Write a level with every second pixel along Y and X."""
        shape = (*finer.shape[:-2], *(-(-n // 2) for n in finer.shape[-2:]))
        level = self._level(k, shape)
        for where in _chunks(level):
            source = (
                *where[:-2],
                *(slice(2 * w.start, 2 * w.stop) for w in where[-2:]),
            )
            level[where] = finer[source][..., ::2, ::2]
        return level

    def discard(self) -> None:
        """Delete what was written, if it is not finished."""
        if not self._is_given:
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._is_given = False
            self.discard()
            raise save_error(self._path, error) from error


def labels_apart(
    path: Path,
    labels: NDArray[Any],
    axes: str,
    pixel_size_um: Sequence[float] | None = None,
) -> Apart:
    """Write labels that are in memory as an OME-Zarr; see `LabelStore`."""
    store = LabelStore(path, labels.shape, axes, pixel_size_um)
    try:
        store.write((slice(None),) * labels.ndim, labels)
        return store.apart()
    finally:
        store.discard()


def _chunks(array: Any, index: Sequence[int] = ()) -> Iterator[Region]:
    counts = [-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)]
    # All axes but Y and X are stored one by one.
    for rest in np.ndindex(*counts[len(index) :]):
        place = (*index, *rest)
        yield tuple(
            slice(i * c, min((i + 1) * c, n))
            for i, c, n in zip(place, array.chunks, array.shape, strict=True)
        )
