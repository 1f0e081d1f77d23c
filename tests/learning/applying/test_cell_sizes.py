from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_unet.config import InstanceConfig, NetworkConfig
from napari_unet.imaging.arrays import Image
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.learning.applying.cell_sizes import measured_factors, step_of
from napari_unet.learning.model import Model

SPAN = IntensityRange((0.0,), (1.0,))
# It knows cells of 20 px.
KNOWN = Model(
    NetworkConfig(),
    {},
    instances=InstanceConfig(min_size_px=1, smoothing_px=0, give_back_gap=False),
    cell_diameter_px=20.0,
    scales_by_cells=True,
)


def _squares(shape, corners, side=10) -> Image:
    data = np.zeros((1, *shape), np.float32)
    for y, x in corners:
        data[:, y : y + side, x : x + side] = 1
    return Image(data)


def _measure(image, factors=(1.0, 1.0), model=KNOWN):
    looks = []

    def run(model, part, factors):
        looks.append((part.data.shape[1:], factors))
        bright = np.asarray(part.data)
        return np.concatenate([1 - bright, bright])

    return measured_factors(model, image, factors, span=SPAN, run=run), looks


def test_cells_become_as_large_as_the_model_knows_them():
    image = _squares((100, 100), [(10, 10), (10, 40), (40, 10), (60, 60)])
    factors, looks = _measure(image)
    # A disc of 100 px is 11.3 across.
    assert factors == pytest.approx((20 / 11.28,) * 2, rel=1e-3)
    assert len(looks) == 2  # the second finds them as they should be


def test_of_pieces_it_takes_bounded_steps():
    image = _squares((100, 100), [(10, 10), (10, 40), (40, 10)], side=2)
    factors, looks = _measure(image)
    assert factors == pytest.approx((20 / 2.257,) * 2, rel=1e-2)
    assert [f[0] for _, f in looks] == pytest.approx([1, 2.5, 6.25])


@pytest.mark.parametrize("at", [(20, 20), (1700, 1700), (20, 1700), (1700, 20)])
def test_where_the_middle_shows_no_cells_corners_are_looked_at(at):
    y, x = at
    corners = [(y, x), (y + 30, x), (y, x + 30)]
    factors, looks = _measure(_squares((1800, 1800), corners))
    assert factors == pytest.approx((20 / 11.28,) * 2, rel=1e-3)
    assert all(max(shape) <= 768 for shape, _ in looks)


def test_an_image_of_two_cells_stays_as_it_is():
    factors, looks = _measure(_squares((100, 100), [(10, 10), (60, 60)]))
    assert factors == (1.0, 1.0)
    assert len(looks) == 1  # its corners would show the same


@pytest.mark.parametrize(
    ("areas", "step"),
    [
        ([100, 100, 100], 20 / 11.2838),
        ([100, 100], 1.0),
        ([], 1.0),
        ([290, 290, 290], 1.0),  # 19.2 px across: near enough
        ([1, 1, 1], 2.5),
        ([10**6] * 3, 1 / 2.5),
    ],
)
def test_a_step_brings_cells_to_their_size(areas, step):
    assert step_of(KNOWN, np.array(areas, int)) == pytest.approx(step, rel=1e-4)


def test_a_cell_counts_as_the_network_sees_it():
    at_half = replace(KNOWN, cell_diameter_px=40.0, scale=0.5)
    assert step_of(at_half, np.full(3, 100)) == step_of(KNOWN, np.full(3, 100))


def test_a_step_after_which_less_is_found_is_taken_back():
    # At more than twice the size only the core of each is seen, as in tissue.
    image = _squares((100, 100), [(10, 10), (10, 40), (40, 10), (60, 60)])
    cores = _squares((100, 100), [(12, 12), (12, 42), (42, 12), (62, 62)], side=5)

    def run(model, part, factors):
        bright = np.asarray((image if factors[0] < 2 else cores).data)
        return np.concatenate([1 - bright, bright])

    knows_32 = replace(KNOWN, cell_diameter_px=32.0)
    factors = measured_factors(knows_32, image, (1.0, 1.0), span=SPAN, run=run)
    assert factors == (1.0, 1.0)


def test_a_step_after_which_cells_are_whole_is_kept():
    # Too large, they are found as what is at two of their ends.
    corners = [(10, 10), (10, 60), (60, 10), (60, 60)]
    whole = _squares((100, 100), corners, side=30)
    ends = np.array(whole.data)
    ends[:, :, 22:28] = ends[:, :, 72:78] = 0

    def run(model, part, factors):
        bright = ends if factors[0] > 0.9 else np.asarray(whole.data)
        return np.concatenate([1 - bright, bright])

    knows_12 = replace(KNOWN, cell_diameter_px=12.0)
    factors = measured_factors(knows_12, whole, (1.0, 1.0), span=SPAN, run=run)
    assert factors == pytest.approx((12 / (30 * 2 / np.pi**0.5),) * 2, rel=1e-2)
