from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from napari_unet.errors import ResourceError
from napari_unet.learning import device as device_module
from napari_unet.learning.device import (
    DeviceChoice,
    autocast,
    channels_last,
    choose_device,
    cpu_prefers_bf16,
    fastest_precision,
    keep_freed_memory,
    own_memory_errors,
    return_freed_memory,
    seeded,
    training_precision,
    with_channels_last,
)

CPU = DeviceChoice("cpu", "CPU, 1 threads")


@pytest.fixture
def machine(monkeypatch):
    """Pretend that this machine has (or lacks) GPUs."""

    def set_up(*, cuda: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Test")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return set_up


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [
        (True, True, "cuda"),
        (True, False, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ],
)
def test_auto_takes_cuda_then_mps_then_the_cpu(machine, cuda, mps, expected):
    machine(cuda=cuda, mps=mps)
    assert choose_device("auto").name == expected
    assert choose_device().name == expected


def test_a_gpu_is_called_by_its_name(machine):
    machine(cuda=True)
    assert str(choose_device("cuda")) == "NVIDIA Test"


@pytest.mark.parametrize(
    ("version", "why"),
    [(None, "this torch is built for the CPU only"), ("12.8", "no GPU found")],
)
def test_the_cpu_says_why_it_was_taken(machine, monkeypatch, version, why):
    machine()
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.version, "hip", None)
    choice = choose_device("auto")
    assert why in choice.reason
    assert choice.reason in str(choice)
    assert f"CPU, {torch.get_num_threads()} thread" in str(choice)


def test_the_cpu_that_was_asked_for_needs_no_reason(machine):
    machine(cuda=True)
    choice = choose_device("cpu")
    assert (choice.name, choice.reason) == ("cpu", "")
    assert choice.torch == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(machine, name):
    machine()
    with pytest.raises(
        ResourceError, match=f"device '{name}' was asked for .* use device 'auto'"
    ) as caught:
        choose_device(name)
    assert caught.value.code == "NU-R01"


def test_weights_are_laid_out_for_fast_convolutions_and_keep_their_values():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Linear(2, 2))
    before = [p.detach().clone() for p in module.parameters()]
    channels_last(module)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    for old, new in zip(before, module.parameters(), strict=True):
        assert torch.equal(old, new)


def _runs_in_bf16(context) -> bool:
    with context:
        result = nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2))
    return result.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("precision", "prefers", "expected"),
    [("fp32", True, False), ("fast", True, True), ("fast", False, False)],
)
def test_the_cpu_uses_bf16_where_it_is_wanted_and_faster(
    monkeypatch, precision, prefers, expected
):
    monkeypatch.setattr(device_module, "cpu_prefers_bf16", lambda: prefers)
    assert _runs_in_bf16(autocast(CPU, precision)) is expected


@pytest.mark.parametrize(
    ("name", "wanted", "has_bf16", "expected"),
    [
        ("cuda", "fast", True, "bf16"),
        ("cuda", "auto", False, "fp16"),
        ("cuda", "fp32", True, "fp32"),
        ("cpu", "auto", True, "bf16"),
        ("cpu", "fast", False, "fp32"),
        ("cpu", "fp32", True, "fp32"),
        ("mps", "fast", True, "fp32"),
    ],
)
def test_training_runs_in_what_the_device_is_fast_with(
    monkeypatch, name, wanted, has_bf16, expected
):
    monkeypatch.setattr(device_module, "cpu_prefers_bf16", lambda: has_bf16)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    assert training_precision(DeviceChoice(name, name), wanted) == expected


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_precision_by_name_is_that_precision(precision, dtype):
    with autocast(CPU, precision):
        assert nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 2)).dtype == dtype


@pytest.mark.parametrize("shape", [(2, 1, 6, 5), (2, 3, 6, 5), (1, 1, 4, 6, 5)])
def test_images_are_laid_out_with_their_channels_last(shape):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    laid_out = with_channels_last(image)
    assert torch.equal(laid_out, image)
    assert laid_out.stride(1) == 1
    if len(shape) == 4:  # so that the first level is computed in that layout too
        assert nn.Conv2d(shape[1], 2, 1)(laid_out).stride(1) == 1


