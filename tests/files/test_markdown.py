"""What users type into Markdown, read back by an independent parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from napari_unet.files.markdown import as_text, paragraphs, table

PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
SPITEFUL = [
    "<script>alert(1)</script>",
    '<img src="https://example.org/x.png">',
    "![x](https://example.org/x.png) [y](javascript:alert(1))",
    "# big",
    "- list",
    "1. list",
    "12) list",
    "---",
    "===",
    "> quote",
    "    code",
    "a | b",
    "`code` *em* __strong__ ~~gone~~ $x$",
    "&lt;b&gt; &amp; &#60;",
    "back\\slash \\",
    "<!-- hidden",
    "two\nlines\x1b[31m",
]


def shown(markdown: str) -> str:
    """Return the text of what must be one paragraph of nothing but text."""
    tokens = PARSER.parse(markdown)
    assert [t.type for t in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    children = tokens[1].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    return "".join(child.content for child in children)


@pytest.mark.parametrize("text", SPITEFUL)
def test_what_looks_like_mark_up_is_shown_as_it_was_typed(text: str) -> None:
    expected = " ".join(text.split()).replace("\x1b", "?")
    assert shown(as_text(text)) == expected


@given(st.text(min_size=1).filter(str.strip))
def test_any_text_stays_text(text: str) -> None:
    expected = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    assert shown(as_text(text)) == expected


@given(st.text(alphabet="ab1.)-+=#>|*_`<&;\\[]()!~ \t", min_size=1).filter(str.strip))
def test_any_marks_stay_text(text: str) -> None:
    assert shown(as_text(text)) == " ".join(text.split())


def test_paragraphs_stay_apart() -> None:
    assert paragraphs(" a\nb \n\n \n# c\n") == "a b\n\n\\# c"
    assert paragraphs("") == ""


def test_a_cell_of_a_table_never_becomes_two() -> None:
    text = table(["name", "value"], [[as_text("a | b"), "1"]])
    kinds = [t.type for t in PARSER.parse(text)]
    assert (kinds.count("tr_open"), kinds.count("td_open")) == (2, 2)
