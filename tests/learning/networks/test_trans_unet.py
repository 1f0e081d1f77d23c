from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from napari_unet.config import NetworkConfig
from napari_unet.errors import ConfigError
from napari_unet.learning.networks import build_network


def _config(**settings) -> NetworkConfig:
    given = {"architecture": "trans_unet", "base_width": 4, "transformer_layers": 2}
    return NetworkConfig(**{**given, **settings})


def _network(seed: int = 0, **settings):
    torch.manual_seed(seed)
    network = build_network(_config(**settings)).eval()
    last = network.head if network.config.upscale == 1 else network.head[0]
    nn.init.normal_(last.weight)  # it starts at next to nothing
    return network


def _count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def _seen_by(part: nn.Module, network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    seen = []
    hook = part.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        network(image)
    hook.remove()
    return seen[0]


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):
        return build_network(NetworkConfig.chen2021())


def test_the_paper_network_has_its_105277081_parameters(paper):
    # The authors' code, built as R50-ViT-B_16 for images of 224 and 9 classes, has
    # the same, part by part.
    assert _count(paper.stem) + _count(paper.stages) == 11_894_848
    assert _count(paper.embed) == 787_200
    assert paper.position.numel() == 196 * 768
    assert _count(paper.transformer) == 85_056_000
    assert _count(paper.bottom) + _count(paper.merge) == 7_387_200
    assert _count(paper.head) == 1305
    assert _count(paper) == 105_277_081


