"""What a model computed when it was saved, and whether it still does.

A model's file holds a drawn input and the logits that its network gave for it in
fp32, before any softmax: a probability near 0 or 1 would hide a change.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.tiling import mirror_pad
from napari_unet.learning.applying.inference import for_inference
from napari_unet.learning.applying.outputs import activate
from napari_unet.learning.device import (
    autocast,
    choose_device,
    fastest_precision,
    own_memory_errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from napari_unet.config import ForeignConfig, NetworkConfig
    from napari_unet.learning.device import DeviceChoice
    from napari_unet.learning.model import Model, TensorKinds
    from napari_unet.learning.networks.network import Network

LOAD_LIMIT = 1e-3
VERIFY_LIMIT = 1e-4

_N_PLANES, _SIDE_PX = 8, 32
_PREFIX = "selftest."


@dataclass(frozen=True, eq=False)
class SelfTest:
    """A drawn input and what the network makes of it.

    Parameters
    ----------
    input : Tensor of float32, shape (C, [8,] 32, 32)
        Drawn cells, about 0 to 1, as a normalised image.
    output : Tensor of float32, shape (K, [8 s,] 32 s, 32 s)
        The logits for it, computed on a CPU; s is the network's `upscale`.
    """

    input: Tensor
    output: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return both, under their names in a model's file."""
        return {f"{_PREFIX}input": self.input, f"{_PREFIX}output": self.output}

    @classmethod
    def taken_from(cls, tensors: dict[str, Tensor]) -> SelfTest:
        """Take both out of the tensors of a model's file."""
        return cls(*(tensors.pop(f"{_PREFIX}{name}") for name in ("input", "output")))


def _sides(config: NetworkConfig | ForeignConfig) -> tuple[int, ...]:
    return (_N_PLANES, _SIDE_PX, _SIDE_PX)[-config.n_dims :]


def self_test_tensors(config: NetworkConfig | ForeignConfig) -> TensorKinds:
    """Return the shapes and dtypes that a network's self-test has in a file."""
    sides = _sides(config)
    finer = tuple(n * config.upscale for n in sides)
    return {
        f"{_PREFIX}input": ((config.in_channels, *sides), torch.float32),
        f"{_PREFIX}output": ((config.out_channels, *finer), torch.float32),
    }


def draw_input(config: NetworkConfig | ForeignConfig) -> Tensor:
    """Return drawn cells for a network, float32 (C, [8,] 32, 32).

    The same each time. Channels and planes show the same cells, each moved by
    another step, so that no two of them can be exchanged unnoticed.
    """
    rng = np.random.default_rng(0)
    picture, _ = draw_cells((_SIDE_PX, _SIDE_PX), n_cells=4, rng=rng)
    planes = range(_N_PLANES if config.n_dims == 3 else 1)
    channels = [
        [np.roll(picture, (3 * z + c // _SIDE_PX, 5 * c), axis=(0, 1)) for z in planes]
        for c in range(config.in_channels)
    ]
    shape = (config.in_channels, *_sides(config))
    return torch.from_numpy(np.array(channels, np.float32).reshape(shape))


def make_self_test(model: Model) -> SelfTest:
    """Draw an input, and compute what the model's network makes of it in fp32."""
    image = draw_input(model.network)
    return SelfTest(image, logits_of(model.build(), image))


def self_test_difference(model: Model, test: SelfTest) -> float:
    """Return by how much a model computes something else than it did.

    Returns
    -------
    float
        Largest difference of a logit, as a share of the largest stored one (of 1 if
        that is below 1); NaN if any is not a number.
    """
    now = logits_of(model.build(), test.input)
    scale = max(1.0, float(test.output.abs().max()))
    return float((now - test.output).abs().max()) / scale


def reduced_precision_difference(
    model: Model, device: DeviceChoice, test: SelfTest | None = None
) -> float | None:
    """Return by how much reduced precision changes a model's outputs.

    Parameters
    ----------
    model : Model
        Its network is applied to the self-test's input.
    device : DeviceChoice
        Where it runs as "fast" predicts there; the fp32 is that of the CPU.
    test : SelfTest, optional
        Of the model, where it is at hand; made anew otherwise.

    Returns
    -------
    float or None
        Largest difference of an output, such as a probability; None where the device
        is not faster with reduced precision, and fp32 is used in any case.
    """
    precision = fastest_precision(device.name)
    if precision == "fp32":
        return None
    test = test or make_self_test(model)
    with own_memory_errors(device):
        network = for_inference(model.build(), device, precision)
    fast = logits_of(network, test.input, device)
    full, fast = (activate(logits, model.roles) for logits in (test.output, fast))
    return float((full - fast).abs().max())


def logits_of(
    network: Network, image: Tensor, device: DeviceChoice | None = None
) -> Tensor:
    """Apply a network to one image as prediction does, without the softmax.

    Parameters
    ----------
    network : Network
        On `device`, in evaluation mode.
    image : Tensor of float32, shape (C, [Z,] Y, X)
        Of any size: it is mirrored up to one that the network takes.
    device : DeviceChoice, optional
        The CPU if omitted.

    Returns
    -------
    Tensor of float32, shape (K, [s Z,] s Y, s X)
        On the CPU; s is the network's `upscale`.
    """
    device = device or choose_device("cpu")
    padded = torch.from_numpy(_mirrored(image, network))[None].to(device.torch)
    with (
        own_memory_errors(device),
        torch.inference_mode(),
        torch.autocast(device.name, enabled=False),
        _full_precision(),
        autocast(device, "fp32"),
    ):
        logits: Tensor = network(padded)[0].float().cpu()
    finer = (slice(0, n * network.config.upscale) for n in image.shape[1:])
    # A copy: what is made in inference mode can't be used by autograd.
    return logits[(slice(None), *finer)].clone(memory_format=torch.contiguous_format)


def _mirrored(image: Tensor, network: Network) -> np.ndarray:
    pads = [(0, 0)]
    for n in image.shape[1:]:
        # A normalisation over space needs more than one pixel, at the bottom too.
        least = network.multiple * (2 if network.halo is None else 1)
        wanted = max(n, least) * network.config.upscale
        size = network.input_size_for(wanted)
        pads.append((network.margin, size - n - network.margin))
    return mirror_pad(image.numpy(), pads)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep fp32 what it is on the CPU, whatever the process allows.

    With ``torch.set_float32_matmul_precision("medium")`` oneDNN multiplies in bf16.
    """
    mkldnn: Any = torch.backends.mkldnn
    before = [(kind, kind.fp32_precision) for kind in (mkldnn.conv, mkldnn.matmul)]
    rounding = [(kind, name) for kind, name in before if name not in {"none", "ieee"}]
    for kind, _ in rounding:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kind, name in rounding:
            kind.fp32_precision = name


def is_within(difference: float, limit: float) -> bool:
    """Return whether a difference is a number and small enough."""
    return math.isfinite(difference) and difference <= limit
