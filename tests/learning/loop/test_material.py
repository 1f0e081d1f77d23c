from __future__ import annotations

import numpy as np
import pytest

from napari_unet.config import TrainConfig
from napari_unet.errors import ImageError, LabelError
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.learning.loop.material import gather


def _labels() -> np.ndarray:
    labels = np.zeros((64, 64), np.int32)
    labels[4:20, 4:20], labels[30:44, 10:30], labels[40:60, 40:60] = 1, 2, 3
    return labels


def _gather(annotations):
    rng = np.random.default_rng(0)
    images = [rng.random(annotation.labels.shape) for annotation in annotations]
    return gather(images, annotations, TrainConfig())


@pytest.mark.parametrize(
    "annotation",
    [
        Annotation.complete(np.zeros((8, 8), int), source='labels "cells"'),
        Annotation(np.ones((8, 8), int), {1: 0}, source='labels "cells"'),
    ],
    ids=["empty", "background only"],
)
def test_an_annotation_without_a_cell_is_refused(annotation):
    with pytest.raises(LabelError) as caught:
        _gather([annotation])
    assert caught.value.code == "NU-L04"
    assert caught.value.message == (
        'labels "cells" has no annotated cells: paint a few cells, each with its own '
        "label"
    )


def test_cells_without_any_known_background_are_refused():
    with pytest.raises(LabelError) as caught:
        _gather([Annotation(_labels(), source='labels "cells"')])
    assert caught.value.code == "NU-L08"
    assert caught.value.message == (
        'labels "cells" has cells but no known background: paint some background, '
        "draw a finished region, or choose 'unpainted is background'"
    )


@pytest.mark.parametrize("is_reversed", [False, True])
def test_images_that_are_all_alike_are_left_out_where_there_are_others(is_reversed):
    rng = np.random.default_rng(0)
    pixels = [np.full((1, 64, 64), 7.0), *rng.random((2, 1, 64, 64))]
    pixels.insert(2, np.zeros((1, 64, 64)))
    names = ["dark.tif", "a.tif", "black.tif", "b.tif"]
    if is_reversed:
        pixels, names = pixels[::-1], names[::-1]
    images = [
        Image(data, source=name) for data, name in zip(pixels, names, strict=True)
    ]
    # Each annotation says which image it is of.
    annotations = [
        Annotation.complete(_labels(), source=f"of {name}") for name in names
    ]
    material = gather(images, annotations, TrainConfig())
    kept = [name for name in names if len(name) == len("a.tif")]
    assert [pair.source for pair in material.pairs] == kept
    assert [pair.facts.annotation for pair in material.pairs] == [
        f"of {name}" for name in kept
    ]
    opened = [material.sources.open(i) for i in range(len(material.sources))]
    assert [pair.image.source for pair in opened] == kept
    assert sorted(material.sources.notes) == [
        f"{name} is left out, all its pixels are alike: check how it was saved"
        for name in ("black.tif", "dark.tif")
    ]


def test_where_all_images_are_alike_it_is_refused():
    images = [np.full((64, 64), value) for value in (1.0, 2.0)]
    with pytest.raises(ImageError, match="nothing to learn from") as caught:
        gather(images, [_labels()] * 2, TrainConfig())
    assert caught.value.code == "NU-I12"


def test_several_refused_annotations_are_counted():
    annotations = [Annotation(_labels(), source=name) for name in "abc"]
    with pytest.raises(LabelError, match=r"^a \(and 2 more\) has cells but no known"):
        _gather(annotations)


def test_painted_background_and_a_finished_region_are_known_background():
    painted = _labels()
    painted[0, :10] = 9
    known = np.zeros(painted.shape, bool)
    known[60:, :5] = True
    _gather([Annotation(painted, {9: 0})])
    _gather([Annotation(_labels(), known=known)])
    # The background may be known in another image than the cells.
    nothing = Annotation.complete(np.zeros((8, 8), int))
    _gather([Annotation(_labels()), nothing])
