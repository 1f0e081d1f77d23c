"""Which device computes, and why."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_unet.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


@dataclass(frozen=True)
class DeviceChoice:
    """A device, what to call it, and (for the CPU) why it was taken."""

    name: str
    label: str
    reason: str = ""

    @property
    def torch(self) -> torch.device:
        """The device as torch knows it."""
        return torch.device(self.name)

    def __str__(self) -> str:
        return f"{self.label} ({self.reason})" if self.reason else self.label


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _why_no_gpu() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch is built for the CPU only; see napari-unet doctor"
    return "no GPU found; see napari-unet doctor"


def choose_device(name: str = "auto") -> DeviceChoice:
    """Return the device to compute on.

    Parameters
    ----------
    name : {"auto", "cuda", "mps", "cpu"}
        auto takes CUDA (ROCm counts as CUDA in torch), then MPS, then the CPU.

    Raises
    ------
    ResourceError
        The device that was asked for is not there.
    """
    has_cuda = torch.cuda.is_available()
    if name in {"auto", "cuda"} and has_cuda:
        return DeviceChoice("cuda", torch.cuda.get_device_name())
    if name in {"auto", "mps"} and _has_mps():
        return DeviceChoice("mps", "Apple GPU (MPS)")
    if name in {"cuda", "mps"}:
        raise ResourceError(
            "NU-R01",
            f"device {name!r} was asked for but torch finds none ({_why_no_gpu()}): "
            "use device 'auto' or 'cpu'",
        )
    n = torch.get_num_threads()
    label = f"CPU, {n} thread{'s' if n > 1 else ''}"
    return DeviceChoice("cpu", label, "" if name == "cpu" else _why_no_gpu())


def spare_one_core() -> None:
    """Let torch use all cores but one, so that a window stays usable meanwhile."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))


def channels_last(module: nn.Module) -> None:
    """Lay out a module's weights so that convolutions run fastest; in place."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.ndim in layouts:
            parameter.data = parameter.data.contiguous(
                memory_format=layouts[parameter.ndim]
            )


def _convolution_s(autocast: bool) -> float:
    layer = nn.Sequential(*[nn.Conv2d(32, 32, 3, padding=1) for _ in range(3)])
    channels_last(layer)
    image = torch.zeros(1, 32, 128, 128).to(memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for _ in range(5):
            start = time.perf_counter()
            layer(image)
            best = min(best, time.perf_counter() - start)
    return best


@cache
def cpu_prefers_bf16() -> bool:
    """Return whether this CPU convolves clearly faster in bfloat16 (tried once)."""
    return _convolution_s(True) < 0.8 * _convolution_s(False)


def autocast(device: DeviceChoice, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which networks run at the wanted precision.

    Parameters
    ----------
    device : DeviceChoice
        Where the network runs.
    precision : {"fp32", "fast"}
        "fast" is bfloat16 where the device is faster with it.
    """
    if precision == "fp32" and device.name == "cuda":
        # cuDNN would round the inputs of convolutions to 10 bits (TF32).
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    if precision == "fp32" or device.name == "mps":
        return nullcontext()
    if device.name == "cpu" and not cpu_prefers_bf16():
        return nullcontext()
    return torch.autocast(device.name, torch.bfloat16)


@contextmanager
def seeded(device: DeviceChoice, seed: int) -> Iterator[None]:
    """Seed torch's own random numbers inside; the caller's go on as if untouched."""
    devices = [torch.cuda.current_device()] if device.name == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def own_memory_errors(device: DeviceChoice) -> Iterator[None]:
    """Turn torch's and numpy's out-of-memory errors into ours.

    Raises
    ------
    ResourceError
        NU-R02, with what to do.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(device) from error
    except RuntimeError as error:
        # torch's CPU allocator raises a plain RuntimeError.
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise _out_of_memory(device) from error
        raise


def _out_of_memory(device: DeviceChoice) -> ResourceError:
    return ResourceError(
        "NU-R02",
        f"{device.label} has too little memory for this: take a smaller batch or "
        "patch for training, a smaller tile for prediction, or a narrower network",
    )
