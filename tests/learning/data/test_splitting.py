from __future__ import annotations

import json

import numpy as np
import pytest

from napari_unet.config import NetworkConfig, NormalizationConfig, TrainConfig
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.learning.data.cuts import GUARD_PX
from napari_unet.learning.data.grouping import groups_of
from napari_unet.learning.data.pairs import LazyPair
from napari_unet.learning.data.splitting import hold_back
from napari_unet.learning.data.summaries import summarize
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.preparation import prepare


def _pair(labels, *, known=None, seed=0, source="array", data=None, **about):
    """What is known of an image of noise and its labels."""
    labels = np.asarray(labels, np.int32)
    known = np.ones(labels.shape, bool) if known is None else known
    if data is None:
        data = np.random.default_rng(seed).random((1, *labels.shape))
    image = Image(data, source=source)
    annotation = Annotation(labels, known=known, **about)
    return summarize(LazyPair(image, annotation), NormalizationConfig())


def _grid(n: int = 4) -> np.ndarray:
    """Squares of 8 px in a grid of n x n, 16 px apart."""
    labels = np.zeros((16 * n, 16 * n), np.int32)
    for i in range(n * n):
        y, x = 16 * (i // n) + 4, 16 * (i % n) + 4
        labels[y : y + 8, x : x + 8] = i + 1
    return labels


def _different(n: int, **about) -> list:
    return [_pair(_grid(2), seed=i, **about) for i in range(n)]


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _px(regions, shape) -> np.ndarray:
    found = np.zeros(shape, int)
    for region in regions:
        found[(*region.plane, *region.slices)] += 1
    return found


@pytest.mark.parametrize("n_images", [1, 2, 4])
def test_few_images_give_a_block_each_and_share_no_pixel(n_images):
    division = hold_back(
        [_pair(_grid(), seed=i) for i in range(n_images)], 0.25, _rng()
    )
    assert division.is_held_back
    assert "block" in division.how
    for i in range(n_images):
        train, back = (
            _px([r for r in part if r.image == i], (64, 64))
            for part in (division.train, division.held_back)
        )
        assert train.any()
        assert back.any()
        assert (train + back).max() == 1
        # Between the two lies a guard band, and nothing else.
        assert (train + back == 0).sum() == 64 * GUARD_PX


def test_a_block_has_about_the_wanted_share_of_what_is_known():
    known = np.zeros((64, 64), bool)
    known[:, :32] = True  # cutting columns at 3/4 would hold back nothing known
    labels = np.where(known, _grid(), 0)
    division = hold_back([_pair(labels, known=known)], 0.25, _rng())
    back = _px(division.held_back, (64, 64)) > 0
    assert 0.15 < (back & known).sum() / known.sum() < 0.4


def test_the_cut_goes_between_cells_where_it_can():
    labels = _grid()
    division = hold_back([_pair(labels)], 0.25, _rng())
    ids = [
        set(labels[_px(part, labels.shape) > 0]) - {0}
        for part in (division.train, division.held_back)
    ]
    assert not ids[0] & ids[1]


def test_five_images_or_more_are_held_back_whole():
    division = hold_back(_different(10), 0.2, _rng())
    assert (len(division.train), len(division.held_back)) == (8, 2)
    images = [{r.image for r in part} for part in (division.train, division.held_back)]
    assert not images[0] & images[1]
    assert division.how == "2 of 10 images held back"
    assert division.is_held_back
    assert {r.shape for r in division.held_back} == {(32, 32)}


def test_planes_of_one_stack_stay_together():
    stacks = [_pair(np.stack([_grid(2)] * 3), seed=i) for i in range(5)]
    division = hold_back(stacks, 0.01, _rng())
    assert len(division.held_back) == 3
    assert len({r.image for r in division.held_back}) == 1


def test_which_images_depends_on_the_seed_alone():
    chosen = [
        tuple(r.image for r in hold_back(_different(10), 0.3, _rng(seed)).held_back)
        for seed in (3, 3, 4, 5, 6)
    ]
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) > 1


