"""How far a U-Net looks: sizes and receptive fields by interval arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.config import NetworkConfig

Interval = tuple[int, int]


def _hull(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def _grow(interval: Interval, by: int) -> Interval:
    return interval[0] - by, interval[1] + by


def _up_sampling_reads(interval: Interval, up: str) -> Interval:
    start, stop = interval
    if up == "transposed":  # 2x2, stride 2: pixel i reads pixel i // 2
        return start // 2, -(-stop // 2)
    # Linear (align_corners=False): pixel i reads floor(i/2 - 1/4) and the next one;
    # then a 3x3 convolution on the up-sampled grid, which grew `interval` before.
    return (2 * start - 1) // 4, (2 * (stop - 1) - 1) // 4 + 2


def reads(interval: Interval, config: NetworkConfig) -> Interval:
    """Return the input interval that an output interval of a same-padding net reads.

    Parameters
    ----------
    interval : (int, int)
        Half-open interval of output pixels along one axis.
    config : NetworkConfig
        Only `depth` and `up` matter.
    """

    def decoder(level: int, wanted: Interval) -> Interval:
        if level == config.depth:
            return encoder(level, wanted)
        wanted = _grow(wanted, 2)  # two 3x3 convolutions
        below = wanted if config.up == "transposed" else _grow(wanted, 1)
        below = _up_sampling_reads(below, config.up)
        return _hull(encoder(level, wanted), decoder(level + 1, below))

    def encoder(level: int, wanted: Interval) -> Interval:
        wanted = _grow(wanted, 2)
        for _ in range(level):
            wanted = _grow((2 * wanted[0], 2 * wanted[1]), 2)  # max-pooling, 2 conv.
        return wanted

    return decoder(0, interval)


def halo_px(config: NetworkConfig) -> int:
    """Return the halo in pixels: a multiple of 2**depth that covers all reads.

    Nothing outside [a - halo, b + halo) changes the output in [a, b) for a and b on
    the pooling grid.
    """
    multiple: int = 2**config.depth
    start, stop = reads((0, multiple), config)
    reach = max(-start, stop - multiple)
    return -(-reach // multiple) * multiple


def valid_output_size(n: int, config: NetworkConfig) -> int:
    """Return the output size of a valid network for input size `n`; 0 if none."""
    sizes = [n]
    for _ in range(config.depth):
        n -= 4
        if n <= 0 or n % 2:
            return 0
        n //= 2
        sizes.append(n)
    n -= 4
    for _ in range(config.depth):
        # Linear: up-sampled pixels at both ends are trimmed, then a 3x3 convolution.
        n = 2 * n - 4 if config.up == "transposed" else 2 * n - 8
    return max(n, 0)
