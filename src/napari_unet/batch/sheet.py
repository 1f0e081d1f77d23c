"""The preview sheet: a page that shows at a glance what became of each file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from napari_unet.batch.inputs import PREVIEW
from napari_unet.batch.outliers import unlike_others
from napari_unet.batch.previews import Facts
from napari_unet.events import counted
from napari_unet.files.atomic import write_bytes
from napari_unet.imaging.instances import has_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from napari_unet.batch.inputs import Item
    from napari_unet.batch.job import Job
    from napari_unet.batch.ledger import Record

SHEET = "preview.html"

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #777; --warn: #c25e00;
  --bad: #c62828; }
@media (prefers-color-scheme: dark) { :root { --soft: #aaa; --warn: #ffb454;
  --bad: #ff7b72; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem;
  padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
p { margin: .3rem 0; }
.soft { color: var(--soft); }
.cards { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
figure { border: 1px solid var(--line); border-radius: .5rem; margin: 0;
  overflow: hidden; }
figure.odd { border-color: var(--warn); }
figure img { aspect-ratio: 1; background: #000; display: block; object-fit: contain;
  width: 100%; }
figcaption { padding: .6rem .8rem .7rem; }
.name { font-weight: 600; overflow-wrap: anywhere; }
details { color: var(--soft); font-size: .87em; overflow-wrap: anywhere; }
.odd .why { color: var(--warn); }
table { border-collapse: collapse; width: 100%; }
td, th { border-top: 1px solid var(--line); overflow-wrap: anywhere;
  padding: .4rem .8rem .4rem 0; text-align: left; vertical-align: top; }
.bad { color: var(--bad); }
"""


@dataclass(frozen=True)
class _Row:
    """A file that was done, as it is shown."""

    name: str
    picture: str
    n_cells: int | None
    facts: Facts
    message: str


def write_sheet(job: Job, items: Sequence[Item], records: Mapping[str, Record]) -> None:
    """Write ``preview.html`` from the ledger and the thumbnails that there are.

    The same records and thumbnails give the same bytes.

    Parameters
    ----------
    job : Job
        What was asked for.
    items : sequence of Item
        All files of the run, in order.
    records : mapping of str to Record
        What became of them, by input; what is not there is not done yet.

    Raises
    ------
    SaveError
        It can't be written (NU-S01).
    """
    done: list[_Row] = []
    others: dict[str, list[tuple[str, str]]] = {"failed": [], "skipped": [], "": []}
    counts_cells = has_cells(job.model.roles)
    for item in items:
        record = records.get(item.name)
        if record is None:
            others[""].append((item.name, ""))
        elif record.state == "done":
            picture = item.result(PREVIEW)
            facts = Facts.of(job.output / picture)
            n_cells = record.n_cells if counts_cells else None
            # Which image, the card says; where it was, is nobody's business.
            message = record.message.replace(str(item.path), "the image")
            done.append(_Row(item.name, picture, n_cells, facts, message))
        else:
            others[record.state].append((item.name, record.message))
    text = "\n".join(_page(done, others, job.model.network.n_dims))
    # A name that is no UTF-8 is shown as well as it can be.
    write_bytes(job.output / SHEET, text.encode("utf-8", "replace"))


def _page(
    done: Sequence[_Row], others: Mapping[str, list[tuple[str, str]]], n_dims: int
) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Preview</title><style>{_STYLE}</style></head><body>"
    yield "<h1>Preview</h1>"
    size = _Size.of(done, n_dims)
    reasons = unlike_others([r.n_cells for r in done], [size.value(r) for r in done])
    odd = [(row, why) for row, why in zip(done, reasons, strict=True) if why]
    fine = [(row, why) for row, why in zip(done, reasons, strict=True) if not why]
    yield from _summary(done, others, size, len(odd))
    yield from _table("Failed", others["failed"])
    yield from _cards("To look at", odd, size)
    yield from _cards("All others" if odd else "Files", fine, size)
    yield from _table("Not done yet", others[""])
    yield from _table("Passed over", others["skipped"])
    yield "</body></html>\n"


def _summary(
    done: Sequence[_Row],
    others: Mapping[str, list[tuple[str, str]]],
    size: _Size,
    n_odd: int,
) -> Iterator[str]:
    parts = [f"{counted(len(done), 'file')} done"]
    if others["failed"]:
        parts.append(f'<span class="bad">{len(others["failed"])} failed</span>')
    if others[""]:
        parts.append(f"{len(others[''])} not done yet")
    if n_odd:
        parts.append(f"{n_odd} to look at")
    yield f"<p>{', '.join(parts)}</p>"
    counts = [row.n_cells for row in done if row.n_cells is not None]
    if counts:
        typical = f"Typically {counted(float(np.median(counts)), 'cell')} a file"
        sizes = [value for row in done if (value := size.value(row)) is not None]
        if sizes:
            typical += f", of {size.text(float(np.median(sizes)))} each"
        yield f'<p class="soft">{escape(typical)} (medians).</p>'


def _table(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        return
    yield f"<h2>{title} ({len(rows)})</h2><table>"
    for name, why in rows:
        yield f'<tr><td class="name">{escape(name)}</td><td>{escape(why)}</td></tr>'
    yield "</table>"


def _cards(
    title: str, rows: Sequence[tuple[_Row, list[str]]], size: _Size
) -> Iterator[str]:
    if not rows:
        return
    yield f'<h2>{title} ({len(rows)})</h2><div class="cards">'
    for row, why in rows:
        # A name may hold any byte, and a link only some letters.
        link = quote(os.fsencode(row.picture))
        yield f"<figure{' class=odd' if why else ''}>"
        yield f'<img src="{link}" alt="" loading="lazy"><figcaption>'
        yield f'<p class="name">{escape(row.name)}</p>'
        yield f"<p>{escape(_found(row, size))}</p>"
        if why:
            yield f'<p class="why">{escape("; ".join(why))}</p>'
        if row.facts.caption:
            yield f'<p class="soft">{escape(row.facts.caption)}</p>'
        if row.message:
            yield f"<details><summary>Notes</summary>{escape(row.message)}</details>"
        yield "</figcaption></figure>"
    yield "</div>"


def _found(row: _Row, size: _Size) -> str:
    """Return how many cells a file has, and how large they are."""
    if row.n_cells is None:
        return "done"
    value = size.value(row)
    cells = counted(row.n_cells, "cell")
    return cells if value is None else f"{cells}, median {size.text(value)}"


@dataclass(frozen=True)
class _Size:
    """In what sizes of cells are told: micrometres, where all files know them."""

    unit: str
    is_um: bool

    @classmethod
    def of(cls, rows: Sequence[_Row], n_dims: int) -> _Size:
        is_um = bool(rows) and all(row.facts.pixel_um is not None for row in rows)
        if is_um:
            return cls("µm²" if n_dims == 2 else "µm³", is_um)
        return cls("px" if n_dims == 2 else "voxels", is_um)

    def value(self, row: _Row) -> float | None:
        """Return the median size of the cells of a file."""
        median, pixel = row.facts.median_px, row.facts.pixel_um
        if median is None or not self.is_um or pixel is None:
            return median
        return median * pixel

    def text(self, value: float) -> str:
        """Return a size with three digits, and its unit.

        Examples
        --------
        >>> _Size("µm²", True).text(52.345), _Size("px", False).text(12345.0)
        ('52.3 µm²', '12,345 px')
        """
        number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        return f"{number} {self.unit}"
