from __future__ import annotations

import numpy as np
import pytest
import skimage.draw
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.config import InstanceConfig
from napari_unet.errors import ModelError
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.instances import (
    fill_holes,
    find_instances,
    foreground,
    give_back_gap,
)
from napari_unet.imaging.scores import Tally
from napari_unet.imaging.targets import make_target, separate_touching
from napari_unet.imaging.tuning import (
    derive_instances,
    gap_is_from_cutting,
    minimum_size,
    tune_instances,
)

ROLES = ("softmax:background", "softmax:cell")
PLAIN = InstanceConfig(
    threshold=0.5,
    seed_threshold=0.8,
    min_size_px=0,
    smoothing_px=0,
    give_back_gap=False,
)


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
        smoothing_px=smoothing_px, give_back_gap=False,
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


def _between(labels: np.ndarray, y: int, x: int) -> set[int]:
    """Whom a pixel may belong to: cells beside it, with another one opposite."""
    at = {
        (dy, dx): labels[y + dy, x + dx]
        for dy in range(-2, 3)
        for dx in range(-2, 3)
        if 0 <= y + dy < labels.shape[0] and 0 <= x + dx < labels.shape[1]
    }
    owners = set()
    for dy, dx in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]:
        own = at.get((-dy, -dx), 0)
        other = at.get((dy, dx), 0) or at.get((2 * dy, 2 * dx), 0)
        if own and other and own != other:
            owners.add(int(own))
    return owners


@given(hnp.arrays(np.int32, (7, 8), elements=st.sampled_from([0, 0, 0, 1, 2, 3])))
def test_only_pixels_between_two_cells_are_given_back(labels):
    filled = give_back_gap(labels)
    for y, x in np.ndindex(labels.shape):
        owners = _between(labels, y, x)
        if labels[y, x]:
            assert filled[y, x] == labels[y, x]
        elif filled[y, x]:
            assert filled[y, x] in owners & _beside(filled, y, x)
        elif owners:
            # It would have touched its cell by a corner only.
            assert owners - _beside(filled, y, x)


def test_free_outlines_do_not_grow():
    discs = np.zeros((40, 60), np.int32)
    discs[skimage.draw.disk((20, 15), 10)] = 1
    discs[skimage.draw.disk((20, 40), 10)] = 2
    assert np.array_equal(give_back_gap(discs), discs)


@pytest.mark.parametrize("shape", [(9, 12), (5, 9, 12)])
def test_what_the_cut_took_is_given_back(shape):
    labels = np.ones(shape, np.int32)
    labels[..., 5:] = 2
    cut = separate_touching(labels, n_dims=len(shape))
    assert (cut == 0).sum() == 2 * labels[..., 0].size
    assert np.array_equal(give_back_gap(cut), labels)


def test_the_gap_is_given_back_symmetrically():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 96, (30, 2))
    grid = np.stack(np.mgrid[:96, :96], -1)[:, :, None]
    cells = np.argmin(((grid - points) ** 2).sum(-1), -1).astype(np.int32) + 1
    filled = give_back_gap(separate_touching(cells))
    # Only where three cells meet has a pixel no straight line to another cell.
    assert (filled == cells).mean() > 0.95
    assert np.array_equal(give_back_gap(separate_touching(cells.T)), filled.T)


def _beside(labels, y, x) -> set[int]:
    """Return the ids that have an edge in common with a pixel."""
    steps = ((-1, 0), (1, 0), (0, -1), (0, 1))
    padded = np.pad(labels, 1)
    return {int(padded[y + 1 + dy, x + 1 + dx]) for dy, dx in steps}


def test_no_pixel_is_given_back_that_hangs_on_a_corner():
    y, x = np.indices((24, 24))
    # Three pixels apart along the rows, but two along one diagonal.
    slope = 2 * x - y
    labels = np.where(slope > 4, 2, np.where(slope < -3, 1, 0)).astype(np.int32)
    filled = give_back_gap(labels)
    for y, x in np.argwhere((labels == 0) & (filled > 0)):
        assert filled[y, x] in _beside(filled, y, x)


def test_true_gaps_are_left_where_the_annotation_has_them():
    touching = np.repeat(np.array([[1, 1, 1, 2, 2, 2]], np.int32), 4, axis=0)
    apart = np.repeat(np.array([[1, 1, 0, 0, 2, 2]], np.int32), 5, axis=0)
    assert gap_is_from_cutting([touching])
    assert not gap_is_from_cutting([touching, apart])
    assert not gap_is_from_cutting([])


