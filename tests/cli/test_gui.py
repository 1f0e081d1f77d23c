from __future__ import annotations

from importlib import util
from typing import TYPE_CHECKING

import pytest

from napari_unet.cli import gui, run

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


def test_without_napari_the_line_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = util.find_spec

    def find_spec(name: str) -> ModuleSpec | None:
        return None if name == "napari" else find(name)

    monkeypatch.setattr(gui, "find_spec", find_spec)
    assert run(["gui"]) == 1
    assert 'pip install "napari-unet-loop[gui]"' in capsys.readouterr().err


@pytest.mark.parametrize("error", [ModuleNotFoundError, ValueError])
def test_a_napari_that_can_not_be_looked_for_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def find_spec(_: str) -> None:
        raise error

    monkeypatch.setattr(gui, "find_spec", find_spec)
    assert "is not installed" in gui.can_open_a_window()


def test_a_linux_machine_without_a_display_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gui, "find_spec", lambda _: True)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert "no display" in gui.can_open_a_window()
    monkeypatch.setenv("DISPLAY", ":0")
    assert gui.can_open_a_window() == ""


def test_windows_and_mac_always_have_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gui, "find_spec", lambda _: True)
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.delenv("DISPLAY", raising=False)
    assert gui.can_open_a_window() == ""
