from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet.config import NetworkConfig
from napari_unet.files.images import write_image, write_labels
from napari_unet.imaging.drawn import draw_cells

TINY = NetworkConfig(base_width=2, depth=1)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def window(make_napari_viewer):
    """A real viewer, from which layers can be removed under Xvfb with Mesa."""
    viewer = make_napari_viewer(show=True, strict_qt="raise")
    native = viewer.window._qt_viewer.canvas.native
    viewer.layers.events.removing.connect(lambda _: native.makeCurrent())
    return viewer


@pytest.fixture
def drawn():
    """A drawn image (48 x 48) and its labels."""
    rng = np.random.default_rng(1)
    return draw_cells((48, 48), n_cells=5, rng=rng)


@pytest.fixture
def tiny_model():
    """A model with random weights: one channel, background and cell."""
    import torch

    from napari_unet.learning.checkpoint import Model
    from napari_unet.learning.networks import build_network

    with torch.random.fork_rng():  # the same cells each time
        torch.manual_seed(0)
        return Model(TINY, build_network(TINY).state_dict())


@pytest.fixture
def folders(tmp_path, drawn):
    image, labels = drawn
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for stem in ("train_a", "train_b", "val_c"):
        write_image(tmp_path / "images" / f"{stem}.tif", image[None], axes="CYX")
        write_labels(tmp_path / "masks" / f"{stem}.tif", labels)
    return tmp_path / "images", tmp_path / "masks"
