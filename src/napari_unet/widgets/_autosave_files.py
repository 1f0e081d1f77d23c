"""Where unsaved annotations lie: writing, listing and discarding them; no Qt.

An autosave is the pair that saving writes (x.tif and x.json) and a note
(x.autosave) that says of which image it is and when it was written. The note comes
last: without it the pair is not offered. Each annotation layer has files of its own,
so that no autosave ever replaces one that the user has not seen.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from platformdirs import user_data_path

from napari_unet.files.annotations import StoredAnnotation, save_annotation
from napari_unet.files.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_unet.files.annotations import Region, Unpainted
    from napari_unet.imaging.arrays import Annotation
    from napari_unet.widgets._painted import Painted

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Autosave:
    """An annotation that was not saved by its user.

    Parameters
    ----------
    path : Path
        The TIFF of the pair.
    image : str
        Key of the image that was annotated.
    layer : str
        Name of the annotation's layer.
    saved_at : datetime
        When it was written, with time zone.
    """

    path: Path
    image: str
    layer: str
    saved_at: datetime


def autosave_folder() -> Path:
    """Return the folder of this user's autosaves; it need not exist."""
    return user_data_path("napari-unet", appauthor=False) / "autosave"


def new_autosave_path(image: str, folder: Path) -> Path:
    """Return a path that no other annotation uses."""
    return folder / f"{_short_digest(image)}-{uuid.uuid4().hex[:12]}.tif"


def write_autosave(
    path: Path, stored: StoredAnnotation, *, image: str, layer: str
) -> None:
    """Write an autosave; see `Autosave` for the parameters.

    Raises
    ------
    SaveError
        A file can't be written (NU-S01).
    """
    with suppress(OSError):  # writing says what is wrong with the folder
        path.parent.mkdir(parents=True, exist_ok=True)
    save_annotation(
        path, stored.annotation, regions=stored.regions, unpainted=stored.unpainted
    )
    note = {
        "image": image,
        "layer": layer,
        "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(path.with_suffix(".autosave"), json.dumps(note, indent=1))


def list_autosaves(image: str, folder: Path) -> list[Autosave]:
    """Return the autosaves of an image, the newest first; broken ones are left out."""
    found = []
    for note_path in folder.glob(f"{_short_digest(image)}-*.autosave"):
        try:
            note = json.loads(note_path.read_text(encoding="utf-8"))
            saved_at = datetime.fromisoformat(note["saved_at"])
            autosave = Autosave(
                note_path.with_suffix(".tif"), note["image"], note["layer"], saved_at
            )
        except (OSError, ValueError, KeyError, TypeError):
            _log.warning("%s is not a note of an autosave", note_path)
            continue
        if autosave.image == image and autosave.path.exists():
            found.append(autosave)
    return sorted(found, key=lambda autosave: autosave.saved_at, reverse=True)


def discard_autosave(path: Path) -> None:
    """Delete an autosave; what can't be deleted stays, and is offered again."""
    for suffix in (".autosave", ".json", ".tif"):
        with suppress(OSError):
            path.with_suffix(suffix).unlink()


def fingerprint(stored: StoredAnnotation) -> str:
    """Return a digest of all that saving would write."""
    return fingerprint_of(
        digest_of_labels(stored.annotation.labels),
        stored.annotation,
        stored.regions,
        stored.unpainted,
    )


def digest_of_labels(labels: NDArray[np.int32]) -> str:
    """Return a digest of labels, the part of a fingerprint that takes time."""
    digest = hashlib.blake2b(np.ascontiguousarray(labels).data, digest_size=16)
    digest.update(repr(labels.shape).encode())
    return digest.hexdigest()


def fingerprint_of(
    labels_digest: str,
    classes: Annotation | Painted,
    regions: Sequence[Region],
    unpainted: Unpainted | None,
) -> str:
    """Return the fingerprint of an annotation whose labels were digested before."""
    rest = (
        labels_digest,
        sorted((int(i), int(c)) for i, c in classes.label_class.items() if c != 1),
        classes.class_names,
        classes.class_colors,
        sorted(classes.area_classes),
        [(tuple(plane), np.asarray(xy).tolist()) for plane, xy in regions],
        unpainted,
    )
    return hashlib.blake2b(repr(rest).encode(), digest_size=16).hexdigest()


def _short_digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
