from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.config import WeightConfig
from napari_unet.errors import ConfigError, LabelError
from napari_unet.imaging import live_weights
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.live_weights import LiveWeights
from napari_unet.imaging.targets import cut_annotation, make_target
from napari_unet.imaging.weight_maps import explain_pixel

NAMES = ("background", "cell", "debris")
IDS = [0, 0, 1, 2, 3, 4, 5, 6, 1_000_000, -1]


@dataclasses.dataclass
class Painting:
    """What the tests paint, and the map that follows it."""

    labels: np.ndarray
    known: np.ndarray
    config: WeightConfig
    pixel_size_um: tuple[float, ...]
    label_class: dict[int, int]
    area_classes: frozenset[int]

    def annotation(self) -> Annotation:
        return Annotation(
            self.labels,
            self.label_class,
            self.known,
            NAMES,
            area_classes=self.area_classes,
        )

    def live(self) -> LiveWeights:
        return LiveWeights(
            self.annotation(), self.config, pixel_size_um=self.pixel_size_um
        )

    def update(self, live: LiveWeights):
        return live.update(
            self.labels,
            label_class=self.label_class,
            known=self.known,
            area_classes=self.area_classes,
        )

    def assert_shown_by(self, live: LiveWeights) -> None:
        """To the bit what is computed from nothing, and what training sees."""
        fresh = self.live()
        target = make_target(
            self.annotation(),
            self.config,
            n_dims=self.labels.ndim,
            pixel_size_um=self.pixel_size_um,
        )
        np.testing.assert_array_equal(live.weights, target.weights)
        np.testing.assert_array_equal(live.weights, fresh.weights)
        np.testing.assert_array_equal(live.border, fresh.border)
        assert live.class_counts == fresh.class_counts
        assert live.class_factors == fresh.class_factors


def stroke(data, labels) -> None:
    window = []
    for n in labels.shape:
        start = data.draw(st.integers(0, n - 1))
        window.append(slice(start, start + data.draw(st.integers(1, 5))))
    labels[tuple(window)] = data.draw(st.sampled_from(IDS))


def drawn_painting(data) -> Painting:
    n_dims = data.draw(st.sampled_from([2, 2, 3]))
    side = st.integers(3, 26 if n_dims == 2 else 10)
    shape = data.draw(st.tuples(*[side] * n_dims))
    sizes = st.sampled_from([0.5, 0.5, 0.25, 0.3, 0.108, 1.0])
    painting = Painting(
        labels=np.zeros(shape, np.int32),
        known=np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) < 0.7,
        config=WeightConfig(
            formula=data.draw(st.sampled_from(["ronneberger2015", "falk2019"])),
            unit=data.draw(st.sampled_from(["px", "um"])),
            sigma=data.draw(st.sampled_from([0.3, 0.6, 1.0])),
            sigma1=data.draw(st.sampled_from([0.4, 1.0])),
            balance_classes=data.draw(st.booleans()),
        ),
        pixel_size_um=data.draw(st.tuples(*[sizes] * n_dims)),
        label_class={6: 0, 5: 2},
        area_classes=data.draw(st.sampled_from([frozenset(), frozenset({2})])),
    )
    for _ in range(5):
        stroke(data, painting.labels)
    return painting


def edit(data, painting: Painting) -> None:
    for _ in range(data.draw(st.integers(0, 2))):
        stroke(data, painting.labels)
    kind = data.draw(st.sampled_from(["paint", "paint", "delete", "class", "known"]))
    if kind == "delete":
        painting.labels[painting.labels == data.draw(st.sampled_from(IDS))] = 0
    if kind == "class":
        i, of = data.draw(st.sampled_from(IDS[2:8])), data.draw(st.integers(0, 2))
        painting.label_class = {**painting.label_class, i: of}
        painting.area_classes = frozenset(data.draw(st.sampled_from([(), (1,), (2,)])))
    if kind == "known":
        painting.known = painting.known.copy()
        painting.known[:2] ^= True


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.data())
def test_after_any_edits_the_map_is_that_of_a_full_computation_to_the_bit(data):
    painting = drawn_painting(data)
    live = painting.live()
    for _ in range(data.draw(st.integers(1, 5))):
        edit(data, painting)
        weights, border = live.weights.copy(), live.border.copy()
        window = painting.update(live)
        painting.assert_shown_by(live)
        # What it says has not changed has not.
        others = np.ones(weights.shape, bool)
        if window is not None:
            others[window] = False
        np.testing.assert_array_equal(live.weights[others], weights[others])
        np.testing.assert_array_equal(live.border[others], border[others])


