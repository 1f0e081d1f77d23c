"""How far a network looks: sizes and receptive fields by interval arithmetic.

All lengths are pixels along one axis, the same along each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig

Interval = tuple[int, int]


def _hull(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def _grow(interval: Interval, by: int) -> Interval:
    return interval[0] - by, interval[1] + by


def _transposed_reads(interval: Interval) -> Interval:
    # 2x2, stride 2: pixel i reads pixel i // 2
    return interval[0] // 2, -(-interval[1] // 2)


def _linear_reads(interval: Interval) -> Interval:
    # align_corners=False: pixel i reads floor(i/2 - 1/4) and the next one.
    start, stop = interval
    return (2 * start - 1) // 4, (2 * (stop - 1) - 1) // 4 + 2


def is_global(config: NetworkConfig) -> bool:
    """Whether each output pixel depends on the whole input."""
    return config.norm in ("group", "instance") or config.architecture == "trans_unet"


def gated_levels(config: NetworkConfig) -> range:
    """Return the levels whose skip has an attention gate, the finest being 0."""
    if config.architecture != "attention_unet":
        return range(0)
    return range(min(1, config.depth - 1), config.depth)


def _has_convolution_after_linear(config: NetworkConfig) -> bool:
    # The Attention U-Net concatenates what was up-sampled as it is.
    return config.up == "linear" and config.architecture != "attention_unet"


def reads(interval: Interval, config: NetworkConfig) -> Interval:
    """Return the input interval that an output interval of a same-padding net reads.

    Parameters
    ----------
    interval : (int, int)
        Half-open interval of output pixels along one axis, before any upscaling.
    config : NetworkConfig
        Architecture, `depth` and `up` matter.
    """

    def decoder(level: int, wanted: Interval) -> Interval:
        if level == config.depth:
            return encoder(level, wanted)
        wanted = _grow(wanted, 2)  # two 3x3 convolutions
        below = _grow(wanted, 1) if _has_convolution_after_linear(config) else wanted
        linear = config.up == "linear"
        below = _linear_reads(below) if linear else _transposed_reads(below)
        skip = wanted
        if level in gated_levels(config):
            # The gate: coefficients on the coarser grid, up-sampled linearly, of
            # features from below and of pairs of pixels of the skip.
            coarse = _linear_reads(wanted)
            below = _hull(below, coarse)
            skip = _hull(skip, (2 * coarse[0], 2 * coarse[1]))
        return _hull(encoder(level, skip), decoder(level + 1, below))

    def encoder(level: int, wanted: Interval) -> Interval:
        wanted = _grow(wanted, 2)
        for _ in range(level):
            wanted = _grow((2 * wanted[0], 2 * wanted[1]), 2)  # max-pooling, 2 conv.
        return wanted

    return decoder(0, interval)


def multiple(config: NetworkConfig) -> int:
    """Return the pooling grid: 2**depth pixels."""
    return int(2**config.depth)


def halo_px(config: NetworkConfig) -> int | None:
    """Return the halo in pixels: a multiple of 2**depth that covers all reads.

    Nothing outside [a - halo, b + halo) changes the output in [a, b) for a and b on
    the pooling grid. None if everything does.
    """
    if is_global(config):
        return None
    grid = multiple(config)
    start, stop = reads((0, grid), config)
    reach = max(-start, stop - grid)
    return -(-reach // grid) * grid


def _lost_in_up_sampling(config: NetworkConfig) -> int:
    """Return the pixels that a valid network loses on both sides on each level."""
    if config.architecture == "attention_unet":
        return 2  # the ends of linear up-sampling, of the coefficients in any case
    # The ends of linear up-sampling, and a 3x3 convolution.
    return 4 if config.up == "linear" else 0


def _smallest_bottleneck(config: NetworkConfig) -> int:
    # Of a single pixel GroupNorm and InstanceNorm have nothing to measure.
    return 2 if config.norm in ("group", "instance") else 1


def valid_output_size(n: int, config: NetworkConfig) -> int:
    """Return the output size of a valid network for input size `n`; 0 if none.

    Upscaling is not counted.
    """
    for _ in range(config.depth):
        n -= 4
        if n <= 0 or n % 2:
            return 0
        n //= 2
    n -= 4
    if n < _smallest_bottleneck(config):
        return 0
    for _ in range(config.depth):
        n = 2 * n - _lost_in_up_sampling(config) - 4
    return max(n, 0)


def output_size(n: int, config: NetworkConfig) -> int:
    """Return the output size for input size `n`; 0 if the network can't take it."""
    if config.padding == "valid":
        return config.upscale * valid_output_size(n, config)
    grid = multiple(config)
    fits = n % grid == 0 and n >= grid * _smallest_bottleneck(config)
    return config.upscale * n if fits else 0


def input_size_for(n: int, config: NetworkConfig) -> int:
    """Return the smallest input size whose output has at least `n` pixels."""
    n = max(n, 1)
    wanted = -(-n // config.upscale)
    if config.padding == "same":
        grid = multiple(config)
        return max(-(-wanted // grid), _smallest_bottleneck(config)) * grid
    size = wanted
    while output_size(size, config) < n:
        size += 1
    return size


def margin_px(config: NetworkConfig) -> int:
    """Return the input pixels lost on each side: 0 with same padding."""
    if config.padding == "same":
        return 0
    size = input_size_for(1, config)
    return (size - valid_output_size(size, config)) // 2
