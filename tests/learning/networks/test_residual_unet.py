from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from napari_unet.config import NetworkConfig
from napari_unet.learning.networks import ResidualUNet, build_network
from napari_unet.learning.networks.residual_unet import ResidualBlock


def _config(**settings) -> NetworkConfig:
    return NetworkConfig(architecture="residual_unet", **settings)


@pytest.mark.parametrize(("n_in", "n_out"), [(4, 4), (3, 5)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_block_is_figure_2_of_he_2016(n_in, n_out, padding):
    block = ResidualBlock(n_in, n_out, _config(padding=padding, norm="none")).double()
    x = torch.randn(1, n_in, 9, 8, dtype=torch.double)
    first, second = (m for m in block.residual if isinstance(m, nn.Conv2d))
    pad = 1 if padding == "same" else 0
    expected = functional.conv2d(x, first.weight, first.bias, padding=pad).relu()
    expected = functional.conv2d(expected, second.weight, second.bias, padding=pad)
    shortcut = x if padding == "same" else x[:, :, 2:-2, 2:-2]
    if n_in != n_out:
        weight, bias = list(block.shortcut.parameters())
        shortcut = torch.einsum("oi,niyx->noyx", weight[:, :, 0, 0], shortcut)
        shortcut = shortcut + bias[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(block(x), (expected + shortcut).relu())


def test_a_block_of_one_width_passes_its_input_on_as_it_is():
    block = ResidualBlock(4, 4, _config())
    assert list(block.shortcut.parameters()) == []
    nn.init.zeros_(block.residual[4].weight)  # the last normalisation
    x = torch.rand(2, 4, 8, 8)
    torch.testing.assert_close(block(x), x)


def _n_parameters(base: int, depth: int, n_dims: int, *, is_sum: bool) -> int:
    """Count without torch: BatchNorm, one channel, two classes."""

    def conv(n_in: int, n_out: int, size: int) -> int:
        return n_in * n_out * size**n_dims + 2 * n_out  # scale and shift, no bias

    def block(n_in: int, n_out: int) -> int:
        two = conv(n_in, n_out, 3) + conv(n_out, n_out, 3)
        return two + (conv(n_in, n_out, 1) if n_in != n_out else 0)

    widths = [1, *(base * 2**i for i in range(depth + 1))]
    n = sum(block(a, b) for a, b in itertools.pairwise(widths))
    for w in widths[1:-1]:
        n += 2 * w * w * 2**n_dims + w  # transposed convolution
        n += block(w if is_sum else 2 * w, w)
    return n + 2 * base + 2


@pytest.mark.parametrize("skips", ["concatenate", "sum"])
@pytest.mark.parametrize(
    ("base", "depth", "n_dims"), [(16, 3, 2), (64, 4, 2), (8, 2, 3)]
)
def test_it_has_as_many_weights_as_a_count_by_hand(base, depth, n_dims, skips):
    with torch.device("meta"):
        network = build_network(
            _config(base_width=base, depth=depth, n_dims=n_dims, skips=skips)
        )
    assert isinstance(network, ResidualUNet)
    expected = _n_parameters(base, depth, n_dims, is_sum=skips == "sum")
    assert sum(p.numel() for p in network.parameters()) == expected
