"""What is done with a model file in the background: generators of events; no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_unet.events import Event
from napari_unet.widgets._run_state import WorkDone

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_unet.widgets._worker import MakeEvents

ExportTarget = Literal["bioimageio", "onnx"]
# What any dock works on now: files that are read and that are written.
_IN_USE: set[Path] = set()


@dataclass(frozen=True)
class CardWritten(Event):
    """A model's card lies in a folder, to be shown, with what can be changed on it."""

    model: Path
    card: Path
    authors: tuple[str, ...]
    license_id: str
    about: str


@dataclass(frozen=True)
class Naming:
    """Who is to be named on a card."""

    authors: Sequence[str]
    license_id: str
    about: str


def make_card(
    path: Path, folder: Path, title: str, naming: Naming | None = None
) -> Generator[Event, None, None]:
    """Write a model's card into a folder, after storing who is named on it."""
    # Here and below not above: importing torch takes seconds.
    from napari_unet.learning.sharing.cards import name_on_card, write_card

    if naming is None:
        model = name_on_card(path)
    else:
        model = name_on_card(
            path,
            authors=naming.authors,
            license=naming.license_id,
            about=naming.about,
        )
    card = write_card(model, folder, name=title)
    yield CardWritten(path, card, model.authors, model.license, model.about)
    yield WorkDone("The card is made" if naming is None else f"Kept in {path}")


def save_card(path: Path, folder: Path, title: str) -> Generator[Event, None, None]:
    """Write a model's card into a folder of the user's."""
    from napari_unet.learning.sharing.cards import write_card

    yield WorkDone(f"Card written: {write_card(path, folder, name=title)}")


def verify(path: Path) -> Generator[Event, None, None]:
    """Check a model file and what its model computes."""
    from napari_unet.learning.sharing.verification import verify_model

    found = verify_model(path)
    if found.problem is not None:
        raise found.problem
    yield WorkDone(
        f"{path.name} is whole and computes what it did: logits differ by at most "
        f"{found.difference:.1g} (allowed: {found.limit:.0e})"
    )


def export(
    path: Path, target: Path, to: ExportTarget, title: str
) -> Generator[Event, None, None]:
    """Write a model for other programs."""
    from napari_unet.learning.sharing.export import export_events

    yield from export_events(path, target, to=to, name=title)
    yield WorkDone(f"Exported: {target}")


def first_in_use(files: Sequence[Path]) -> Path | None:
    """Return the first of the files that some dock works on."""
    return next((file for file in files if file in _IN_USE), None)


def holding(files: Sequence[Path], make_events: MakeEvents) -> MakeEvents:
    """Return the work, which no other may share its files with until it has ended."""
    _IN_USE.update(files)

    def events() -> Generator[Event, None, None]:
        # Given free where the work ends: the dock may be gone by then.
        try:
            yield from make_events()
        finally:
            _IN_USE.difference_update(files)

    return events
