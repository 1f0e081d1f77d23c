"""Large TIFFs: what is read in parts is what is read at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.errors import ImageError
from napari_unet.files import lazy_tiff
from napari_unet.files.images import read_image, read_label_image
from napari_unet.files.lazy_array import LazyArray

if TYPE_CHECKING:
    from pathlib import Path

_RNG = np.random.default_rng(0)
MANY = settings(max_examples=60, deadline=None, derandomize=True)


def _both(path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    """Return an image read at once, and the same read in parts."""
    eager = read_image(path, **options)
    monkeypatch.setattr(lazy_tiff, "LAZY_FROM_BYTES", 1)
    lazy = read_image(path, **options)
    monkeypatch.undo()
    assert isinstance(eager.data, np.ndarray)
    return eager, lazy


def _check_alike(eager: Any, lazy: Any) -> None:
    assert isinstance(lazy.data, LazyArray)
    assert (lazy.axes, lazy.pixel_size_um) == (eager.axes, eager.pixel_size_um)
    assert (lazy.channel_names, lazy.shape) == (eager.channel_names, eager.shape)
    assert lazy.data.dtype == eager.data.dtype
    assert lazy.data.dtype.isnative
    np.testing.assert_array_equal(np.asarray(lazy.data), eager.data)
    rng = np.random.default_rng(1)
    for _ in range(20):
        ends = [np.sort(rng.choice(n + 1, 2, replace=False)) for n in eager.data.shape]
        key = tuple(slice(int(a), int(b), int(rng.integers(1, 8))) for a, b in ends)
        np.testing.assert_array_equal(lazy.data[key], eager.data[key])


_TILED = {"tile": (16, 32)}
_STRIPS = {"rowsperstrip": 7, "compression": "zlib"}
_PACKED = {"tile": (32, 16), "compression": "zlib", "predictor": True}


@pytest.mark.parametrize("options", [{}, _TILED, _STRIPS, {"byteorder": ">"}])
@pytest.mark.parametrize(
    "dtype",
    [
        *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32"),
        *("float16", "float32", "float64"),
    ],
)
def test_any_dtype_is_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, options: dict[str, Any]
) -> None:
    plane = _RNG.integers(0, 100, (61, 75)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", plane, **options)
    if dtype == "bool" and not {"compression", "tile"} & set(options):
        # A single bit for each pixel, in one strip: nothing that can be read in parts.
        return
    _check_alike(*_both(tmp_path / "a.tif", monkeypatch))


@pytest.mark.parametrize(
    "options", [{}, _TILED, _STRIPS, _PACKED, _TILED | {"byteorder": ">"}]
)
@pytest.mark.parametrize("axes", ["ZYX", "CYX", "TZYX", "TCYX", "TZCYX", "CTYX"])
def test_any_axes_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axes: str, options: dict[str, Any]
) -> None:
    shape = [{"T": 2, "Z": 3, "C": 2, "Y": 40, "X": 50}[a] for a in axes]
    stack = _RNG.integers(0, 60000, shape).astype(np.uint16)
    sizes = {"axes": axes, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    options = options | {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata=sizes, **options)
    _check_alike(*_both(tmp_path / "a.tif", monkeypatch, axes=axes))
    if "byteorder" not in options:
        tifffile.imwrite(
            tmp_path / "b.ome.tif", stack, ome=True, metadata=sizes, **options
        )
        _check_alike(*_both(tmp_path / "b.ome.tif", monkeypatch))


@pytest.mark.parametrize("options", [{}, _TILED, _STRIPS, _PACKED])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("n", [3, 4])
def test_colours_are_read_in_parts_and_alpha_is_left_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    planar: str,
    n: int,
) -> None:
    shape = (33, 50, n) if planar == "contig" else (n, 33, 50)
    picture = _RNG.integers(0, 255, shape).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        picture,
        photometric="rgb",
        planarconfig=planar,
        extrasamples=["unassalpha"] if n == 4 else None,
        **options,
    )
    eager, lazy = _both(tmp_path / "a.tif", monkeypatch)
    assert eager.channel_names == ("red", "green", "blue")
    _check_alike(eager, lazy)
    _check_alike(*_both(tmp_path / "a.tif", monkeypatch, channels=["blue", "red"]))


def test_jpeg_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = _RNG.integers(0, 255, (2, 70, 90, 3)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif",
        picture,
        photometric="rgb",
        tile=(32, 32),
        compression="jpeg",
        metadata={"axes": "ZYXS"},
    )
    _check_alike(*_both(tmp_path / "a.tif", monkeypatch))


def test_imagej_stacks_and_pyramids_are_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = _RNG.integers(0, 60000, (2, 3, 2, 20, 30)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TZCYX"})
    _check_alike(*_both(tmp_path / "a.tif", monkeypatch))
    plane = _RNG.integers(0, 99, (64, 96)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "b.ome.tif", ome=True) as tif:
        tif.write(plane, tile=(16, 16), subifds=1)
        tif.write(plane[::2, ::2], tile=(16, 16), subfiletype=1)
    _check_alike(*_both(tmp_path / "b.ome.tif", monkeypatch))


@MANY
@given(st.data())
def test_every_window_is_that_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 70)] * 2))
    options = data.draw(st.sampled_from([{}, _TILED, _STRIPS]))
    plane = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    path = tmp_path_factory.mktemp("window") / "a.tif"
    tifffile.imwrite(path, plane, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy_tiff, "LAZY_FROM_BYTES", 1)
        lazy = read_image(path).data
    key = []
    for n in shape:
        start = data.draw(st.integers(0, n))
        stop = data.draw(st.integers(start, n))
        key.append(slice(start, stop, data.draw(st.integers(1, 9))))
    np.testing.assert_array_equal(lazy[(0, *key)], plane[tuple(key)])


def test_small_images_label_images_and_single_large_strips_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = np.arange(6000, dtype=np.uint16).reshape(60, 100)
    tifffile.imwrite(tmp_path / "a.tif", plane)
    assert isinstance(read_image(tmp_path / "a.tif").data, np.ndarray)
    monkeypatch.setattr(lazy_tiff, "LAZY_FROM_BYTES", 1)
    labels = read_label_image(tmp_path / "a.tif").labels
    assert isinstance(labels, np.ndarray)
    monkeypatch.setattr(lazy_tiff, "_LARGEST_SEGMENT_BYTES", 11_999)
    tifffile.imwrite(tmp_path / "b.tif", plane, compression="zlib", rowsperstrip=60)
    assert isinstance(read_image(tmp_path / "b.tif").data, np.ndarray)


@pytest.mark.parametrize("options", [{}, _TILED, _STRIPS])
def test_a_file_that_is_cut_is_refused_before_its_pixels_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(lazy_tiff, "LAZY_FROM_BYTES", 1)
    plane = _RNG.integers(0, 60000, (61, 75)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", plane, **options)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * 0.9)])
    with pytest.raises(ImageError, match="truncated") as caught:
        read_image(tmp_path / "a.tif")
    assert caught.value.code == "NU-I02"


def test_a_damaged_tile_is_an_error_where_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_tiff, "LAZY_FROM_BYTES", 1)
    plane = _RNG.integers(0, 60000, (64, 64)).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, plane, tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        last = tif.pages.first.dataoffsets[-1]
    content = bytearray(path.read_bytes())
    content[last + 20 : last + 60] = bytes(40)
    path.write_bytes(content)
    image = read_image(path)
    np.testing.assert_array_equal(image.data[0, :32], plane[:32])
    with pytest.raises(ImageError, match=r"a\.tif is damaged") as caught:
        image.data[0, 32:]
    assert caught.value.code == "NU-I02"


def test_a_file_that_shrinks_later_is_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_tiff, "LAZY_FROM_BYTES", 1)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((64, 64), np.uint16))
    image = read_image(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ImageError, match="it ends before byte"):
        np.asarray(image.data)


def test_more_pixels_than_are_read_at_once_can_be_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_unet.files.stored._MAX_PIXELS", 1000)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((64, 64), np.uint16), tile=(16, 16))
    with pytest.raises(ImageError, match=r"at most 1,000 are read at once"):
        read_image(path)
    monkeypatch.setattr(lazy_tiff, "LAZY_FROM_BYTES", 1)
    assert read_image(path).data[0, 60:, ::3].shape == (4, 22)
