"""JSON from anywhere is read within limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_unet.errors import ConfigError, FolderError, LabelError
from napari_unet.files.json_files import read_foreign_json, read_json

if TYPE_CHECKING:
    from pathlib import Path


def test_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"µ": [1, 2.5, null, true, {"b": "c"}]}', encoding="utf-8")
    assert read_json(path) == {"µ": [1, 2.5, None, True, {"b": "c"}]}


@pytest.mark.parametrize("depth", [64, 65])
def test_nesting_is_limited_to_64(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" * depth + "]" * depth)
    if depth == 64:
        assert read_json(path)
    else:
        with pytest.raises(ConfigError, match=r"a\.json .*nested deeper than 64"):
            read_json(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ('{"a": 1', "Expecting"),
        ('{"a": 1, "a": 2}', "a key is given twice"),
        ('{"a": NaN}', "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("1" * 5000, "digits"),
        ("[" * 100_000, "recursion"),
        ('["\udcff"]', "utf-8"),
    ],
)
def test_what_is_not_sound_json_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(
        ConfigError, match=rf"a\.json is not the JSON .*{why}"
    ) as caught:
        read_json(path)
    assert caught.value.code == "NU-C01"


def test_a_huge_file_is_not_even_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(16 * 2**20 + 1)
    with pytest.raises(ConfigError, match=r"16,777,217 bytes, but at most"):
        read_json(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"gone\.json can't be read"):
        read_json(tmp_path / "gone.json")


def test_json_of_others_may_be_loose(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1, "a": [NaN, -Infinity, 2]}')
    assert read_foreign_json(path) == {"a": [None, None, 2]}


@pytest.mark.parametrize(
    "text", ["", "[1", "[" * 200_000, "1" * 5000, "\x80"], ids=lambda t: t[:5]
)
def test_json_of_others_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(LabelError, match=r"a\.json is no JSON file that can be read"):
        read_foreign_json(path)
