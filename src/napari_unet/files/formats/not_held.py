"""What of an annotation a format has no place for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.files.annotations import known_pixels

if TYPE_CHECKING:
    from napari_unet.files.annotations import StoredAnnotation


def not_held(
    stored: StoredAnnotation, name: str, to: str, *, is_complete: bool = False
) -> list[str]:
    """Return notes for what is lost beside the cells: regions, and what is unknown.

    Parameters
    ----------
    stored : StoredAnnotation
        What is written.
    name : str
        File that is written; named in the notes.
    to : str
        What people call the format, such as ``"ImageJ"``.
    is_complete : bool
        Whether the format says that all that is not painted is background; else who
        reads it has to know.
    """
    annotation = stored.annotation
    is_unknown = ~annotation.is_known
    background = known_pixels(annotation.labels, (), "background")
    lost = []
    n_regions = len(stored.regions)
    if n_regions and (is_unknown.any() or not is_complete):
        lost.append(
            f"{name}: {to} has no place for {n_regions} finished "
            f"region{'s' * (n_regions != 1)}: left out"
        )
    if (is_unknown & (is_complete | background)).any():
        outcome = (
            "it will be read as background"
            if is_complete
            else "say it again when you read it (convert: --unpainted unknown), or it "
            "becomes background"
        )
        lost.append(
            f"{name}: {to} has no place for what is not painted being unknown: "
            f"{outcome}"
        )
    return lost
