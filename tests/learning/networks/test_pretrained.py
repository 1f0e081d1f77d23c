from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError, ResourceError
from napari_unet.learning.loop import starting
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.preparation import prepare
from napari_unet.learning.networks import build_network, pretrained


def _config(**settings) -> NetworkConfig:
    given = {"architecture": "trans_unet", "base_width": 64, "transformer_layers": 2}
    return NetworkConfig(**{**given, **settings})


@pytest.fixture(scope="module")
def timm():
    try:
        import timm
    except RuntimeError:
        # A torchvision for GPUs beside a torch for CPUs: timm, which imports it, needs
        # none of its operators.
        for name in ("nms", "qnms"):
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
        import timm
    return timm


@pytest.fixture(scope="module")
def theirs(timm):
    """timm's network of two layers, with every weight drawn."""
    torch.manual_seed(0)
    name = pretrained._TIMM_MODEL.split(".")[0]
    model = timm.create_model(name, pretrained=False, num_classes=0, depth=2).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 1, 0.2)
    nn.init.normal_(model.pos_embed)
    return model


def _ours(theirs, **settings):
    network = build_network(_config(**settings)).eval()
    pretrained.copy_weights(theirs.state_dict(), network)
    return network


@pytest.fixture(scope="module")
def ours(theirs):
    return _ours(theirs, in_channels=3)


def _seen_by(part, network, image):
    seen = []
    hook = part.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        network(image)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("size", [(16, 16), (48, 80), (64, 96)])
def test_the_encoder_computes_what_timm_s_does(ours, theirs, size):
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected = theirs.patch_embed.backbone(image)
    features = _seen_by(ours.embed, ours, image)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_the_transformer_computes_what_timm_s_does(ours, theirs):
    tokens = torch.randn(2, 30, 768)
    with torch.no_grad():
        expected = theirs.norm(theirs.blocks(tokens))
        attended = ours.transformer(tokens.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(attended, expected, atol=1e-4, rtol=1e-4)


def test_all_that_the_decoder_sees_is_what_timm_computes(ours, theirs):
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        tokens = theirs.patch_embed(image) + theirs.pos_embed[:, 1:]
        expected = theirs.norm(theirs.blocks(tokens))
    attended = _seen_by(ours.bottom, ours, image).flatten(2).transpose(1, 2)
    torch.testing.assert_close(attended, expected, atol=1e-4, rtol=1e-4)


def test_all_but_the_class_token_and_the_decoder_is_copied(ours, theirs):
    decoder = sum(
        parameter.numel()
        for part in (ours.bottom, ours.merge, ours.head)
        for parameter in part.parameters()
    )
    copied = sum(parameter.numel() for parameter in ours.parameters()) - decoder
    n_theirs = sum(parameter.numel() for parameter in theirs.parameters())
    assert copied == n_theirs - 2 * 768  # the token and its position


@pytest.mark.parametrize("in_channels", [1, 6])
def test_a_grey_image_is_encoded_as_by_the_colour_network(theirs, ours, in_channels):
    network = _ours(theirs, in_channels=in_channels)
    grey = torch.randn(1, 1, 32, 48)
    features = _seen_by(network.embed, network, grey.repeat(1, in_channels, 1, 1))
    expected = _seen_by(ours.embed, ours, grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


def test_other_numbers_of_channels_take_red_green_and_blue_in_turn(theirs, ours):
    stem = _ours(theirs, in_channels=5).stem[0].weight
    assert torch.equal(stem, ours.stem[0].weight[:, [0, 1, 2, 0, 1]])


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"architecture": "unet"}, "architecture is 'unet'"),
        ({"base_width": 32}, "base_width is 32"),
        ({"transformer_layers": 6}, "transformer_layers is 6"),
    ],
)
def test_a_network_of_another_size_is_refused(settings, name):
    with torch.device("meta"):
        network = build_network(_config(**{"transformer_layers": 12, **settings}))
    with pytest.raises(ConfigError, match=name) as caught:
        pretrained.load_pretrained(network)
    assert caught.value.code == "NU-C11"


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):
        return build_network(NetworkConfig.chen2021())


def test_without_timm_it_says_what_to_install(paper, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ResourceError, match=r"pip install 'napari-unet-loop\[pretr"
    ) as e:
        pretrained.load_pretrained(paper)
    assert e.value.code == "NU-R10"


def test_a_timm_that_does_not_load_says_why(paper, monkeypatch, tmp_path):
    fault = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "timm.py").write_text(fault)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(ResourceError, match=r"nms does not exist\): install torchv"):
        pretrained.load_pretrained(paper)


def test_without_internet_it_says_so(timm, paper, monkeypatch):
    def create_model(name, *, pretrained, num_classes):
        assert pretrained
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ResourceError, match=r"\(no route to host\): connect to") as e:
        pretrained.load_pretrained(paper)
    assert e.value.code == "NU-R11"


def test_timm_knows_the_weights_that_are_asked_for(timm):
    assert pretrained._TIMM_MODEL in timm.list_pretrained()


def test_what_timm_has_reaches_the_network(timm, theirs, monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: theirs)
    monkeypatch.setitem(pretrained._PUBLISHED, "transformer_layers", 2)
    network = build_network(_config())
    pretrained.load_pretrained(network)
    assert torch.equal(network.embed.bias, theirs.patch_embed.proj.bias)


def test_building_a_pretrained_network_loads_nothing(monkeypatch):
    # A model file holds its own weights.
    monkeypatch.setitem(sys.modules, "timm", None)
    with torch.device("meta"):
        build_network(_config(pretrained=True))


@pytest.mark.parametrize("wanted", [True, False])
def test_training_starts_from_them_if_asked(wanted, monkeypatch, cells):
    monkeypatch.setattr(
        starting, "load_pretrained", lambda network: network.position.data.fill_(7)
    )
    image, labels = cells
    network = _config(base_width=2, transformer_layers=1, pretrained=wanted)
    material = gather([image], [labels], TrainConfig(), network=network)
    model = prepare(material, material.config, network=network).model
    assert (model.state["position"] == 7).all() == wanted
