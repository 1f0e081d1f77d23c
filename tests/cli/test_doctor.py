from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet import doctor
from napari_unet.cli import run
from napari_unet.doctor import Benchmark, Gpu

if TYPE_CHECKING:
    import pytest


def test_the_doctor_shows_device_versions_speed_and_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = Gpu("nvidia", "NVIDIA T4", "535.1", 7.5)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(doctor, "find_gpus", lambda: [gpu])
    monkeypatch.setattr(doctor, "torch_build", lambda: "CPU only")
    monkeypatch.setattr(
        doctor, "benchmark", lambda _: Benchmark(1234.5, 6.7, "float32")
    )
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    for text in (
        "CPU,",
        "NVIDIA T4",
        "535.1",
        "1,234 GFLOP/s",
        "6.7 megapixels/s",
        "NVIDIA T4 is not used: this torch is CPU only. To use it: python -m pip",
    ):
        assert text in out


def test_without_a_gpu_the_doctor_is_content(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr(doctor, "find_gpus", list)
    monkeypatch.setattr(doctor, "benchmark", lambda _: Benchmark(1.0, 1.0, "float32"))
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "There is no GPU that torch could use" in out
    assert "see napari-unet" not in out.replace("\n", " ")
