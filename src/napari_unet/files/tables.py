"""Tables as CSV: UTF-8, a header with units, no cell that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from napari_unet.files.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Column = Sequence[Any] | NDArray[Any]

# A spreadsheet takes a text that starts so for a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_table(path: str | Path, columns: Mapping[str, Column]) -> None:
    """Write a table as CSV, atomically; the same columns give the same bytes.

    Parameters
    ----------
    path : path
        File to write.
    columns : mapping of str to sequence
        Columns of one length, by the names of the header. Numbers have 9 significant
        digits at most, what is no number is empty; text that a spreadsheet would take
        for a formula gets an apostrophe before it.

    Raises
    ------
    SaveError
        The file can't be written (NU-S01).
    """
    write_atomically(path, table_writer(columns))


def table_writer(
    columns: Mapping[str, Column],
) -> Callable[[BinaryIO], None]:
    r"""Return what writes a table into a file; parameters as for `write_table`.

    Examples
    --------
    >>> file = io.BytesIO()
    >>> table_writer({"class": ["=1+1", "cell"], "area_um2": [1 / 3, np.nan]})(file)
    >>> file.getvalue().decode()
    "class,area_um2\n'=1+1,0.333333333\ncell,\n"
    """
    texts = [[_cell(value) for value in _listed(column)] for column in columns.values()]

    def write(file: BinaryIO) -> None:
        with _text(file) as text:
            table = csv.writer(text, lineterminator="\n")
            table.writerow([_cell(name) for name in columns])
            table.writerows(zip(*texts, strict=True))

    return write


def merge_tables(path: str | Path, parts: Iterable[tuple[str, Path]]) -> None:
    """Write tables one after the other into one, atomically.

    Columns that only some of them have are empty for the others. One row is in memory
    at a time.

    Parameters
    ----------
    path : path
        File to write.
    parts : iterable of (str, Path)
        What each row begins with, in a first column `file`; and the table, as
        `write_table` writes it.

    Raises
    ------
    SaveError
        The file can't be written (NU-S01).
    """
    parts = list(parts)
    header: dict[str, None] = {}
    for _, part in parts:
        with part.open(encoding="utf-8", newline="") as table:
            header.update(dict.fromkeys(next(csv.reader(table), ())))

    def write(file: BinaryIO) -> None:
        with _text(file) as text:
            merged = csv.writer(text, lineterminator="\n")
            merged.writerow(["file", *header])
            for name, part in parts:
                with part.open(encoding="utf-8", newline="") as table:
                    for row in csv.DictReader(table):
                        own = (row.get(column, "") for column in header)
                        merged.writerow([_cell(name), *own])

    write_atomically(path, write)


def _listed(column: Column) -> list[Any]:
    # Python's own numbers: they are formatted several times as fast as numpy's.
    return np.asarray(column).tolist() if len(column) else []


def _cell(value: Any) -> str:
    """Return a value as the text of its cell."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.9g}"
    # Python's csv quotes a cell with a line feed, and not one with a carriage return.
    text = str(value).replace("\r", "\n")
    is_formula = isinstance(value, str) and value.startswith(_FORMULA_STARTS)
    return f"'{text}" if is_formula else text


@contextmanager
def _text(file: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """Give a binary file as one of text, and leave it open."""
    # The name of a file may be no UTF-8.
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
    try:
        yield text
    finally:
        text.detach()
