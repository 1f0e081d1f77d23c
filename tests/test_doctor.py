from __future__ import annotations

import subprocess

import pytest
import torch

from napari_unet import doctor
from napari_unet.doctor import (
    Gpu,
    advise,
    benchmark,
    find_gpus,
    parse_lspci,
    parse_nvidia_smi,
    torch_build,
    versions,
)
from napari_unet.learning.device import choose_device

RTX = Gpu("nvidia", "NVIDIA GeForce RTX 4070", "581.29", 8.9)
GTX = Gpu("nvidia", "NVIDIA GeForce GTX 1080", "560.94", 6.1)
RADEON = Gpu("amd", "Radeon RX 7900")
LSPCI = """\
00:1f.3 Audio device: Intel Corporation Device 7ad0
00:02.0 VGA compatible controller: Intel Corporation Alder Lake-S GT1
01:00.0 VGA compatible controller: NVIDIA Corporation AD104 [GeForce RTX 4070]
02:00.0 3D controller: NVIDIA Corporation GH100 [H100]
03:00.0 VGA compatible controller: Advanced Micro Devices, Inc. [AMD/ATI] Navi 31
04:00.0 Ethernet controller: NVIDIA Corporation ConnectX
"""


def test_nvidia_smi_is_read() -> None:
    text = "NVIDIA H200, 570.124.06, 9.0\nNVIDIA T4, 535.1, [N/A]\n"
    assert parse_nvidia_smi(text) == [
        Gpu("nvidia", "NVIDIA H200", "570.124.06", 9.0),
        Gpu("nvidia", "NVIDIA T4", "535.1", 0.0),
    ]


def test_nvidia_smi_without_a_gpu_is_none() -> None:
    assert parse_nvidia_smi("No devices were found\n") == []


def test_lspci_is_read() -> None:
    found = [(gpu.vendor, gpu.driver) for gpu in parse_lspci(LSPCI)]
    assert found == [("nvidia", ""), ("nvidia", ""), ("amd", "")]
    assert "RTX 4070" in parse_lspci(LSPCI)[0].name


@pytest.mark.parametrize(
    ("gpu", "build", "system", "parts"),
    [
        (RTX, "CPU only", "linux", ['pip install --force-reinstall "torch>=2.10"']),
        (RTX, "CPU only", "win32", ["pip install", "download.pytorch.org/whl/cu130"]),
        (GTX, "CPU only", "win32", ["download.pytorch.org/whl/cu126"]),
        (GTX, "CPU only", "linux", ["download.pytorch.org/whl/cu126"]),
        (RTX, "CUDA 13.0", "linux", ["driver 581.29 does not work", "newest driver"]),
        (Gpu("nvidia", "H100"), "CPU only", "linux", ["has no driver"]),
        (RADEON, "CPU only", "linux", ["download.pytorch.org/whl/rocm"]),
        (RADEON, "ROCm 7.2", "linux", ["ROCm driver"]),
        (RADEON, "CPU only", "win32", ["on Linux only"]),
        (Gpu("apple", "Apple GPU"), "CPU only", "darwin", ["pip install"]),
    ],
)
def test_an_idle_gpu_gets_the_line_that_helps(
    gpu: Gpu, build: str, system: str, parts: list[str]
) -> None:
    advice = advise([gpu], "cpu", build=build, system=system)
    assert gpu.name in advice
    assert all(part in advice for part in parts)


def test_on_linux_the_line_names_no_index() -> None:
    assert "--index-url" not in advise([RTX], "cpu", build="CPU only", system="linux")


def test_nothing_is_advised_where_the_gpu_is_used_or_none_is_there() -> None:
    assert advise([RTX], "cuda", build="CUDA 13.0") == ""
    assert advise([], "cpu", build="CPU only") == ""


@pytest.mark.parametrize(
    ("machine", "n_gpus"), [("arm64", 1), ("x86_64", 0)], ids=["M", "Intel"]
)
def test_a_mac_has_a_gpu_for_torch_if_it_is_an_apple_one(
    monkeypatch: pytest.MonkeyPatch, machine: str, n_gpus: int
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert len(find_gpus()) == n_gpus


def test_lspci_is_asked_where_nvidia_smi_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = {"lspci": LSPCI}
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(doctor, "_output_of", lambda name, *_: texts.get(name, ""))
    assert [gpu.vendor for gpu in find_gpus()] == ["nvidia", "nvidia", "amd"]
    texts["nvidia-smi"] = "NVIDIA H100, 570.1, 9.0\n"
    assert find_gpus() == [Gpu("nvidia", "NVIDIA H100", "570.1", 9.0)]


def test_a_program_that_is_missing_or_hangs_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert doctor._output_of("no-such-program-here") == ""

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("x", 10)

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", hang)
    assert doctor._output_of("lspci") == ""


@pytest.mark.parametrize(
    ("hip", "cuda", "expected"),
    [("7.2", None, "ROCm 7.2"), (None, "13.0", "CUDA 13.0")],
)
def test_the_build_of_torch_is_named(
    monkeypatch: pytest.MonkeyPatch, hip: str | None, cuda: str | None, expected: str
) -> None:
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert torch_build() == expected


def test_versions_name_what_is_and_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "_PACKAGES", ("torch", "no-such-package"))
    found = versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["no-such-package"] == "not installed"
    assert {"system", "Python", "torch built for"} <= set(found)


def test_the_benchmark_gives_two_rates() -> None:
    speed = benchmark(choose_device("cpu"), seconds=0.0)
    assert speed.gflop_per_s > 0
    assert speed.mpx_per_s > 0
    assert speed.precision in {"float32", "bfloat16"}
