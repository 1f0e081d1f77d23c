"""Strokes since training began, held against a plain replay of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.files.annotations import Region, known_pixels
from napari_unet.widgets._fresh_strokes import FreshStrokes, windows_of
from napari_unet.widgets._painted import Painted

SQUARE = [(4, 4), (4, 25), (25, 25), (25, 4)]


def painted_as(labels: np.ndarray, **changes) -> Painted:
    values = {
        "labels": labels,
        "label_class": {},
        "class_names": ("background", "cell"),
        "regions": [],
        "unpainted": "unknown",
        "source": "labels",
    }
    return Painted(**{**values, **changes})


class Replay:
    """What training has, when it takes the strokes as they come."""

    def __init__(self, painted: Painted) -> None:
        self.labels = np.array(painted.labels)
        self.begun = self.labels.copy()
        self.known = self.truth_of(painted)
        self.kinds = dict(painted.label_class)
        self.fresh = FreshStrokes(replace(painted, labels=self.begun), "nuclei")

    @staticmethod
    def truth_of(painted: Painted) -> np.ndarray:
        labels = np.asarray(painted.labels)
        known = known_pixels(np.maximum(labels, 0), painted.regions, painted.unpainted)
        return (known & (labels >= 0)) | (labels > 0)

    def look(self, painted: Painted, *planes: tuple[int, ...]):
        (found,) = self.fresh.look(painted, planes or [()])
        for stroke in found.strokes:
            at = (*stroke.region.plane, *stroke.region.slices)
            self.labels[at] = stroke.labels
            self.known[at] = stroke.known
            self.kinds |= dict(stroke.label_class)
            assert stroke.labels.dtype == np.int32
        return found

    def check(self, painted: Painted) -> None:
        np.testing.assert_array_equal(self.labels, np.maximum(painted.labels, 0))
        np.testing.assert_array_equal(self.known, self.truth_of(painted))


def test_nothing_painted_is_no_stroke() -> None:
    painted = painted_as(np.ones((30, 40), np.int32))
    assert Replay(painted).look(painted).strokes == ()


def test_a_stroke_is_as_small_as_its_change_and_comes_once() -> None:
    labels = np.zeros((300, 300), np.int32)
    painted = painted_as(labels)
    replay = Replay(painted)
    labels[10:14, 20:27] = 3
    (stroke,) = replay.look(painted).strokes
    assert (stroke.region.start, stroke.region.shape) == ((10, 20), (4, 7))
    assert (stroke.region.image, stroke.region.source) == (0, "nuclei")
    assert replay.look(painted).strokes == ()


def test_strokes_far_apart_are_two() -> None:
    labels = np.zeros((500, 500), np.int32)
    painted = painted_as(labels)
    replay = Replay(painted)
    labels[3:5, 3:5], labels[490:, 480:] = 1, 2
    strokes = replay.look(painted).strokes
    assert [s.region.shape for s in strokes] == [(2, 2), (10, 20)]


@pytest.mark.parametrize("unpainted", ["unknown", "background"])
@pytest.mark.parametrize("n_planes", [0, 3])
def test_replaying_the_strokes_gives_the_annotation(unpainted, n_planes) -> None:
    rng = np.random.default_rng(4)
    shape = (n_planes, 90, 130) if n_planes else (90, 130)
    labels = np.zeros(shape, np.int32)
    painted = painted_as(labels, unpainted=unpainted)
    replay = Replay(painted)
    planes = list(np.ndindex(shape[:-2]))
    for step in range(20):
        plane = planes[rng.integers(len(planes))]
        y, x = rng.integers(0, 80, 2)
        labels[plane][y : y + 9, x : x + 20] = rng.integers(-1, 5)
        if step == 7:
            painted = replace(painted, regions=[Region(plane, SQUARE)])
        if step == 12:
            painted = replace(painted, regions=[])
        if step == 15:
            painted = replace(painted, unpainted="background")
        replay.look(painted, *planes)
        replay.check(painted)
    assert not replay.begun.any()  # training's own array


def test_another_class_of_a_cell_is_a_stroke() -> None:
    labels = np.zeros((50, 50), np.int32)
    labels[5:9, 5:9], labels[20:30, 20:30] = 1, 2
    painted = painted_as(labels)
    replay = Replay(painted)
    (stroke,) = replay.look(replace(painted, label_class={2: 0})).strokes
    assert stroke.region.start == (20, 20)
    assert stroke.label_class == {2: 0}
    (back,) = replay.look(painted).strokes
    assert back.label_class == {}


def test_a_class_that_training_does_not_know_is_left_out_and_told() -> None:
    labels = np.zeros((50, 50), np.int32)
    painted = painted_as(labels, unpainted="background")
    replay = Replay(painted)
    labels[5:9, 5:9], labels[5:9, 9:12] = 1, 7
    found = replay.look(replace(painted, label_class={7: 2}))
    assert found.n_new_classes == 1
    (stroke,) = found.strokes
    assert set(np.unique(stroke.labels)) == {0, 1}
    np.testing.assert_array_equal(stroke.known, stroke.labels == 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 200))
def test_windows_hold_every_change(seed, n_rows, n_columns) -> None:
    rng = np.random.default_rng(seed)
    changed = rng.random((n_rows, n_columns)) < rng.choice([0, 0.0005, 0.01, 1])
    held = np.zeros_like(changed)
    for window in windows_of(changed):
        assert changed[window].any(axis=0)[[0, -1]].all()
        assert changed[window].any(axis=1)[[0, -1]].all()
        held[window] = True
    assert not (changed & ~held).any()
