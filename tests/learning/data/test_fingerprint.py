from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.config import NormalizationConfig
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.learning.data.sources import Sources
from napari_unet.learning.data.survey import take_survey


def fingerprint(pairs) -> str:
    images, annotations = zip(*pairs, strict=True)
    return take_survey(Sources(images, annotations), NormalizationConfig()).fingerprint


class _Lazy:
    """An array that can only be sliced, as those of zarr or dask."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.dtype, self.shape = array, array.dtype, array.shape
        self.ndim = array.ndim

    def __getitem__(self, index):
        return self._array[index]


def _pair(seed=0, shape=(2, 3, 8, 9)):
    rng = np.random.default_rng(seed)
    image = Image(rng.integers(0, 200, shape).astype(np.uint16), axes="CZYX")
    labels = rng.integers(0, 4, shape[1:]).astype(np.int32)
    known = rng.random(shape[1:]) > 0.5
    names = ("background", "cell", "other")
    return image, Annotation(labels, {2: 2}, known, class_names=names)


def test_it_is_sixty_four_hex_digits_the_same_each_time():
    assert fingerprint([_pair()]) == fingerprint([_pair()])
    assert len(bytes.fromhex(fingerprint([_pair()]))) == 32


def test_the_order_of_the_images_does_not_matter():
    pairs = [_pair(i) for i in range(3)]
    assert fingerprint(pairs) == fingerprint(pairs[::-1])
    assert fingerprint(pairs) != fingerprint(pairs[:2])
    assert fingerprint(pairs) != fingerprint([*pairs, pairs[0]])


def test_swapped_annotations_are_other_data():
    (a, x), (b, y) = _pair(0), _pair(1)
    assert fingerprint([(a, x), (b, y)]) != fingerprint([(a, y), (b, x)])


@pytest.mark.parametrize(
    "change",
    [
        lambda i, a: (replace(i, data=i.data + np.eye(9, dtype="u2")[:8]), a),
        lambda i, a: (replace(i, data=i.data.astype(np.int16)), a),
        lambda i, a: (replace(i, axes="CTYX"), a),
        lambda i, a: (replace(i, data=i.data[::-1]), a),
        lambda i, a: (i, replace(a, labels=a.labels * (a.labels < 3))),
        lambda i, a: (i, replace(a, known=np.ones(a.labels.shape, bool))),
        lambda i, a: (i, replace(a, label_class={1: 2, 2: 2})),
        lambda i, a: (i, replace(a, class_names=("background", "cell", "third"))),
        lambda i, a: (i, replace(a, area_classes=frozenset({2}))),
    ],
)
def test_any_change_of_what_is_learned_changes_it(change):
    image, annotation = _pair()
    assert fingerprint([change(image, annotation)]) != fingerprint([_pair()])


def test_names_colours_memory_layout_and_laziness_do_not_change_it():
    image, annotation = _pair()
    other = Image(
        _Lazy(np.asfortranarray(image.data)),
        axes="CZYX",
        source="other.tif",
        pixel_size_um=(1.0, 1.0, 1.0),
    )
    colored = replace(
        annotation,
        class_colors=("#000000", "#ff0000", "#00ff00"),
        label_class=dict(reversed({**annotation.label_class}.items())),
        source="b",
    )
    assert fingerprint([(other, colored)]) == fingerprint([(image, annotation)])
