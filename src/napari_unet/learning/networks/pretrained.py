"""ImageNet weights for TransU-Net, through timm (the extra ``pretrained``)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from napari_unet.errors import ConfigError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_unet.learning.networks.network import Network

# R50-ViT-B/16 of Dosovitskiy et al. 2021, trained on ImageNet-21k: what the paper of
# TransU-Net starts from.
_TIMM_MODEL = "vit_base_r50_s16_224.orig_in21k"
_PUBLISHED = {"architecture": "trans_unet", "base_width": 64, "transformer_layers": 12}

_DECODER = ("bottom.", "merge.", "head.")
# From our names to timm's, one after the other.
_RENAMES = (
    (r"^stem\.0\.", "patch_embed.backbone.stem.conv."),
    (r"^stem\.1\.", "patch_embed.backbone.stem.norm."),
    (r"^stages\.(\d+)\.(\d+)\.", r"patch_embed.backbone.stages.\1.blocks.\2."),
    (r"\.residual\.0\.", ".conv1."),
    (r"\.residual\.1\.", ".norm1."),
    (r"\.residual\.3\.", ".conv2."),
    (r"\.residual\.4\.", ".norm2."),
    (r"\.residual\.6\.", ".conv3."),
    (r"\.residual\.7\.", ".norm3."),
    (r"\.shortcut\.0\.", ".downsample.conv."),
    (r"\.shortcut\.1\.", ".downsample.norm."),
    (r"^embed\.", "patch_embed.proj."),
    (r"^position$", "pos_embed"),
    (r"^transformer\.norm\.", "norm."),
    (r"^transformer\.layers\.(\d+)\.", r"blocks.\1."),
    (r"\.self_attn\.in_proj_", ".attn.qkv."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.linear(\d)\.", r".mlp.fc\1."),
)


def load_pretrained(network: Network) -> None:
    """Give a TransU-Net the ImageNet weights that its paper starts from.

    Encoder, embeddings and transformer are replaced, the decoder keeps its weights.
    timm downloads 0.4 GB the first time, and keeps them.

    Parameters
    ----------
    network : Network
        TransU-Net of base width 64 with 12 layers; changed in place.

    Raises
    ------
    ConfigError
        NU-C11: a network that these weights don't fit.
    ResourceError
        NU-R10: timm is not installed, or can't be loaded. NU-R11: the weights could
        not be downloaded.
    """
    for name, only in _PUBLISHED.items():
        if (came := getattr(network.config, name)) != only:
            raise ConfigError(
                "NU-C11",
                f"{name} is {came!r} but the pretrained weights are for {only!r}: set "
                "it so, or start without them",
            )
    copy_weights(_download(), network)


def _download() -> dict[str, Tensor]:
    try:
        import timm
    except ImportError as error:
        raise ResourceError(
            "NU-R10",
            "pretrained weights come through timm, which can't be found: install it "
            "with pip install 'napari-unet-loop[pretrained]'",
        ) from error
    except RuntimeError as error:
        # timm imports torchvision, which works only with the torch it was built for.
        raise ResourceError(
            "NU-R10",
            f"timm can't be loaded ({error}): install torchvision from where torch "
            "came from, so that they fit",
        ) from error
    try:
        model = timm.create_model(_TIMM_MODEL, pretrained=True, num_classes=0)
    except Exception as error:  # of four libraries, other ones in each version
        raise ResourceError(
            "NU-R11",
            f"the pretrained weights can't be downloaded ({error}): connect to the "
            "internet once, or start without them",
        ) from error
    weights: dict[str, Tensor] = model.state_dict()
    return weights


def copy_weights(weights: Mapping[str, Tensor], network: Network) -> None:
    """Copy the weights of timm's R50-ViT-B/16 into a TransU-Net of its size.

    The class token has no place in a segmentation and is left out. Other numbers of
    channels than 1 and 3 take the filters of red, green and blue in turn; how strong
    they are doesn't matter, as filters are standardised.

    Parameters
    ----------
    weights : mapping of str to Tensor
        By timm's names.
    network : Network
        The network; changed in place.
    """
    own = network.state_dict()
    taken = {
        name: weights[_timm_name(name)] for name in own if not name.startswith(_DECODER)
    }
    stem = taken["stem.0.weight"]
    taken["stem.0.weight"] = stem[
        :, [i % 3 for i in range(own["stem.0.weight"].shape[1])]
    ]
    # (1, 1 + 14 * 14, D), the class token's first -> (1, D, 14, 14)
    position = taken["position"][:, 1:].transpose(1, 2)
    taken["position"] = position.reshape(own["position"].shape)
    network.load_state_dict({**own, **taken})


def _timm_name(name: str) -> str:
    for pattern, theirs in _RENAMES:
        name = re.sub(pattern, theirs, name)
    return name
