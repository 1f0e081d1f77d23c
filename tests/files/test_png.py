"""PNG: every depth and kind, and damage."""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Picture

from napari_unet.errors import ImageError
from napari_unet.files.images import read_image, read_labels

if TYPE_CHECKING:
    from pathlib import Path

_RNG = np.random.default_rng(0)
_GREY = _RNG.integers(0, 256, (8, 9), np.uint8)
_COLOUR = _RNG.integers(0, 256, (8, 9, 3), np.uint8)


@pytest.mark.parametrize(
    "pixels", [_GREY, _GREY.astype(np.uint16) * 257 - 3, _GREY > 100]
)
def test_grey_pictures_keep_their_values(tmp_path: Path, pixels: np.ndarray) -> None:
    Picture.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.data.dtype == pixels.dtype
    np.testing.assert_array_equal(image.data[0], pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_become_channels_with_all_their_bits(
    tmp_path: Path, dtype: type
) -> None:
    pixels = (_COLOUR.astype(dtype) << 1) + 1
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    image = read_image(tmp_path / "a.png")
    assert image.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(image.data, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("n_samples", [2, 4])
def test_alpha_is_dropped_and_said(tmp_path: Path, n_samples: int) -> None:
    pixels = _RNG.integers(0, 256, (8, 9, n_samples), np.uint8)
    Picture.fromarray(pixels).save(tmp_path / "a.png")
    notes: list[str] = []
    image = read_image(tmp_path / "a.png", notes=notes)
    np.testing.assert_array_equal(image.data, pixels.transpose(2, 0, 1)[:-1])
    assert notes == [
        f"{tmp_path.name}{os.sep}a.png has an alpha channel, which was dropped"
    ]


def test_a_palette_is_colours_in_an_image_and_ids_in_labels(tmp_path: Path) -> None:
    ids = np.repeat(np.arange(4, dtype=np.uint8), 16).reshape(8, 8)
    picture = Picture.fromarray(ids).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids)
    image = read_image(tmp_path / "a.png")
    assert image.data[:, 2, 0].tolist() == [40, 50, 60]


@pytest.mark.parametrize("pixels", [_GREY, _GREY.astype(np.uint16), _COLOUR])
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_cut_file_is_damaged(
    tmp_path: Path, pixels: np.ndarray, share: float
) -> None:
    content = imagecodecs.png_encode(pixels)
    (tmp_path / "a.png").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"a\.png is damaged or truncated") as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.code == "NU-I02"


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    content = bytearray(imagecodecs.png_encode(_GREY))
    content[60] ^= 4
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png is damaged"):
        read_image(tmp_path / "a.png")


def test_a_header_that_claims_too_much_is_refused_at_once(tmp_path: Path) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(
        ImageError, match=r"claims 10\.00 GB but the file has"
    ) as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.code == "NU-I03"
