"""Text in Markdown as it is: what a user typed never becomes mark-up or HTML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # in this order
_MARKS = re.compile(r"[\\`*_\[\]{}#|~$]")
# What would begin a list, a rule or a heading.
_START = re.compile(r"^([-+=]|\d+(?=[.)](?:\s|$)))")


def as_text(text: str) -> str:
    r"""Return a text in one line, so that Markdown shows it as it is.

    Runs of white space, line breaks among them, become one space, as in HTML; what
    can't be printed becomes a question mark.

    Examples
    --------
    >>> print(as_text("*DAPI* <b> a_b"))
    \*DAPI\* &lt;b&gt; a\_b
    """
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    line = _MARKS.sub(r"\\\g<0>", line)
    for sign, entity in _ENTITIES.items():
        line = line.replace(sign, entity)
    return _START.sub(lambda m: _not_a_list(m[1]), line)


def _not_a_list(start: str) -> str:
    # A number is no mark that could be escaped: its first digit becomes an entity.
    return f"&#{ord(start[0])};{start[1:]}" if start.isdigit() else rf"\{start}"


def paragraphs(text: str) -> str:
    """Return a text of several paragraphs, parted by empty lines, as it is."""
    parts = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(as_text(part) for part in parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
