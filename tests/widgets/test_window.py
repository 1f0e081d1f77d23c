"""napari's window with all docks, as the command line opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet.files.images import write_image, write_labels
from napari_unet.files.samples import sample_images
from napari_unet.widgets import window

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari import Viewer

    MakeViewer = Callable[..., Viewer]

pytestmark = pytest.mark.gui


@pytest.fixture
def demo_folder(tmp_path: Path) -> Path:
    _, _, truth = sample_images()[-1]
    write_labels(tmp_path / "labels.tif", truth * 2)
    weights = np.ones((1, *truth.shape), np.float32)
    write_image(tmp_path / "weights.tif", weights)
    return tmp_path


def test_all_docks_open_as_tabs_of_one_place(make_napari_viewer: MakeViewer) -> None:
    viewer = make_napari_viewer()
    window.open_docks(viewer)
    titles = {name.partition(" (")[0] for name in viewer.window.dock_widgets}
    assert titles == {
        "Annotate",
        "Weight map",
        "Train",
        "Predict",
        "Batch predict",
        "Measure",
        "Models",
    }


def test_the_demo_shows_image_truth_weights_and_prediction(
    make_napari_viewer: MakeViewer, demo_folder: Path
) -> None:
    viewer = make_napari_viewer()
    window.add_demo_layers(viewer, demo_folder)
    names = [layer.name for layer in viewer.layers]
    assert names == ["image", "weight map", "truth", "prediction"]
    _, image, truth = sample_images()[-1]
    np.testing.assert_array_equal(viewer.layers["image"].data, image.plane()[0])
    np.testing.assert_array_equal(viewer.layers["prediction"].data, truth * 2)


def test_the_window_is_open_while_napari_runs(
    make_napari_viewer: MakeViewer,
    demo_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Viewer] = []
    n_docks: list[int] = []

    def make(**_: object) -> Viewer:
        opened.append(make_napari_viewer())
        return opened[-1]

    def run() -> None:
        n_docks.append(len(opened[-1].window.dock_widgets))

    monkeypatch.setattr(window.napari, "Viewer", make)
    monkeypatch.setattr(window.napari, "run", run)
    window.open_window()
    window.show_demo(demo_folder)
    assert n_docks == [7, 7]
    assert [len(viewer.layers) for viewer in opened] == [0, 4]
