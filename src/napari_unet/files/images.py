"""Images and labels from and to the files that people have."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_unet.errors import FolderError, ImageError, LabelError
from napari_unet.files.axes import are_axes, arrange, drop_singletons
from napari_unet.files.kinds import not_readable, read_stored
from napari_unet.files.label_checks import check_not_interpolated
from napari_unet.files.ome_tiff import size_metadata, write_ome_tiff
from napari_unet.files.stored import name_of
from napari_unet.imaging.arrays import Image, as_label_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_unet.files.stored import Stored

_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".png")


def read_image(
    path: str | Path,
    *,
    axes: str | None = None,
    channels: Sequence[str | int] | None = None,
    notes: list[str] | None = None,
) -> Image:
    """Read an image.

    Parameters
    ----------
    path : path
        TIFF (plain, ImageJ's, OME) or PNG, known by its content.
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
        (NU-I09), no such channel (NU-I11).
    """
    path = Path(path)
    stored = read_stored(path, keep_planes=axes is not None)
    if notes is not None:
        notes.extend(stored.notes)
    data, order = arrange(stored.array, stored.axes, wanted=axes, name=name_of(path))
    names = stored.channel_names if len(stored.channel_names) == len(data) else ()
    if channels is not None:
        chosen = [_channel_index(c, names, len(data), name_of(path)) for c in channels]
        data = data[chosen]
        names = tuple(names[i] for i in chosen) if names else ()
    return Image(
        data=np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("=")),
        axes=order,
        pixel_size_um=_pixel_size(stored.pixel_size_um, order),
        channel_names=names,
        source=str(path),
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
    ids = as_label_ids(np.asarray(labels), source="the label image")
    dtype = np.uint16 if ids.max() <= np.iinfo(np.uint16).max else np.uint32
    write_ome_tiff(path, ids.astype(dtype), axes, size_metadata(axes, pixel_size_um))


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
    metadata = size_metadata(axes, pixel_size_um)
    if channel_names:
        metadata["Channel"] = {"Name": list(channel_names)}
    write_ome_tiff(path, np.asarray(data), axes, metadata)


def stem_of(path: Path) -> str:
    """Return a file's name without the suffixes of an image.

    Examples
    --------
    >>> stem_of(Path("field 1.ome.tif"))
    'field 1'
    """
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def find_images(folder: str | Path, pattern: str | None = None) -> list[Path]:
    """Return the TIFF and PNG files of a folder, sorted by name.

    Parameters
    ----------
    folder : path
        Folder to look into, not its subfolders. Hidden files are left out.
    pattern : str, optional
        Which names to take, such as ``"train_*"``.

    Raises
    ------
    FolderError
        No such folder (NU-F01), not a folder (NU-F02), no such image (NU-F03), not
        readable (NU-F04).
    """
    folder = Path(folder)
    if not folder.exists():
        raise FolderError("NU-F01", f"there is no folder {folder}: check the path")
    if not folder.is_dir():
        raise FolderError("NU-F02", f"{folder} is a file: give the folder it is in")
    try:
        found = sorted(path for path in folder.iterdir() if _is_image_name(path))
    except OSError as error:
        raise not_readable(folder, error) from error
    paths = [p for p in found if pattern is None or fnmatchcase(p.name, pattern)]
    if not paths:
        count = "1 image" if len(found) == 1 else f"{len(found)} images"
        what = f"{count} but none like {pattern!r}" if found else "no image"
        raise FolderError(
            "NU-F03",
            f"{folder} holds {what}: give a folder of .tif, .tiff or .png files"
            f"{' or another pattern' if found else ''}",
        )
    return paths


def pair_by_stem(
    images: Sequence[Path],
    folder: str | Path,
    *,
    endings: Sequence[str] = ("",),
) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Pair each image with the file of the same stem in another folder.

    Parameters
    ----------
    images : sequence of Path
        Images, such as `find_images` returns them.
    folder : path
        Folder of the masks.
    endings : sequence of str
        What a mask's stem may have after the image's, such as ``("", "_labels")``.

    Returns
    -------
    pairs : list of (Path, Path)
        Image and mask, in the order of `images`.
    missing : list of Path
        Images without a mask.

    Raises
    ------
    FolderError
        As `find_images`; or two files of one stem (NU-F05).
    """
    masks = _by_stem(find_images(folder))
    pairs, missing = [], []
    for stem, image in _by_stem(images).items():
        found = [masks[stem + end] for end in endings if stem + end in masks]
        if len(found) > 1:
            raise _two_of_one_stem(*found[:2])
        if found:
            pairs.append((image, found[0]))
        else:
            missing.append(image)
    return pairs, missing


def _by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    by_stem: dict[str, Path] = {}
    for path in paths:
        other = by_stem.setdefault(stem_of(path), path)
        if other != path:
            raise _two_of_one_stem(other, path)
    return by_stem


def _two_of_one_stem(first: Path, second: Path) -> FolderError:
    return FolderError(
        "NU-F05",
        f"{first} and {second.name} stand for the same image: keep one of them in the "
        "folder",
    )


def _is_image_name(path: Path) -> bool:
    is_hidden = path.name.startswith(".")
    return (
        not is_hidden
        and path.suffix.lower() in {".tif", ".tiff", ".png"}
        and not path.is_dir()
    )


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
