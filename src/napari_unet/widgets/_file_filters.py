"""The formats of annotations as file dialogues offer them; no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.files.formats import FORMATS, written_format_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.files.formats import Format

_OF_MOVIES = "*_track.txt mask*.tif man_seg*.tif"
_EVERYTHING = "All annotations"


def filters_to_load() -> str:
    """Return the filters of a dialogue that opens annotations, all formats first."""
    each = {one.title: _patterns(one, to_read=True) for one in FORMATS.values()}
    # A mask of a movie looks like any TIFF: only its own filter offers it.
    some = [text for title, text in each.items() if title != FORMATS["ctc"].title]
    every = dict.fromkeys(" ".join([*some, "*_track.txt"]).split())
    return _joined({_EVERYTHING: " ".join(every), **each})


def filters_to_save(*, is_stack: bool) -> str:
    """Return the filters of a dialogue that saves one, the label TIFF first."""
    formats = [one for one in FORMATS.values() if one.writes]
    return _joined(
        {one.title: _patterns(one) for one in formats if is_stack or not one.is_folder}
    )


def format_of_filter(text: str) -> Format | None:
    """Return the format that a chosen filter stands for; None for all of them."""
    title = text.split(" (")[0]
    return next((one for one in FORMATS.values() if one.title == title), None)


def _patterns(one: Format, *, to_read: bool = False) -> str:
    if one.is_folder:
        return _OF_MOVIES if to_read else "*"
    suffixes = [*one.suffixes, *(one.also_reads if to_read else ())]
    return " ".join(f"*{suffix}" for suffix in suffixes)


def _joined(filters: dict[str, str]) -> str:
    return ";;".join(f"{title} ({patterns})" for title, patterns in filters.items())


def as_written(path: Path, chosen: Format | None = None) -> tuple[Path, Format]:
    """Return a path with the suffix of its format, and that format.

    A suffix that the user wrote decides; where there is none the chosen format, or
    else the label TIFF.
    """
    chosen = chosen or FORMATS["tiff"]
    if chosen.is_folder:
        return path, chosen
    by_name = written_format_of(path)
    if by_name is not None:
        return path, by_name
    return path.with_name(f"{path.name}{chosen.suffixes[0]}"), chosen
