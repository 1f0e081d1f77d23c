"""Drawn cells, and small networks with weights that matter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_unet.config import FIXED_BY_ARCHITECTURE, NetworkConfig
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.checkpoint import Model
from napari_unet.learning.networks import build_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    # Tiny networks are faster so, and a sum has one order.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cells() -> tuple[np.ndarray, np.ndarray]:
    """An image of eight cells and its labels, both (64, 64)."""
    return draw_cells((64, 64), n_cells=8, rng=np.random.default_rng(1))


@pytest.fixture(scope="session")
def random_model() -> Callable[..., Model]:
    """Make a model with random weights; its probabilities are far from even."""

    def make(**settings: object) -> Model:
        fixed = FIXED_BY_ARCHITECTURE.get(str(settings.get("architecture")), {})
        small = {"base_width": 4, "depth": 2} | fixed
        config = NetworkConfig(**(small | settings))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = build_network(config)
            last = network.head if config.upscale == 1 else network.head[0]
            torch.nn.init.normal_(last.weight, std=0.5)
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(std=0.1)
                    module.running_var.uniform_(0.5, 2)
        names = ("background", *(f"class {i}" for i in range(1, config.out_channels)))
        roles = tuple(f"softmax:{name}" for name in names)
        return Model(config, network.state_dict(), roles=roles, class_names=names)

    return make