def test_gap_is_given_back_only_if_asked():
    outputs = _outputs(np.repeat([[0.9, 0.9, 0.1, 0.1, 0.9, 0.9]], 6, axis=0))
    keep = InstanceConfig(smoothing_px=0, min_size_px=0, give_back_gap=False)
    assert (find_instances(outputs, ROLES, keep)[:, 2:4] == 0).all()
    give = keep.model_copy(update={"give_back_gap": True})
    assert (find_instances(outputs, ROLES, give)[0] == [1, 1, 1, 2, 2, 2]).all()


def test_areas_are_no_cells():
    outputs = np.zeros((3, 4, 4), np.float32)
    outputs[0], outputs[1], outputs[2] = 0.1, 0.8, 0.1
    roles = ["softmax:background", "softmax-area:tissue", "softmax:cell"]
    assert not find_instances(outputs, roles, InstanceConfig(min_size_px=0)).any()
    only = ["softmax:background", "softmax-area:tissue", "softmax-area:membrane"]
    assert (find_instances(outputs, only, InstanceConfig(min_size_px=0)) == 1).all()


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

    config, counts = tune_instances(count, InstanceConfig(min_size_px=17))
    assert config == InstanceConfig(min_size_px=17, **best)
    assert counts == count(config)


@pytest.mark.parametrize(("wanted", "found"), [(17, 17), (33, 34), (60, 68), (9, 8)])
def test_the_minimum_size_is_tuned_as_well(wanted, found):
    def count(config: InstanceConfig) -> Tally:
        return _counts(95 - abs(config.min_size_px - wanted))

    config, _ = tune_instances(count, InstanceConfig(min_size_px=17))
    assert config == InstanceConfig(min_size_px=found)


def test_thresholds_are_refined_around_the_best_but_stay_shares():
    asked = []

    def count(config: InstanceConfig) -> Tally:
        asked.append(config)
        return _counts(50 + 40 * config.seed_threshold - 40 * config.threshold)

    config, _ = tune_instances(count, InstanceConfig())
    assert (config.seed_threshold, config.threshold) == (0.97, 0.23)
    assert all(0 < c.seed_threshold < 1 for c in asked)


def test_of_equal_settings_the_default_stays():
    asked = []

    def count(config: InstanceConfig) -> Tally:
        asked.append(config)
        return _counts(50)

    config, _ = tune_instances(count, InstanceConfig(min_size_px=3))
    assert config == InstanceConfig(min_size_px=3)
    assert len(set(map(str, asked))) > 15


def test_a_boundary_keeps_cells_apart_that_share_their_foreground():
    inside = np.zeros((12, 21), np.float32)
    inside[2:10, 2:19] = 0.9
    boundary = np.zeros_like(inside)
    boundary[:, 10] = 0.8
    config = InstanceConfig(seed_threshold=0.5, smoothing_px=0, min_size_px=1)
    roles = ("probability:foreground", "probability:boundary")
    labels = find_instances(np.stack([inside, boundary]), roles, config)
    assert labels.max() == 2
    np.testing.assert_array_equal(labels > 0, inside > 0.5)
    assert labels[5, 3] != labels[5, 17]
    one = find_instances(inside[None], roles[:1], config)
    assert one.max() == 1


@pytest.mark.parametrize("kind", ["softmax", "probability"])
def test_background_is_what_is_no_cell(kind):
    outputs = np.zeros((2, 6, 6), np.float32)
    outputs[0] = 0.9
    outputs[:, 2:5, 2:5] = [[[0.2]], [[0.8]]]
    roles = (f"{kind}:background", f"{kind}:nucleus")
    labels = find_instances(outputs, roles, InstanceConfig(min_size_px=1))
    np.testing.assert_array_equal(labels > 0, outputs[1] > 0.5)


@pytest.mark.parametrize(
    "roles", [("value:image",), ("distance",), ("sigmoid:boundary",)]
)
def test_a_model_without_classes_finds_no_cells(roles):
    outputs = np.ones((1, 4, 4), np.float32)
    with pytest.raises(ModelError, match="no classes, so it finds no cells"):
        find_instances(outputs, roles, InstanceConfig())


