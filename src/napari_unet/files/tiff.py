"""Reading TIFF soundly.

tifffile is lenient: it reads half a stack as one page and fills with zeros what the
metadata claims but the file lacks, with no more than a log record. Here the claims
are compared with the file before the pixels are read, and the records are findings.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import tifffile

from napari_unet.errors import ImageError
from napari_unet.files.lazy_array import LazyArray
from napari_unet.files.lazy_tiff import open_lazily
from napari_unet.files.ome import OmeInfo, check_xml, length_um, parse_ome
from napari_unet.files.stored import (
    Stored,
    check_claimed_size,
    check_read_whole,
    name_of,
)
from napari_unet.files.tiff_chain import PageChain, walk_pages
from napari_unet.files.tiff_damage import damaged, reading

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_ALPHA = {1, 2}
_RGB, _YCBCR, _WHITE_IS_ZERO = 2, 6, 0


def read_tiff(
    path: Path, *, keep_planes: bool = False, in_parts: bool = False
) -> Stored:
    """Read the first image of a TIFF at full resolution.

    Parameters
    ----------
    path : Path
        A file that starts with a TIFF's magic number.
    keep_planes : bool
        Keep a fourth plane that is said to be alpha: tifffile says so of any stack
        of four planes.
    in_parts : bool
        Let the pixels of a large image be read when they are sliced, where they are
        stored so that this can be done.

    Raises
    ------
    ImageError
        Not readable (NU-I01), truncated or damaged (NU-I02), claims more than it can
        hold (NU-I03), metadata that doesn't fit (NU-I04), a compression that can't
        be read (NU-I05), empty (NU-I06).
    """
    name = name_of(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        chain = walk_pages(file, size)
    if chain.n_pages == 0:
        raise _without_pages(name, size, chain)
    with reading(name) as findings:
        with tifffile.TiffFile(path, _multifile=False) as tif:
            stored = _read_open(tif, chain, path, keep_planes, in_parts)
        if harm := "" if chain.is_circular else findings.harmful():
            raise damaged(name, harm)
    return stored


def _without_pages(name: str, size: int, chain: PageChain) -> ImageError:
    if size > 16 and chain.broken_at is not None and chain.broken_at >= size:
        return ImageError(
            "NU-I02",
            f"{name} is truncated: {size:,} of more than {chain.broken_at:,} bytes are "
            "there: get it again from its source",
        )
    return ImageError(
        "NU-I01",
        f"{name} is not a readable TIFF: it has {size:,} bytes and no image in them",
    )


def _read_open(
    tif: tifffile.TiffFile,
    chain: PageChain,
    path: Path,
    keep_planes: bool,
    in_parts: bool,
) -> Stored:
    name, notes = name_of(path), list[str]()
    page = tif.pages.first
    size = tif.filehandle.size
    check_claimed_size(name, page.shape, _itemsize(page), size)
    _check_compression(page, name)
    ome = _ome_info(tif, name, notes)
    _check_planes(tif, chain, ome, name)
    if chain.is_circular:
        notes.append(f"{name}: its pages form a circle; only the first was read")
        _check_segments(page, name)
        check_read_whole(name, page.shape)
        array, axes = page.asarray(), page.axes
    else:
        if ome is None and tif.is_ome:
            tif.is_ome = False
        series = tif.series[0]
        check_claimed_size(name, series.shape, _itemsize(page), size)
        _check_series(series, tif, name)
        if len(tif.series) > 1:
            notes.append(f"{name} holds {len(tif.series)} images; the first was read")
        array, axes = _pixels(series, path, in_parts), series.axes
    if 0 in array.shape:
        raise ImageError("NU-I06", f"{name} is an empty image {array.shape}")
    names: tuple[str, ...] = ()
    if not (keep_planes and axes == "SYX"):
        array, axes, names = _without_alpha(array, axes, page, name, notes)
    if page.photometric == _WHITE_IS_ZERO:
        notes.append(f"{name} says that 0 is white; the values were read as they are")
    return Stored(
        array=array,
        axes=axes,
        pixel_size_um=ome.pixel_size_um if ome else _imagej_pixel_size(tif),
        channel_names=(ome.channel_names if ome else ()) or names,
        notes=tuple(notes),
    )


def _pixels(
    series: tifffile.TiffPageSeries, path: Path, in_parts: bool
) -> NDArray[Any]:
    """Return the pixels of a checked series, or what reads them in parts."""
    lazy = open_lazily(path, series) if in_parts else None
    if lazy is not None:
        return LazyArray(lazy)  # type: ignore[return-value]  # see Stored.array
    check_read_whole(name_of(path), series.shape)
    return series.asarray()


def _itemsize(page: tifffile.TiffPage) -> int:
    return page.dtype.itemsize if page.dtype is not None else 1


def _check_compression(page: tifffile.TiffPage, name: str) -> None:
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
    except KeyError:
        raise ImageError(
            "NU-I05",
            f"the compression of {name} ({page.compression!r}) needs a decoder that is "
            "not there: save it again uncompressed or with Deflate",
        ) from None


def _ome_info(tif: tifffile.TiffFile, name: str, notes: list[str]) -> OmeInfo | None:
    text = tif.pages.first.description
    check_xml(text, name)
    if "<OME" not in text[:10_000]:
        return None
    ome = parse_ome(text, tif.filehandle.name) if tif.is_ome else None
    if ome is None:
        notes.append(
            f"{name} has OME metadata that is not readable; it was read as a plain "
            "TIFF, without pixel size"
        )
    elif ome.partners:
        raise _partners_error(name, ome.partners)
    return ome


def _partners_error(name: str, partners: tuple[str, ...]) -> ImageError:
    # Where the partners are is not looked up: their names may lead anywhere.
    return ImageError(
        "NU-I04",
        f"{name} is one file of a set and needs {', '.join(partners[:3])}"
        f"{' and others' if len(partners) > 3 else ''}, which is not read: save the "
        "whole set as one OME-TIFF",
    )


def _check_planes(
    tif: tifffile.TiffFile, chain: PageChain, ome: OmeInfo | None, name: str
) -> None:
    page = tif.pages.first
    if ome is not None and chain.broken_at is None:
        n_found = chain.n_pages * max(page.samplesperpixel, 1)
        if ome.n_planes > n_found:
            raise ImageError(
                "NU-I04",
                f"{name}: its OME metadata claims {ome.n_planes} planes, file has "
                f"{n_found}: get it again from its source, or save it again",
            )
        return
    n_claimed = ome.n_planes if ome else _n_claimed_pages(tif)
    if chain.n_pages == 1 and page.is_contiguous and ome is None:
        # ImageJ may describe the first page of a stack only; the rest follows it.
        has_all = page.dataoffsets[0] + n_claimed * page.nbytes <= tif.filehandle.size
    else:
        has_all = n_claimed <= chain.n_pages
    if not has_all and n_claimed > 1:
        raise ImageError(
            "NU-I02",
            f"{name} is truncated: expected {n_claimed} pages, found {chain.n_pages}: "
            "get it again from its source",
        )
    if chain.broken_at is not None:
        _check_reaches(chain.broken_at + 1, tif, name)
        raise damaged(name, f"page {chain.n_pages + 1} can't be found")


def _n_claimed_pages(tif: tifffile.TiffFile) -> int:
    """Return how many pages ImageJ's or tifffile's own metadata says there are."""
    page = tif.pages.first
    if tif.is_imagej and tif.imagej_metadata:
        sizes = [
            int(tif.imagej_metadata.get(key, 1))
            for key in ("channels", "slices", "frames")
        ]
        if sizes[0] == page.samplesperpixel:
            sizes[0] = 1
        return math.prod(sizes)
    if tif.is_shaped and tif.shaped_metadata:
        shape = tif.shaped_metadata[0].get("shape", ())
        return int(math.prod(shape) // max(math.prod(page.shape), 1))
    return 1


def _check_reaches(n_bytes: int, tif: tifffile.TiffFile, name: str) -> None:
    size = tif.filehandle.size
    if n_bytes > size:
        raise ImageError(
            "NU-I02",
            f"{name} is truncated: {size:,} of {n_bytes:,} bytes are there: get it "
            "again from its source",
        )


def _check_series(
    series: tifffile.TiffPageSeries, tif: tifffile.TiffFile, name: str
) -> None:
    if series.dataoffset is not None:  # the pixels are one run of bytes
        _check_reaches(series.dataoffset + series.nbytes, tif, name)
        return
    n_pages = math.prod(series.shape) // max(math.prod(series.keyframe.shape), 1)
    pages = list(series.pages)
    if None in pages or len(pages) != n_pages:
        n_found = sum(page is not None for page in pages)
        raise ImageError(
            "NU-I02",
            f"{name} is truncated: expected {n_pages} pages, found {n_found}: get it "
            "again from its source",
        )
    for page in pages:
        _check_segments(page, name)


def _check_segments(page: Any, name: str) -> None:
    """Check that each strip or tile of a page lies within the file."""
    offsets, counts = page.dataoffsets, page.databytecounts
    n_needed = math.prod(page.chunked)
    if not len(offsets) == len(counts) == n_needed or 0 in offsets or 0 in counts:
        raise damaged(name, "parts of its pixels are not in the file")
    end = max(o + n for o, n in zip(offsets, counts, strict=True))
    if page.keyframe.is_contiguous:
        end = max(end, offsets[0] + page.nbytes)
    _check_reaches(end, page.parent, name)


def _without_alpha(
    array: NDArray[Any],
    axes: str,
    page: tifffile.TiffPage,
    name: str,
    notes: list[str],
) -> tuple[NDArray[Any], str, tuple[str, ...]]:
    """Drop what the file calls alpha; name red, green and blue."""
    if "S" not in axes:
        return array, axes, ()
    n_alpha = sum(kind in _ALPHA for kind in page.extrasamples)
    if n_alpha:
        notes.append(f"{name} has an alpha channel, which was dropped")
        samples = axes.index("S")
        kept = array.shape[samples] - n_alpha
        array = array.take(range(kept), samples)
        if kept == 1:
            array = array.squeeze(axis=(samples,))
            return array, axes.replace("S", ""), ()
    is_colour = page.photometric in {_RGB, _YCBCR} and "C" not in axes
    n_samples = array.shape[axes.index("S")]
    names = ("red", "green", "blue") if is_colour and n_samples == 3 else ()
    return array, axes, names


def _imagej_pixel_size(tif: tifffile.TiffFile) -> dict[str, float]:
    """Return the pixel size of an ImageJ TIFF, in micrometres by axis.

    The resolution of any other TIFF is that of a printer, not of a microscope.
    """
    metadata = tif.imagej_metadata if tif.is_imagej else None
    unit = str((metadata or {}).get("unit", ""))
    # ImageJ copies inch and cm from a printer's resolution.
    if metadata is None or unit in {"inch", "in", "cm"}:
        return {}
    lengths: dict[str, object] = {"Z": metadata.get("spacing")}
    for axis, tag in (("Y", "YResolution"), ("X", "XResolution")):
        pixels, units = tif.pages.first.tags.valueof(tag, (0, 0))
        lengths[axis] = units / pixels if pixels else None
    sizes = {axis: length_um(length, unit) for axis, length in lengths.items()}
    return {axis: size for axis, size in sizes.items() if size is not None}