@pytest.mark.parametrize("base", [16, 64])
def test_the_number_of_parameters_follows_from_the_widths(base):
    def conv(n_in, n_out, size):  # no bias, but scale and shift of a normalisation
        return size**2 * n_in * n_out + 2 * n_out

    def unit(n_in, n_out):
        m = n_out // 4
        own = conv(n_in, m, 1) + conv(m, m, 3) + conv(m, n_out, 1)
        return own + (conv(n_in, n_out, 1) if n_in != n_out else 0)

    d = 12 * base
    b = base
    encoder = conv(3, b, 7)
    for n_in, n_out, n in ((b, 4 * b, 3), (4 * b, 8 * b, 4), (8 * b, 16 * b, 9)):
        encoder += unit(n_in, n_out) + (n - 1) * unit(n_out, n_out)
    # Queries, keys, values, output: 4 D^2 + 4 D; MLP: 8 D^2 + 5 D; two norms: 4 D.
    tokens = 16 * b * d + d + 14 * 14 * d + 12 * (12 * d**2 + 13 * d) + 2 * d
    decoder = conv(d, 8 * b, 3)
    for n_in, n_out in (
        (16 * b, 4 * b), (8 * b, 2 * b), (3 * b, b), (b, b // 4)
    ):  # fmt: skip
        decoder += conv(n_in, n_out, 3) + conv(n_out, n_out, 3)
    head = 9 * (b // 4) * 2 + 2
    with torch.device("meta"):
        network = build_network(_config(base_width=base, transformer_layers=12))
    assert _count(network) == encoder + tokens + decoder + head


def test_the_table_of_the_page_is_right():
    page = Path(__file__).parents[3] / "docs/science/networks/trans_unet.md"
    rows = re.findall(r"^\| (\d.*) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    for base, width, heads, parameters in (row.split(" | ") for row in rows):
        with torch.device("meta"):
            network = build_network(
                NetworkConfig(architecture="trans_unet", base_width=int(base))
            )
        attention = network.transformer.layers[0].self_attn
        assert (attention.embed_dim, attention.num_heads) == (int(width), int(heads))
        assert f"{_count(network):,}" == parameters
    assert len(rows) == 3


def test_the_paper_transformer_has_12_layers_of_12_heads(paper):
    heads = [layer.self_attn.num_heads for layer in paper.transformer.layers]
    assert heads == [12] * 12


def test_the_paper_encoder_normalises_32_groups(paper):
    norms = [m for m in paper.stages.modules() if isinstance(m, nn.GroupNorm)]
    # Three in each of 16 units, and one on the way around each stage's first.
    assert len(norms) == 3 * 16 + 3
    assert {norm.num_groups for norm in norms} == {32}


@pytest.mark.parametrize("upscale", [1, 2, 4])
def test_any_multiple_of_16_keeps_its_size_or_is_upscaled(upscale):
    network = _network(upscale=upscale, in_channels=2, out_channels=3)
    with torch.no_grad():
        logits = network(torch.randn(2, 2, 48, 80))
    assert logits.shape == (2, 3, 48 * upscale, 80 * upscale)
    assert network.multiple == 16
    assert network.output_size(48) == 48 * upscale
    assert network.input_size_for(40 * upscale) == 48
    with pytest.raises(ConfigError, match="no input of 40 pixels"):
        network.output_size(40)


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize("base_width", [1, 3, 5, 6, 12])
def test_every_width_and_normalisation_goes(base_width, norm):
    network = _network(base_width=base_width, norm=norm)
    with torch.no_grad():
        assert network(torch.randn(1, 1, 32, 32)).isfinite().all()


def test_the_smallest_image_is_one_token():
    with torch.no_grad():
        assert _network()(torch.randn(1, 1, 16, 16)).shape == (1, 2, 16, 16)


def test_a_pixel_counts_at_the_other_end_of_the_image():
    network = _network()
    image = torch.randn(1, 1, 16, 256)
    other = image.clone()
    other[..., 0] += 1
    # GroupNorm also looks far: a constant takes its place.
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.forward = lambda features: features / 20
    with torch.no_grad():
        far = (network(other) - network(image))[..., -16:].abs()
        for layer in network.transformer.layers:
            layer.self_attn.out_proj.weight.zero_()
        near = (network(other) - network(image))[..., -16:].abs()
    assert far.min() > 0
    assert near.max() == 0
    assert network.halo is None


def test_the_position_is_added_as_learned_for_224_pixels():
    network = _network(base_width=1, transformer_layers=1)
    image = torch.randn(1, 1, 224, 224)
    with torch.no_grad():
        patches = network.embed(_seen_by(network.embed, network, image))
    tokens = _seen_by(network.transformer, network, image)
    expected = (patches + network.position).flatten(2)[0].T[:, None]
    assert torch.equal(tokens, expected)


def test_the_position_is_interpolated_between_the_middles_of_patches():
    network = _network(base_width=1, transformer_layers=1)
    nn.init.zeros_(network.embed.weight)
    y = torch.arange(14.0)
    network.position.data[:] = y[:, None] + 100 * y
    tokens = _seen_by(network.transformer, network, torch.randn(1, 1, 448, 112))
    fine = ((torch.arange(28) + 0.5) / 2 - 0.5).clamp(0, 13)
    coarse = (torch.arange(7) + 0.5) * 2 - 0.5
    expected = (fine[:, None] + 100 * coarse).flatten()
    torch.testing.assert_close(tokens[:, 0], expected[:, None].expand(-1, 12))


def test_the_scale_and_mean_of_an_encoder_filter_don_t_matter():
    network = _network()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        logits = network(image)
        for module in (*network.stem.modules(), *network.stages.modules()):
            if isinstance(module, nn.Conv2d):
                module.weight.mul_(3).add_(0.5)
        torch.testing.assert_close(network(image), logits, atol=1e-4, rtol=1e-4)


def test_a_grey_image_is_a_colour_image_of_equal_channels():
    grey, colour = _network(in_channels=1), _network(in_channels=3)
    image = torch.randn(1, 1, 32, 48)
    with torch.no_grad():
        same = colour(image.repeat(1, 3, 1, 1))
        torch.testing.assert_close(grey(image), same)


def test_no_two_layers_of_the_transformer_start_alike():
    first, second = _network().transformer.layers
    for name in ("self_attn.in_proj_weight", "linear1.weight", "linear2.weight"):
        assert not torch.equal(first.get_parameter(name), second.get_parameter(name))


def test_attention_starts_as_in_vit():
    # Glorot & Bengio 2010: uniform up to sqrt(6 / (D + D)), for each of Q, K and V.
    network = _network(base_width=16)
    bound = (6 / (2 * 192)) ** 0.5
    weight = network.transformer.layers[0].self_attn.in_proj_weight
    assert 0.99 * bound < weight.abs().max() <= bound


def test_dropout_spares_attention_and_all_convolutions():
    network = _network(dropout=0.5).train()
    dropped = {
        name.removeprefix("transformer.layers.1.")
        for name, module in network.named_modules()
        if isinstance(module, nn.Dropout) and module.p and "layers.0" not in name
    }
    assert dropped == {"dropout", "dropout2"}
    layers = network.transformer.layers
    assert all(layer.self_attn.dropout == 0 for layer in layers)
    assert network.dropout.p == 0.5


def test_without_dropout_training_computes_what_inference_does():
    network = _network(norm="group")
    image = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        logits = network(image)
    torch.testing.assert_close(network.train()(image), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_reaches_every_parameter(dtype):
    network = _network(dropout=0.1).train()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        logits = network(torch.randn(2, 1, 32, 48))
    logits.float().square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_reduced_precision_stays_close():
    network = _network()
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        logits = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            reduced = network(image)
    assert reduced.dtype == torch.bfloat16
    assert (reduced - logits).std() < 0.15 * logits.std()  # 0.06 seen, 40 layers deep


def test_channels_last_computes_the_same_and_stays():
    network = _network(in_channels=3)
    image = torch.randn(2, 3, 32, 48)
    with torch.inference_mode():
        logits = network(image)
        network.to(memory_format=torch.channels_last)
        last = network(image.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tracing itself
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_trace_computes_the_same_without_the_path_that_takes_memory():
    network = _network()
    image = torch.randn(1, 1, 32, 48)
    with torch.no_grad():
        traced = torch.jit.trace(network, image, check_trace=False)
        torch.testing.assert_close(traced(image), network(image))
    assert "_transformer_encoder_layer_fwd" not in str(traced.inlined_graph)
