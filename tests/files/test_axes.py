"""Axes are named, never guessed."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.errors import ImageError
from napari_unet.files.axes import arrange, index_like

_SIZES = {"C": 2, "T": 3, "Z": 4, "Y": 5, "X": 6}


@settings(derandomize=True, deadline=None)
@given(
    axes=st.sets(st.sampled_from("CTZ")).flatmap(
        lambda more: st.permutations(sorted(more | {"Y", "X"}))
    )
)
def test_any_order_comes_back_as_ctzyx_with_each_pixel_in_its_place(
    axes: list[str],
) -> None:
    shape = [_SIZES[axis] for axis in axes]
    index = np.indices(shape)
    # Each pixel holds its own position along the canonical axes.
    places = {axis: index[i] for i, axis in enumerate(axes)}
    code = sum(places.get(a, 0) * 10**i for i, a in enumerate("CTZYX"))
    data, order = arrange(np.asarray(code), "".join(axes))
    assert order == "C" + "".join(a for a in "TZYX" if a in axes)
    for at in np.ndindex(data.shape):
        expected = sum(
            n * 10 ** "CTZYX".index(a) for n, a in zip(at, order, strict=True)
        )
        assert data[at] == expected


def test_samples_of_a_colour_picture_become_channels() -> None:
    picture = np.arange(60).reshape(4, 5, 3)
    data, order = arrange(picture, "YXS")
    assert order == "CYX"
    np.testing.assert_array_equal(data[2], picture[..., 2])


def test_channels_of_colour_pictures_are_all_kept() -> None:
    pictures = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    data, order = arrange(pictures, "CYXS")
    assert order == "CYX"
    assert data.shape == (6, 4, 5)
    np.testing.assert_array_equal(data[4], pictures[1, ..., 1])


def test_what_the_user_says_goes_before_what_the_file_says() -> None:
    assert arrange(np.zeros((3, 4, 5)), "ZYX", wanted="tyx")[1] == "CTYX"
    data, order = arrange(np.zeros((4, 5, 3)), "IYX", wanted="YXC")
    assert (order, data.shape) == ("CYX", (3, 4, 5))


def test_axes_of_length_one_are_dropped_but_not_y_and_x() -> None:
    data, order = arrange(np.zeros((1, 1, 1, 1, 7)), "TZCYX")
    assert (order, data.shape) == ("CYX", (1, 1, 7))
    assert arrange(np.zeros((1, 4, 5)), "QYX")[1] == "CYX"
    assert arrange(np.zeros((1, 3, 4, 5)), "TZYX", wanted="ZYX")[1] == "CZYX"


@pytest.mark.parametrize(
    ("shape", "axes", "choices"),
    [
        ((5, 8, 9), "IYX", "ZYX (depth), TYX (time), CYX (channels)"),
        ((3, 8, 9), "QYX", "ZYX (depth), TYX (time), CYX (channels)"),
        ((2, 5, 8, 9), "QQYX", "TZYX, CZYX"),
        ((2, 2, 5, 8, 9), "QQQYX", "TZCYX"),
        ((2, 2, 2, 5, 8, 9), "QQQQYX", "TZCYX"),
        ((4, 5, 6), "YXM", "ZYX"),
    ],
)
def test_unknown_axes_are_asked_for_with_the_choices(
    shape: tuple[int, ...], axes: str, choices: str
) -> None:
    with pytest.raises(ImageError, match=r"a\.tif has .*--axes") as caught:
        arrange(np.zeros(shape), axes, name="a.tif")
    assert caught.value.code == "NU-I09"
    assert choices in caught.value.message


@pytest.mark.parametrize("wanted", ["ZY", "YXX", "QYX", "ZCT", "Z Y X"])
def test_letters_that_are_no_axes_are_refused(wanted: str) -> None:
    with pytest.raises(ImageError, match=re.escape(f"'{wanted}'") + ".*not understood"):
        arrange(np.zeros((3, 4, 5)), "QYX", wanted=wanted)


def test_the_number_of_letters_must_be_the_number_of_axes() -> None:
    with pytest.raises(ImageError, match=r"2 axes of 4 x 5 but the axes 'ZYX'"):
        arrange(np.zeros((4, 5)), "YX", wanted="ZYX")


def test_one_dimension_is_no_image() -> None:
    with pytest.raises(ImageError, match=r"needs at least 2 dimensions") as caught:
        arrange(np.zeros(7), "X")
    assert caught.value.code == "NU-I06"


@pytest.mark.parametrize(
    ("plane", "stack", "old", "expected"),
    [
        ((2, 0), (3,), (3, 1), (2,)),
        ((0, 2), (3, 1), (1, 3), (2, 0)),
        ((1, 2), (2, 3), None, (1, 2)),
        ((0, 2), (3,), None, (2,)),
        ((0, 0), (3,), None, (0,)),
        ((1, 2), (3,), None, (1, 2)),
        ((1,), (), (1,), (1,)),
        ((), (1, 1), None, (0, 0)),
    ],
)
def test_the_index_of_a_plane_follows_axes_of_length_one(
    plane: tuple[int, ...],
    stack: tuple[int, ...],
    old: tuple[int, ...] | None,
    expected: tuple[int, ...],
) -> None:
    assert index_like(plane, stack, old) == expected