configs = st.builds(
    WeightConfig,
    formula=st.sampled_from(["ronneberger2015", "falk2019"]),
    unit=st.sampled_from(["px", "um"]),
    w0=st.sampled_from([0.0, 1e-13, 5.0, 50.0]),
    sigma=st.sampled_from([0.2, 0.6, 1.5]),
    v_bal=st.sampled_from([0.0, 0.1, 1.0]),
    sigma1=st.sampled_from([0.4, 1.0]),
    balance_classes=st.booleans(),
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_after_any_configs_the_map_is_that_of_a_full_computation_to_the_bit(data):
    painting = drawn_painting(data)
    live = painting.live()
    for _ in range(data.draw(st.integers(1, 4))):
        for _ in range(data.draw(st.integers(0, 2))):
            live.set_config(data.draw(configs), is_final=False)
            if data.draw(st.booleans()):
                edit(data, painting)
                painting.update(live)
        painting.config = data.draw(configs)
        live.set_config(painting.config)
        painting.assert_shown_by(live)
        edit(data, painting)
        painting.update(live)
        painting.assert_shown_by(live)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_a_pixel_is_explained_by_the_numbers_of_the_map(data):
    painting = drawn_painting(data)
    live = painting.live()
    cut = cut_annotation(painting.annotation(), n_dims=painting.labels.ndim)
    for _ in range(5):
        sides = [st.integers(0, n - 1) for n in painting.labels.shape]
        position = data.draw(st.tuples(*sides))
        pixel = live.explain(position)
        assert pixel.weight == live.weights[position]
        assert pixel.border == live.border[position]
        assert pixel == explain_pixel(
            cut,
            position,
            painting.config,
            n_dims=painting.labels.ndim,
            pixel_size_um=painting.pixel_size_um,
        )


# --- only what can change is computed ---------------------------------------------


def field(n_cells: int = 60) -> np.ndarray:
    """Squares of 8 px, 30 px apart."""
    labels = np.zeros((400, 400), np.int32)
    places = [(y, x) for y in range(10, 390, 30) for x in range(10, 390, 30)]
    for i, (y, x) in enumerate(places[:n_cells], start=1):
        labels[y : y + 8, x : x + 8] = i
    return labels


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """How many pixels each measurement of distances was for."""
    sizes: list[int] = []
    original = live_weights.distance_sums

    def counted(cells, window, reach, grid):
        sums = original(cells, window, reach, grid)
        sizes.append(sums.size)
        return sums

    monkeypatch.setattr(live_weights, "distance_sums", counted)
    return sizes


def test_a_stroke_measures_its_neighbourhood_alone(measured):
    labels = field()
    live = LiveWeights(Annotation.complete(labels), WeightConfig())
    measured.clear()
    labels[204:206, 205:215] = 99
    window = live.update(labels)
    # 38.7 px is where the border term falls below 1e-12.
    assert window == (slice(204 - 39, 206 + 39), slice(205 - 39, 215 + 39))
    assert measured == [(2 + 78) * (10 + 78)]


def test_where_nothing_changed_nothing_is_measured(measured):
    labels = field()
    live = LiveWeights(Annotation.complete(labels), WeightConfig())
    measured.clear()
    assert live.update(labels) is None
    assert live.update(labels.astype(np.int64), label_class={}, area_classes=()) is None
    assert live.update(labels, label_class={5000: 0}) is None
    assert live.set_config(WeightConfig()) is None
    assert measured == []


def test_a_lower_w0_or_sigma_uses_the_distances_again(measured):
    painting = Painting(
        field(9), np.ones((400, 400), bool), WeightConfig(), (1, 1), {}, frozenset()
    )
    live = painting.live()
    measured.clear()
    for painting.config in (WeightConfig(w0=3), WeightConfig(sigma=2)):
        assert live.set_config(painting.config) is not None
        assert measured == []
        painting.assert_shown_by(live)
        measured.clear()


def test_a_dragged_slider_uses_the_distances_at_hand(measured):
    live = LiveWeights(Annotation.complete(field(9)), WeightConfig())
    measured.clear()
    wide = WeightConfig(sigma=8)
    assert live.set_config(wide, is_final=False) is not None
    assert measured == []
    full = LiveWeights(Annotation.complete(field(9)), wide)
    np.testing.assert_array_equal(live.border[10:18, 18:40], full.border[10:18, 18:40])
    assert not np.array_equal(live.border, full.border)
    assert live.set_config(wide) is not None
    np.testing.assert_array_equal(live.border, full.border)


@pytest.mark.parametrize("formula", ["ronneberger2015", "falk2019"])
def test_painting_while_a_slider_is_dragged_leaves_nothing_behind(formula):
    labels = field(20)
    live = LiveWeights(Annotation.complete(labels), WeightConfig(formula=formula))
    wide = WeightConfig(formula=formula, sigma=12, sigma1=25)
    live.set_config(wide, is_final=False)
    labels[300:305, 300:305] = 99
    live.update(labels)
    live.set_config(wide)
    full = LiveWeights(Annotation.complete(labels), wide)
    np.testing.assert_array_equal(live.weights, full.weights)


def test_known_alone_measures_nothing(measured):
    labels = field()
    known = np.ones(labels.shape, bool)
    live = LiveWeights(Annotation(labels, known=known), WeightConfig())
    measured.clear()
    known[0:3, 20:24] = False
    assert live.update(labels, known=known) == (slice(0, 3), slice(20, 24))
    assert not live.weights[0:3, 20:24].any()
    assert not live.border[0:3, 20:24].any()
    assert measured == []


# --- what is known -----------------------------------------------------------------


def test_erasing_a_cell_to_unknown_leaves_the_map_of_the_others():
    labels = field(4)
    live = LiveWeights(Annotation(labels), WeightConfig())
    without = np.where(labels == 2, 0, labels)
    live.update(without)
    alone = LiveWeights(Annotation(without), WeightConfig())
    np.testing.assert_array_equal(live.weights, alone.weights)
    assert not live.weights[labels == 2].any()


def test_erasing_a_cell_of_a_complete_annotation_leaves_background():
    labels = field(4)
    live = LiveWeights(Annotation.complete(labels), WeightConfig())
    live.update(np.where(labels == 2, 0, labels))
    assert (live.weights[labels == 2] >= 1).all()


def test_ignored_pixels_weigh_nothing():
    labels = field(4)
    live = LiveWeights(Annotation.complete(labels), WeightConfig())
    labels[10:18, 20:38] = -1
    live.update(labels)
    assert not live.weights[10:18, 20:38].any()
    assert (live.weights[19:, 20:38] >= 1).all()


def test_a_class_that_is_new_gets_a_factor():
    labels = field(4)
    live = LiveWeights(Annotation.complete(labels), WeightConfig(balance_classes=True))
    assert len(live.class_factors) == 2
    live.update(labels, label_class={1: 2})
    assert live.class_counts == (400 * 400 - 256, 192, 64)
    assert len(live.class_factors) == 3
    assert live.weights[12, 12] == pytest.approx(10)


def test_another_cell_changes_all_weights_of_balanced_classes():
    labels = field(50)
    config = WeightConfig(balance_classes=True)
    live = LiveWeights(Annotation.complete(labels), config)
    labels[390:, 390:] = 99
    assert live.update(labels) == (slice(0, 400), slice(0, 400))
    whole = make_target(Annotation.complete(labels), config).weights
    np.testing.assert_array_equal(live.weights, whole)


def test_the_labels_are_left_alone():
    labels = field(4)
    labels.flags.writeable = False
    live = LiveWeights(Annotation.complete(labels), WeightConfig())
    live.update(np.roll(labels, 1))
    live.update(labels)


# --- refused -----------------------------------------------------------------------


def test_another_shape_is_refused():
    live = LiveWeights(Annotation.complete(field(2)), WeightConfig())
    with pytest.raises(LabelError, match="begin anew"):
        live.update(np.zeros((3, 3), int))
    with pytest.raises(LabelError, match="begin anew"):
        live.update(field(2), known=np.ones((3, 3), bool))


def test_fractions_are_refused_and_the_map_stays():
    live = LiveWeights(Annotation.complete(field(2)), WeightConfig())
    weights = live.weights.copy()
    with pytest.raises(LabelError, match="not whole numbers"):
        live.update(field(2) + 0.5)
    np.testing.assert_array_equal(live.weights, weights)
    assert live.update(field(2)) is None


def test_micrometres_without_a_pixel_size_are_refused_and_the_map_stays():
    with pytest.raises(ConfigError, match="cells has no pixel size"):
        LiveWeights(Annotation(field(2), source="cells"), WeightConfig(unit="um"))
    live = LiveWeights(Annotation.complete(field(2)), WeightConfig())
    with pytest.raises(ConfigError, match="has no pixel size"):
        live.set_config(WeightConfig(unit="um"))
    assert live.config == WeightConfig()
