from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from napari_unet.config import NetworkConfig
from napari_unet.errors import ConfigError
from napari_unet.learning.networks import build_network
from napari_unet.learning.networks.geometry import (
    halo_px,
    output_size,
    reads,
    valid_output_size,
)

LOCAL = ("unet", "residual_unet", "attention_unet")
SKIPS = ("concatenate", "sum")
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
    core = slice(
        config.upscale * (beyond + halo), config.upscale * (beyond + halo + n_core)
    )
    length = beyond + halo + n_core + halo + beyond
    image = torch.full((1, 1, length, *[multiple] * (config.n_dims - 1)), torch.nan)
    image[:, :, beyond : length - beyond] = 0.5
    with torch.no_grad():
        logits = build_network(config).eval()(image)
    assert logits.shape[2] == config.upscale * length
    return bool(logits[:, :, core].isnan().any())


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize(
    ("depth", "up", "skips", "n_dims"),
    list(itertools.product((1, 2, 3), UPS, SKIPS, (2, 3))),
)
def test_nothing_beyond_the_halo_reaches_the_core_and_the_halo_is_the_smallest(
    architecture, depth, up, skips, n_dims
):
    config = NetworkConfig(
        architecture=architecture, base_width=1, depth=depth, up=up, skips=skips,
        n_dims=n_dims,
    )  # fmt: skip
    halo, multiple = halo_px(config), 2**depth
    for n_core in (multiple, 3 * multiple):
        assert not _core_has_nan(config, halo, n_core)
        assert _core_has_nan(config, halo - multiple, n_core)


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize(("upscale", "n_dims"), [(2, 2), (4, 2), (2, 3), (4, 3)])
def test_the_halo_of_an_upscaling_network_is_in_input_pixels(
    architecture, upscale, n_dims
):
    config = NetworkConfig(
        architecture=architecture, base_width=1, depth=2, n_dims=n_dims,
        upscale=upscale,
    )  # fmt: skip
    assert not _core_has_nan(config, halo_px(config), 4)
    assert _core_has_nan(config, halo_px(config) - 4, 4)


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_one_pixel_reaches_everything_where_there_is_no_halo(
    architecture, norm, n_dims
):
    config = NetworkConfig(
        architecture=architecture, base_width=2, depth=1, norm=norm, n_dims=n_dims
    )
    network = build_network(config).eval()
    assert network.halo is None
    image = torch.zeros(1, 1, *[40 if n_dims == 2 else 24] * n_dims)
    image[(0, 0, *[0] * n_dims)] = torch.nan
    with torch.no_grad():
        assert network(image).isnan().all()


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize("upscale", [1, 2])
@pytest.mark.parametrize(("depth", "up"), list(itertools.product((1, 2, 3), UPS)))
def test_valid_output_sizes_are_those_of_a_real_forward_pass(
    architecture, upscale, depth, up
):
    config = NetworkConfig(
        architecture=architecture, base_width=1, depth=depth, up=up, padding="valid",
        norm="none", upscale=upscale,
    )  # fmt: skip
    network = build_network(config)
    sizes = [n for n in range(1, 180) if output_size(n, config)]
    assert len(sizes) > 2
    for n in sizes[:3] + sizes[-1:]:
        with torch.no_grad():
            logits = network(torch.zeros(1, 1, n, n))
        assert logits.shape[2:] == (output_size(n, config),) * 2


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize(("up", "skips"), list(itertools.product(UPS, SKIPS)))
@pytest.mark.parametrize(("n_dims", "depth"), [(2, 1), (2, 2), (3, 1)])
def test_a_valid_network_sees_no_border(architecture, up, skips, n_dims, depth):
    # The output of a part is the part of the output, to the last pixel.
    config = NetworkConfig(
        architecture=architecture, base_width=2, depth=depth, up=up, skips=skips,
        padding="valid", norm="none", n_dims=n_dims,
    )  # fmt: skip
    network = build_network(config).double()
    nn.init.normal_(network.head.weight)
    n_in, multiple = network.input_size_for(4), network.multiple
    image = torch.randn(1, 1, *[n_in + 2 * multiple] * n_dims, dtype=torch.double)
    part = (..., *[slice(multiple, multiple + n_in)] * n_dims)
    n_out = network.output_size(n_in)
    same_part = (..., *[slice(multiple, multiple + n_out)] * n_dims)
    with torch.no_grad():
        torch.testing.assert_close(network(image[part]), network(image)[same_part])


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize("up", UPS)
def test_a_valid_network_keeps_the_middle(architecture, up):
    # A bright square in the middle moves the output the same way on both sides.
    config = NetworkConfig(
        architecture=architecture, base_width=1, depth=2, up=up, padding="valid",
        norm="none",
    )  # fmt: skip
    network = build_network(config)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    size = network.input_size_for(20)
    image = torch.zeros(1, 1, size, size)
    image[..., size // 2 - 1 : size // 2 + 1, size // 2 - 1 : size // 2 + 1] = 1
    with torch.no_grad():
        logits = network(image)[0, 0]
    assert logits.std() > 1e-6
    torch.testing.assert_close(logits, logits.flip(0))
    torch.testing.assert_close(logits, logits.T)
    middle = logits.shape[0] // 2
    assert logits.argmax() // logits.shape[0] in (middle - 1, middle)


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


@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("architecture", LOCAL)
def test_a_norm_of_single_inputs_never_meets_a_single_pixel(
    norm, padding, architecture
):
    # torch refuses to normalise one pixel, in training at least.
    config = NetworkConfig(
        architecture=architecture, base_width=1, depth=2, norm=norm, padding=padding
    )
    network = build_network(config).train()
    size = network.input_size_for(1)
    assert network(torch.rand(1, 1, size, size)).isfinite().all()
    with pytest.raises(ConfigError, match=f"the next size is {size}"):
        network.output_size(size - network.multiple)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("upscale", [2, 4])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("architecture", LOCAL)
def test_the_next_input_size_counts_in_output_pixels(
    architecture, padding, upscale, norm
):
    network = build_network(
        NetworkConfig(
            architecture=architecture,
            base_width=1,
            depth=1,
            padding=padding,
            upscale=upscale,
            norm=norm,
        )
    )

    def size_after(n: int) -> int:
        try:
            return network.output_size(n)
        except ConfigError:
            return 0

    for wanted in range(1, 30):
        smallest = next(n for n in range(1, 100) if size_after(n) >= wanted)
        assert network.input_size_for(wanted) == smallest
