"""The sample as layers."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from napari.layers import Layer

from napari_unet.files.samples import sample_images
from napari_unet.widgets.sample import open_sample


def test_sample_is_four_images_with_their_labels() -> None:
    viewer = ViewerModel()
    for data in open_sample():
        viewer.add_layer(Layer.create(*data))
    kinds = [type(layer).__name__ for layer in viewer.layers]
    assert kinds == ["Image"] * 4 + ["Labels"] * 4
    for name, image, labels in sample_images():
        shown, painted = viewer.layers[name], viewer.layers[f"{name} truth"]
        np.testing.assert_array_equal(shown.data, image.plane()[0])
        np.testing.assert_array_equal(painted.data, labels)
        np.testing.assert_array_equal(shown.translate, painted.translate)
    contrast = {tuple(layer.contrast_limits) for layer in viewer.layers[:4]}
    assert len(contrast) == 1
    assert contrast.pop()[1] < 200  # dividing cells reach 255


def test_quarters_lie_side_by_side() -> None:
    corners = [tuple(attributes["translate"]) for _, attributes, _ in open_sample()[:4]]
    assert corners == [(0, 0), (0, 256), (256, 0), (256, 256)]
    names = [attributes["name"] for _, attributes, _ in open_sample()[:4]]
    assert names == [f"nuclei_y{y}x{x}" for y, x in corners]
