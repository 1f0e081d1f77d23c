"""The colour bar of the weight map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from napari.layers import Image

from napari_unet.config import WeightConfig
from napari_unet.widgets._color_bar import ColorBar, spread, ticks_of
from napari_unet.widgets._weight_layer import gamma_for
from napari_unet.widgets._worker import Failure


@pytest.fixture
def layer() -> Image:
    return Image(np.zeros((4, 4)), colormap="inferno", contrast_limits=(0, 11))


@pytest.fixture
def bar(qtbot, layer) -> ColorBar:
    bar = ColorBar()
    qtbot.addWidget(bar)
    bar.resize(300, bar.sizeHint().height())
    bar.set_config(WeightConfig())
    bar.watch(layer)
    return bar


def texts(bar: ColorBar) -> list[str]:
    return [tick.text for tick in bar.ticks]


def color_at(bar: ColorBar, value: float) -> np.ndarray:
    # Beside the tick, above the leader.
    x = min(max(round(bar.x_of(value)), 2), bar.width() - 3)
    color = bar.grab().toImage().pixelColor(x, 4)
    return np.array([color.red(), color.green(), color.blue()])


def test_numbers_that_mean_something_are_written(bar) -> None:
    assert texts(bar) == ["0 ignored", "1 normal", "11 closest gap"]
    assert [tick.value for tick in bar.ticks] == [0, 1, 11]


@pytest.mark.parametrize("value", [1, 3, 7.5, 11])
@pytest.mark.parametrize("gamma", [1, 0.6])
def test_colours_are_those_of_the_layer(bar, layer, value, gamma) -> None:
    layer.gamma = gamma
    expected = layer.colormap.map(np.array([(value / 11) ** gamma]))[0, :3] * 255
    np.testing.assert_allclose(color_at(bar, value), expected, atol=12)


def test_low_weights_have_room_with_a_low_gamma(bar, layer) -> None:
    bar.set_config(WeightConfig.falk2019())
    layer.contrast_limits_range = layer.contrast_limits = (0, 51)
    layer.gamma = gamma_for(51)
    assert texts(bar) == ["0 ignored", "0.1 far away", "1 normal", "51 closest gap"]
    ignored, far, normal, closest = (bar.x_of(tick.value) for tick in bar.ticks)
    assert (ignored, closest) == (0, bar.width() - 1)
    assert far > 0.08 * bar.width()
    assert normal > 0.2 * bar.width()


def test_far_background_has_no_mark_of_its_own_where_it_is_like_others() -> None:
    for v_bal in (0, 1):
        config = WeightConfig(formula="falk2019", v_bal=v_bal)
        assert len(texts_of(config, (0, 51))) == 3


def test_follows_colormap_and_contrast_limits(bar, layer) -> None:
    before = color_at(bar, 5)
    layer.colormap = "viridis"
    assert np.abs(color_at(bar, 5).astype(int) - before).max() > 20
    layer.contrast_limits = (0.5, 8)
    assert texts(bar) == ["0.5", "1 normal", "8"]
    assert bar.x_of(8) == bar.width() - 1


def test_follows_w0(bar, layer) -> None:
    bar.set_config(WeightConfig(w0=50))
    layer.contrast_limits_range = layer.contrast_limits = (0, 51)
    assert texts(bar) == ["0 ignored", "1 normal", "51 closest gap"]
    assert texts_of(WeightConfig(w0=0), (0, 1)) == ["0 ignored", "1 normal"]


def texts_of(config: WeightConfig, limits: tuple[float, float]) -> list[str]:
    return [tick.text for tick in ticks_of(config, limits)]


def test_no_layer_no_colours(bar, layer) -> None:
    bar.watch(None)
    assert texts(bar) == []
    layer.colormap = "viridis"  # nobody listens any more
    assert texts(bar) == []
    bar.grab()


def test_fault_shows_nothing(bar, monkeypatch, layer) -> None:
    bar.show_failure(Failure("", "", is_bug=True))
    bar.grab()
    layer.gamma = 0.5
    assert len(texts(bar)) == 3


@given(
    st.lists(st.tuples(st.floats(0, 300), st.floats(5, 60)), max_size=4),
)
def test_texts_overlap_nowhere_and_stay_on_the_bar(given_texts) -> None:
    given_texts.sort()
    centres = [centre for centre, _ in given_texts]
    widths = [width for _, width in given_texts]
    lefts = spread(centres, widths, width=300)
    assert all(left >= 0 for left in lefts)
    rights = [left + width for left, width in zip(lefts, widths, strict=True)]
    assert all(right <= 300 for right in rights)
    assert all(a <= b for a, b in zip(rights, lefts[1:], strict=False))


def test_text_with_room_stands_at_its_number() -> None:
    assert spread([50, 200], [20, 40], width=300) == [40, 180]
