from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.learning.loop.averaging import Average


def _net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))


def _set(net: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.fill_(value)


def test_a_long_average_is_that_of_the_formula():
    net, decay = _net(), 0.9
    values = np.random.default_rng(0).normal(size=200).round(3)
    _set(net, 5.0)
    average, expected = Average(net, decay), 5.0
    for t, value in enumerate(values):
        _set(net, float(value))
        average.update(net)
        share = min(decay, (1 + t) / (10 + t))
        expected = share * expected + (1 - share) * value
    state = average.state_dict()
    for name in ("0.weight", "0.bias", "1.running_mean", "1.running_var"):
        np.testing.assert_allclose(state[name].numpy(), expected, atol=1e-5)


def test_the_first_weights_are_soon_forgotten():
    net = _net()
    _set(net, 1000.0)
    average = Average(net, 0.999)
    _set(net, 1.0)
    for _ in range(100):
        average.update(net)
    # A plain average would still be at 905.
    assert average.state_dict()["0.bias"].max() < 1.01


def test_counts_are_copied_not_averaged():
    net = _net()
    average = Average(net, 0.5)
    net[1].num_batches_tracked.fill_(7)
    average.update(net)
    assert average.state_dict()["1.num_batches_tracked"] == 7


def test_inside_the_network_holds_the_average_and_afterwards_its_own():
    net = _net()
    own = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    average = Average(net, 0.9)
    _set(net, 2.0)
    average.update(net)
    averaged = {name: tensor.clone() for name, tensor in average.state_dict().items()}
    with average.swapped(net):
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, averaged[name]), name
            assert name.endswith("tracked") or not torch.equal(tensor, own[name])
    assert all((tensor == 2).all() for tensor in net.state_dict().values())
    for name, tensor in average.state_dict().items():
        assert torch.equal(tensor, averaged[name])


def test_a_swap_copies_nothing_and_survives_an_error():
    net = _net()
    average = Average(net, 0.9)
    parameter, own = net[0].weight, net[0].weight.data_ptr()
    averaged = average.state_dict()["0.weight"].data_ptr()
    with contextlib.suppress(ZeroDivisionError), average.swapped(net):
        assert net[0].weight is parameter  # an optimiser goes on with it
        assert parameter.data_ptr() == averaged
        raise ZeroDivisionError
    assert parameter.data_ptr() == own


def test_the_layout_is_kept():
    net = nn.Conv2d(4, 4, 3)
    net.weight.data = net.weight.data.contiguous(memory_format=torch.channels_last)
    average = Average(net, 0.9)
    with average.swapped(net):
        assert net.weight.is_contiguous(memory_format=torch.channels_last)


def test_without_averaging_it_is_the_network_itself():
    net = _net()
    average = Average(net, 0.0)
    own = net[0].weight.data_ptr()
    average.update(net)
    with average.swapped(net):
        assert net[0].weight.data_ptr() == own
    assert len(average.state_dict()) == 1


@pytest.mark.parametrize("decay", [0.0, 0.95])
def test_it_goes_on_from_where_it_was(decay):
    nets = _net(), _net()
    first, second = (Average(net, decay) for net in nets)
    for i in range(30):
        _set(nets[0], float(i))
        first.update(nets[0])
    second.load_state_dict(first.state_dict())
    for net, average in zip(nets, (first, second), strict=True):
        _set(net, 3.5)
        average.update(net)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