def test_copies_and_near_copies_of_an_image_show_one_field():
    data = _rng().random((1, 64, 64))
    noisy = data + 0.02 * _rng(1).standard_normal(data.shape)
    pairs = [
        _pair(_grid(), data=each)
        for each in (data, _rng(2).random((1, 64, 64)), data, noisy)
    ]
    assert groups_of(pairs) == [0, 1, 0, 0]


def test_what_is_smooth_alike_in_all_images_makes_no_copies_of_them():
    # The illumination of one microscope.
    ramp = np.linspace(0, 50, 64) * np.ones((1, 64, 1))
    pairs = [_pair(_grid(), data=ramp + _rng(i).random((1, 64, 64))) for i in range(4)]
    assert groups_of(pairs) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("a", "b", "is_one"),
    [
        ("i/well 3_tile1.tif", "i/well 3_tile12.tif", True),
        ("i/a-crop_2_1.png", "i/a-crop_1_1.png", True),
        ("i/a_tile1.tif", "j/a_tile2.tif", False),
        ("i/cells_1.tif", "i/cells_2.tif", False),
        ("i/tile1.tif", "i/tile2.tif", False),
        ("array", "array", False),
    ],
)
def test_tiles_of_one_field_are_known_by_their_names(a, b, is_one):
    pairs = [_pair(_grid(), seed=i, source=name) for i, name in enumerate((a, b))]
    assert (groups_of(pairs) == [0, 0]) == is_one


def test_when_all_images_show_one_field_blocks_are_held_back_alike():
    data = _rng().random((1, 64, 64))
    division = hold_back([_pair(_grid(), data=data)] * 6, 0.25, _rng())
    assert len({(r.start, r.shape) for r in division.held_back}) == 1
    assert len({(r.start, r.shape) for r in division.train}) == 1
    assert {r.image for r in division.held_back} == set(range(6))


def test_images_are_cut_where_only_one_of_many_has_cells():
    pairs = [_pair(np.zeros((64, 64)), seed=i) for i in range(5)]
    division = hold_back([*pairs, _pair(_grid(), seed=5)], 0.2, _rng())
    assert division.is_held_back
    assert division.how == "a block of 1 of 6 planes held back"
    assert {r.image for r in division.held_back} == {5}
    assert {r.image for r in division.train} == set(range(6))


def test_of_a_stack_the_last_slices_are_held_back_with_a_gap():
    stack = _pair(np.stack([_grid(2)] * 10))
    division = hold_back([stack], 0.2, _rng())
    assert [r.plane for r in division.held_back] == [(8,), (9,)]
    assert [r.plane for r in division.train] == [(z,) for z in range(7)]
    assert "the last 2 of 10 annotated slices held back" in division.how


def test_slices_that_are_not_annotated_are_spare_unless_near_what_is_held_back():
    labels = np.zeros((20, 32, 32), np.int32)
    known = np.zeros(labels.shape, bool)
    for z in (0, 4, 8, 12, 16):
        labels[z], known[z] = _grid(2), True
    division = hold_back([_pair(labels, known=known)], 0.2, _rng())
    assert [r.plane for r in division.held_back] == [(16,)]
    spare = [r.plane[0] for r in division.spare]
    assert spare == [z for z in range(15) if z % 4]


def test_a_few_slices_are_cut_at_one_line():
    stack = _pair(np.stack([_grid(), np.roll(_grid(), 5, 1), np.roll(_grid(), 9, 0)]))
    division = hold_back([stack], 0.25, _rng())
    assert len({(r.start, r.shape) for r in division.held_back}) == 1


def test_one_cell_cannot_be_held_back_and_that_is_said():
    labels = np.zeros((64, 64))
    labels[20:44, 20:44] = 1
    division = hold_back([_pair(labels)], 0.2, _rng())
    assert not division.is_held_back
    assert division.how.startswith("too few cells to hold any back")
    assert division.train == division.held_back


