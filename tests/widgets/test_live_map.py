"""What runs in the background for the Weight map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError
from napari_unet.files.annotations import Region, known_pixels
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.targets import make_target
from napari_unet.widgets import _live_map as module
from napari_unet.widgets._live_map import LiveMap, StackCounts, Wanted
from napari_unet.widgets._painted import Painted

BALANCED = WeightConfig(balance_classes=True)
SQUARE = [(4, 4), (4, 25), (25, 25), (25, 4)]


def stack() -> np.ndarray:
    labels = np.zeros((3, 30, 40), np.int32)
    labels[0, 5:25, 5:18], labels[0, 5:25, 18:35] = 1, 2
    labels[1, 10:20, 3:9], labels[1, 10:20, 12:30] = 1, 3
    return labels


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


def weigh(live: LiveMap, wanted: Wanted):
    (event,) = live.weigh(wanted)
    return event


def target_of(painted: Painted, config: WeightConfig | None = None) -> np.ndarray:
    """What training makes of the whole, as `planes_of` does."""
    known = known_pixels(painted.labels, painted.regions, painted.unpainted)
    annotation = Annotation(
        painted.labels, painted.label_class, known, painted.class_names
    )
    return make_target(annotation, config).weights


class Shown:
    """The map as the windows that come build it up."""

    def __init__(self, shape) -> None:
        self.weights = np.zeros(shape, np.float32)
        self.live = LiveMap()

    def take(self, wanted: Wanted) -> np.ndarray:
        event = weigh(self.live, wanted)
        if event.window is not None:
            self.weights[wanted.plane][event.window] = event.weights
        return self.weights[wanted.plane]


@pytest.mark.parametrize("unpainted", ["unknown", "background"])
def test_every_change_gives_what_training_uses(unpainted) -> None:
    labels = stack()
    wanted = Wanted(painted_as(labels, unpainted=unpainted), (0,), WeightConfig())
    shown = Shown(labels.shape)
    rng = np.random.default_rng(3)
    for step in range(12):
        if step % 4 == 0:
            plane = (step // 4,)
            wanted = replace(wanted, plane=plane)
        if step == 2:
            region = Region((0,), SQUARE)
            wanted = replace(wanted, painted=replace(wanted.painted, regions=[region]))
        if step == 6:
            classes = replace(wanted.painted, label_class={3: 0})
            wanted = replace(wanted, painted=classes)
        if step == 7:
            wanted = replace(wanted, config=WeightConfig.falk2019())
        y, x = rng.integers(0, 24, 2)
        labels[wanted.plane][y : y + 6, x : x + 6] = rng.integers(0, 5)
        got = shown.take(wanted)
        expected = target_of(wanted.painted, wanted.config)[wanted.plane]
        np.testing.assert_array_equal(got, expected, err_msg=f"step {step}")


def test_last_painted_pixel_of_a_slice_makes_it_unknown() -> None:
    labels = np.zeros((2, 30, 40), np.int32)
    wanted = Wanted(painted_as(labels, unpainted="background"), (0,), WeightConfig())
    shown = Shown(labels.shape)
    assert not shown.take(wanted).any()
    labels[0, 5, 5] = 1
    assert shown.take(wanted).all()
    labels[0, 5, 5] = 0
    assert not shown.take(wanted).any()


def test_erased_pixels_of_a_finished_region_are_background() -> None:
    labels = stack()
    painted = painted_as(labels, regions=[Region((0,), SQUARE)])
    wanted = Wanted(painted, (0,), WeightConfig())
    shown = Shown(labels.shape)
    shown.take(wanted)
    labels[0, 10:12, 10:12] = 0
    labels[0, 10:12, 30:32] = 0  # outside
    got = shown.take(wanted)
    assert got[10, 10] >= 1
    assert got[10, 30] == 0
    np.testing.assert_array_equal(got, target_of(painted)[0])


def test_strokes_send_only_a_window() -> None:
    labels = np.zeros((300, 300), np.int32)
    labels[5:10, 5:10] = 1
    wanted = Wanted(painted_as(labels, unpainted="background"), (), WeightConfig())
    live = LiveMap()
    assert weigh(live, wanted).weights.shape == (300, 300)
    assert weigh(live, wanted).window is None
    labels[5:10, 20:25] = 2
    assert weigh(live, wanted).weights.size < 100 * 100


def test_regions_are_filled_only_when_they_changed(monkeypatch) -> None:
    labels = stack()
    calls = []
    known = Painted.known
    monkeypatch.setattr(Painted, "known", lambda *a: calls.append(a) or known(*a))
    wanted = Wanted(
        painted_as(labels, regions=[Region((0,), SQUARE)]), (0,), WeightConfig()
    )
    live = LiveMap()
    weigh(live, wanted)
    calls.clear()
    for i in range(3):
        labels[0, 1, i] = 4
        same = painted_as(labels, regions=[Region((0,), list(SQUARE))])
        weigh(live, replace(wanted, painted=same))
    assert calls == []
    moved = painted_as(labels, regions=[Region((0,), SQUARE[:3])])
    weigh(live, replace(wanted, painted=moved))
    assert len(calls) == 1


def test_explains_what_it_shows() -> None:
    labels = stack()
    painted = painted_as(labels, unpainted="background")
    wanted = Wanted(painted, (1,), BALANCED, pixel=(15, 10), other_counts=(5, 500))
    event = weigh(LiveMap(), wanted)
    assert event.explained.weight == event.weights[15, 10]
    assert {event.explained.first, event.explained.second} == {1, 3}


def test_after_an_error_it_begins_anew(monkeypatch) -> None:
    labels = stack()
    wanted = Wanted(painted_as(labels, unpainted="background"), (0,), WeightConfig())
    live = LiveMap()
    weigh(live, wanted)
    in_um = replace(wanted, config=WeightConfig(unit="um"))
    with pytest.raises(ConfigError, match="labels has no pixel size"):
        weigh(live, in_um)
    event = weigh(live, wanted)
    np.testing.assert_array_equal(event.weights, target_of(wanted.painted)[0])
    sized = replace(in_um, pixel_size_um=(0.5, 0.5))
    assert weigh(live, sized).explained is None


def test_stack_is_balanced_as_a_whole() -> None:
    labels = stack()
    painted = painted_as(labels, unpainted="background", label_class={3: 0})
    counts = {event.plane: event.counts for event in StackCounts().count(painted)}
    assert list(counts) == [(0,), (1,), (2,)]
    expected = target_of(painted, BALANCED)
    for z in range(3):
        others = np.sum([counts[(i,)] for i in range(3) if i != z], axis=0)
        wanted = Wanted(painted, (z,), BALANCED, other_counts=tuple(others.tolist()))
        np.testing.assert_array_equal(weigh(LiveMap(), wanted).weights, expected[z])


def test_planes_are_counted_again_only_where_they_changed(monkeypatch) -> None:
    labels = stack()
    painted = painted_as(labels, unpainted="background")
    counted = []
    count = module.count_classes
    monkeypatch.setattr(
        module, "count_classes", lambda a: counted.append(1) or count(a)
    )
    stack_counts = StackCounts()
    before = [event.counts for event in stack_counts.count(painted)]
    assert len(counted) == 3
    labels[2, 3, 3] = 1
    after = [event.counts for event in stack_counts.count(painted)]
    assert len(counted) == 4
    assert after[:2] == before[:2]
    assert after[2] == (30 * 40 - 1, 1)
    list(stack_counts.count(replace(painted, label_class={1: 0})))
    assert len(counted) == 7
