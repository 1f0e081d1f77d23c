"""Opening annotations with napari: File > Open, or dropping a file on the window.

Runs without Qt. Each annotation becomes a Labels layer that Annotate takes as one.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels

from napari_unet.files.formats import file_stem, read_annotations
from napari_unet.files.formats.recognition import kind_of
from napari_unet.widgets._layers import META
from napari_unet.widgets._painting import metadata_of, redraw

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.types import LayerDataTuple

    from napari_unet.files.annotations import StoredAnnotation

_MOST_LAYERS = 50
_KEPT = ("name", "metadata", "features", "colormap")


def get_reader(
    path: str | list[str],
) -> Callable[[str | list[str]], list[LayerDataTuple]] | None:
    """Return the reader of an annotation; None for any other file.

    It is called for each file of some endings that others use as well, and takes a
    look at the first bytes only.
    """
    if isinstance(path, list):  # files to be stacked, which annotations are not
        return None
    return None if kind_of(Path(path)) is None else read_layers


def read_layers(path: str | list[str]) -> list[LayerDataTuple]:
    """Return a Labels layer for each annotation in a file.

    What got lost or was assumed is warned of, which napari shows.
    """
    file = Path(path if isinstance(path, str) else path[0])
    notes: list[str] = []
    found = read_annotations(file, notes=notes)
    if len(found) > _MOST_LAYERS:
        notes.append(
            f"{file.name} holds {len(found)} images, of which the first {_MOST_LAYERS} "
            "are shown: choose an image in Annotate and press Load … for one of them"
        )
    layers = []
    for name, stored in list(found.items())[:_MOST_LAYERS]:
        if stored.regions:
            notes.append(
                f"the {len(stored.regions)} finished regions of {file.name} are not "
                "shown: open it with Load … in Annotate"
            )
        layers.append(_layer(file_stem(name), stored))
    for note in dict.fromkeys(notes):
        warnings.warn(note, stacklevel=2)
    return layers


def _layer(name: str, stored: StoredAnnotation) -> Any:
    # Made as a layer, because the classes' names and colours are drawn in one.
    labels = Labels(
        stored.annotation.labels, name=name, metadata={META: metadata_of(stored)}
    )
    redraw(labels)
    data, attributes, kind = labels.as_layer_data_tuple()
    return data, {key: attributes[key] for key in _KEPT}, kind