def test_mps_stays_in_full_precision():
    assert not _runs_in_bf16(autocast(DeviceChoice("mps", "MPS"), "fast"))


def test_full_precision_on_cuda_is_not_rounded_to_tf32():
    cuda = DeviceChoice("cuda", "NVIDIA Test")
    before = torch.backends.cudnn.allow_tf32
    with autocast(cuda, "fp32"):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.fixture
def times(monkeypatch):
    """Pretend that convolutions take these seconds."""

    def set_up(**seconds: float) -> None:
        monkeypatch.setattr(device_module, "_convolution_s", lambda _, p: seconds[p])

    return set_up


@pytest.mark.parametrize(
    ("fast_s", "slow_s", "expected"), [(1.0, 2.0, True), (1.0, 1.1, False)]
)
def test_bf16_is_preferred_only_where_it_is_clearly_faster(
    times, fast_s, slow_s, expected
):
    times(bf16=fast_s, fp32=slow_s)
    assert cpu_prefers_bf16.__wrapped__() is expected


@pytest.mark.parametrize(
    ("fp32", "bf16", "fp16", "expected"),
    [
        (1.0, 0.9, 0.9, "fp32"),
        (1.0, 0.3, 0.3, "bf16"),
        (1.0, 0.3, 0.2, "fp16"),
        (1.0, 2.0, 0.5, "fp16"),
        (1.0, 0.5, 2.0, "bf16"),
    ],
)
def test_the_fastest_precision_is_what_was_timed(times, fp32, bf16, fp16, expected):
    times(fp32=fp32, bf16=bf16, fp16=fp16)
    assert fastest_precision.__wrapped__("cpu") == expected
    assert fastest_precision.__wrapped__("mps") == "fp32"


def test_every_precision_can_be_timed():
    for precision in ("fp32", "bf16", "fp16"):
        assert 0 < device_module._convolution_s("cpu", precision) < 60


def test_freed_memory_is_kept_where_the_system_can(monkeypatch):
    asked = []

    class Glibc:
        @staticmethod
        def mallopt(*option: int) -> int:
            asked.append(option)
            return 1

    monkeypatch.setattr(device_module.ctypes, "CDLL", lambda _: Glibc)
    assert keep_freed_memory()
    assert asked == [(-3, 2**30), (-1, 2**31 - 1)]  # malloc.h of glibc
    monkeypatch.setattr(device_module.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()


def test_freed_memory_is_returned_where_the_system_can(monkeypatch):
    asked = []

    class Glibc:
        @staticmethod
        def malloc_trim(pad: int) -> int:
            asked.append(pad)
            return 1

    monkeypatch.setattr(device_module.ctypes, "CDLL", lambda _: Glibc)
    return_freed_memory()
    assert asked == [0]
    monkeypatch.setattr(device_module.ctypes, "CDLL", lambda _: object())
    return_freed_memory()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_a_lack_of_memory_is_said_in_our_words(error):
    with (
        pytest.raises(ResourceError, match="CPU, 1 threads has too little memory") as e,
        own_memory_errors(CPU),
    ):
        raise error
    assert e.value.code == "NU-R02"
    assert e.value.__cause__ is error


def test_numpys_own_memory_error_counts_too():
    with (
        pytest.raises(ResourceError, match="too little memory"),
        own_memory_errors(CPU),
    ):
        np.zeros(2**60, np.uint8)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="mat1 and mat2"), own_memory_errors(CPU):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_seeded_numbers_repeat_and_the_callers_go_on():
    before = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with seeded(CPU, 7):
            draws.append(torch.rand(3))
    assert torch.equal(*draws)
    assert torch.equal(torch.get_rng_state(), before)
    with contextlib.suppress(KeyError), seeded(CPU, 1):
        torch.rand(1)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
