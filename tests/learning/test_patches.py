from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.imaging.arrays import Target
from napari_unet.learning.patches import PatchSource, Plane, mirrored_indices


def _plane(shape=(30, 40), *, painted=(), known=None, offset=0) -> Plane:
    """A plane whose image, classes and weights tell where a pixel comes from."""
    at = np.arange(np.prod(shape)).reshape(shape) + offset
    labels = np.zeros(shape, np.int32)
    for place in painted:
        labels[place] = 1
    is_known = np.ones(shape, bool) if known is None else known
    weights = np.where(is_known, at + 1, 0).astype(np.float32)
    target = Target((at % 7).astype(np.int16), weights)
    return Plane(at[None].astype(np.float32), labels, is_known, target)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(-60, 60), st.integers(1, 60), st.integers(1, 20))
def test_mirrored_indices_are_those_of_reflect_padding(start, size, length):
    before, after = max(0, -start), max(0, start + size - length)
    padded = np.pad(np.arange(length), (before, after), mode="reflect")
    expected = padded[start + before :][:size]
    np.testing.assert_array_equal(mirrored_indices(start, size, length), expected)


def test_the_same_state_draws_the_same_windows():
    source = PatchSource([_plane(), _plane(offset=5000)])
    draws = [
        source.draw(np.random.default_rng(seed), n=5, size=9, reach=3)
        for seed in (4, 4, 5)
    ]
    assert torch.equal(draws[0].image, draws[1].image)
    assert not torch.equal(draws[0].image, draws[2].image)


def test_image_classes_and_weights_come_from_the_same_place():
    source = PatchSource([_plane()])
    batch = source.draw(np.random.default_rng(0), n=8, size=64, reach=3)
    assert batch.image.shape == (8, 1, 64, 64)
    assert batch.image.dtype == batch.weights.dtype == torch.float32
    assert batch.classes.dtype == torch.int64
    at = batch.image[:, 0]
    assert torch.equal(batch.classes, (at % 7).long())
    assert torch.equal(batch.weights, at + 1)


def test_windows_are_pieces_of_the_mirrored_plane():
    plane = _plane((11, 13))
    padded = np.pad(plane.image[0], 40, mode="reflect")
    source = PatchSource([plane])
    batch = source.draw(np.random.default_rng(0), n=6, size=20, reach=4)
    views = np.lib.stride_tricks.sliding_window_view(padded, (20, 20))
    for window in batch.image[:, 0].numpy():
        assert (views == window).all((2, 3)).any()


def test_most_windows_are_drawn_around_a_painted_pixel():
    source = PatchSource([_plane((200, 200), painted=[(100, 77)])])
    batch = source.draw(np.random.default_rng(0), n=400, size=9, reach=2)
    has_it = (batch.image == 100 * 200 + 77).flatten(1).any(1)
    # 0.7 on purpose; by chance 81 of 40,000 more.
    assert 0.63 < has_it.float().mean() < 0.77
    place = (batch.image[has_it] == 100 * 200 + 77).nonzero()[:, 2:] - 4
    assert (place.abs().amax(1) <= 2).float().mean() > 0.95
    assert len(place.unique(dim=0)) > 20


def test_with_nothing_painted_windows_are_drawn_around_known_background():
    known = np.zeros((60, 60), bool)
    known[50:52, 5:7] = True
    source = PatchSource([_plane((60, 60), known=known)])
    batch = source.draw(np.random.default_rng(0), n=30, size=7, reach=2)
    assert (batch.weights > 0).flatten(1).any(1).all()


def test_planes_without_weights_are_never_drawn():
    unknown = _plane(known=np.zeros((30, 40), bool), offset=10_000)
    source = PatchSource([unknown, _plane()])
    batch = source.draw(np.random.default_rng(0), n=50, size=5, reach=1)
    assert batch.image.max() < 10_000


def test_planes_count_by_the_root_of_what_is_known():
    known = np.zeros((30, 40), bool)
    known[:10, :3] = True
    source = PatchSource([_plane(known=known), _plane(offset=10_000)])
    batch = source.draw(np.random.default_rng(0), n=1000, size=3, reach=0)
    share = (batch.image[:, 0, 1, 1] < 10_000).float().mean()
    expected = 30**0.5 / (30**0.5 + 1200**0.5)
    assert share == pytest.approx(expected, abs=0.04)


def test_a_large_plane_is_drawn_from_everywhere():
    # Far more pixels than candidates: the sample of them is even.
    source = PatchSource([_plane((400, 400))])
    batch = source.draw(np.random.default_rng(0), n=600, size=1, reach=0)
    rows = batch.image.flatten().numpy() // 400
    counts = np.histogram(rows, bins=4, range=(0, 400))[0]
    assert counts.min() > 100


def test_values_alone_cannot_be_learned_by_class():
    target = Target(None, np.ones((8, 8), np.float32), np.zeros((1, 8, 8), np.float32))
    image, labels = np.zeros((1, 8, 8), np.float32), np.ones((8, 8), np.int32)
    source = PatchSource([Plane(image, labels, labels > 0, target)])
    with pytest.raises(TypeError, match="targets with classes"):
        source.draw(np.random.default_rng(0), n=1, size=4, reach=0)
