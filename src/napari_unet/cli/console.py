"""What the user reads: results on stdout, everything else on stderr."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from napari_unet.cli import voice

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from napari_unet.imaging.scores import Scores


T = TypeVar("T")


def _to(*, stderr: bool) -> Console:
    # Made anew each time: sys.stdout and sys.stderr may have been redirected since.
    return Console(stderr=stderr, highlight=False, quiet=voice.is_silent())


def say(text: str) -> None:
    """Print a result, in one line however long."""
    _to(stderr=False).print(_plain(text), soft_wrap=True)


def say_error(text: str) -> None:
    """Print an error, a warning or a note to stderr, in one line however long."""
    _to(stderr=True).print(_plain(text), soft_wrap=True)


def _plain(text: str) -> Text:
    # A file name may hold brackets, which are rich's mark-up, or escape sequences.
    return Text("".join(c if c.isprintable() or c == "\n" else "?" for c in text))


def warn(text: str) -> None:
    """Print a warning to stderr."""
    say_error(f"warning: {text}")


def progress_bar() -> Progress:
    """Return a progress bar on stderr; without a terminal it stays silent."""
    console = _to(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def track(items: Sequence[T], doing: str) -> Iterator[T]:
    """Yield the items while a progress bar counts them."""
    with progress_bar() as bar:
        task = bar.add_task(doing, total=len(items), note="")
        for item in items:
            yield item
            bar.advance(task)


@contextmanager
def working(doing: str) -> Iterator[None]:
    """Show that something is going on which can't be counted."""
    console = _to(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(doing):
        yield


def show_table(
    title: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    are_numbers: bool = True,
) -> None:
    """Print a table to stdout; numbers stand right."""
    # A table's own title is broken to the table's width.
    say(title)
    table = Table()
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i and are_numbers else "left")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    _to(stderr=False).print(table)


def counted(n: int, noun: str) -> str:
    """Return how many of something there are: ``"1 image"``, ``"2 images"``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def number(name: str, value: float) -> str:
    """Return a score as text: counts (``n_...``) whole, others with three digits."""
    return f"{value:.0f}" if name.startswith("n_") else f"{value:.3f}"


def show_scores(scores: Scores, title: str) -> None:
    """Print scores as two small tables."""
    rows = [
        ("cells in the truth", str(scores.n_truth)),
        ("cells found", str(scores.n_pred)),
        ("foreground IoU", f"{scores.iou:.3f}"),
        ("foreground Dice", f"{scores.dice:.3f}"),
        ("SEG (Cell Tracking Challenge)", f"{scores.seg:.3f}"),
        ("touching pairs separated", f"{scores.separated_pairs} of "
         f"{scores.n_touching_pairs}"),
    ]  # fmt: skip
    show_table(title, ("", "value"), rows)
    show_table(
        "Cells matched one to one, by the IoU that counts as a match",
        ("IoU", "AP", "F1", "PQ"),
        [
            (t, *(f"{part[t]:.3f}" for part in (scores.ap, scores.f1, scores.pq)))
            for t in scores.ap
        ]
        + [("mean AP", f"{scores.map:.3f}", "", "")],
    )
