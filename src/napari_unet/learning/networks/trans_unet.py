"""TransU-Net of Chen et al. 2021: convolutions, a transformer, convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_unet.learning.networks.layers import (
    convolution,
    head,
    linear_up_sampling,
    n_groups,
    start,
    two_convolutions,
    with_image,
)
from napari_unet.learning.networks.network import Network

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig

# Table 1 of He et al. 2016, ResNet-50, of which ViT's hybrid takes three stages.
_RESNET_UNITS = (3, 4, 9)
# The position embedding is learned on this grid, that of an image of 224 x 224.
_GRID = 14
# Width of a token for each feature of the stem: 768 for 64.
_TOKEN_RATIO = 12
# Features that one head of the transformer looks at (Vaswani et al. 2017).
_HEAD_WIDTH = 64


def _n_heads(width: int) -> int:
    """Return how many heads share `width` features: of 64 each, where that divides."""
    most = max(1, width // _HEAD_WIDTH)
    return max(n for n in range(1, most + 1) if width % n == 0)


class _StandardizedConv(nn.Conv2d):
    """A convolution whose filters are brought to mean 0 and variance 1 when used.

    Padding is "same" as the published weights have it: with stride 2 the odd pixel is
    padded at the end.

    References
    ----------
    Qiao et al.: Micro-Batch Training with Batch-Channel Normalization and Weight
    Standardization. https://arxiv.org/abs/1903.10520, eq. 5-7.
    """

    def __init__(self, n_in: int, n_out: int, size: int, *, stride: int = 1) -> None:
        total = max(size - stride, 0)
        super().__init__(
            n_in, n_out, size, stride=stride, padding=total // 2, bias=False
        )
        self.odd_px = total % 2

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, Y, X) to (N, K, Y / stride, X / stride)."""
        if self.odd_px:
            features = functional.pad(features, (0, 1, 0, 1))
        variance, mean = torch.var_mean(
            self.weight, dim=(1, 2, 3), correction=0, keepdim=True
        )
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-8)
        return functional.conv2d(features, weight, None, self.stride, self.padding)


