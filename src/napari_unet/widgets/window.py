"""napari's window with the plugin's docks open, for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari

from napari_unet.files.images import read_image, read_labels
from napari_unet.files.samples import sample_images

if TYPE_CHECKING:
    from pathlib import Path

_PLUGIN = "napari-unet-loop"
_DOCKS = (
    "Annotate",
    "Weight map",
    "Train",
    "Predict",
    "Batch predict",
    "Measure",
    "Models",
)


def open_docks(viewer: napari.Viewer, *, in_front: str = "Annotate") -> None:
    """Open all dock widgets of the plugin as tabs, one of them in front."""
    docks = {
        name: viewer.window.add_plugin_dock_widget(
            _PLUGIN, name, tabify=name != _DOCKS[0]
        )[0]
        for name in _DOCKS
    }
    docks[in_front].raise_()


def add_demo_layers(viewer: napari.Viewer, folder: Path) -> None:
    """Show the demo's unseen crop with truth, weight map and prediction."""
    _, image, truth = sample_images()[-1]
    viewer.add_image(image.plane()[0], name="image")
    weights = read_image(folder / "weights.tif").plane()[0]
    viewer.add_image(
        weights, name="weight map", colormap="inferno", blending="additive", opacity=0.6
    )
    viewer.add_labels(truth, name="truth", opacity=0.4, visible=False)
    viewer.add_labels(read_labels(folder / "labels.tif"), name="prediction")
    viewer.layers["prediction"].contour = 1


def open_window() -> None:
    """Open napari with the docks and wait until it is closed."""
    open_docks(napari.Viewer(title="napari U-Net"))
    napari.run()


def show_demo(folder: Path) -> None:
    """Open napari on the demo's results and wait until it is closed."""
    viewer = napari.Viewer(title="napari U-Net: demo")
    # The docks first: the view then fits the layers into the room that is left.
    open_docks(viewer, in_front="Predict")
    add_demo_layers(viewer, folder)
    napari.run()