def test_cells_that_share_their_foreground_are_told_apart_by_distance():
    probability = np.full((12, 21), 0.9, np.float32)
    depth = np.tile(np.r_[0.2:1:6j, 0.8:0.2:4j, 0.1, 0.2:0.8:4j, 1:0.2:6j], (12, 1))
    outputs = np.stack([1 - probability, probability, depth.astype(np.float32)])
    config = InstanceConfig(seed_threshold=0.5, smoothing_px=0, min_size_px=1)
    labels = find_instances(outputs, (*ROLES, "distance"), config)
    assert labels.max() == 2
    assert (labels > 0).all()
    assert (labels[:, :10] == 1).all()
    assert (labels[:, 11:] == 2).all()
    assert find_instances(outputs[:2], ROLES, config).max() == 1


TOUCHING = np.repeat(np.array([[1, 1, 1, 2, 2, 2]], np.int32), 4, axis=0)


@pytest.mark.parametrize(
    ("more", "give", "seed"),
    [((), True, 0.7), (("softmax-boundary",), False, 0.7), (("distance",), True, 0.5)],
)
def test_settings_follow_from_the_outputs_and_the_cells(more, give, seed):
    areas = np.array([12, 12])
    found = derive_instances(InstanceConfig(), (*ROLES, *more), [TOUCHING], areas)
    assert found.give_back_gap is give
    assert found.seed_threshold == seed
    assert found.min_size_px == minimum_size(areas) == 6


def test_a_seed_threshold_that_was_given_stays():
    base = InstanceConfig(seed_threshold=0.66)
    found = derive_instances(base, (*ROLES, "distance"), [], np.array([9]))
    assert found.seed_threshold == 0.66


@pytest.mark.parametrize("more", [(), ("softmax-boundary",), ("distance",)])
def test_cells_of_a_volume_are_told_apart_across_planes(more):
    labels = np.zeros((12, 9, 9), np.int32)
    labels[1:6, 2:7, 2:7], labels[6:11, 2:7, 2:7] = 1, 2
    target = make_target(
        Annotation.complete(labels),
        target={(): "gap", ("distance",): "distance"}.get(more, "boundary"),
        n_dims=3,
    )
    outputs = np.moveaxis(
        np.eye(2 + ("softmax-boundary" in more))[target.classes], -1, 0
    )
    if target.values is not None:
        outputs = np.concatenate([outputs, target.values])
    config = InstanceConfig(
        seed_threshold=0.5, smoothing_px=0, min_size_px=5,
        give_back_gap="softmax-boundary" not in more,
    )  # fmt: skip
    found = find_instances(outputs.astype(np.float32), (*ROLES, *more), config)
    np.testing.assert_array_equal(found, labels)


def _ring(roles_value: float = 0.9) -> np.ndarray:
    cell = np.zeros((24, 24), np.float32)
    cell[4:20, 4:20] = roles_value
    cell[10:13, 10:13] = 0
    return np.stack([1 - cell, cell])


ROLES = ["softmax:background", "softmax:cell"]


def test_holes_are_filled_where_that_is_wanted():
    hole = (slice(10, 13), slice(10, 13))
    kept = find_instances(_ring(), ROLES, InstanceConfig())
    filled = find_instances(_ring(), ROLES, InstanceConfig(fill_holes=True))
    assert not kept[hole].any()
    assert (filled[hole] == filled[4, 4]).all()
    assert (filled[:4] == 0).all()


def test_what_two_cells_enclose_is_no_hole():
    labels = np.ones((5, 6), np.int32)
    labels[:, 3:] = 2
    labels[2, 2:4] = 0
    np.testing.assert_array_equal(fill_holes(labels), labels)


def test_cells_at_the_border_are_dropped_where_that_is_wanted():
    outputs = _ring()[:, 4:]
    assert find_instances(outputs, ROLES, InstanceConfig()).max() == 1
    assert find_instances(outputs, ROLES, InstanceConfig(clear_border=True)).max() == 0
    inner = find_instances(_ring(), ROLES, InstanceConfig(clear_border=True))
    assert inner.max() == 1


def test_in_a_window_small_cells_stay_at_its_open_sides():
    cell = np.zeros((20, 20), np.float32)
    cell[:2, 4:6] = cell[8:10, 8:10] = cell[18:, 12:14] = 0.9
    outputs = np.stack([1 - cell, cell])
    config = InstanceConfig(min_size_px=10, clear_border=True, smoothing_px=0)
    found = find_instances(
        outputs, ROLES, config, open_sides=((True, False), (False, False))
    )
    np.testing.assert_array_equal(np.argwhere(found.any(1)).ravel(), [0, 1])
