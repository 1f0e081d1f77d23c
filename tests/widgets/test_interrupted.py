from __future__ import annotations

import json

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_unet.config import NetworkConfig, TrainConfig, WeightConfig
from napari_unet.errors import UNetError
from napari_unet.files.annotations import Region
from napari_unet.widgets import _interrupted as module
from napari_unet.widgets._interrupted import (
    Beginning,
    InterruptedBox,
    as_kept,
    forget,
    interrupted_run,
    read_beginning,
)
from napari_unet.widgets._painted import Painted

CONFIG = TrainConfig(max_steps=77, keep_learning=True)
SQUARE = [(4, 4), (4, 25), (25, 25), (25, 4)]


@pytest.fixture(autouse=True)
def runs(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "runs_folder", lambda: tmp_path / "runs")
    return tmp_path / "runs"


def painted() -> Painted:
    labels = np.zeros((3, 30, 40), np.int32)
    labels[0, 5:25, 5:18], labels[1, 3:9, 3:9] = 1, 4
    return Painted(
        labels=labels,
        label_class={1: 1, 4: 2},
        class_names=("background", "cell", "dead"),
        regions=[Region((0,), SQUARE)],
        unpainted="background",
        source='labels "cells"',
        area_classes=frozenset({2}),
    )


def begin(folder, **changes) -> Beginning:
    values = {
        "config": CONFIG,
        "network": NetworkConfig(base_width=4),
        "weights": WeightConfig(w0=3),
        "image": "nuclei",
        "painted": painted(),
    }
    beginning = Beginning(**{**values, **changes})
    beginning.keep(folder)
    return beginning


def checkpoint(folder, step: int) -> None:
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / f"step-{step:06}.json").write_text("{}")


def test_what_began_comes_back(tmp_path) -> None:
    begun, read = begin(tmp_path), read_beginning(tmp_path)
    assert read.config.model_fields_set == {"max_steps", "keep_learning"}
    for name in ("config", "network", "weights", "image", "start_from", "folders"):
        assert getattr(read, name) == getattr(begun, name)
    before, after = as_kept(painted()).annotation(), read.painted.annotation()
    np.testing.assert_array_equal(after.labels, before.labels)
    np.testing.assert_array_equal(after.is_known, before.is_known)
    assert after.label_class == before.label_class == {4: 2}
    assert after.class_names == before.class_names
    assert after.area_classes == before.area_classes
    assert after.source == before.source


def test_folders_and_a_model_come_back(tmp_path, tiny_model) -> None:
    from napari_unet.learning.checkpoint import load_model

    places = ("images", "masks", "train_*", "")
    begin(
        tmp_path, network=None, start_from=tiny_model, painted=None, image="",
        folders=places,
    )  # fmt: skip
    read = read_beginning(tmp_path)
    assert (read.folders, read.network, read.painted) == (places, None, None)
    assert load_model(read.start_from).network == tiny_model.network


def test_an_image_and_its_target_come_back(tmp_path) -> None:
    begin(tmp_path, painted=None, image="noisy", target="clean")
    read = read_beginning(tmp_path)
    assert (read.image, read.target, read.painted) == ("noisy", "clean", None)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "other"}'])
def test_what_says_nothing_is_refused(tmp_path, content) -> None:
    (tmp_path / "napari.json").write_text(content)
    with pytest.raises(UNetError):
        read_beginning(tmp_path)


def test_only_the_newest_run_is_offered_and_only_with_a_checkpoint(runs) -> None:
    assert interrupted_run() is None
    old, new = runs / "20260101-120000", runs / "20260102-120000"
    begin(old)
    checkpoint(old, 200)
    checkpoint(old, 1400)
    assert interrupted_run() == (old, 1400)
    begin(new)
    assert interrupted_run() is None
    checkpoint(new, 5)
    assert interrupted_run() == (new, 5)
    forget(new)
    assert interrupted_run() is None
    assert (new / "checkpoints" / "step-000005.json").exists()


def test_the_box_says_which_and_offers_it(qtbot, runs) -> None:
    box = InterruptedBox()
    qtbot.addWidget(box)
    assert box.isHidden()
    folder = runs / "20260102-123000"
    begin(folder)
    checkpoint(folder, 400)
    box.refresh()
    assert "12:30" in box.label.text()
    assert '"nuclei" was interrupted; step 400 is kept' in box.label.text()
    box.show()
    with qtbot.waitSignal(box.go_on) as asked:
        qtbot.mouseClick(box.yes, Qt.MouseButton.LeftButton)
    assert asked.args == [folder]
    qtbot.mouseClick(box.no, Qt.MouseButton.LeftButton)
    assert box.isHidden()
    assert interrupted_run() is None


def test_a_damaged_beginning_is_still_offered_by_its_date(qtbot, runs) -> None:
    folder = runs / "some run"
    begin(folder)
    checkpoint(folder, 3)
    (folder / "napari.json").write_text(json.dumps([1]))
    box = InterruptedBox()
    qtbot.addWidget(box)
    assert "some run" in box.label.text()