def _standardized(
    n_in: int, n_out: int, size: int, *, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    """Return a convolution of the encoder and the GroupNorm that always follows."""
    conv = _StandardizedConv(n_in, n_out, size, stride=stride)
    return conv, nn.GroupNorm(n_groups(n_out), n_out)


class _Bottleneck(nn.Module):
    """A residual unit: 1x1 to a quarter of the width, 3x3, and 1x1 back.

    References
    ----------
    He et al.: Deep Residual Learning for Image Recognition. CVPR 2016, figure 5.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        width = n_out // 4
        self.residual = nn.Sequential(
            *_standardized(n_in, width, 1),
            nn.ReLU(inplace=True),
            *_standardized(width, width, 3, stride=stride),
            nn.ReLU(inplace=True),
            *_standardized(width, n_out, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if n_in != n_out:
            self.shortcut = nn.Sequential(*_standardized(n_in, n_out, 1, stride=stride))

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, Y, X) to (N, K, Y / stride, X / stride)."""
        return functional.relu(self.residual(features) + self.shortcut(features))


def _stage(n_in: int, n_out: int, n_units: int, stride: int) -> nn.Sequential:
    first = _Bottleneck(n_in, n_out, stride)
    return nn.Sequential(
        first, *(_Bottleneck(n_out, n_out, 1) for _ in range(n_units - 1))
    )


class _Transformer(nn.TransformerEncoder):
    """The transformer of ViT, over tokens (L, N, D).

    Normalisation comes first, with one more at the end; the MLP is four times as wide
    as a token, with GELU.
    """

    def __init__(self, width: int, n_layers: int, dropout: float) -> None:
        # Tokens come first, not the batch: batch first, inference takes another path,
        # whose memory grows with the square of the tokens (0.8 GB in place of 0.1 for
        # 4096 of them), and which is half as fast.
        layer = nn.TransformerEncoderLayer(
            width,
            _n_heads(width),
            4 * width,
            dropout,
            activation="gelu",
            layer_norm_eps=1e-6,
            norm_first=True,
        )
        norm = nn.LayerNorm(width, eps=1e-6)
        super().__init__(layer, n_layers, norm, enable_nested_tensor=False)
        for each in self.layers:
            _start_as_vit(each)


def _start_as_vit(layer: Any) -> None:
    """Draw the weights of a layer, which torch would make the same in all of them."""
    # Queries, keys and values are three matrices in one.
    attention = layer.self_attn
    for weight in (*attention.in_proj_weight.chunk(3), attention.out_proj.weight):
        nn.init.xavier_uniform_(weight)
    for linear in (layer.linear1, layer.linear2):
        nn.init.xavier_uniform_(linear.weight)
        nn.init.normal_(linear.bias, std=1e-6)
    # As published, the MLP's features are dropped, never attention.
    attention.dropout = layer.dropout1.p = 0.0


class TransUNet(Network):
    """A U-Net whose lowest level is a vision transformer on patches of 16 x 16.

    A ResNet-50 of three stages halves the image four times; each of its pixels is a
    token, 12 layers of self-attention relate all tokens, and a decoder doubles the
    image four times, with the encoder's features at 1/8, 1/4 and 1/2 as skips. All of
    the image influences all of the output: there is no halo.

    Parameters
    ----------
    config : NetworkConfig
        `NetworkConfig.chen2021()` is the network of the paper, R50-ViT-B/16:
        105,277,081 parameters with 9 classes. All widths follow `base_width`, `norm`
        is the decoder's, and `dropout` the transformer's.

    References
    ----------
    Chen et al.: TransUNet: Transformers Make Strong Encoders for Medical Image
    Segmentation. 2021. https://arxiv.org/abs/2102.04306

    Dosovitskiy et al.: An Image is Worth 16x16 Words. ICLR 2021, eq. 1-4.
    https://arxiv.org/abs/2010.11929
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        base = config.base_width
        hidden = _TOKEN_RATIO * base
        # One channel stands for red, green and blue, as in the published code.
        n_in = 3 if config.in_channels == 1 else config.in_channels
        stem = _standardized(n_in, base, 7, stride=2)
        self.stem = nn.Sequential(*stem, nn.ReLU(inplace=True))
        # "Same" padding again; after a ReLU zeros are never the largest.
        self.pool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2))
        widths = (base, 4 * base, 8 * base, 16 * base)
        self.stages = nn.ModuleList(
            _stage(widths[i], widths[i + 1], n_units, stride=min(i + 1, 2))
            for i, n_units in enumerate(_RESNET_UNITS)
        )
        self.embed = nn.Conv2d(widths[-1], hidden, 1)
        self.position = nn.Parameter(torch.empty(1, hidden, _GRID, _GRID))
        self.dropout = nn.Dropout(config.dropout)
        self.transformer = _Transformer(
            hidden, config.transformer_layers, config.dropout
        )
        self.bottom = nn.Sequential(*convolution(hidden, 8 * base, config))
        self.up = nn.Sequential(*linear_up_sampling(config))
        outs = (4 * base, 2 * base, base, max(base // 4, 1))
        ins = (8 * base + widths[2], outs[0] + widths[1], outs[1] + widths[0], outs[2])
        self.merge = nn.ModuleList(
            two_convolutions(n_in, n_out, config)
            for n_in, n_out in zip(ins, outs, strict=True)
        )
        self.head = head(outs[-1], config, size=3)
        start(self, config)
        nn.init.normal_(self.position, std=0.02)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, C, Y, X) to logits (N, K, Y, X)."""
        is_grey = self.config.in_channels == 1
        features = self.stem(image.expand(-1, 3, -1, -1) if is_grey else image)
        skips = [features]
        features = self.pool(features)
        for stage in self.stages:
            features = stage(features)
            skips.append(features)
        features = self.bottom(self._attend(skips.pop()))
        for merge in self.merge:
            features = self.up(features)
            if skips:
                features = torch.cat([features, skips.pop()], dim=1)
            features = merge(features)
        return with_image(self.head(features), image, self.config)

    def _attend(self, features: Tensor) -> Tensor:
        """Map features (N, C, Y, X) to those that know of each other, (N, D, Y, X)."""
        patches = self.embed(features)
        position = functional.interpolate(
            self.position, patches.shape[2:], mode="bilinear", align_corners=False
        )
        # (N, D, Y, X) -> (tokens, N, D)
        tokens = (patches + position).flatten(2).permute(2, 0, 1)
        attended: Tensor = self.transformer(self.dropout(tokens))
        return attended.permute(1, 2, 0).reshape(patches.shape)
