from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from napari_unet.config import NetworkConfig
from napari_unet.learning.applying import inference
from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.device import DeviceChoice, with_channels_last
from napari_unet.learning.networks import build_network

CPU = DeviceChoice("cpu", "CPU")

NETWORKS = [
    {},
    {"n_dims": 3},
    {"up": "linear"},
    {"upscale": 2},
    {"norm": "group"},
    {"norm": "instance"},
    {"padding": "valid", "norm": "none"},
    {"architecture": "residual_unet"},
    {"architecture": "residual_unet", "skips": "sum", "norm": "instance"},
    {"architecture": "attention_unet"},
    {"architecture": "attention_unet", "n_dims": 3, "up": "linear"},
    {"architecture": "trans_unet", "depth": 4, "transformer_layers": 1},
]


def _network(**settings: object):
    config = NetworkConfig(**({"base_width": 4, "depth": 2} | settings))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_network(config)
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
        n = net.input_size_for(16 * config.upscale)
        image = torch.rand(1, config.in_channels, *[n] * config.n_dims)
    return net, image


@pytest.mark.parametrize("settings", NETWORKS)
def test_fp32_agrees_with_the_network_as_trained(settings):
    net, image = _network(**settings)
    with torch.no_grad():
        expected = net.eval()(image)
    logits = for_inference(net, CPU, "fp32")(image)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("settings", [s for s in NETWORKS if "depth" not in s])
def test_half_precision_is_near(settings, precision):
    net, image = _network(**settings)
    with torch.no_grad():
        expected = net.eval()(image)
    logits = for_inference(net, CPU, precision)(image)
    assert logits.dtype == torch.float32
    error = (logits - expected).abs().max() / expected.abs().max()
    assert 0 < error < 0.05


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_network_itself_is_not_changed(precision):
    net, image = _network()
    net.train()
    before = copy.deepcopy(net.state_dict())
    ready = for_inference(net, CPU, precision)
    ready(image)
    assert net.training
    assert not any(module.training for module in ready.modules())
    after = net.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    layouts = (torch.contiguous_format, torch.channels_last)
    assert net.down[0][3].weight.is_contiguous(memory_format=layouts[0])
    assert ready.net.down[0][3].weight.is_contiguous(memory_format=layouts[1])


def test_it_knows_the_same_geometry():
    net, _ = _network(upscale=2, padding="valid", norm="none")
    ready = for_inference(net, CPU, "fp32")
    for name in ("multiple", "halo", "margin", "config"):
        assert getattr(ready, name) == getattr(net, name)
    assert ready.input_size_for(50) == net.input_size_for(50)
    assert ready.output_size(60) == net.output_size(60)


def test_no_batch_norm_is_left_where_it_follows_a_convolution():
    for settings in ({}, {"architecture": "residual_unet"}, {"n_dims": 3}):
        net, _ = _network(**settings)
        ready = for_inference(net, CPU, "fp32")
        kinds = (nn.BatchNorm2d, nn.BatchNorm3d)
        assert not any(isinstance(module, kinds) for module in ready.modules())


def test_batch_norm_is_folded_into_a_transposed_convolution():
    stack = nn.Sequential(nn.ConvTranspose2d(3, 5, 2, stride=2), nn.BatchNorm2d(5))
    nn.init.uniform_(stack[1].weight, 0.5, 1.5)
    stack[1].running_var.uniform_(0.5, 2)
    image = torch.rand(1, 3, 4, 4)
    expected = stack.eval()(image)
    inference._fold(stack)
    assert isinstance(stack[1], nn.Identity)
    torch.testing.assert_close(stack(image), expected, atol=1e-6, rtol=1e-5)


def test_statistics_that_follow_no_convolution_stay():
    stack = nn.Sequential(
        nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.BatchNorm2d(2)
    )
    inference._fold(stack)
    assert isinstance(stack[0], nn.BatchNorm2d)
    assert isinstance(stack[3], nn.BatchNorm2d)
    unlearned = nn.Sequential(
        nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)
    )
    inference._fold(unlearned)
    assert isinstance(unlearned[1], nn.BatchNorm2d)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_sign_bit_decides_as_relu_does(dtype):
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    numbers = every[~every.isnan()].reshape(1, -1)
    expected = torch.relu(numbers)
    assert torch.equal(inference._SignBitReLU()(numbers.clone()), expected)


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (1, 2, 7, 9), (1, 2, 4, 6, 8)])
@pytest.mark.parametrize("layout", ["first", "last"])
def test_pooling_axis_by_axis_is_max_pooling(shape, layout):
    features = torch.randn(shape)
    if layout == "last":
        features = features.movedim(1, -1).contiguous().movedim(-1, 1)
    pool = (nn.MaxPool2d if len(shape) == 4 else nn.MaxPool3d)(2)
    faster = inference._faster_pool(pool)
    assert isinstance(faster, inference._HalvingMaxPool)
    assert torch.equal(faster(features), pool(features))


def test_other_pooling_stays_as_it_is():
    for pool in (nn.MaxPool2d(3, 2), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, padding=1)):
        assert inference._faster_pool(pool) is pool


def test_one_channel_is_computed_channels_last():
    image = with_channels_last(torch.rand(2, 1, 6, 5))
    conv = nn.Conv2d(1, 4, 3)
    inference.channels_last(conv)
    assert conv(image).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image, image.contiguous())


def test_fast_takes_what_this_device_is_fastest_with(monkeypatch):
    net, _ = _network()
    monkeypatch.setattr(inference, "fastest_precision", lambda name: "fp16")
    ready = for_inference(net, CPU, "fast")
    assert next(ready.parameters()).dtype == torch.float16
