from __future__ import annotations

import itertools

import pytest
import torch

from napari_unet.config import NetworkConfig
from napari_unet.learning.networks import build_network
from napari_unet.learning.networks.geometry import (
    halo_px,
    reads,
    valid_output_size,
)

UPS = ("transposed", "linear")


@pytest.mark.parametrize(("up", "expected"), [("transposed", 96), ("linear", 128)])
def test_the_halo_at_depth_4_is_the_measured_one(up, expected):
    assert halo_px(NetworkConfig(depth=4, up=up)) == expected


@pytest.mark.parametrize(
    ("up", "by_pixel", "on_the_grid"), [("transposed", 107, 94), ("linear", 137, 126)]
)
def test_the_receptive_radius_at_depth_4_is_the_measured_one(up, by_pixel, on_the_grid):
    config = NetworkConfig(depth=4, up=up)
    radii = []
    for pixel in range(16):
        start, stop = reads((pixel, pixel + 1), config)
        radii += [pixel - start, stop - 1 - pixel]
    assert max(radii) == by_pixel
    start, stop = reads((0, 16), config)
    assert max(-start, stop - 16) == on_the_grid


def _core_has_nan(config: NetworkConfig, halo: int, n_core: int) -> bool:
    """Whether NaN beyond the halo, along the first axis, reach the core."""
    multiple = 2**config.depth
    beyond = 2 * multiple
    core = slice(beyond + halo, beyond + halo + n_core)
    length = core.stop + halo + beyond
    image = torch.full((1, 1, length, *[multiple] * (config.n_dims - 1)), torch.nan)
    image[:, :, beyond : length - beyond] = 0.5
    with torch.no_grad():
        logits = build_network(config).eval()(image)
    return bool(logits[:, :, core].isnan().any())


@pytest.mark.parametrize(
    ("depth", "up", "n_dims"), list(itertools.product((1, 2, 3), UPS, (2, 3)))
)
def test_nothing_beyond_the_halo_reaches_the_core_and_the_halo_is_the_smallest(
    depth, up, n_dims
):
    config = NetworkConfig(base_width=1, depth=depth, up=up, n_dims=n_dims)
    halo, multiple = halo_px(config), 2**depth
    for n_core in (multiple, 3 * multiple):
        assert not _core_has_nan(config, halo, n_core)
        assert _core_has_nan(config, halo - multiple, n_core)


@pytest.mark.parametrize(("depth", "up"), list(itertools.product((1, 2, 3), UPS)))
def test_valid_output_sizes_are_those_of_a_real_forward_pass(depth, up):
    config = NetworkConfig(
        base_width=1, depth=depth, up=up, padding="valid", norm="none"
    )
    network = build_network(config)
    sizes = [n for n in range(1, 180) if valid_output_size(n, config)]
    assert len(sizes) > 2
    for n in sizes:
        with torch.no_grad():
            logits = network(torch.zeros(1, 1, n, n))
        assert logits.shape[2:] == (valid_output_size(n, config),) * 2


def test_valid_networks_take_every_16th_size_at_depth_4():
    config = NetworkConfig.ronneberger2015()
    sizes = [n for n in range(1, 600) if valid_output_size(n, config)]
    assert 572 in sizes
    assert {n % 16 for n in sizes} == {12}
    # The smallest one: two pixels more than what is lost on both sides.
    assert sizes[0] - valid_output_size(sizes[0], config) == 2 * 92


@pytest.mark.parametrize("n", [1, 4, 5, 6, 8, 9, 10])
def test_sizes_that_vanish_on_the_way_give_no_output(n):
    assert valid_output_size(n, NetworkConfig(depth=2, padding="valid")) == 0
