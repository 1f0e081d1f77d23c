"""Images and labels from and to files, and the folders they are in."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from napari_unet.errors import FolderError, ImageError, LabelError, SaveError
from napari_unet.files.images import (
    read_image,
    read_label_image,
    read_labels,
    write_image,
    write_labels,
)
from napari_unet.files.stored import check_claimed_size, check_read_whole
from napari_unet.files.tiff_chain import walk_pages

_RNG = np.random.default_rng(0)
_LABELS = _RNG.integers(0, 9, (5, 16, 24), np.int32)


def _write(path: Path, array: Any) -> Path:
    tifffile.imwrite(path, array, photometric="minisblack")
    return path


class TestKindsOfFiles:
    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(
            FolderError, match=r"there is no file .*gone\.tif"
        ) as caught:
            read_image(tmp_path / "gone.tif")
        assert caught.value.code == "NU-F01"

    def test_a_broken_link_is_a_missing_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.tif").symlink_to("gone.tif")
        with pytest.raises(FolderError, match=r"there is no file .*a\.tif"):
            read_image(tmp_path / "a.tif")

    def test_a_folder_is_no_image(self, tmp_path: Path) -> None:
        with pytest.raises(FolderError, match="is a folder: give an image") as caught:
            read_labels(tmp_path)
        assert caught.value.code == "NU-F02"

    def test_a_file_that_may_not_be_read_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        path = _write(tmp_path / "a.tif", np.ones((4, 4), np.uint8))
        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(
            FolderError, match=r"Permission denied.*check its"
        ) as caught:
            read_image(path)
        assert caught.value.code == "NU-F04"

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "a.tif is an empty file"),
            (b"just text", "a.tif is not a TIFF or PNG, it looks like text"),
            (b"<!DOCTYPE html><html>", "not a TIFF or PNG, it looks like HTML"),
            (b"\n <HTML>", "not a TIFF or PNG, it looks like HTML"),
            (b"version https://git-lfs.github.com/spec/v1", "looks like Git LFS"),
            (b"\xff\xd8\xff\xe0", "looks like a JPEG: save it as a TIFF"),
            (b"\x00\x01\x02\x03", "is of an unknown kind"),
        ],
    )
    def test_what_is_no_tiff_says_what_it_looks_like(
        self, tmp_path: Path, content: bytes, message: str
    ) -> None:
        (tmp_path / "a.tif").write_bytes(content)
        with pytest.raises(ImageError, match=message) as caught:
            read_image(tmp_path / "a.tif")
        assert caught.value.code == "NU-I01"

    def test_the_content_counts_not_the_name(self, tmp_path: Path) -> None:
        plane = np.arange(12, dtype=np.uint8).reshape(3, 4)
        Picture.fromarray(plane).save(tmp_path / "a.tif", format="png")
        _write(tmp_path / "b.png", plane)
        for name, kind in (("a.tif", "PNG"), ("b.png", "TIFF")):
            notes: list[str] = []
            image = read_image(tmp_path / name, notes=notes)
            np.testing.assert_array_equal(image.data[0], plane)
            assert notes == [
                f"{tmp_path.name}{os.sep}{name} is a {kind} by its content"
            ]


class TestChannels:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        data = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
        write_image(tmp_path / "a.tif", data, channel_names=["DAPI", "GFP", "1"])
        return tmp_path / "a.tif"

    @pytest.mark.parametrize(
        ("channels", "indices"),
        [(["GFP"], [1]), ([0, 1], [0, 1]), (["0", "DAPI"], [0, 0]), (["1"], [2])],
    )
    def test_they_are_chosen_by_name_first_and_then_by_number(
        self, path: Path, channels: list[str | int], indices: list[int]
    ) -> None:
        image, whole = read_image(path, channels=channels), read_image(path)
        np.testing.assert_array_equal(image.data, whole.data[indices])
        assert image.channel_names == tuple(whole.channel_names[i] for i in indices)

    @pytest.mark.parametrize("channel", ["RFP", 3, -1, "²"])
    def test_one_that_is_not_there_is_refused_with_those_that_are(
        self, path: Path, channel: str | int
    ) -> None:
        with pytest.raises(ImageError, match=r"it has 3 \(DAPI, GFP, 1\)") as caught:
            read_image(path, channels=[channel])
        assert caught.value.code == "NU-I11"


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "axes", "dtype"),
        [
            (_LABELS[0], "YX", np.uint16),
            (_LABELS, "ZYX", np.uint16),
            (_LABELS, "TYX", np.uint16),
            (_LABELS[None].repeat(2, 0), "TZYX", np.uint16),
            (_LABELS[0] + 65_535, "YX", np.uint32),
            (_LABELS[0] * 0, "YX", np.uint16),
            (_LABELS[0].astype(np.uint64) * 2**27, "YX", np.uint32),
            (_LABELS[0] > 3, "YX", np.uint16),
        ],
    )
    def test_ids_come_back_as_they_were(
        self, tmp_path: Path, labels: Any, axes: str, dtype: type
    ) -> None:
        write_labels(tmp_path / "a.tif", labels, axes=axes)
        np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert tif.is_ome
            assert (tif.series[0].axes, tif.series[0].dtype) == (axes, dtype)

    def test_the_pixel_size_comes_back(self, tmp_path: Path) -> None:
        sizes = (2.0, 0.25, 0.2)
        write_labels(tmp_path / "a.tif", _LABELS, axes="ZYX", pixel_size_um=sizes)
        assert read_image(tmp_path / "a.tif").pixel_size_um == pytest.approx(sizes)
        write_labels(tmp_path / "a.tif", _LABELS, axes="TYX", pixel_size_um=sizes[1:])
        assert read_image(tmp_path / "a.tif").pixel_size_um == pytest.approx(sizes[1:])

    def test_two_writes_give_the_same_bytes_and_other_labels_do_not(
        self, tmp_path: Path
    ) -> None:
        write_labels(tmp_path / "a.tif", _LABELS, axes="ZYX")
        write_labels(tmp_path / "b.tif", _LABELS.astype(np.int64), axes="ZYX")
        write_labels(tmp_path / "c.tif", _LABELS[::-1], axes="ZYX")
        first = (tmp_path / "a.tif").read_bytes()
        assert first == (tmp_path / "b.tif").read_bytes()
        assert first != (tmp_path / "c.tif").read_bytes()
        assert b"unettmp" not in first

    @settings(
        max_examples=40,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(seed=st.integers(0, 2**32), top=st.integers(0, 2**31 - 1))
    def test_any_ids_survive_the_round_trip(
        self, tmp_path: Path, seed: int, top: int
    ) -> None:
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(1, 30, 2))
        labels = rng.integers(0, top, shape, endpoint=True)[::-1].T
        write_labels(tmp_path / "a.tif", labels)
        np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)

    def test_whole_floats_are_ids_and_fractions_are_not(self, tmp_path: Path) -> None:
        whole = _write(tmp_path / "a.tif", _LABELS[0].astype(np.float32))
        assert read_labels(whole).dtype == np.int32
        half = _write(tmp_path / "a.tif", _LABELS[0] / np.float32(2))
        with pytest.raises(LabelError, match=r"a\.tif holds values that are not whole"):
            read_labels(half)

    def test_negative_ids_are_background_and_said(self, tmp_path: Path) -> None:
        path = _write(tmp_path / "a.tif", _LABELS[0] - 1)
        notes: list[str] = []
        labels = read_labels(path, notes=notes)
        np.testing.assert_array_equal(labels, np.maximum(_LABELS[0] - 1, 0))
        name = f"{tmp_path.name}{os.sep}a.tif"
        assert notes == [f"{name} has negative ids, which were read as background"]

    def test_a_stack_without_named_axes_stays_as_it_is_stored(
        self, tmp_path: Path
    ) -> None:
        path = _write(tmp_path / "a.tif", _LABELS)
        np.testing.assert_array_equal(read_labels(path), _LABELS)

    def test_named_axes_are_put_in_order(self, tmp_path: Path) -> None:
        path = _write(tmp_path / "a.tif", _LABELS)
        turned = read_labels(path, axes="YXZ")
        np.testing.assert_array_equal(turned, _LABELS.transpose(2, 0, 1))

    @pytest.mark.parametrize("n_ones", [1, 2])
    def test_axes_of_length_1_that_nothing_names_are_gone(
        self, tmp_path: Path, n_ones: int
    ) -> None:
        plane = _LABELS[0].reshape((1,) * n_ones + _LABELS[0].shape)
        np.testing.assert_array_equal(
            read_labels(_write(tmp_path / "a.tif", plane)), _LABELS[0]
        )

    def test_labels_take_the_axes_of_their_image_where_they_need_them(
        self, tmp_path: Path
    ) -> None:
        shape = (5, 16, 24)
        turned = _write(tmp_path / "a.tif", _LABELS.transpose(1, 2, 0))
        read = read_label_image(turned, axes="YXZ", shape=shape)
        np.testing.assert_array_equal(read.labels, _LABELS)
        assert read.axes == "ZYX"
        write_labels(tmp_path / "b.tif", _LABELS, axes="ZYX")
        read = read_label_image(tmp_path / "b.tif", axes="YXZ", shape=shape)
        np.testing.assert_array_equal(read.labels, _LABELS)

    @pytest.mark.parametrize("n_planes", [3, 4])
    @pytest.mark.parametrize("axes", ["ZYX", None])
    def test_a_stack_that_looks_like_a_colour_picture_is_labels(
        self, tmp_path: Path, n_planes: int, axes: str | None
    ) -> None:
        stack = _LABELS[:n_planes].astype(np.uint8)
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, stack, photometric="rgb", planarconfig="separate")
        with tifffile.TiffFile(path) as tif:
            assert tif.series[0].axes == "SYX"
        read = read_label_image(path, axes=axes, shape=stack.shape)
        np.testing.assert_array_equal(read.labels, stack)

    def test_labels_that_fit_their_image_in_no_way_keep_their_shape(
        self, tmp_path: Path
    ) -> None:
        path = _write(tmp_path / "a.tif", _LABELS)
        read = read_label_image(path, axes="YXZ", shape=(7, 16, 24))
        assert read.labels.shape == _LABELS.shape

    def test_axes_and_pixel_size_come_along(self, tmp_path: Path) -> None:
        size = (2.0, 0.5, 0.25)
        write_labels(tmp_path / "a.tif", _LABELS, axes="ZYX", pixel_size_um=size)
        read = read_label_image(tmp_path / "a.tif")
        assert (read.axes, read.pixel_size_um) == ("ZYX", size)
        assert read_label_image(_write(tmp_path / "b.tif", _LABELS)).axes == ""

    def test_interpolated_labels_are_refused(self, tmp_path: Path) -> None:
        rows, columns = np.ogrid[:200, :200]
        distance = np.hypot(rows - 99.3, columns - 98.7)
        smooth = np.rint(255 * np.clip((80.5 - distance) / 2, 0, 1)).astype(np.uint8)
        with pytest.raises(LabelError, match=r"a\.tif looks interpolated") as caught:
            read_labels(_write(tmp_path / "a.tif", smooth))
        assert caught.value.code == "NU-L03"

    def test_axes_that_do_not_fit_are_refused_before_writing(
        self, tmp_path: Path
    ) -> None:
        for axes in ("YX", "YXZ", "ZTYX"):
            with pytest.raises(ImageError, match=f"with the axes '{axes}'"):
                write_labels(tmp_path / "a.tif", _LABELS, axes=axes)
        assert not list(tmp_path.iterdir())

    def test_an_image_is_not_written_as_labels(self, tmp_path: Path) -> None:
        with pytest.raises(LabelError, match="not whole numbers"):
            write_labels(tmp_path / "a.tif", np.full((3, 3), 0.5))

    def test_a_place_that_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(SaveError, match="there is no folder"):
            write_labels(tmp_path / "gone" / "a.tif", _LABELS[0])


def test_probabilities_come_back_with_names_and_pixel_size(tmp_path: Path) -> None:
    data = _RNG.random((2, 5, 8, 9)).astype(np.float32)
    write_image(
        tmp_path / "a.tif",
        data,
        axes="CZYX",
        pixel_size_um=(1, 0.5, 0.4),
        channel_names=("background", "cell"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.data, data)
    assert image.axes == "CZYX"
    assert image.channel_names == ("background", "cell")
    assert image.pixel_size_um == pytest.approx((1, 0.5, 0.4))
    assert image.source == str(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("shape", "file_size", "fits"),
    [
        ((256, 2**20), 100, True),  # 256 MB may be one colour, whatever the file
        ((257, 2**20), 100, False),
        ((257, 2**20), 2**20, True),
    ],
)
def test_a_claim_must_fit_the_file(
    shape: tuple[int, int], file_size: int, fits: bool
) -> None:
    if fits:
        check_claimed_size("a.tif", shape, 1, file_size)
    else:
        with pytest.raises(ImageError, match=r"a\.tif claims .* but") as caught:
            check_claimed_size("a.tif", shape, 1, file_size)
        assert caught.value.code == "NU-I03"


def test_more_than_is_read_at_once_is_refused() -> None:
    check_read_whole("a.tif", (10, 20_000, 20_000))
    with pytest.raises(ImageError, match=r"a\.tif claims .* but") as caught:
        check_read_whole("a.tif", (2**16, 2**16))
    assert caught.value.code == "NU-I03"


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("n_pages", [1, 3])
def test_the_pages_of_a_tiff_are_counted(
    tmp_path: Path, bigtiff: bool, byteorder: str, n_pages: int
) -> None:
    path = tmp_path / "a.tif"
    stack = np.zeros((n_pages, 8, 8), np.uint8)
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, stack, bigtiff=bigtiff, byteorder=byteorder, **options)
    with path.open("rb") as file:
        chain = walk_pages(file, path.stat().st_size)
    assert (chain.n_pages, chain.broken_at, chain.is_circular) == (n_pages, None, False)


def test_a_stack_of_four_planes_keeps_all_of_them_where_its_axes_are_given(
    tmp_path: Path,
) -> None:
    stack = _LABELS[:4].astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, photometric="rgb", planarconfig="separate"
    )
    image = read_image(tmp_path / "a.tif", axes="ZYX")
    np.testing.assert_array_equal(image.data[0], stack)