def test_an_image_too_small_to_cut_is_not_cut():
    labels = np.zeros((20, 20))
    labels[2:6, 2:6], labels[12:18, 12:18] = 1, 2
    division = hold_back([_pair(labels)], 0.2, _rng())
    assert not division.is_held_back
    assert division.how.startswith("too small to hold a part back")


def test_a_share_of_a_block_too_narrow_is_named_as_the_cause():
    # Of 80 px 4 px, and up to 8 px more for a line that cuts fewer cells.
    division = hold_back([_pair(_grid(5))], 0.05, _rng())
    assert not division.is_held_back
    assert "a validation share of 0.05 leaves a block under 16 px" in division.how
    assert "cells" not in division.how
    assert hold_back([_pair(_grid(5))], 0.3, _rng()).is_held_back


def test_a_block_of_any_side_is_taken_if_it_cuts_least():
    # Cells lie so that only the right side can be cut off cleanly.
    labels = np.zeros((96, 96), np.int32)
    labels[4:92, 4:40] = 1
    labels[40:56, 78:92] = 2
    division = hold_back([_pair(labels)], 0.2, _rng())
    sides = [
        set(np.unique(labels[_px(part, labels.shape) > 0]))
        for part in (division.held_back, division.train)
    ]
    assert sides == [{0, 2}, {0, 1}]


def test_a_block_of_a_single_cell_is_not_worth_a_clean_cut():
    # The right side cuts none of twelve cells and has one; others have more.
    labels = np.zeros((96, 96), np.int32)
    for i in range(3):
        labels[4 + 24 * i : 20 + 24 * i, 2:18] = i + 1
    labels[76:92, 8:40] = 4
    for i in range(6):
        labels[10 + 14 * i : 22 + 14 * i, 44:62] = i + 5
    labels[40:52, 80:92] = 12
    division = hold_back([_pair(labels)], 0.25, _rng())
    (held,) = division.held_back
    inside = np.bincount(labels[held.slices].ravel(), minlength=13)[1:]
    assert (inside == np.bincount(labels.ravel())[1:]).sum() >= 2


def test_areas_alone_can_be_held_back_too():
    labels = np.ones((64, 64), np.int32)
    labels[:, ::2] = 0
    division = hold_back([_pair(labels, area_classes=frozenset({1}))], 0.25, _rng())
    assert division.is_held_back


def _split_of(images, annotations, **config):
    network = NetworkConfig(base_width=2, depth=1)
    material = gather(images, annotations, TrainConfig(**config), network=network)
    return prepare(material, material.config, network=network).split


def test_cells_that_the_line_cuts_are_counted_on_one_side_only():
    labels = np.zeros((64, 64), np.int32)
    labels[1:5, 1:5], labels[1:5, 59:63], labels[59:63, 1:5] = 1, 2, 3
    # Whatever the line, it cuts one of these.
    labels[2:62, 30:34], labels[30:34, 2:29], labels[30:34, 35:62] = 4, 5, 6
    split = _split_of([_rng().random((64, 64))], [labels])
    (back,), (train,) = split.validation, split.train
    held, kept = back.load(), train.load()
    cut = set(np.unique(kept.labels)) & set(
        np.unique(labels[split.held_back[0].slices])
    ) - {0}
    assert cut
    assert not cut & set(np.unique(held.labels))
    where = np.isin(labels[split.held_back[0].slices], list(cut))
    assert not held.known[where].any()
    assert not held.target.weights[where].any()
    assert held.known[~where].all()


def test_the_split_can_be_written_down():
    split = _split_of([_rng().random((64, 64))], [_grid()])
    found = json.loads(json.dumps(split.as_json()))
    (region,) = found["held_back"]
    assert tuple(region["start"]) == split.held_back[0].start
    assert region["source"] == "array"
    assert found["how"] == split.how
