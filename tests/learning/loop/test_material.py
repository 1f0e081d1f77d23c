from __future__ import annotations

import numpy as np
import pytest

from napari_unet.config import TrainConfig
from napari_unet.errors import LabelError
from napari_unet.imaging.arrays import Annotation
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
