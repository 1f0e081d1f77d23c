"""One path, three doors: dock widgets, command line and Python give the same cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import napari_unet as nu
from napari_unet.cli import run
from napari_unet.config import PredictConfig

if TYPE_CHECKING:
    from pathlib import Path

    from pytestqt.qtbot import QtBot
    from tests.conftest import Cells

pytestmark = pytest.mark.gui
# Two tiles and a precision that is the same everywhere.
CONFIG = PredictConfig(tile_size=48, device="cpu", precision="fp32")


def click_start(qtbot: QtBot, widget: Any) -> None:
    from qtpy.QtCore import Qt

    qtbot.addWidget(widget)
    with qtbot.waitSignal(widget.panel.ended, timeout=60_000):
        qtbot.mouseClick(widget.panel.start, Qt.MouseButton.LeftButton)


def by_predict_widget(qtbot: QtBot, model: Path, image: nu.Image) -> Any:
    from napari.components import ViewerModel

    from napari_unet.widgets.predict import PredictWidget

    viewer = ViewerModel()
    viewer.add_image(image.plane()[0], name="cells")
    widget = PredictWidget(viewer)
    widget.model.choose_file(model)
    widget.settings.setValue(CONFIG)
    click_start(qtbot, widget)
    return viewer.layers[-1].data


def by_batch_widget(qtbot: QtBot, model: Path, images: Path, output: Path) -> None:
    from napari.components import ViewerModel

    from napari_unet.widgets.batch import BatchWidget

    widget = BatchWidget(ViewerModel())
    widget.model.choose_file(model)
    widget.input.set_path(images)
    widget.output.set_path(output)
    widget.settings.setValue(CONFIG)
    click_start(qtbot, widget)


def test_widgets_command_line_and_python_give_the_same_labels(
    qtbot: QtBot, cells: Cells, tiny_model: Path, tmp_path: Path
) -> None:
    path = cells.images / "val_a.tif"
    expected = nu.segment(tiny_model, path, config=CONFIG)
    assert expected.max() > 1

    argv = [f"--model={tiny_model}", f"--input={path}", f"--output={tmp_path / 'cli'}"]
    flags = ["--tile-size=48", "--device=cpu", "--precision=fp32"]
    assert run(["predict", *argv, *flags]) == 0
    by_batch_widget(qtbot, tiny_model, cells.images, tmp_path / "dock")
    found = {
        "command line": nu.read_labels(tmp_path / "cli" / "val_a_labels.tif"),
        "batch widget": nu.read_labels(tmp_path / "dock" / "val_a_labels.tif"),
        "predict widget": by_predict_widget(qtbot, tiny_model, nu.read_image(path)),
    }
    for door, labels in found.items():
        np.testing.assert_array_equal(labels, expected, err_msg=door)
    written = [tmp_path / door / "val_a_labels.tif" for door in ("cli", "dock")]
    assert written[0].read_bytes() == written[1].read_bytes()
