"""What of an annotation a format has no place for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.files.annotations import StoredAnnotation


def not_held(stored: StoredAnnotation, name: str, to: str) -> list[str]:
    """Return a note for what is lost beside the cells: regions, and what is known.

    Parameters
    ----------
    stored : StoredAnnotation
        What is written.
    name : str
        File that is written; named in the note.
    to : str
        What people call the format, such as ``"ImageJ"``.
    """
    lost = []
    n_regions = len(stored.regions)
    if n_regions:
        lost.append(f"{n_regions} finished region{'s' * (n_regions != 1)}")
    if stored.unpainted == "background":
        lost.append("the statement that unpainted pixels are background")
    if not lost:
        return []
    return [f"{name}: {to} has no place for {' and '.join(lost)}: left out"]
