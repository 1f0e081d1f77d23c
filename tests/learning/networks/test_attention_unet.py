from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from napari_unet.config import NetworkConfig
from napari_unet.learning.networks import build_network
from napari_unet.learning.networks.attention_unet import AttentionGate


def _config(**settings) -> NetworkConfig:
    return NetworkConfig(architecture="attention_unet", **settings)


# Counted in the authors' own implementation: unet_CT_single_att_dsv_3D, scale 4,
# with one channel and two classes; given the same weights it computes the same.
_AUTHORS_N_PARAMETERS = 6_213_613
# Theirs has logits of each level, up-sampled and merged: 1x1 convolutions of 128, 64,
# 32 and 16 features to 2 classes, and of 8 to 2.
_DEEP_SUPERVISION = 2 * (128 + 1) + 2 * (64 + 1) + 2 * (32 + 1) + 2 * (16 + 1) + 18
_HEAD = 2 * (16 + 1)


def test_the_preset_is_the_authors_network_but_for_what_the_page_says():
    with torch.device("meta"):
        network = build_network(NetworkConfig.oktay2018())
    n = sum(p.numel() for p in network.parameters())
    assert n == 6_210_965
    # Theirs has a bias before each BatchNorm, which takes it off again: 2 for each
    # level's block and merge, one for the gating signal, 2 for each gate.
    widths = (16, 32, 64, 128, 256)
    biases = 2 * sum(widths) + 2 * sum(widths[:-1]) + 256 + 2 * sum(widths[1:-1])
    assert n - _HEAD + _DEEP_SUPERVISION + biases == _AUTHORS_N_PARAMETERS


def test_the_preset_without_gates_has_the_papers_5_88_million_parameters():
    with torch.device("meta"):
        network = build_network(NetworkConfig.oktay2018())
    del network.gates, network.gating
    n = sum(p.numel() for p in network.parameters())
    widths = (16, 32, 64, 128, 256)
    biases = 2 * sum(widths) + 2 * sum(widths[:-1])
    assert n - _HEAD + _DEEP_SUPERVISION + biases == 5_887_466


def test_all_skips_but_the_finest_are_gated():
    network = build_network(_config(base_width=2, depth=4))
    assert [gate.psi.in_channels for gate in network.gates] == [16, 8, 4]
    # At depth 1 there is no other.
    assert len(build_network(_config(base_width=2, depth=1)).gates) == 1


def test_the_coefficients_are_those_of_equation_1():
    gate = AttentionGate(3, 5, _config(norm="none")).double()
    x = torch.randn(1, 3, 6, 8, dtype=torch.double)
    g = torch.randn(1, 5, 3, 4, dtype=torch.double)
    coarse = torch.empty(1, 1, 3, 4, dtype=torch.double)
    with torch.no_grad():
        for row in range(3):
            for column in range(4):
                pair = x[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                q = torch.einsum("oiyx,iyx->o", gate.w_x.weight, pair)
                q = q + gate.w_g.weight[:, :, 0, 0] @ g[0, :, row, column]
                q = gate.psi.weight[0, :, 0, 0] @ (q + gate.w_g.bias).relu()
                coarse[0, 0, row, column] = 1 / (1 + torch.exp(-q - gate.psi.bias))
        expected = functional.interpolate(
            coarse, (6, 8), mode="bilinear", align_corners=False
        )
        alpha = gate.coefficients(x, g)
        torch.testing.assert_close(alpha, expected)
        torch.testing.assert_close(gate(x, alpha), gate.out(x * alpha))


@pytest.mark.parametrize("n_dims", [2, 3])
def test_attention_is_one_map_within_0_and_1_for_each_gate_the_finest_first(n_dims):
    network = build_network(_config(base_width=2, depth=3, n_dims=n_dims)).eval()
    with torch.no_grad():
        fine, coarse = network.attention(torch.rand(2, 1, *[16] * n_dims))
    assert fine.shape == (2, 1, *[8] * n_dims)
    assert coarse.shape == (2, 1, *[4] * n_dims)
    for alpha in (fine, coarse):
        assert 0 <= alpha.min() < alpha.max() <= 1


def test_attention_says_what_the_forward_pass_let_through():
    network = build_network(_config(base_width=2, depth=2)).eval()
    seen = []
    network.gates[0].register_forward_hook(lambda _, given, out: seen.append(given[1]))
    image = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        network(image)
        (alpha,) = network.attention(image)
    assert torch.equal(alpha, seen[0])


def test_a_closed_gate_lets_nothing_through():
    network = build_network(_config(base_width=2, depth=2, norm="none")).eval()
    nn.init.normal_(network.head.weight)
    nn.init.constant_(network.gates[0].psi.bias, -1e4)
    skips = []
    network.merge[0].register_forward_hook(lambda _, given, out: skips.append(given[0]))
    with torch.no_grad():
        network(torch.rand(1, 1, 16, 16))
    assert not skips[0][:, :4].any()
    assert skips[0][:, 4:].any()


def test_published_linear_up_sampling_has_no_convolution_of_its_own():
    network = build_network(_config(base_width=2, depth=2, up="linear"))
    assert list(network.up.parameters()) == []
    assert [merge[0].in_channels for merge in network.merge] == [8 + 4, 4 + 2]
