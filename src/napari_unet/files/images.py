"""Images and labels from and to the files that people have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_unet.errors import ImageError, LabelError
from napari_unet.files.atomic import write_atomically
from napari_unet.files.axes import are_axes, arrange, drop_singletons
from napari_unet.files.kinds import read_stored
from napari_unet.files.label_checks import check_not_interpolated
from napari_unet.files.ome_tiff import ome_tiff, size_metadata
from napari_unet.files.ome_zarr import is_zarr, read_ome_zarr
from napari_unet.files.stored import name_of
from napari_unet.imaging.arrays import Image, as_label_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from napari_unet.files.stored import Stored


def read_image(
    path: str | Path,
    *,
    axes: str | None = None,
    channels: Sequence[str | int] | None = None,
    notes: list[str] | None = None,
) -> Image:
    """Read an image.

    Of an OME-Zarr, and of a TIFF of 256 MiB or more in tiles, in many strips or
    without compression, the pixels are read when they are sliced: what is damaged
    among them is found then, and raises the same errors.

    Parameters
    ----------
    path : path
        TIFF (plain, ImageJ's, OME) or PNG, known by its content, or the folder of an
        OME-Zarr image.
    axes : str, optional
        What the axes are, such as ``"ZYX"``; goes before what the file says.
    channels : sequence of str or int, optional
        Channels to take, by name or counted from 0; all by default.
    notes : list of str, optional
        What the user should know about the way the file was read is added here.

    Returns
    -------
    Image
        With axes C, [T,] [Z,] Y, X; the pixel size as OME or ImageJ state it.

    Raises
    ------
    FolderError
        No such file (NU-F01), a folder (NU-F02), not readable (NU-F04).
    ImageError
        Not a picture or not a sound one (NU-I01 to NU-I07), axes that nothing names
        (NU-I09), no such channel (NU-I11), a Zarr folder without an image (NU-I14).
    """
    path = Path(path)
    if is_zarr(path):
        return _with_channels(read_ome_zarr(path, axes=axes), channels)
    stored = read_stored(path, keep_planes=axes is not None, in_parts=True)
    if notes is not None:
        notes.extend(stored.notes)
    data, order = arrange(stored.array, stored.axes, wanted=axes, name=name_of(path))
    names = stored.channel_names if len(stored.channel_names) == data.shape[0] else ()
    image = Image(
        data=data,
        axes=order,
        pixel_size_um=_pixel_size(stored.pixel_size_um, order),
        channel_names=names,
        source=str(path),
    )
    image = _with_channels(image, channels)
    if not isinstance(data, np.ndarray):
        return image
    native = data.dtype.newbyteorder("=")
    return replace(image, data=np.ascontiguousarray(image.data, dtype=native))


def _with_channels(image: Image, channels: Sequence[str | int] | None) -> Image:
    """Return an image of some of its channels; of all of them by default."""
    if channels is None:
        return image
    names, n = image.channel_names, image.n_channels
    file = name_of(Path(image.source))
    chosen = [_channel_index(c, names, n, file) for c in channels]
    return replace(
        image,
        data=image.data.take(chosen, 0),
        channel_names=tuple(names[i] for i in chosen) if names else (),
    )


class LabelImage(NamedTuple):
    """A label image as it was read.

    Parameters
    ----------
    labels : ndarray of int32, shape ([T,] [Z,] Y, X)
        Instance ids; 0 is background.
    axes : str
        Axes of `labels`, such as ``"ZYX"``; empty where nothing names them.
    pixel_size_um : tuple of float, optional
        Along ([Z,] Y, X), in micrometres.
    """

    labels: NDArray[np.int32]
    axes: str
    pixel_size_um: tuple[float, ...] | None


def read_labels(
    path: str | Path, *, axes: str | None = None, notes: list[str] | None = None
) -> NDArray[np.int32]:
    """Read a label image.

    Parameters
    ----------
    path : path
        TIFF or PNG; the numbers of a palette are the ids.
    axes : str, optional
        What the axes are; where nothing says so they stay as stored, without those of
        length 1.
    notes : list of str, optional
        What the user should know about the way the file was read is added here.

    Returns
    -------
    ndarray of int32, shape ([T,] [Z,] Y, X)
        Instance ids; 0 is background, and so are negative ids.

    Raises
    ------
    FolderError, ImageError
        As `read_image`.
    LabelError
        Fractions or ids beyond 2**31 - 1 (NU-L01), ids that look interpolated
        (NU-L03), a colour picture (NU-L07).
    """
    return read_label_image(path, axes=axes, notes=notes).labels


def read_label_image(
    path: str | Path,
    *,
    axes: str | None = None,
    shape: tuple[int, ...] | None = None,
    notes: list[str] | None = None,
) -> LabelImage:
    """Read a label image with its axes and its pixel size.

    Parameters
    ----------
    path, notes
        As for `read_labels`.
    axes : str, optional
        What the axes are. Together with `shape` what they are where the labels don't
        fit otherwise, without axes that the image does not have.
    shape : tuple of int, optional
        Shape ([T,] [Z,] Y, X) of the image that is labelled.

    Raises
    ------
    FolderError, ImageError, LabelError
        As `read_labels`.
    """
    path = Path(path)
    name = name_of(path)
    stored = read_stored(path, palette_as_ids=True, keep_planes=True)
    notes = [] if notes is None else notes
    notes.extend(stored.notes)
    if shape is not None:
        array, order = _arrange_like(stored, axes, shape, name)
    else:
        array, order = _arrange_as_named(stored, axes, name)
    if any((channel != array[0]).any() for channel in array[1:]):
        raise LabelError(
            "NU-L07",
            f"{name} has {len(array)} channels that differ, like a colour "
            "picture: a label image has one whole number for each cell",
        )
    array, order = array[0], order[1:]
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        notes.append(f"{name} has negative ids, which were read as background")
    labels = as_label_ids(array, source=name)
    check_not_interpolated(labels, name)
    return LabelImage(labels, order, _pixel_size(stored.pixel_size_um, order or "ZYX"))


def _arrange_as_named(
    stored: Stored, wanted: str | None, name: str
) -> tuple[NDArray[Any], str]:
    """Return labels as (C, ...) and their axes; as stored where nothing names them."""
    array, axes = drop_singletons(stored.array, stored.axes)
    if wanted is None and not are_axes(axes):
        return array[np.newaxis], ""
    return arrange(stored.array, stored.axes, wanted=wanted, name=name)


def _arrange_like(
    stored: Stored, wanted: str | None, shape: tuple[int, ...], name: str
) -> tuple[NDArray[Any], str]:
    """Return labels as (C, ...) in the way that gives them the shape of their image."""
    as_named = _arrange_as_named(stored, None, name)
    if as_named[0].shape[1:] == shape:
        return as_named
    array, axes = drop_singletons(stored.array, stored.axes)
    if wanted is not None and len(wanted) == array.ndim:
        turned = arrange(array, axes, wanted=wanted, name=name)
        if turned[0].shape[1:] == shape:
            return turned
    # tifffile calls any stack of three or four planes a colour picture.
    return (array[np.newaxis], "") if array.shape == shape else as_named


def write_labels(
    path: str | Path,
    labels: NDArray[Any],
    *,
    axes: str = "YX",
    pixel_size_um: Sequence[float] | None = None,
) -> None:
    """Write labels as an OME-TIFF, atomically; the same labels give the same bytes.

    Parameters
    ----------
    path : path
        File to write.
    labels : array of int, shape ([T,] [Z,] Y, X)
        Instance ids, which are kept; written as uint16, or uint32 where one is above
        65,535.
    axes : str
        One letter an axis, such as ``"ZYX"``.
    pixel_size_um : sequence of float, optional
        Along ([Z,] Y, X), in micrometres.

    Raises
    ------
    LabelError
        Not label ids, or axes that don't fit them (NU-L01, NU-L07).
    SaveError
        The file can't be written (NU-S01).
    """
    write = labels_writer(labels, axes=axes, pixel_size_um=pixel_size_um, path=path)
    write_atomically(path, write)


def labels_writer(
    labels: NDArray[Any],
    *,
    axes: str = "YX",
    pixel_size_um: Sequence[float] | None = None,
    path: str | Path = "a file",
) -> Callable[[BinaryIO], None]:
    """Return what writes labels into a file; parameters as for `write_labels`."""
    ids = as_label_ids(np.asarray(labels), source="the label image")
    dtype = np.uint16 if ids.max() <= np.iinfo(np.uint16).max else np.uint32
    sizes = size_metadata(axes, pixel_size_um)
    return ome_tiff(ids.astype(dtype), axes, sizes, path=path)


def write_image(
    path: str | Path,
    data: NDArray[Any],
    *,
    axes: str = "CYX",
    pixel_size_um: Sequence[float] | None = None,
    channel_names: Sequence[str] = (),
) -> None:
    """Write an image, such as probabilities, as an OME-TIFF, atomically.

    Parameters
    ----------
    path : path
        File to write.
    data : array of a real dtype, shape (C, [T,] [Z,] Y, X)
        Values, written as they are.
    axes : str
        One letter an axis, such as ``"CYX"``.
    pixel_size_um : sequence of float, optional
        Along ([Z,] Y, X), in micrometres.
    channel_names : sequence of str
        One a channel, or empty.

    Raises
    ------
    ImageError
        Axes that don't fit the data (NU-I09).
    SaveError
        The file can't be written (NU-S01).
    """
    write = image_writer(
        data,
        axes=axes,
        pixel_size_um=pixel_size_um,
        channel_names=channel_names,
        path=path,
    )
    write_atomically(path, write)


def image_writer(
    data: NDArray[Any],
    *,
    axes: str = "CYX",
    pixel_size_um: Sequence[float] | None = None,
    channel_names: Sequence[str] = (),
    path: str | Path = "a file",
) -> Callable[[BinaryIO], None]:
    """Return what writes an image into a file; parameters as for `write_image`."""
    metadata = size_metadata(axes, pixel_size_um)
    if channel_names:
        metadata["Channel"] = {"Name": list(channel_names)}
    return ome_tiff(np.asarray(data), axes, metadata, path=path)


def _channel_index(wanted: str | int, names: Sequence[str], n: int, file: str) -> int:
    if wanted in names:
        return list(names).index(str(wanted))
    if str(wanted).isdecimal() and int(wanted) < n:
        return int(wanted)
    named = f" ({', '.join(names)})" if names else ""
    raise ImageError(
        "NU-I11",
        f"{file} has no channel {wanted!r}: it has {n}{named}, counted from 0",
    )


def _pixel_size(by_axis: Mapping[str, float], axes: str) -> tuple[float, ...] | None:
    if not {"Y", "X"} <= set(by_axis):
        return None
    return tuple(by_axis[a] for a in "ZYX" if a in axes and a in by_axis)
