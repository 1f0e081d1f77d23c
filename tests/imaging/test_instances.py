from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.config import InstanceConfig
from napari_unet.imaging.instances import (
    find_instances,
    foreground,
    minimum_size,
    tune_instances,
)
from napari_unet.imaging.scores import Tally

ROLES = ("softmax:background", "softmax:cell")
PLAIN = InstanceConfig(threshold=0.5, seed_threshold=0.8, min_size_px=0, smoothing_px=0)


def _outputs(probability) -> np.ndarray:
    cell = np.asarray(probability, np.float32)
    return np.stack([1 - cell, cell])


def _discs(*centres: tuple[int, int], radius: int = 6, shape=(30, 40)) -> np.ndarray:
    """A probability that falls off linearly from each centre."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    falls = [
        np.clip(1 - np.hypot(y - cy, x - cx) / (2 * radius), 0, 1) for cy, cx in centres
    ]
    return np.max(falls, axis=0)


def test_foreground_is_all_that_is_not_background():
    outputs = np.zeros((3, 2, 2), np.float32)
    outputs[0], outputs[1], outputs[2] = 0.2, 0.5, 0.3
    roles = ["softmax:a", "softmax:background", "softmax:b"]
    np.testing.assert_allclose(foreground(outputs, roles), 0.5)


def test_two_confident_middles_make_two_cells_of_one_region():
    probability = _discs((15, 13), (15, 23))
    assert probability[15, 18] > 0.5  # they touch
    labels = find_instances(_outputs(probability), ROLES, PLAIN)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert labels[15, 13] != labels[15, 23]
    assert ((labels > 0) == (probability > 0.5)).all()
    # The watershed line lies in the middle between equal cells.
    assert (labels[15, 8:18] == labels[15, 13]).all()
    assert (labels[15, 19:28] == labels[15, 23]).all()


def test_cells_meet_where_the_probability_is_lowest():
    row = [0.9, *[0.7] * 10, 0.55, 0.7, 0.9]
    labels = find_instances(_outputs([row] * 3), ROLES, PLAIN)
    assert (labels[:, :11] == labels[0, 0]).all()
    assert (labels[:, 12:] == labels[0, -1]).all()
    assert labels[0, 0] != labels[0, -1]


def test_a_region_without_a_confident_middle_is_one_cell():
    probability = np.zeros((20, 30))
    probability[2:8, 2:10] = 0.7
    probability[2:8, 15:25] = 0.9
    labels = find_instances(_outputs(probability), ROLES, PLAIN)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert len(np.unique(labels[2:8, 2:10])) == 1
    assert ((labels > 0) == (probability > 0)).all()


def test_the_threshold_decides_what_is_cell():
    probability = _discs((15, 15), (15, 32))
    for threshold in (0.3, 0.6):
        config = PLAIN.model_copy(update={"threshold": threshold})
        labels = find_instances(_outputs(probability), ROLES, config)
        assert ((labels > 0) == (probability.astype(np.float32) > threshold)).all()


def test_objects_below_the_minimum_size_are_dropped_and_ids_have_no_gap():
    probability = np.zeros((10, 40))
    for i, width in enumerate((2, 5, 3, 6)):
        probability[2:4, 10 * i + 1 : 10 * i + 1 + width] = 0.9
    config = PLAIN.model_copy(update={"min_size_px": 10})
    labels = find_instances(_outputs(probability), ROLES, config)
    assert np.bincount(labels.ravel())[1:].tolist() == [10, 12]


def test_smoothing_joins_seeds_that_noise_split():
    probability = _discs((15, 20), radius=12)
    probability[:, 20] = np.minimum(probability[:, 20], 0.7)
    for smoothing, expected in ((0.0, 2), (2.0, 1)):
        config = PLAIN.model_copy(update={"smoothing_px": smoothing})
        assert find_instances(_outputs(probability), ROLES, config).max() == expected


def test_nothing_above_the_threshold_gives_no_cell():
    labels = find_instances(_outputs(np.full((5, 6), 0.4)), ROLES, PLAIN)
    assert labels.dtype == np.int32
    assert labels.shape == (5, 6)
    assert not labels.any()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(1, 20)),
               elements=st.floats(0, 1, width=32)),
    st.sampled_from([0.3, 0.5]), st.sampled_from([0.6, 0.9]), st.integers(0, 6),
    st.sampled_from([0.0, 1.0]),
)  # fmt: skip
def test_cells_lie_above_the_threshold_are_large_enough_and_numbered(
    probability, threshold, seed_threshold, min_size_px, smoothing_px
):
    config = InstanceConfig(
        threshold=threshold, seed_threshold=seed_threshold, min_size_px=min_size_px,
        smoothing_px=smoothing_px,
    )  # fmt: skip
    outputs = _outputs(probability)
    labels = find_instances(outputs, ROLES, config)
    assert (1 - outputs[0][labels > 0] > threshold).all()
    sizes = np.bincount(labels.ravel())[1:]
    assert (sizes >= max(1, min_size_px)).all()
    if min_size_px <= 1:
        assert ((labels > 0) == (1 - outputs[0] > threshold)).all()


@pytest.mark.parametrize(
    ("areas", "expected"), [([], 0), ([40], 20), ([10] * 5 + [1000] * 95, 5)]
)
def test_the_minimum_size_is_half_the_5th_percentile(areas, expected):
    # Of 10 x 5 and 1000 x 95 the 5th percentile lies at 10 or just above.
    found = minimum_size(np.array(areas, np.int64))
    assert found >= expected
    assert found == int(np.percentile(areas, 5) / 2) if areas else found == 0


def _counts(n_right: float) -> Tally:
    """Counts of 100 true and 100 found cells, of which some are right."""
    n = int(n_right)
    return Tally(n_truth=100, n_pred=100, matched=(n,) * 10)


def test_tuning_climbs_to_the_best_settings():
    best = {"threshold": 0.65, "seed_threshold": 0.93, "smoothing_px": 3.0}

    def count(config: InstanceConfig) -> Tally:
        far = abs(config.threshold - best["threshold"]) * 100
        far += abs(config.seed_threshold - best["seed_threshold"]) * 100
        return _counts(95 - far - 5 * abs(config.smoothing_px - best["smoothing_px"]))

    config, counts = tune_instances(count, 17)
    assert config == InstanceConfig(min_size_px=17, **best)
    assert counts == count(config)


def test_of_equal_settings_the_default_stays():
    asked = []

    def count(config: InstanceConfig) -> Tally:
        asked.append(config)
        return _counts(50)

    config, _ = tune_instances(count, 3)
    assert config == InstanceConfig(min_size_px=3)
    assert all(c.min_size_px == 3 for c in asked)
    assert len(set(map(str, asked))) > 15
