"""What needs no other process; with two of them: test_parallel.py."""

from __future__ import annotations

import pytest
import torch

from napari_unet.config import NetworkConfig
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.loop.gradients import Gradients, gradients_of
from napari_unet.learning.loop.parallel import ALONE
from napari_unet.learning.networks import build_network


def test_one_process_sends_images_through_the_network_itself():
    net = torch.nn.Conv2d(1, 1, 1)
    gradients = gradients_of(net, ALONE, DeviceChoice("cpu", "CPU"))
    assert type(gradients) is Gradients
    assert gradients.module is net
    parts = [object()]
    with gradients.summed(parts, (1,)) as turns:
        assert turns is parts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"architecture": "residual_unet"},
        {"architecture": "attention_unet"},
        {"architecture": "trans_unet", "depth": 4, "transformer_layers": 1},
        {"up": "linear", "skips": "sum", "norm": "group"},
        {"padding": "valid", "norm": "none"},
        {"upscale": 4, "adds_image": True, "out_channels": 1},
        {"n_dims": 3},
    ],
    ids=str,
)
def test_each_parameter_has_a_gradient_or_others_would_wait_for_it(settings):
    net = build_network(
        NetworkConfig(**{"base_width": 2, "depth": 1, **settings})
    ).train()
    n_dims = settings.get("n_dims", 2)
    logits = net(torch.randn(2, 1, *[net.input_size_for(32)] * n_dims))
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad, name
        assert parameter.grad is not None, name
