"""Saving a Labels layer as an annotation with napari: File > Save Selected Layers.

Runs without Qt. Classes, colours and finished regions are those that Annotate noted.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer

from napari_unet.files.formats import FORMATS, write_annotations
from napari_unet.widgets._annotation_formats import to_save
from napari_unet.widgets._layers import META

if TYPE_CHECKING:
    from napari.types import FullLayerData
    from numpy.typing import NDArray


def write_pair(path: str, layers: list[FullLayerData]) -> list[str]:
    """Write a Labels layer as x.tif and x.json, alone or with its finished regions.

    It takes a Shapes layer so that napari's own writer of TIFFs goes first: npe2 asks
    the one with fewer kinds of layers. The finished regions are found without it; any
    other shapes are left out, which is warned of.
    """
    labels = [layer for layer in layers if layer[2] == "labels"]
    written = _write("tiff", path, *labels[0][:2])
    reference = labels[0][1]["metadata"].get(META, {}).get("regions")
    finished = None if reference is None else reference()
    for _, attributes, kind in layers:
        if kind == "shapes" and attributes["name"] != getattr(finished, "name", None):
            warnings.warn(
                f"{attributes['name']} are no finished regions of "
                f"{labels[0][1]['name']}: they were not saved",
                stacklevel=2,
            )
    return written


def _write(
    name: str, path: str, data: NDArray[Any], attributes: dict[str, Any]
) -> list[str]:
    """Write one Labels layer; what the format can't hold is warned of."""
    labels = Layer.create(data, attributes, "labels")
    annotation, target, notes = to_save(labels), Path(path), list[str]()
    written = write_annotations(
        target,
        {annotation.name_in(FORMATS[name], target): annotation.stored()},
        format=name,
        notes=notes,
    )
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return [str(file) for file in written]


write_coco = partial(_write, "coco")
write_imagej = partial(_write, "imagej")
write_geojson = partial(_write, "geojson")
