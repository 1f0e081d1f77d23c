"""A model that finds drawn cells, and a folder of them."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.files.images import write_image
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.training import train


def drawn_cells(seed: int, shape=(64, 64)) -> tuple[np.ndarray, np.ndarray]:
    return draw_cells(shape, n_cells=6, rng=np.random.default_rng(seed))


@pytest.fixture(scope="session")
def model():
    """A model that finds drawn cells."""
    images, labels = zip(*(drawn_cells(seed) for seed in (1, 2)), strict=True)
    config = TrainConfig(
        max_steps=200, validate_every=50, patch_size=32, batch_size=4, device="cpu",
        precision="fp32", learning_rate=1e-2,
    )  # fmt: skip
    network = NetworkConfig(base_width=4, depth=2)
    *_, finished = train(images, labels, config, network=network)
    return finished.model


@pytest.fixture
def folder(tmp_path):
    """Three images of cells."""
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        data = drawn_cells(10 + i)[0][None]
        write_image(
            images / f"cells_{i}.tif", data, axes="CYX", pixel_size_um=(0.5, 0.5)
        )
    return images
