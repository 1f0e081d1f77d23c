"""What this machine computes with, how fast, and what would make it faster."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_unet.config import NetworkConfig
from napari_unet.learning.device import autocast, channels_last
from napari_unet.learning.networks import build_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.learning.device import DeviceChoice

_PACKAGES = ("napari-unet-loop", "torch", "numpy", "scikit-image", "napari", "PyQt6")
_WHEELS = "https://download.pytorch.org/whl"
# CUDA 13 knows no GPU older than the RTX 20 series.
_CUDA_13_CAPABILITY = 7.5
_FORWARD_PX = 512


@dataclass(frozen=True)
class Gpu:
    """A GPU that the operating system knows, whether torch can use it or not.

    Parameters
    ----------
    vendor : {"nvidia", "amd", "apple"}
        Who made it.
    name : str
        What it is called.
    driver : str
        Version of its driver; empty where there is none.
    capability : float
        NVIDIA's compute capability; 0 where it is not known.
    """

    vendor: str
    name: str
    driver: str = ""
    capability: float = 0.0


@dataclass(frozen=True)
class Benchmark:
    """How fast a device is: convolutions, and the default network at work."""

    gflop_per_s: float
    mpx_per_s: float
    precision: str


def versions() -> dict[str, str]:
    """Return the versions of Python, of the system, and of what matters here."""
    found = {
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Python": platform.python_version(),
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["torch built for"] = torch_build()
    return found


def torch_build() -> str:
    """Return what torch was built for, such as ``"CPU only"``."""
    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return "MPS" if torch.backends.mps.is_built() else "CPU only"


def find_gpus() -> list[Gpu]:
    """Return the GPUs that the operating system knows, without asking torch."""
    if sys.platform == "darwin":
        return [Gpu("apple", "Apple GPU")] if platform.machine() == "arm64" else []
    return parse_nvidia_smi(_output_of("nvidia-smi", *_QUERY)) or parse_lspci(
        _output_of("lspci")
    )


_QUERY = (
    "--query-gpu=name,driver_version,compute_cap",
    "--format=csv,noheader",
)


def _output_of(*command: str) -> str:
    """Return what a program prints; empty where it is missing or fails."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        result = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout


def parse_nvidia_smi(text: str) -> list[Gpu]:
    """Return the GPUs in nvidia-smi's rows of name, driver and compute capability."""
    gpus = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3:
            number = parts[2] if parts[2].replace(".", "", 1).isdigit() else "0"
            gpus.append(Gpu("nvidia", parts[0], parts[1], float(number)))
    return gpus


def parse_lspci(text: str) -> list[Gpu]:
    """Return the NVIDIA and AMD GPUs in lspci's list; their drivers are not known."""
    gpus = []
    for line in text.splitlines():
        kind, _, name = line.partition(": ")
        is_gpu = any(word in kind for word in ("VGA", "3D controller", "Display"))
        if is_gpu and "NVIDIA" in name:
            gpus.append(Gpu("nvidia", name))
        elif is_gpu and ("AMD/ATI" in name or "Advanced Micro" in name):
            gpus.append(Gpu("amd", name))
    return gpus


def advise(
    gpus: list[Gpu], device: str, *, build: str, system: str = sys.platform
) -> str:
    """Return what to do so that a GPU is used; empty where one is, or none is there.

    Parameters
    ----------
    gpus : list of Gpu
        From `find_gpus`.
    device : {"cuda", "mps", "cpu"}
        What torch computes on.
    build : str
        What torch was built for, such as ``"CPU only"`` or ``"CUDA 13.0"``.
    system : str
        As `sys.platform`: "linux", "win32" or "darwin".
    """
    if device != "cpu" or not gpus:
        return ""
    gpu = gpus[0]
    if gpu.vendor == "apple":
        return f"{gpu.name} is not used. Install a torch that can: {_pip()}"
    if gpu.vendor == "amd":
        return _advise_amd(gpu, build, system)
    if not gpu.driver:
        return (
            f"{gpu.name} is there but has no driver: install NVIDIA's driver from "
            "https://www.nvidia.com/drivers, restart, and run this again"
        )
    if build.startswith("CUDA"):
        return (
            f"{gpu.name} is there and torch is built for {build}, but driver "
            f"{gpu.driver} does not work with it: install the newest driver from "
            "https://www.nvidia.com/drivers and restart"
        )
    is_old = 0 < gpu.capability < _CUDA_13_CAPABILITY
    if system == "win32" or is_old:
        line = _pip(f"{_WHEELS}/{'cu126' if is_old else 'cu130'}")
    else:
        line = _pip()
    return f"{gpu.name} is not used: this torch is {build}. To use it: {line}"


def _advise_amd(gpu: Gpu, build: str, system: str) -> str:
    if system != "linux":
        return f"{gpu.name} is not used: torch uses AMD's GPUs on Linux only"
    if build.startswith("ROCm"):
        return (
            f"{gpu.name} is there and torch is built for {build}, but does not find "
            "it: install AMD's ROCm driver, and add yourself to the groups render "
            "and video"
        )
    return (
        f"{gpu.name} is not used: this torch is {build}. If ROCm knows your GPU: "
        f"{_pip(f'{_WHEELS}/rocm7.2')}"
    )


def _pip(index: str = "") -> str:
    # Without --force-reinstall pip is content with the torch that is there.
    more = f" --index-url {index}" if index else ""
    return f'python -m pip install --force-reinstall "torch>=2.10"{more}'


def benchmark(device: DeviceChoice, *, seconds: float = 2.0) -> Benchmark:
    """Measure a device for some seconds, at the precision that training takes.

    Parameters
    ----------
    device : DeviceChoice
        What to measure.
    seconds : float
        How long, half of it each for convolutions and for the default network.
    """
    n, size = 64, 256
    flop = 2 * 9 * n * n * size * size
    layer = nn.Conv2d(n, n, 3, padding=1).to(device.torch)
    network = build_network(NetworkConfig()).eval().to(device.torch)
    for module in (layer, network):
        channels_last(module)
    features = _picture(n, size, device)
    image = _picture(1, _FORWARD_PX, device)
    with torch.inference_mode(), autocast(device, "fast"):
        per_layer = _rate(lambda: layer(features), seconds / 2)
        per_image = _rate(lambda: network(image), seconds / 2)
        dtype = layer(features).dtype
    return Benchmark(
        gflop_per_s=flop * per_layer / 1e9,
        mpx_per_s=_FORWARD_PX**2 * per_image / 1e6,
        precision=str(dtype).removeprefix("torch."),
    )


def _picture(n_channels: int, size: int, device: DeviceChoice) -> torch.Tensor:
    picture = torch.zeros(1, n_channels, size, size, device=device.torch)
    return picture.to(memory_format=torch.channels_last)


def _rate(work: Callable[[], torch.Tensor], seconds: float) -> float:
    """Return how often a second the work is done, its first time not counted."""
    _wait(work())
    n, start = 0, time.perf_counter()
    while n == 0 or time.perf_counter() - start < seconds:
        _wait(work())
        n += 1
    return n / (time.perf_counter() - start)


def _wait(result: torch.Tensor) -> None:
    # A GPU works in the background: only a number on the CPU says that it is done.
    result.flatten()[0].item()
