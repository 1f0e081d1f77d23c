from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from napari_unet.config import NetworkConfig
from napari_unet.errors import ConfigError
from napari_unet.learning.networks import ARCHITECTURES, build_network


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):
        return build_network(NetworkConfig.ronneberger2015())


def test_the_paper_network_has_its_31030658_parameters(paper):
    assert sum(p.numel() for p in paper.parameters()) == 31_030_658


def test_the_paper_network_has_23_convolutions(paper):
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    assert sum(isinstance(module, kinds) for module in paper.modules()) == 23


def test_the_paper_network_maps_572_to_388_pixels(paper):
    logits = paper(torch.empty(1, 1, 572, 572, device="meta"))
    assert logits.shape == (1, 2, 388, 388)
    assert paper.output_size(572) == 388
    assert paper.input_size_for(388) == 572
    assert paper.input_size_for(389) == 588
    assert paper.margin == 92


def test_the_paper_network_has_no_normalisation_but_dropout(paper):
    assert not any(isinstance(m, nn.BatchNorm2d) for m in paper.modules())
    assert paper.dropout.p == 0.5


def test_every_architecture_of_the_settings_can_be_built():
    names = NetworkConfig.model_fields["architecture"].annotation.__args__
    assert set(ARCHITECTURES) == set(names)
    assert build_network().config == NetworkConfig()


@pytest.mark.parametrize("up", ["transposed", "linear"])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_same_padding_keeps_the_size(up, norm, n_dims):
    config = NetworkConfig(
        base_width=2, depth=2, up=up, norm=norm, n_dims=n_dims,
        in_channels=3, out_channels=4,
    )  # fmt: skip
    sizes = (8, 12, 16)[:n_dims]
    assert build_network(config)(torch.zeros(2, 3, *sizes)).shape == (2, 4, *sizes)


@pytest.mark.parametrize("up", ["transposed", "linear"])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_a_valid_network_sees_no_border(up, n_dims):
    # The output of a part is the part of the output, to the last pixel.
    config = NetworkConfig(
        base_width=2, depth=1, up=up, padding="valid", norm="none", n_dims=n_dims
    )
    network = build_network(config).double()
    nn.init.normal_(network.head.weight)
    n_in = network.input_size_for(4)
    image = torch.randn(1, 1, *[n_in + 4] * n_dims, dtype=torch.double)
    part = (..., *[slice(2, 2 + n_in)] * n_dims)
    n_out = network.output_size(n_in)
    same_part = (..., *[slice(2, 2 + n_out)] * n_dims)
    with torch.no_grad():
        torch.testing.assert_close(network(image[part]), network(image)[same_part])


@pytest.mark.parametrize("up", ["transposed", "linear"])
def test_a_valid_network_keeps_the_middle(up):
    # A bright pixel in the middle moves the output the same way on both sides.
    config = NetworkConfig(base_width=1, depth=1, up=up, padding="valid", norm="none")
    network = build_network(config)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    size = network.input_size_for(20)
    image = torch.zeros(1, 1, size, size)
    image[..., size // 2 - 1 : size // 2 + 1, size // 2 - 1 : size // 2 + 1] = 1
    with torch.no_grad():
        logits = network(image)[0, 0]
    torch.testing.assert_close(logits, logits.flip(0))
    torch.testing.assert_close(logits, logits.T)
    middle = logits.shape[0] // 2
    assert logits.argmax() // logits.shape[0] in (middle - 1, middle)


def test_convolutions_start_as_in_the_paper():
    # Standard deviation sqrt(2 / N), N inputs to a neuron.
    network = build_network(NetworkConfig(base_width=32, depth=1, norm="none"))
    weight = network.down[1][2].weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    assert not network.down[1][2].bias.any()


def test_a_fresh_network_is_undecided():
    logits = build_network(NetworkConfig()).eval()(torch.rand(1, 1, 32, 32))
    assert torch.softmax(logits, 1).sub(0.5).abs().max() < 0.2


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("up", ["transposed", "linear"])
def test_the_next_input_size_is_the_smallest_that_is_large_enough(padding, up):
    config = NetworkConfig(base_width=1, depth=2, padding=padding, up=up)
    network = build_network(config)

    def output_size(n: int) -> int:
        try:
            return network.output_size(n)
        except ConfigError:
            return 0

    for wanted in range(1, 40):
        smallest = next(n for n in range(1, 200) if output_size(n) >= wanted)
        assert network.input_size_for(wanted) == smallest


@pytest.mark.parametrize(
    ("padding", "size", "following"), [("same", 10, 12), ("valid", 570, 572)]
)
def test_a_size_that_does_not_fit_is_refused_with_the_next_one(
    padding, size, following
):
    depth = 2 if padding == "same" else 4
    network = build_network(NetworkConfig(base_width=1, depth=depth, padding=padding))
    with pytest.raises(ConfigError, match=f"no input of {size} pixels") as caught:
        network.output_size(size)
    assert caught.value.code == "NU-C06"
    assert f"the next size is {following}" in caught.value.message


def test_an_empty_size_is_refused():
    with pytest.raises(ConfigError, match="no input of 0 pixels"):
        build_network(NetworkConfig(base_width=1)).output_size(0)
