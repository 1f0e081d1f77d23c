from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.errors import SaveError
from napari_unet.files.tables import merge_tables, table_writer, write_table

if TYPE_CHECKING:
    from pathlib import Path


def _written(columns: dict[str, object]) -> str:
    file = io.BytesIO()
    table_writer(columns)(file)  # type: ignore[arg-type]
    return file.getvalue().decode("utf-8")


def test_a_table_is_what_another_program_reads(tmp_path: Path) -> None:
    columns = {
        "label": np.array([1, 2]),
        "class": np.array(["round", 'a,"b"\nµ'], object),
        "area_um2": np.array([0.1, 2e-7]),
        "at_border": np.array([True, False]),
    }
    write_table(tmp_path / "t.csv", columns)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["1", "2"]
    assert [row["class"] for row in rows] == ["round", 'a,"b"\nµ']
    assert [float(row["area_um2"]) for row in rows] == [0.1, 2e-7]
    assert [row["at_border"] for row in rows] == ["true", "false"]
    assert b"\r" not in (tmp_path / "t.csv").read_bytes()


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_a_spreadsheet_would_run_is_made_harmless(start: str) -> None:
    rows = list(csv.reader(io.StringIO(_written({"a": [f"{start}cmd|' /C calc'!A0"]}))))
    assert rows[1][0].startswith(f"'{start}".replace("\r", "\n"))


def test_numbers_stay_numbers() -> None:
    columns = {"a": [-1.5, math.nan, 1 / 3], "b": [1, 2, 3]}
    assert _written(columns) == "a,b\n-1.5,1\n,2\n0.333333333,3\n"
    assert _written({"a": np.array([-3], np.int16)}) == "a\n-3\n"


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_number_comes_back_to_nine_digits(number: float) -> None:
    text = _written({"a": [number]}).splitlines()[1]
    assert float(text) == pytest.approx(number, rel=1e-8)


def test_a_table_without_rows_has_its_header() -> None:
    assert _written({"label": np.zeros(0, int), "class": []}) == "label,class\n"


def test_tables_are_merged_in_order_with_the_columns_of_all(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", {"label": [1, 2], "x_um": [0.5, 1.5]})
    write_table(tmp_path / "b.csv", {"label": [1], "class": ["=x"], "x_um": [3.0]})
    write_table(tmp_path / "none.csv", {"label": []})
    parts = [("z/b.tif", "b"), ("=a.tif", "a"), ("none.tif", "none")]
    merge_tables(tmp_path / "m.csv", [(f, tmp_path / f"{n}.csv") for f, n in parts])
    assert (tmp_path / "m.csv").read_text("utf-8") == (
        "file,label,class,x_um\nz/b.tif,1,'=x,3\n'=a.tif,1,,0.5\n'=a.tif,2,,1.5\n"
    )


def test_a_table_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="there is no folder"):
        write_table(tmp_path / "gone" / "t.csv", {"a": [1]})
