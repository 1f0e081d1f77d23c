from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from napari_unet.config import InstanceConfig
from napari_unet.imaging.blockwise import Cutting, find_all
from napari_unet.imaging.instances import find_instances
from napari_unet.imaging.scores import score
from napari_unet.imaging.targets import separate_touching

ROLES = ["softmax:background", "softmax:cell"]


@cache
def _outputs(*, touching: bool = True) -> np.ndarray:
    """Probabilities as a network that learned gaps gives them, with some noise."""
    rng = np.random.default_rng(0)
    labels = np.zeros((240, 340), np.int32)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    centres = np.mgrid[7:240:15, 7:340:15].reshape(2, -1).T + rng.normal(0, 1, (368, 2))
    largest = 9.0 if touching else 5.5
    for i, (cy, cx) in enumerate(centres, 1):
        a, b = rng.uniform(4, largest, 2)
        labels[((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 <= 1] = i
    inner = separate_touching(labels) > 0
    cell = np.where(inner, 0.9, 0.1) + rng.normal(0, 0.05, labels.shape)
    cell = np.clip(cell, 0, 1).astype(np.float32)
    return np.stack([1 - cell, cell])


def _same_objects(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether all objects are the same, one to one, at an IoU of 0.99."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()], 1), axis=0)
    if len(pairs) == len(np.unique(a)) == len(np.unique(b)):
        return True
    for i in np.unique(a[a > 0]):
        mask = a == i
        ids, n = np.unique(b[mask], return_counts=True)
        j = ids[n.argmax()]
        if j == 0 or (mask & (b == j)).sum() < 0.99 * (mask | (b == j)).sum():
            return False
    return a.max() == b.max()


@pytest.mark.parametrize("size", [64, 100, 256])
@pytest.mark.parametrize("touching", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        InstanceConfig(),
        InstanceConfig(min_size_px=60, fill_holes=True, clear_border=True),
        InstanceConfig(smoothing_px=0, give_back_gap=False),
    ],
)
def test_blocks_find_what_the_whole_shows(size, touching, config):
    outputs = _outputs(touching=touching)
    whole = find_instances(outputs, ROLES, config)
    assert whole.max() > 100
    found = find_all(outputs, ROLES, config, cutting=Cutting(size, 40), n_threads=2)
    alone = find_all(outputs, ROLES, config, cutting=Cutting(size, 40), n_threads=0)
    np.testing.assert_array_equal(alone, found)
    assert found.dtype == np.int32
    assert _same_objects(whole, found)
    assert sorted(np.unique(found)) == list(range(whole.max() + 1))


def test_without_a_halo_cells_at_the_seams_are_not_the_same():
    outputs = _outputs()
    whole = find_instances(outputs, ROLES, InstanceConfig())
    found = find_all(outputs, ROLES, InstanceConfig(), cutting=Cutting(64, 2))
    assert not _same_objects(whole, found)


def test_a_cell_larger_than_many_blocks_is_one():
    cell = np.full((200, 300), 0.1, np.float32)
    cell[90:110, 20:280] = cell[20:180, 140:160] = 0.95
    outputs = np.stack([1 - cell, cell])
    found = find_all(outputs, ROLES, InstanceConfig(), cutting=Cutting(48, 16))
    assert found.max() == 1
    assert score(found, find_instances(outputs, ROLES, InstanceConfig())).iou == 1


def test_areas_are_classes_in_blocks_too():
    rng = np.random.default_rng(1)
    outputs = rng.random((3, 90, 80), np.float32)
    roles = ["softmax:background", "softmax-area:membrane", "softmax-area:glia"]
    found = find_all(outputs, roles, InstanceConfig(), cutting=Cutting(32, 8))
    np.testing.assert_array_equal(found, outputs.argmax(0))


def test_volumes_go_in_blocks_too():
    rng = np.random.default_rng(3)
    cell = np.full((30, 60, 60), 0.05, np.float32)
    for z, y, x in rng.integers(5, [25, 55, 55], (12, 3)):
        cell[z - 4 : z + 4, y - 4 : y + 4, x - 4 : x + 4] = 0.95
    outputs = np.stack([1 - cell, cell])
    whole = find_instances(outputs, ROLES, InstanceConfig())
    found = find_all(outputs, ROLES, InstanceConfig(), cutting=Cutting(24, 24))
    assert _same_objects(whole, found)


def test_the_halo_is_twice_the_largest_cell_to_be_expected():
    assert Cutting.of(20.0, 2) == Cutting(2048, 120)
    assert Cutting.of(500.0, 2) == Cutting(2048, 512)  # as far as memory goes
    assert Cutting.of(None, 3).halo == 32
