from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.imaging.arrays import Target
from napari_unet.learning.patches import PatchSource, Plane, mirrored


def _plane(shape=(30, 40), *, painted=(), known=None, offset=0) -> Plane:
    """A plane whose image, classes and weights tell where a pixel comes from."""
    at = np.arange(np.prod(shape)).reshape(shape) + offset
    labels = np.zeros(shape, np.int32)
    for place in painted:
        labels[place] = 1
    is_known = np.ones(shape, bool) if known is None else known
    weights = np.where(is_known, 1 + at / 2**20, 0).astype(np.float32)
    target = Target((at % 7).astype(np.int16), weights)
    return Plane(at[None].astype(np.float32), labels, is_known, target)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(-60, 60), st.integers(1, 60), st.integers(1, 20))
def test_windows_are_mirrored_as_by_reflect_padding(start, size, length):
    before, after = max(0, -start), max(0, start + size - length)
    padded = np.pad(np.arange(length), (before, after), mode="reflect")
    expected = padded[start + before :][:size]
    found = np.full(size, -1)
    for where, source in mirrored(start, size, length):
        found[where] = np.arange(length)[source]
    np.testing.assert_array_equal(found, expected)


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
    assert not batch.classes.is_floating_point()
    at = batch.image[:, 0]
    assert torch.equal(batch.classes, (at % 7).long())
    assert torch.equal(batch.weights, 1 + at / 2**20)


def test_windows_are_pieces_of_the_mirrored_plane():
    plane = _plane((11, 13))
    padded = np.pad(plane.image[0], 40, mode="reflect")
    source = PatchSource([plane])
    batch = source.draw(np.random.default_rng(0), n=6, size=20, reach=4)
    views = np.lib.stride_tricks.sliding_window_view(padded, (20, 20))
    for window in batch.image[:, 0].numpy():
        assert (views == window).all((2, 3)).any()


def test_most_windows_are_drawn_around_a_painted_pixel():
    plane = _plane((200, 200), painted=[(100, 77)])
    plane.target.classes[:] = plane.labels
    source = PatchSource([plane])
    batch = source.draw(np.random.default_rng(0), n=400, size=9, reach=2)
    has_it = (batch.image == 100 * 200 + 77).flatten(1).any(1)
    # 0.7 on purpose, where there are no borders;
    # by chance 81 of 40,000 more.
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


def test_values_are_drawn_where_there_are_no_classes():
    at = np.arange(64, dtype=np.float32).reshape(8, 8)
    target = Target(None, np.ones((8, 8), np.float32), np.stack([at, -at]))
    plane = Plane(at[None], np.zeros((8, 8), np.int32), at > -1, target)
    batch = PatchSource([plane]).draw(np.random.default_rng(0), n=3, size=4, reach=0)
    assert batch.classes is None
    assert torch.equal(batch.values[:, 0], batch.image[:, 0])
    assert torch.equal(batch.values[:, 1], -batch.image[:, 0])


@pytest.mark.parametrize("upscale", [2, 4])
def test_finer_values_stay_on_their_pixels_also_where_they_are_mirrored(upscale):
    fine = np.arange(20 * 12 * upscale**2).reshape(20 * upscale, 12 * upscale)
    fine = fine.astype(np.float32)
    coarse = fine.reshape(20, upscale, 12, upscale).mean((1, 3))
    target = Target(None, np.ones(fine.shape, np.float32), fine[None])
    plane = Plane(coarse[None], np.zeros((20, 12), np.int32), coarse > -1, target)
    batch = PatchSource([plane]).draw(np.random.default_rng(0), n=9, size=32, reach=9)
    assert batch.values.shape == (9, 1, 32 * upscale, 32 * upscale)
    assert batch.weights.shape == (9, 32 * upscale, 32 * upscale)
    means = torch.nn.functional.avg_pool2d(batch.values, upscale)
    torch.testing.assert_close(means, batch.image)
    # Mirrored pixels are turned round: else jumps would be nearly twice as large.
    assert batch.values.diff(dim=-1).abs().max() <= upscale


def _of_classes(*counts: int) -> Plane:
    """A plane with cells of as many classes, of so many pixels."""
    labels = np.zeros((60, 60), np.int32)
    classes = np.zeros((60, 60), np.int16)
    for k, n in enumerate(counts, 1):
        labels[20 * k - 20, :n] = k
        classes[20 * k - 20, :n] = k
    known = np.ones(labels.shape, bool)
    target = Target(classes, known.astype(np.float32))
    return Plane(classes[None].astype(np.float32), labels, known, target)


def test_rare_classes_are_drawn_as_often_as_frequent_ones():
    source = PatchSource([_of_classes(60, 1), _of_classes(50), _of_classes(60)])
    batch = source.draw(np.random.default_rng(0), n=1000, size=1, reach=0)
    found = np.bincount(batch.image.flatten().numpy().astype(int), minlength=3)
    # Half of all on purpose, half of these of each class; by chance hardly any.
    assert found[1:] / 1000 == pytest.approx([0.35, 0.35], abs=0.06)


def test_borders_between_close_cells_are_drawn_more_often():
    plane = _of_classes(5)
    weights = plane.target.weights
    weights[30:32, 30:32] = 9
    where = np.zeros((60, 60), np.float32)
    where[30:32, 30:32] = 1
    marked = replace(plane, image=where[None])
    batch = PatchSource([marked]).draw(np.random.default_rng(0), n=800, size=1, reach=0)
    assert batch.image.mean() == pytest.approx(0.2, abs=0.04)


def test_what_is_drawn_depends_on_seed_and_step_alone():
    planes = [_plane(offset=1000 * i) for i in range(5)]
    first, again, other = (PatchSource(planes, seed=seed) for seed in (1, 1, 2))
    settings = {"n": 4, "size": 9, "reach": 3}
    drawn = [first.draw(step, **settings).image for step in (1, 2, 3, 4)]
    assert torch.equal(again.draw(4, **settings).image, drawn[3])
    assert torch.equal(again.draw(2, **settings).image, drawn[1])
    assert not torch.equal(other.draw(4, **settings).image, drawn[3])
    assert not torch.equal(drawn[0], drawn[1])
