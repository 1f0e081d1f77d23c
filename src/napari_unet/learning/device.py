"""Which device computes, and why."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_unet.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# How much faster half precision has to be to be worth its rounding.
_CLEARLY = 0.8


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
    for parameter in module.parameters():
        if parameter.ndim in LAYOUTS:
            parameter.data = parameter.data.contiguous(
                memory_format=LAYOUTS[parameter.ndim]
            )


def with_channels_last(image: Tensor) -> Tensor:
    """Return images (N, C, [Z,] Y, X) laid out so that convolutions run fastest."""
    image = image.contiguous(memory_format=LAYOUTS[image.ndim])
    if image.shape[1] > 1:
        return image
    # With one channel both layouts are the same bytes, and torch takes it for channels
    # first, computes the first level so, and then reorders it.
    strides = (image.stride(0), 1, *image.stride()[2:])
    return image.as_strided(image.shape, strides)


@cache
def _convolution_s(device_name: str, precision: str) -> float:
    """Return the shortest time of a few convolutions on one small tile (tried once)."""
    device, dtype = torch.device(device_name), DTYPES[precision]
    side = 512 if device_name == "cuda" else 128
    layers = [nn.Conv2d(32, 32, 3, padding=1) for _ in range(3)]
    stack = nn.Sequential(*layers).to(device, dtype)
    channels_last(stack)
    image = torch.zeros(1, 32, side, side, device=device, dtype=dtype)
    image = image.contiguous(memory_format=torch.channels_last)
    best = float("inf")
    with torch.inference_mode(), torch.autocast(device_name, enabled=False):
        for _ in range(5):
            start = time.perf_counter()
            stack(image)
            if device_name == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    return best


@cache
def cpu_prefers_bf16() -> bool:
    """Return whether this CPU convolves clearly faster in bfloat16 (tried once)."""
    return _convolution_s("cpu", "bf16") < _CLEARLY * _convolution_s("cpu", "fp32")


@cache
def fastest_precision(device_name: str) -> str:
    """Return the precision that networks predict fastest with (tried once).

    Half precision is taken only where it is clearly faster, float16 only where it is
    clearly faster than bfloat16: that has the range of float32.

    Parameters
    ----------
    device_name : {"cuda", "mps", "cpu"}
        On MPS it is always fp32.

    Returns
    -------
    {"fp32", "bf16", "fp16"}
    """
    best = "fp32"
    if device_name == "mps":
        return best
    for other in ("bf16", "fp16"):
        faster_than = _CLEARLY * _convolution_s(device_name, best)
        if _convolution_s(device_name, other) < faster_than:
            best = other
    return best


def keep_freed_memory() -> bool:
    """Keep memory that was freed for what is allocated next; return whether that works.

    By default glibc gives large blocks back to the system at once, and a network's
    features fault in anew, page by page, on each layer: up to half of the time of a
    prediction on a CPU. This holds for the whole process, which then stays as large as
    it ever was: for a command that only predicts, not for a window that stays open.

    References
    ----------
    mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    set_both = [
        mallopt(_M_MMAP_THRESHOLD, 2**30),
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1),
    ]
    return all(set_both)


def return_freed_memory() -> None:
    """Let glibc return to the system what this process has freed.

    It keeps arrays of up to 32 MiB for later ones, scattered over the heap: hundreds
    of megabytes after a while where arrays of many sizes come and go. It takes a few
    milliseconds; with other C libraries nothing happens.

    References
    ----------
    malloc_trim(3).
    """
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def training_precision(device: DeviceChoice, wanted: str) -> str:
    """Return the precision that training runs its networks in.

    Parameters
    ----------
    device : DeviceChoice
        Where the network runs.
    wanted : {"auto", "fp32", "fast"}
        auto and fast take bf16 where the device is faster with it, on a GPU without
        bf16 fp16.

    Returns
    -------
    {"fp32", "bf16", "fp16"}
    """
    if wanted == "fp32" or device.name == "mps":
        return "fp32"
    if device.name == "cpu":
        return "bf16" if cpu_prefers_bf16() else "fp32"
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_bf16 else "fp16"


def autocast(device: DeviceChoice, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which networks run at the wanted precision.

    Parameters
    ----------
    device : DeviceChoice
        Where the network runs.
    precision : {"fp32", "bf16", "fp16", "fast"}
        "fast" is what `training_precision` finds.
    """
    if precision == "fast":
        precision = training_precision(device, precision)
    if precision != "fp32":
        return torch.autocast(device.name, DTYPES[precision])
    if device.name == "cuda":
        # cuDNN would round the inputs of convolutions to 10 bits (TF32).
        return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return nullcontext()


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
