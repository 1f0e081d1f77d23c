from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from napari_unet.errors import ModelError
from napari_unet.imaging.uncertainty import entropy, uncertainty_of

CLASSES = ["softmax:background", "softmax:cell", "softmax-boundary"]


def test_it_is_the_entropy_of_the_classes():
    outputs = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5))
    outputs = np.moveaxis(outputs, -1, 0).astype(np.float32)
    expected = stats.entropy(outputs, axis=0) / np.log(3)
    found = entropy(outputs, CLASSES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with_distance = np.concatenate([outputs, np.ones((1, 4, 5), np.float32)])
    np.testing.assert_array_equal(entropy(with_distance, [*CLASSES, "distance"]), found)


@pytest.mark.parametrize("kind", ["sigmoid", "probability"])
def test_each_probability_that_stands_alone_counts(kind):
    outputs = np.array([[0.5, 1.0], [0.5, 0.0]], np.float32)
    found = entropy(outputs, [f"{kind}:a", f"{kind}:b"])
    np.testing.assert_allclose(found, [1, 0], atol=1e-6)


def test_values_say_nothing():
    assert not entropy(np.ones((1, 3, 3), np.float32), ["value:denoised"]).any()


def test_the_maps_are_those_that_there_are():
    outputs = np.full((2, 3, 4), 0.5, np.float32)
    roles = ["softmax:background", "softmax:cell"]
    maps = uncertainty_of(outputs, roles)
    assert list(maps) == ["entropy"]
    np.testing.assert_allclose(maps["entropy"], 1)
    spread = np.ones((3, 4), np.float32)
    maps = uncertainty_of(outputs, roles, spread)
    assert list(maps) == ["entropy", "spread"]
    np.testing.assert_array_equal(maps["spread"], spread)
    assert list(uncertainty_of(outputs, ["value:a", "value:b"], spread)) == ["spread"]


def test_values_alone_are_refused_with_what_to_do():
    with pytest.raises(ModelError, match="turn test-time augmentation on") as caught:
        uncertainty_of(np.ones((1, 3, 4), np.float32), ["value:denoised"])
    assert caught.value.code == "NU-M13"
