from __future__ import annotations

import itertools

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


def test_dropped_are_features_of_the_last_two_levels_as_in_the_published_network():
    network = build_network(NetworkConfig(base_width=4, depth=3, dropout=0.5)).train()
    levels = []
    network.dropout.register_forward_hook(lambda _, given, out: levels.append(out))
    network(torch.rand(1, 1, 16, 16))
    assert [tuple(level.shape[1:]) for level in levels] == [(16, 4, 4), (32, 2, 2)]
    # The skip that leaves the last level but one is dropped too.
    assert all((level == 0).float().mean() > 0.3 for level in levels)


def _n_parameters(config: NetworkConfig) -> int:
    """Count without torch."""
    base, depth, d = config.base_width, config.depth, config.n_dims
    per_feature = {"none": 1, "batch": 2, "group": 2, "instance": 2}[config.norm]

    def two(n_in: int, n_out: int) -> int:
        return (n_in + n_out) * n_out * 3**d + 2 * per_feature * n_out

    widths = [config.in_channels, *(base * 2**i for i in range(depth + 1))]
    n = sum(two(a, b) for a, b in itertools.pairwise(widths))
    for w in widths[1:-1]:
        if config.up == "transposed":
            n += 2 * w * w * 2**d + w
        else:
            n += 2 * w * w * 3**d + per_feature * w
        n += two(2 * w if config.skips == "concatenate" else w, w)
    return n + (base + 1) * config.out_channels * config.upscale**d


@pytest.mark.parametrize("norm", ["none", "batch", "group", "instance"])
@pytest.mark.parametrize("up", ["transposed", "linear"])
@pytest.mark.parametrize("skips", ["concatenate", "sum"])
@pytest.mark.parametrize(("n_dims", "upscale"), [(2, 1), (3, 1), (2, 4), (3, 2)])
def test_it_has_as_many_weights_as_a_count_by_hand(norm, up, skips, n_dims, upscale):
    config = NetworkConfig(
        norm=norm, up=up, skips=skips, n_dims=n_dims, upscale=upscale, in_channels=3
    )
    with torch.device("meta"):
        network = build_network(config)
    assert sum(p.numel() for p in network.parameters()) == _n_parameters(config)


def test_the_count_by_hand_gives_the_papers_number():
    assert _n_parameters(NetworkConfig.ronneberger2015()) == 31_030_658


def test_every_architecture_of_the_settings_can_be_built():
    names = NetworkConfig.model_fields["architecture"].annotation.__args__
    assert set(ARCHITECTURES) == set(names)
    assert build_network().config == NetworkConfig()


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
