"""Classes are balanced over all planes of a stack, in the live map as well."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.config import WeightConfig
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.class_balance import count_classes, share_of
from napari_unet.imaging.live_weights import LiveWeights
from napari_unet.imaging.targets import make_target

NAMES = ("background", "cell", "other")
BALANCED = WeightConfig(balance_classes=True)


def stack(rng: np.random.Generator) -> Annotation:
    labels = np.zeros((4, 20, 24), np.int32)
    for z in range(3):  # nothing is painted on the last one
        for i in range(1, 4):
            y, x = rng.integers(0, 12, 2)
            labels[z, y : y + 8, x : x + 9] = 10 * z + i
    known = np.zeros(labels.shape, bool)
    known[:2] = rng.random((2, 20, 24)) < 0.7
    return Annotation(
        labels=labels, label_class={2: 2, 11: 0, 12: 2}, known=known, class_names=NAMES
    )


def plane_of(annotation: Annotation, z: int) -> Annotation:
    return Annotation(
        labels=annotation.labels[z],
        label_class=annotation.label_class,
        known=annotation.is_known[z],
        class_names=NAMES,
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_counts_are_those_of_the_target(seed: int) -> None:
    annotation = stack(np.random.default_rng(seed))
    classes = make_target(annotation).classes
    expected = np.bincount(classes[annotation.is_known], minlength=3)
    assert count_classes(annotation) == tuple(expected)
    planes = [count_classes(plane_of(annotation, z)) for z in range(4)]
    np.testing.assert_array_equal(np.sum(planes, axis=0), expected)


@pytest.mark.parametrize("z", range(4))
def test_live_plane_is_balanced_over_its_stack(z: int) -> None:
    annotation = stack(np.random.default_rng(1))
    expected = make_target(annotation, BALANCED).weights[z]
    others = np.sum(
        [count_classes(plane_of(annotation, i)) for i in range(4) if i != z], axis=0
    ).tolist()
    plane = plane_of(annotation, z)
    live = LiveWeights(plane, BALANCED, other_counts=others)
    np.testing.assert_array_equal(live.weights, expected)
    alone = LiveWeights(plane, BALANCED)
    assert z == 3 or not np.array_equal(alone.weights, expected)
    alone.set_other_counts(others)
    np.testing.assert_array_equal(alone.weights, expected)
    assert alone.set_other_counts(others) is None


def test_other_planes_change_nothing_where_classes_are_not_balanced() -> None:
    live = LiveWeights(plane_of(stack(np.random.default_rng(1)), 0), WeightConfig())
    before = live.weights.copy()
    assert live.set_other_counts((5, 500, 7)) is None
    np.testing.assert_array_equal(live.weights, before)


def test_shares_add_up() -> None:
    assert sum(share_of((1, 2, 4))) == pytest.approx(1)
    assert share_of(()) == ()
