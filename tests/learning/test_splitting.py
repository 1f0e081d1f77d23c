from __future__ import annotations

import numpy as np
import pytest

from napari_unet.imaging.arrays import Target
from napari_unet.learning.patches import Plane
from napari_unet.learning.splitting import hold_back


def _plane(labels, *, first=0, known=None) -> Plane:
    """A plane each of whose pixels has its own value, from `first` on."""
    labels = np.asarray(labels, np.int32)
    known = np.ones(labels.shape, bool) if known is None else known
    at = np.arange(labels.size, dtype=np.float32).reshape(labels.shape) + first
    target = Target((labels > 0).astype(np.int16), known.astype(np.float32))
    return Plane(at[None], labels, known, target)


def _grid(n: int = 4, *, first: int = 0) -> Plane:
    """Squares of 8 px in a grid of n x n, 16 px apart."""
    labels = np.zeros((16 * n, 16 * n), np.int32)
    for i in range(n * n):
        y, x = 16 * (i // n) + 4, 16 * (i % n) + 4
        labels[y : y + 8, x : x + 8] = i + 1
    return _plane(labels, first=first)


def _pixels(planes) -> list[float]:
    return np.concatenate([p.image.ravel() for p in planes]).tolist()


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("n_images", [1, 2, 4])
def test_few_images_give_a_block_each_and_share_no_pixel(n_images):
    planes = [_grid(first=100_000 * i) for i in range(n_images)]
    split = hold_back([[plane] for plane in planes], 0.25, _rng())
    assert split.is_held_back
    train, back = _pixels(split.train), _pixels(split.validation)
    assert not set(train) & set(back)
    assert sorted(train + back) == _pixels(planes)
    assert len(split.train) == len(split.validation) == n_images
    assert all(p.labels.any() for p in (*split.train, *split.validation))
    assert "block" in split.how


def test_a_block_has_about_the_wanted_share_of_what_is_known():
    known = np.zeros((64, 64), bool)
    known[:, :32] = True  # cutting columns at 3/4 would hold back nothing known
    split = hold_back([[_plane(_grid().labels, known=known)]], 0.25, _rng())
    n_back = sum(p.known.sum() for p in split.validation)
    assert 0.15 < n_back / known.sum() < 0.4


def test_all_parts_of_a_plane_are_cut_alike():
    (train,), (back,) = (
        getattr(hold_back([[_grid()]], 0.25, _rng()), name)
        for name in ("train", "validation")
    )
    for plane in (train, back):
        assert plane.image.shape[1:] == plane.labels.shape == plane.known.shape
        at = plane.image[0].astype(int)
        np.testing.assert_array_equal(plane.labels, _grid().labels.ravel()[at])
        np.testing.assert_array_equal(plane.target.classes, plane.labels > 0)
        assert plane.target.weights.shape == plane.labels.shape


def test_the_cut_goes_between_cells_where_it_can():
    split = hold_back([[_grid()]], 0.25, _rng())
    ids = [set(np.unique(p.labels)) - {0} for p in (*split.train, *split.validation)]
    assert not ids[0] & ids[1]


def test_five_images_or_more_are_held_back_whole():
    groups = [[_grid(2, first=10_000 * i)] for i in range(10)]
    split = hold_back(groups, 0.2, _rng())
    assert (len(split.train), len(split.validation)) == (8, 2)
    assert not set(_pixels(split.train)) & set(_pixels(split.validation))
    assert split.how == "2 of 10 images held back"
    assert split.is_held_back
    assert {p.labels.shape for p in split.validation} == {(32, 32)}


def test_planes_of_one_stack_stay_together():
    groups = [[_grid(2, first=1000 * i)] * 3 for i in range(5)]
    split = hold_back(groups, 0.01, _rng())
    assert len(split.validation) == 3
    assert len({p.image.min() for p in split.validation}) == 1


def test_which_images_depends_on_the_seed_alone():
    groups = [[_grid(2, first=10_000 * i)] for i in range(10)]
    chosen = [
        tuple(p.image.min() for p in hold_back(groups, 0.3, rng).validation)
        for rng in map(np.random.default_rng, (3, 3, 4, 5, 6))
    ]
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) > 1


def test_images_are_cut_where_only_one_of_many_has_cells():
    groups = [[_plane(np.zeros((64, 64)), first=10_000 * i)] for i in range(5)]
    groups.append([_grid(first=60_000)])
    split = hold_back(groups, 0.2, _rng())
    assert split.is_held_back
    assert split.how == "a block of 1 of 6 planes held back"
    assert any(p.labels.any() for p in split.train)
    assert any(p.labels.any() for p in split.validation)


def test_one_cell_cannot_be_held_back_and_that_is_said():
    labels = np.zeros((64, 64))
    labels[20:44, 20:44] = 1
    split = hold_back([[_plane(labels)]], 0.2, _rng())
    assert not split.is_held_back
    assert split.how.startswith("too few cells to hold any back")
    assert _pixels(split.train) == _pixels(split.validation)


def test_an_image_too_small_to_cut_is_not_cut():
    labels = np.zeros((20, 20))
    labels[2:6, 2:6], labels[12:18, 12:18] = 1, 2
    assert not hold_back([[_plane(labels)]], 0.2, _rng()).is_held_back


def test_a_block_of_any_side_is_taken_if_it_cuts_least():
    # Cells lie so that only the right side can be cut off cleanly.
    labels = np.zeros((96, 96), np.int32)
    labels[4:92, 4:40] = 1
    labels[40:56, 78:92] = 2
    split = hold_back([[_plane(labels)]], 0.2, _rng())
    assert set(np.unique(split.validation[0].labels)) == {0, 2}
    assert set(np.unique(split.train[0].labels)) == {0, 1}
