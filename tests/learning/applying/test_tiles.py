from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.config import NetworkConfig
from napari_unet.learning.applying.tiles import bytes_per_pixel, plan_for, tile_size_for
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.networks import Network, build_network

CPU, CUDA = DeviceChoice("cpu", "CPU"), DeviceChoice("cuda", "GPU")


def _net(**settings: object) -> Network:
    with torch.device("meta"):
        return build_network(NetworkConfig(**({"depth": 4} | settings)))


class _OneSize(Network):
    """A foreign network that takes 64 pixels and nothing else."""

    config = NetworkConfig()
    fixed_size = 64
    halo = None

    def input_size_for(self, n: int) -> int:
        return 64


def test_the_tile_follows_the_memory(monkeypatch):
    net, sizes = _net(base_width=64), []
    for free in (2**28, 2**33, 2**37):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, free))
        sizes.append(tile_size_for(net, (10_000, 10_000), CUDA, "fp32"))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3
    assert sizes[-1] == 2048
    assert all(size % 16 == 0 for size in sizes)
    assert tile_size_for(net, (10_000, 10_000), CPU, "fp32") >= 2 * net.halo


def test_what_a_tile_reads_fits_into_the_memory(monkeypatch):
    free = 2**32
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, free))
    for precision in ("fp32", "bf16"):
        net = _net(base_width=32)
        size = tile_size_for(net, (10_000, 10_000), CUDA, precision)
        n_bytes = (size + 2 * net.halo) ** 2 * bytes_per_pixel(net, precision)
        assert 0.9 * free / 2 < n_bytes <= free / 2


def test_half_the_precision_and_thin_stacks_allow_larger_tiles(monkeypatch):
    free = 2**32
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, free))
    net = _net(base_width=32, n_dims=3, depth=2)
    thick, thin = (
        tile_size_for(net, (n_planes, 2000, 2000), CUDA, "bf16")
        for n_planes in (200, 8)
    )
    assert thin > thick


def test_a_global_network_gets_the_whole_image_or_the_largest_tile(monkeypatch):
    net = _net(norm="group")
    assert tile_size_for(net, (500, 1500), CPU, "fp32") == 1500
    assert tile_size_for(net, (5000, 5000), CPU, "fp32") == 1024


@pytest.mark.parametrize("shape", [(10, 10), (64, 64), (65, 300)])
def test_a_network_of_one_size_gets_that_size(shape):
    plan = plan_for(_OneSize(), shape, tile_size=500)
    for tile in plan.tiles:
        assert [r.stop - r.start for r in tile.read] == [64, 64]
    padded = [n + sum(pads) for n, pads in zip(shape, plan.pads, strict=True)]
    assert all(max(t.read[i].stop for t in plan.tiles) == padded[i] for i in (0, 1))
    assert (len(plan.tiles) > 1) is (shape == (65, 300))


class _LeastSize(Network):
    """A foreign local network that takes multiples of 8 from 64 on."""

    config = NetworkConfig(depth=3)
    halo = 8
    multiple = 8

    def input_size_for(self, n: int) -> int:
        return -(-max(n, 64) // 8) * 8


@pytest.mark.parametrize("shape", [(10, 10), (130, 70), (65, 300)])
def test_every_tile_is_as_large_as_the_network_needs(shape):
    plan = plan_for(_LeastSize(), shape, tile_size=16)
    counts = np.zeros([n + pads[1] for n, pads in zip(shape, plan.pads, strict=True)])
    for tile in plan.tiles:
        sides = [r.stop - r.start for r in tile.read]
        assert min(sides) >= 64
        assert all(side % 8 == 0 for side in sides)
        counts[tile.write] += 1
    assert (counts == 1).all()


# -- exactness, free of rounding ------------------------------------------------


@pytest.mark.parametrize("too_small", [False, True])
@pytest.mark.parametrize("settings", [{}, {"up": "linear"}, {"n_dims": 3, "depth": 1}])
def test_what_a_tile_does_not_read_does_not_reach_what_it_writes(settings, too_small):
    torch.manual_seed(0)
    net = build_network(NetworkConfig(**({"base_width": 2, "depth": 2} | settings)))
    net.eval()
    shape = (5, 40, 60)[-net.config.n_dims :]
    halo = net.halo - net.multiple * too_small
    plan = plan_for(net, shape, tile_size=2 * net.multiple, halo=halo)
    padded = [n + sum(pad) for n, pad in zip(shape, plan.pads, strict=True)]
    n_reached = 0
    for tile in plan.tiles:
        image = torch.full((1, 1, *padded), torch.nan)
        image[(..., *tile.read)] = 0.5
        with torch.no_grad():
            found = net(image)[(..., *tile.write)]
        n_reached += bool(found.isnan().any())
    # With less than the halo, all that have something beyond what they read.
    assert n_reached == (len(plan.tiles) if too_small else 0)
