from __future__ import annotations

from napari_unet.errors import ResourceError
from napari_unet.events import Note
from napari_unet.widgets import _device_line
from napari_unet.widgets._device_line import DeviceLine, find_device


def test_the_device_is_told_once_on_screen_and_again_when_another_is_wanted(
    qtbot, monkeypatch
):
    looked = []

    def find(name):
        looked.append(name)
        yield Note(f"{name} found")

    monkeypatch.setattr(_device_line, "find_device", find)
    line = DeviceLine()
    qtbot.addWidget(line)
    line.want("auto")
    assert looked == []
    line.show()
    qtbot.waitUntil(lambda: line.label.text() == "Device: auto found", timeout=5000)
    line.want("cpu")
    qtbot.waitUntil(lambda: line.label.text() == "Device: cpu found", timeout=5000)
    line.hide()
    line.show()
    assert looked == ["auto", "cpu"]


def test_a_missing_device_is_told(qtbot, monkeypatch):
    def find(name):
        raise ResourceError("NU-R01", "no such device")
        yield

    monkeypatch.setattr(_device_line, "find_device", find)
    line = DeviceLine()
    qtbot.addWidget(line)
    line.show()
    qtbot.waitUntil(lambda: "no such device" in line.label.text(), timeout=5000)


def test_the_cpu_is_named_with_the_reason():
    (note,) = find_device("cpu")
    assert note.message.startswith("CPU")
