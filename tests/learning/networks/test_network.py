"""What holds for all local networks."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch import nn

from napari_unet.config import NetworkConfig
from napari_unet.learning.networks import Network, build_network

LOCAL = ("unet", "residual_unet", "attention_unet")
UPS = ("transposed", "linear")


def _built(**settings) -> Network:
    torch.manual_seed(0)
    config = NetworkConfig(**{"base_width": 2, "depth": 2, **settings})
    network = build_network(config).eval()
    # Fresh heads are near 0: logits that differ would look alike.
    for module in network.head.modules():
        if hasattr(module, "weight"):
            nn.init.normal_(module.weight)
    return network


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize("skips", ["concatenate", "sum"])
@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("upscale", [1, 2, 4])
def test_same_padding_keeps_the_size_up_to_the_upscaling(
    architecture, norm, skips, n_dims, upscale
):
    network = _built(
        architecture=architecture, norm=norm, skips=skips, n_dims=n_dims,
        upscale=upscale, in_channels=3, out_channels=4,
    )  # fmt: skip
    sizes = (8, 12, 16)[:n_dims]
    with torch.no_grad():
        logits = network(torch.rand(2, 3, *sizes))
    assert logits.shape == (2, 4, *(network.output_size(n) for n in sizes))
    assert logits.shape[2:] == tuple(upscale * n for n in sizes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize("skips", ["concatenate", "sum"])
def test_every_weight_learns(architecture, skips):
    network = _built(architecture=architecture, skips=skips, norm="instance").train()
    network(torch.rand(2, 1, 32, 32)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("architecture", LOCAL)
def test_a_sum_of_skips_has_fewer_weights(architecture):
    def n_parameters(skips: str) -> int:
        network = _built(architecture=architecture, skips=skips)
        return sum(p.numel() for p in network.parameters())

    assert n_parameters("sum") < n_parameters("concatenate")


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize(
    ("padding", "up", "n_dims", "upscale"),
    [*itertools.product(("same", "valid"), UPS, (2,), (1, 2)), ("same", "linear", 3, 2),
     ("valid", "linear", 3, 1)],
)  # fmt: skip
def test_a_traced_network_takes_every_size(architecture, padding, up, n_dims, upscale):
    network = _built(
        architecture=architecture, padding=padding, up=up, n_dims=n_dims,
        upscale=upscale,
    )  # fmt: skip
    small = network.input_size_for(4)
    large = [small + (i + 1) * network.multiple for i in range(n_dims)]
    with warnings.catch_warnings(), torch.no_grad():
        # TorchScript is deprecated, and what this project writes with it still isn't.
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(network, torch.rand(1, 1, *[small] * n_dims))
        image = torch.rand(2, 1, *large)
        torch.testing.assert_close(traced(image), network(image))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize(
    ("padding", "n_dims", "upscale"),
    [("same", 3, 2), ("valid", 2, 1)],
)
def test_an_exported_network_takes_every_size(architecture, padding, n_dims, upscale):
    network = _built(
        architecture=architecture, padding=padding, up="linear", n_dims=n_dims,
        upscale=upscale, depth=1 if padding == "valid" else 2,
    )  # fmt: skip
    small = network.input_size_for(8)
    offset, multiple = small % network.multiple, network.multiple
    # Named dimensions of the form multiple * k + offset.
    axes = {
        2 + i: multiple * torch.export.Dim(f"k{i}", min=2, max=512) + offset
        for i in range(n_dims)
    }
    image = torch.rand(1, 1, *[small + 4 * multiple] * n_dims)
    program = torch.export.export(network, (image,), dynamic_shapes=(axes,))
    larger = torch.rand(1, 1, *[small + (5 + i) * multiple for i in range(n_dims)])
    with torch.no_grad():
        torch.testing.assert_close(program.module()(larger), network(larger))
