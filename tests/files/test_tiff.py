"""TIFF: what is sound is read as it is, what is not is never made up."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_unet.errors import ImageError, LabelError, UNetError
from napari_unet.files import tiff_damage
from napari_unet.files.images import read_image, read_labels

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_RNG = np.random.default_rng(0)
_STACK = _RNG.integers(0, 65536, (5, 16, 24), np.uint16)
_PLANE = _STACK[0]


def _tif(array: NDArray[Any] = _STACK, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **({"photometric": "minisblack"} | options))
    return file.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: bytes, name: str = "a.tif") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True},
        {"ome": True},
        {"metadata": {"axes": "ZYX"}},
        {"metadata": {"axes": "ZYX"}, "compression": "zlib", "predictor": True},
        {"metadata": {"axes": "ZYX"}, "compression": "lzw"},
        {"metadata": {"axes": "ZYX"}, "compression": "zstd", "tile": (16, 16)},
        {"metadata": {"axes": "ZYX"}, "byteorder": ">"},
        {"ome": True, "bigtiff": True},
    ],
)
def test_a_stack_is_read_pixel_by_pixel(write: Any, options: dict[str, Any]) -> None:
    options = {"metadata": {"axes": "ZYX"}} | options
    image = read_image(write(_tif(**options)))
    assert image.axes == "CZYX"
    assert image.data.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(image.data[0], _STACK)


@pytest.mark.parametrize(
    "dtype",
    [
        *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32"),
        *("float16", "float32", "float64"),
    ],
)
def test_any_dtype_is_kept(write: Any, dtype: str) -> None:
    plane = (_PLANE % 120).astype(dtype)
    image = read_image(write(_tif(plane)))
    assert image.data.dtype == dtype
    np.testing.assert_array_equal(image.data[0], plane)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 5)])
def test_the_smallest_images_are_images(write: Any, shape: tuple[int, int]) -> None:
    assert read_image(write(_tif(np.ones(shape, np.uint8)))).shape == shape


def test_imagej_names_axes_and_pixel_size(write: Any) -> None:
    movie = np.broadcast_to(_STACK[None, :, None], (2, 5, 3, 16, 24))
    content = _tif(
        movie,
        imagej=True,
        resolution=(1 / 0.2, 1 / 0.25),
        metadata={"axes": "TZCYX", "spacing": 0.7, "unit": "\\u00B5m"},
    )
    image = read_image(write(content))
    assert image.axes == "CTZYX"
    assert image.data.shape == (3, 2, 5, 16, 24)
    assert image.pixel_size_um == pytest.approx((0.7, 0.25, 0.2))


@pytest.mark.parametrize("unit", ["inch", "cm", "pixel", ""])
def test_a_printers_resolution_is_no_pixel_size(write: Any, unit: str) -> None:
    options = {"imagej": True, "metadata": {"unit": unit}}
    assert (
        read_image(write(_tif(_PLANE, resolution=(72, 72), **options))).pixel_size_um
        is None
    )
    plain = _tif(_PLANE, resolution=(72, 72), resolutionunit="INCH")
    assert read_image(write(plain)).pixel_size_um is None


def test_ome_names_axes_channels_and_pixel_size(write: Any) -> None:
    metadata = {
        "axes": "CYX",
        "PhysicalSizeX": 200,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.25,
        "Channel": {"Name": ["DAPI", "GFP", "RFP", "Cy5", "BF"]},
    }
    image = read_image(write(_tif(ome=True, metadata=metadata)))
    assert image.pixel_size_um == pytest.approx((0.25, 0.2))
    assert image.channel_names == ("DAPI", "GFP", "RFP", "Cy5", "BF")


@pytest.mark.parametrize("metadata", [None, {}])
def test_a_stack_that_nothing_names_is_asked_for(write: Any, metadata: Any) -> None:
    with pytest.raises(ImageError, match=r"3 axes of 5 x 16 x 24 .*TYX") as caught:
        read_image(write(_tif(metadata=metadata)))
    assert caught.value.code == "NU-I09"
    assert read_image(write(_tif(metadata=metadata)), axes="TYX").axes == "CTYX"


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_become_channels(write: Any, planar: str) -> None:
    picture = _STACK[:3] if planar == "separate" else _STACK[:3].transpose(1, 2, 0)
    image = read_image(write(_tif(picture, photometric="rgb", planarconfig=planar)))
    assert image.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(image.data, _STACK[:3])


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_alpha_is_dropped_and_said(write: Any, kind: str, tmp_path: Path) -> None:
    picture = _STACK[:4].transpose(1, 2, 0)
    notes: list[str] = []
    path = write(_tif(picture, photometric="rgb", extrasamples=[kind]))
    image = read_image(path, notes=notes)
    np.testing.assert_array_equal(image.data, _STACK[:3])
    assert notes == [
        f"{tmp_path.name}{os.sep}a.tif has an alpha channel, which was dropped"
    ]


def test_grey_with_alpha_is_grey(write: Any) -> None:
    picture = _STACK[:2].transpose(1, 2, 0)
    content = _tif(picture, planarconfig="contig", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(write(content)).data, _STACK[:1])


def test_a_fourth_sample_that_is_not_alpha_stays(write: Any) -> None:
    picture = _STACK[:4].transpose(1, 2, 0)
    content = _tif(picture, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_image(write(content)).data, _STACK[:4])


def test_a_palettes_numbers_are_ids(write: Any) -> None:
    ids = (_PLANE % 7).astype(np.uint8)
    colours = _RNG.integers(0, 65536, (3, 256), np.uint16)
    path = write(_tif(ids, photometric="palette", colormap=colours))
    np.testing.assert_array_equal(read_labels(path), ids)


def test_the_full_resolution_of_a_pyramid_is_read(write: Any) -> None:
    full = _RNG.integers(0, 9, (64, 64), np.uint8)
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(full, subifds=1, tile=(16, 16), metadata={"axes": "YX"})
        writer.write(full[::2, ::2], subfiletype=1, tile=(16, 16))
    np.testing.assert_array_equal(read_image(write(file.getvalue())).data[0], full)


def test_the_first_of_several_images_is_read_and_said(
    write: Any, tmp_path: Path
) -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(_PLANE, photometric="minisblack")
        writer.write(np.zeros((3, 4), np.uint8), photometric="minisblack")
    notes: list[str] = []
    image = read_image(write(file.getvalue()), notes=notes)
    np.testing.assert_array_equal(image.data[0], _PLANE)
    assert notes == [f"{tmp_path.name}{os.sep}a.tif holds 2 images; the first was read"]


def test_white_is_zero_is_said(write: Any, tmp_path: Path) -> None:
    notes: list[str] = []
    read_image(write(_tif(_PLANE, photometric="miniswhite")), notes=notes)
    (note,) = notes
    assert note.startswith(f"{tmp_path.name}{os.sep}a.tif says that 0 is white; the")


@pytest.mark.parametrize("n_bytes", [4, 7, 8])
def test_a_header_alone_is_not_readable(write: Any, n_bytes: int) -> None:
    with pytest.raises(ImageError, match=r"a\.tif is not a readable TIFF") as caught:
        read_image(write(_tif()[:4] + bytes(n_bytes - 4)))
    assert caught.value.code == "NU-I01"


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_an_uncompressed_image_that_was_cut_says_how_much_is_there(
    write: Any, share: float
) -> None:
    content = _tif(_PLANE)
    cut = content[: int(len(content) * share)]
    there = f"truncated: {len(cut):,} of {len(content):,} bytes"
    with pytest.raises(ImageError, match=there) as caught:
        read_image(write(cut))
    assert caught.value.code == "NU-I02"


@pytest.mark.parametrize("share", [0.3, 0.5, 0.99])
@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True},
        {"metadata": {"axes": "ZYX"}},
        {"metadata": {"axes": "ZYX"}, "compression": "zlib"},
        {"metadata": None, "compression": "lzw"},
        {"ome": True},
        {"ome": True, "compression": "zlib"},
    ],
)
def test_a_stack_that_was_cut_is_never_read_as_a_shorter_one(
    write: Any, options: dict[str, Any], share: float
) -> None:
    content = _tif(**options)
    with pytest.raises(ImageError, match="truncated") as caught:
        read_image(write(content[: int(len(content) * share)]), axes="ZYX")
    assert caught.value.code == "NU-I02"


def test_a_cut_imagej_stack_says_how_many_pages_are_missing(write: Any) -> None:
    content = _tif(imagej=True)
    with pytest.raises(ImageError, match="expected 5 pages, found 1"):
        read_image(write(content[: len(content) // 2]))


def test_an_imagej_stack_with_one_described_page_is_read(write: Any) -> None:
    content = bytearray(_tif(imagej=True, metadata={"axes": "ZYX"}))
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        end_of_first = tif.pages[0].offset + 2 + 12 * len(tif.pages[0].tags)
    content[end_of_first : end_of_first + 4] = bytes(4)
    np.testing.assert_array_equal(read_image(write(content)).data[0], _STACK)
    with pytest.raises(ImageError, match="expected 5 pages, found 1"):
        read_image(write(content[: len(content) // 2]))


def test_a_flipped_bit_in_compressed_pixels_is_noticed(write: Any) -> None:
    content = bytearray(_tif(_PLANE, compression="zlib"))
    content[-100] ^= 16
    with pytest.raises(ImageError, match=r"a\.tif is damaged") as caught:
        read_image(write(content))
    assert caught.value.code == "NU-I02"


def test_pages_in_a_circle_give_the_first_and_a_note(write: Any) -> None:
    content = bytearray(_tif(_STACK[:2], metadata=None, compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        first, second = (page.offset for page in tif.pages)
    n_tags = struct.unpack_from("<H", content, second)[0]
    link = second + 2 + 12 * n_tags
    assert struct.unpack_from("<I", content, link)[0] == 0
    struct.pack_into("<I", content, link, first)
    notes: list[str] = []
    image = read_image(write(content), notes=notes)
    np.testing.assert_array_equal(image.data[0], _PLANE)
    assert "its pages form a circle; only the first was read" in notes[0]


def _with_size(content: bytes, width: int, height: int) -> bytes:
    changed = bytearray(content)
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        tags = tif.pages[0].tags
        for name, value in (("ImageWidth", width), ("ImageLength", height)):
            at = tags[name].offset
            struct.pack_into("<HHII", changed, at, tags[name].code, 4, 1, value)
        at = tags["RowsPerStrip"].offset
        struct.pack_into("<HHII", changed, at, 278, 4, 1, height)
    return bytes(changed)


def test_a_header_that_claims_too_much_is_refused_at_once(write: Any) -> None:
    lie = _with_size(_tif(_PLANE, metadata=None), 100_000, 100_000)
    with pytest.raises(
        ImageError, match=r"claims 20\.00 GB but the file has"
    ) as caught:
        read_image(write(lie))
    assert caught.value.code == "NU-I03"


@pytest.mark.parametrize("planes", [(3, 50, 7), (10**5, 10**5, 10**5)])
def test_ome_metadata_that_claims_more_planes_than_there_are(
    write: Any, planes: tuple[int, int, int]
) -> None:
    content = _tif(_PLANE, ome=True, description=None)
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        xml = str(tif.ome_metadata)
    for axis, n in zip("CZT", planes, strict=True):
        xml = xml.replace(f'Size{axis}="1"', f'Size{axis}="{n}"')
    claimed = planes[0] * planes[1] * planes[2]
    lie = _tif(_PLANE, description=xml.encode(), metadata=None)
    with pytest.raises(
        ImageError, match=f"claims {claimed} planes, file has 1"
    ) as caught:
        read_image(write(lie))
    assert caught.value.code == "NU-I04"


def test_one_file_of_a_set_names_the_other(write: Any) -> None:
    xml = (
        '<OME xmlns="x" UUID="urn:1"><Image><Pixels DimensionOrder="XYZCT" SizeX="24" '
        'SizeY="16" SizeZ="1" SizeC="1" SizeT="1"><TiffData><UUID FileName='
        '"partner.tif">urn:2</UUID></TiffData></Pixels></Image></OME>'
    )
    path = write(_tif(_PLANE, description=xml, metadata=None))
    with pytest.raises(ImageError, match=r"needs partner\.tif") as caught:
        read_image(path)
    assert caught.value.code == "NU-I04"


@pytest.mark.parametrize("end", ["", "</OME>"])
def test_unreadable_ome_metadata_leaves_a_plain_tiff_and_a_note(
    write: Any, end: str
) -> None:
    xml = '<?xml version="1.0"?><OME><Image><Pixels Size' + end
    notes: list[str] = []
    path = write(_tif(_PLANE, description=xml, metadata=None))
    np.testing.assert_array_equal(read_image(path, notes=notes).data[0], _PLANE)
    assert "OME metadata that is not readable" in notes[0]


def test_entities_in_the_metadata_are_refused(write: Any) -> None:
    xml = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "b">]><OME>&a;</OME>'
    with pytest.raises(ImageError, match="declares entities"):
        read_image(write(_tif(_PLANE, description=xml, metadata=None)))


def test_a_compression_without_decoder_is_named(write: Any) -> None:
    content = bytearray(_tif(_PLANE, compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        at = tif.pages[0].tags["Compression"].offset
    struct.pack_into("<H", content, at + 8, 34_999)
    with pytest.raises(ImageError, match=r"compression of .*a\.tif .* needs") as caught:
        read_image(write(content))
    assert caught.value.code == "NU-I05"


def test_complex_numbers_are_no_intensities(write: Any) -> None:
    with pytest.raises(ImageError, match=r"complex64 values, which are not supported"):
        read_image(write(_tif(_PLANE.astype(np.complex64))))


def test_strips_that_are_not_there_are_not_read_as_zeros(write: Any) -> None:
    content = bytearray(_tif(_PLANE, compression="zlib", rowsperstrip=4))
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        at = tif.pages[0].tags["StripByteCounts"].valueoffset
    content[at : at + 2] = bytes(2)
    with pytest.raises(ImageError, match="parts of its pixels are not in the file"):
        read_image(write(content))


def test_what_tifffile_warns_of_is_an_error_and_not_printed(
    write: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = tifffile.TiffPageSeries.asarray

    def grumble(*args: Any, **options: Any) -> Any:
        logging.getLogger("tifffile").warning("<tifffile.TiffPage 0> looks wrong")
        return real(*args, **options)

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", grumble)
    with pytest.raises(ImageError, match=r"a\.tif is damaged .*looks wrong"):
        read_image(write(_tif(_PLANE)))
    assert not caplog.records


def test_a_warning_about_a_describing_tag_does_no_harm() -> None:
    findings = tiff_damage.Findings()
    for message, harm in [
        ("<tifffile.TiffTag 305 @10> coercing invalid ASCII", ""),
        ("<tifffile.read_json> raised", ""),
        ("<TiffTag 40000 @10> invalid value offset 99", ""),
        ("<TiffTag 270 @10> invalid value offset 99", "270"),
        ("<tifffile.TiffTag 273 @10> raised", "273"),
    ]:
        record = logging.LogRecord("x", logging.WARNING, "", 0, message, (), None)
        assert not findings.filter(record)
        assert harm in findings.harmful()
        assert bool(harm) == bool(findings.harmful())
        findings.records.clear()


def test_records_of_other_threads_pass() -> None:
    findings = tiff_damage.Findings()
    record = logging.LogRecord("x", logging.WARNING, "", 0, "m", (), None)
    record.thread = -1
    assert findings.filter(record)
    assert not findings.records


def test_an_image_that_does_not_fit_the_memory_is_said(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", full)
    with pytest.raises(ImageError, match="does not fit into the memory"):
        read_image(write(_tif(_PLANE)))


def test_a_colour_picture_is_no_label_image(write: Any) -> None:
    picture = _STACK[:3].transpose(1, 2, 0)
    with pytest.raises(LabelError, match="3 channels that differ, like a colour"):
        read_labels(write(_tif(picture, photometric="rgb")))
    grey = np.repeat((_PLANE % 9)[..., None], 3, axis=2)
    labels = read_labels(write(_tif(grey, photometric="rgb")))
    np.testing.assert_array_equal(labels, _PLANE % 9)


def test_damaged_files_give_pixels_or_one_of_our_errors(write: Any) -> None:
    rng = np.random.default_rng(7)
    sound = [
        _tif(imagej=True),
        _tif(ome=True),
        _tif(compression="zlib"),
        _tif(_PLANE, compression="lzw"),
        _tif(_PLANE, tile=(16, 16), compression="zstd"),
        _tif(_PLANE, bigtiff=True, byteorder=">"),
    ]
    n_read = 0
    for i in range(300):
        content = bytearray(sound[i % len(sound)])
        for _ in range(rng.integers(1, 6)):
            near = rng.choice([300, len(content)])
            content[rng.integers(0, near)] = rng.choice([0, 1, 128, 255])
        with contextlib.suppress(UNetError):
            read_image(write(content))
            n_read += 1
    assert 0 < n_read < 200
