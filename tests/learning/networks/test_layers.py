from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from napari_unet.config import NetworkConfig
from napari_unet.learning.networks import build_network
from napari_unet.learning.networks.layers import (
    Crop,
    PixelShuffle,
    ReLU,
    head,
    linear_up_sampling,
    n_groups,
    norm_layers,
)

LOCAL = ("unet", "residual_unet", "attention_unet")


@pytest.mark.parametrize("upscale", [2, 4])
def test_the_pixel_shuffle_is_torchs_own_in_planes(upscale):
    features = torch.rand(2, 3 * upscale**2, 4, 5)
    expected = functional.pixel_shuffle(features, upscale)
    assert torch.equal(PixelShuffle(upscale, 2)(features), expected)


@pytest.mark.parametrize("upscale", [2, 4])
def test_the_pixel_shuffle_of_volumes_is_shis_equation(upscale):
    s, n_out, shape = upscale, 2, (2, 3, 2)
    features = np.random.default_rng(0).random((1, n_out * s**3, *shape))
    shuffled = PixelShuffle(s, 3)(torch.from_numpy(features)).numpy()
    assert shuffled.shape == (1, n_out, *(s * n for n in shape))
    for k, z, y, x in np.ndindex(shuffled.shape[1:]):
        channel = k * s**3 + (z % s) * s**2 + (y % s) * s + x % s
        assert shuffled[0, k, z, y, x] == features[0, channel, z // s, y // s, x // s]


@pytest.mark.parametrize("n_dims", [2, 3])
def test_a_head_has_no_activation(n_dims):
    config = NetworkConfig(out_channels=1, n_dims=n_dims, upscale=2)
    layer = head(3, config)
    features = -torch.rand(1, 3, *[4] * n_dims)
    with torch.no_grad():
        a, b = layer(features), layer(2 * features)
        zero = layer(torch.zeros_like(features))
    torch.testing.assert_close(b - zero, 2 * (a - zero))


@pytest.mark.parametrize("n_dims", [2, 3])
def test_a_crop_keeps_the_middle(n_dims):
    image = torch.rand(1, 1, *[7] * n_dims)
    assert torch.equal(Crop(2, n_dims)(image), image[(..., *[slice(2, 5)] * n_dims)])
    assert Crop(0, n_dims)(image) is image


@pytest.mark.parametrize(
    ("width", "expected"),
    [(1, 1), (2, 1), (3, 1), (16, 8), (24, 12), (32, 16), (64, 32), (1024, 32)],
)
def test_groups_are_32_or_pairs_of_channels(width, expected):
    assert n_groups(width) == expected


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("norm", ["group", "instance", "batch"])
def test_normalisation_is_over_what_its_name_says(norm, n_dims):
    (layer,) = norm_layers(8, NetworkConfig(norm=norm, n_dims=n_dims))
    features = torch.randn(3, 8, *[6] * n_dims) * 5 + 2
    with torch.no_grad():
        normalised = layer(features).numpy()
    space = tuple(range(2, 2 + n_dims))
    if norm == "group":
        normalised = normalised.reshape(3, 4, 2, *[6] * n_dims)
    axes = {
        "batch": (0, *space),
        "instance": space,
        "group": (2, *(a + 1 for a in space)),
    }
    np.testing.assert_allclose(normalised.mean(axes[norm]), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(axes[norm]), 1, atol=1e-3)


def test_running_statistics_follow_faster_than_torchs():
    (layer,) = norm_layers(4, NetworkConfig())
    assert layer.momentum == 0.2
    assert norm_layers(4, NetworkConfig(norm="none")) == []


@pytest.mark.parametrize("norm", ["group", "instance", "none", "batch"])
@pytest.mark.parametrize("architecture", LOCAL)
def test_a_convolution_has_a_bias_where_no_normalisation_follows(norm, architecture):
    net = build_network(
        NetworkConfig(architecture=architecture, base_width=2, norm=norm)
    )
    for block in net.modules():
        if isinstance(block, nn.Sequential):
            for conv, after in zip(block, list(block)[1:], strict=False):
                if isinstance(conv, nn.Conv2d) and not isinstance(after, PixelShuffle):
                    assert (conv.bias is None) == (norm != "none")


def test_linear_up_sampling_has_half_pixel_centres():
    (up,) = linear_up_sampling(NetworkConfig())
    row = up(torch.tensor([[[[0.0, 4.0, 8.0]]]]))[0, 0, 0]
    assert row.tolist() == [0, 1, 3, 5, 7, 8]


def test_unpadded_linear_up_sampling_drops_the_repeated_ends():
    up = nn.Sequential(*linear_up_sampling(NetworkConfig(padding="valid")))
    out = up(torch.tensor([[[[0.0, 4.0, 8.0]] * 3]]))
    assert out[0, 0].tolist() == [[1, 3, 5, 7]] * 4


@pytest.mark.parametrize("architecture", LOCAL)
@pytest.mark.parametrize("n_dims", [2, 3])
def test_convolutions_start_with_the_papers_standard_deviation(architecture, n_dims):
    # sqrt(2 / N), N inputs to a neuron; 2x2 up-convolutions have one input pixel.
    torch.manual_seed(0)
    network = build_network(
        NetworkConfig(
            architecture=architecture,
            base_width=16,
            depth=2,
            norm="none",
            n_dims=n_dims,
        )
    )
    n_checked = 0
    for name, module in network.named_modules():
        if not hasattr(module, "kernel_size") or name == "head":
            continue
        if not hasattr(module, "weight"):
            continue
        n_in = module.in_channels
        if not isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            n_in *= math.prod(module.kernel_size)
        n = module.weight.numel()
        # The standard deviation of n draws is known to one in sqrt(2 n).
        expected = math.sqrt(2 / n_in)
        assert module.weight.std().item() == pytest.approx(
            expected, rel=5 / math.sqrt(2 * n)
        )
        assert module.bias is None or not module.bias.any()
        n_checked += 1
    assert n_checked >= 11


@pytest.mark.parametrize("upscale", [1, 4])
@pytest.mark.parametrize("architecture", LOCAL)
def test_a_fresh_network_is_undecided(architecture, upscale):
    config = NetworkConfig(architecture=architecture, upscale=upscale)
    logits = build_network(config).eval()(torch.rand(1, 1, 32, 32))
    assert torch.softmax(logits, 1).sub(0.5).abs().max() < 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_relu_and_its_gradient_are_torchs_to_the_bit(dtype, layout):
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(2, 6, 7, 8, generator=rng)
    values[0, 0, 0, :6] = torch.tensor([0.0, -0.0, 1e-30, -1e-30, math.inf, -math.inf])
    features = values.to(dtype).contiguous(memory_format=layout).requires_grad_()
    # A part of something wider, as concatenated skips get it.
    above = torch.randn(2, 9, 7, 8, generator=rng).to(dtype)[:, 2:8]
    found, expected = ReLU(inplace=True)(features * 1), torch.relu(features * 1)
    gradients = [
        torch.autograd.grad(outputs, features, above) for outputs in (found, expected)
    ]
    assert torch.equal(found, expected)
    assert torch.equal(*(g[0] for g in gradients))
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("architecture", LOCAL)
def test_a_step_in_bf16_is_that_of_torchs_relu_to_the_bit(architecture):
    def gradients(net: nn.Module) -> list[torch.Tensor]:
        image = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))
        with torch.autocast("cpu", torch.bfloat16):
            logits = net.train()(image)
        logits.float().square().sum().backward()
        return [p.grad for p in net.parameters()]

    config = NetworkConfig(architecture=architecture, base_width=4, depth=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build_network(config)
    ours = gradients(net)
    plain = build_network(config)
    plain.load_state_dict(net.state_dict())
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, ReLU):
                setattr(module, name, nn.ReLU(inplace=True))
    net.zero_grad()
    for buffers in (net, plain):
        for module in buffers.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
    assert all(map(torch.equal, ours, gradients(plain)))
