"""Nothing that leaves the image folder passes for an image's name."""

from __future__ import annotations

import os
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.errors import LabelError
from napari_unet.files.formats.image_names import image_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a.tif", "a.tif"),
        ("day 1/a.tif", "day 1/a.tif"),
        (r"day 1\a.tif", "day 1/a.tif"),
        ("./x//a.tif", "x/a.tif"),
        ("..a/b..tif", "..a/b..tif"),
        ("10:30 µm.tif", "10:30 µm.tif"),
    ],
)
def test_relative_names_pass(text: str, name: str) -> None:
    assert image_name(text, "cells.json") == name


@pytest.mark.parametrize(
    "text",
    [
        "../a.tif",
        "x/../../a.tif",
        r"x\..\..\a.tif",
        ".. /a.tif",
        ".../a.tif",
        "/etc/passwd",
        r"\a.tif",
        r"C:\a.tif",
        "C:a.tif",
        "c:/a.tif",
        r"\\server\share\a.tif",
        "//server/a.tif",
        "http://x.org/a.tif",
        "file:/a.tif",
        "S3://bucket/a.tif",
        "/",
    ],
)
def test_what_escapes_the_folder_is_refused(text: str) -> None:
    with pytest.raises(LabelError, match=r"cells\.json names .*escapes the image fol"):
        image_name(text, "cells.json")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a\0.tif", r"has a character in it that is not printed \('\\x00'\)"),
        ("a\n.tif", r"has a line break in it that is not printed \('\\n'\)"),
        ("a\t.tif", r"has a tab in it that is not printed"),
        ("\x1b[31ma.tif", "is not printed"),
        ("a\u202etif.exe", "is not printed"),
        ("", "is no name of a file"),
        (".", "is no name of a file"),
        ("a" * 1001, "has more than 1,000 characters"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(text: str, wrong: str) -> None:
    with pytest.raises(LabelError, match=rf"names the image .*{wrong}.*: rename"):
        image_name(text, "cells.json")


@given(st.text(st.sampled_from("ab./\\: \0~C"), max_size=12))
def test_whatever_passes_stays_in_the_folder(text: str) -> None:
    try:
        name = image_name(text, "cells.json")
    except LabelError:
        return
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        assert not path.is_absolute()
        assert not path.drive
        assert ".." not in path.parts
    assert os.path.normpath(f"/folder/{name}").startswith("/folder/")
