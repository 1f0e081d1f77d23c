from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.config import InstanceConfig, NetworkConfig, TrainConfig, WeightConfig
from napari_unet.events import Compared, Region
from napari_unet.imaging.arrays import Annotation, Target
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.intensity import IntensityRange
from napari_unet.imaging.targets import make_target
from napari_unet.learning.data.planes import Plane
from napari_unet.learning.device import DeviceChoice
from napari_unet.learning.model import Model
from napari_unet.learning.quality import comparison, uncertainty
from napari_unet.learning.quality.comparison import compare, held_back_id

CPU = DeviceChoice("cpu", "CPU")
EXACT = InstanceConfig(
    smoothing_px=0, seed_threshold=0.5, give_back_gap=False, min_size_px=0
)


class _Channel(torch.nn.Module):
    """A network whose foreground logit is one channel of the image."""

    margin, halo, multiple = 0, 0, 1

    def __init__(self, channel: int, of_values: bool = False) -> None:
        super().__init__()
        self.config = NetworkConfig(in_channels=2, out_channels=1 if of_values else 2)
        self.channel, self.of_values = channel, of_values

    def forward(self, image):
        own = image[:, self.channel, None]
        return own if self.of_values else torch.cat([-own / 2, own / 2], 1)

    def input_size_for(self, n):
        return n


class _Fixed(Model):
    """A model that gives back a channel of the image."""

    def build(self):
        return _Channel(self.step, self.training.task == "regress")


def _model(channel: int, **about: object) -> Model:
    return _Fixed(
        NetworkConfig(in_channels=2), {}, instances=EXACT, step=channel, **about
    )


OLD, NEW = _model(0), _model(1)


def _plane(labels, old, new, region=None) -> Plane:
    """Return cells, and as an image those that each of two models finds."""
    image = np.stack([np.where(found > 0, 6.0, -6.0) for found in (old, new)])
    target = make_target(Annotation.complete(labels), WeightConfig())
    known = np.ones(labels.shape, bool)
    return Plane(image.astype(np.float32), labels, known, target, region)


def _labels(seed: int = 0, n_cells: int = 20, side: int = 128) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return draw_cells((side, side), n_cells=n_cells, rng=rng)[1]


def _without(labels, ids):
    return np.where(np.isin(labels, ids), 0, labels)


def test_a_model_that_finds_many_more_cells_is_better_and_the_other_way_worse():
    labels = _labels()
    plane = _plane(labels, _without(labels, range(1, 9)), labels)
    found = compare(OLD, NEW, [plane], CPU)
    assert found.verdict == "better"
    assert found.difference > 0
    assert 0 < found.interval[0] < found.difference < found.interval[1]
    assert (found.keep, found.rejected, found.is_new_kept) == (NEW, OLD, True)
    assert found.n_units == len(np.unique(labels)) - 1
    other = compare(NEW, OLD, [plane], CPU)
    assert other.verdict == "worse"
    assert (other.keep, other.rejected, other.is_new_kept) == (NEW, OLD, False)
    assert other.difference == pytest.approx(-found.difference)
    assert not found.worse_cells
    assert sorted(cell.label for cell in other.worse_cells) == list(range(1, 9))


def test_one_cell_more_or_less_is_within_the_noise():
    labels = _labels()
    plane = _plane(labels, _without(labels, [3]), _without(labels, [4, 5]))
    found = compare(OLD, NEW, [plane], CPU)
    assert found.verdict == "same"
    assert found.interval[0] < 0 < found.interval[1]
    # Within the noise the higher score is kept, and of equal ones the new.
    assert found.keep is OLD
    assert compare(NEW, OLD, [plane], CPU).keep is OLD
    alike = _plane(labels, labels, labels)
    assert compare(OLD, NEW, [alike], CPU).keep is NEW


def test_of_very_few_cells_nothing_is_concluded():
    labels = _labels(n_cells=3, side=64)
    nothing = np.zeros_like(labels)
    found = compare(OLD, NEW, [_plane(labels, nothing, labels)], CPU)
    assert found.verdict == "same"
    assert found.keep is NEW
    assert "too few to tell" in found.sentence


def test_scores_of_both_stand_side_by_side_without_their_losses():
    labels = _labels()
    old = _without(labels, [1, 2, 3])
    found = compare(OLD, NEW, [_plane(labels, old, labels)], CPU)
    event = found.event
    assert isinstance(event, Compared)
    assert event.verdict == found.verdict
    n = len(np.unique(labels)) - 1
    assert event.before["ap"] == pytest.approx((n - 3) / n)
    assert event.now["ap"] == 1
    assert event.before["n_cells"] == event.now["n_cells"] == n
    assert "loss" not in event.before


def test_each_model_uses_its_own_settings():
    labels = _labels()
    plane = _plane(labels, labels, labels)
    blind = InstanceConfig(threshold=0.999, seed_threshold=0.999)
    found = compare(replace(OLD, instances=blind), NEW, [plane], CPU)
    assert found.event.before["ap"] == 0
    assert found.event.now["ap"] == 1


def test_worse_cells_are_placed_in_the_image_worst_first():
    labels = np.zeros((40, 60), np.int32)
    labels[4:14, 6:16], labels[20:30, 20:30], labels[25:35, 44:54] = 7, 3, 5
    new = labels.copy()
    new[4:14, 6:16] = 0  # lost
    new[20:30, 28:30] = 0  # IoU 0.8
    new[25:35, 53:54] = 0  # IoU 0.9: a little worse only
    # A window of an image at twice the working scale.
    region = Region(2, (4,), (100, 200), (80, 120), "a.tif")
    found = compare(OLD, NEW, [_plane(labels, labels, new, region)], CPU)
    first, second = found.worse_cells
    assert (first.label, first.iou_before, first.iou_now) == (7, 1, 0)
    assert first.region == Region(2, (4,), (108, 212), (20, 20), "a.tif")
    # Its middle is between pixels 117 and 118, and 221 and 222.
    assert first.middle == (117.5, 221.5)
    assert (second.label, second.iou_now) == (3, pytest.approx(0.8))


def test_a_cell_that_was_never_found_is_not_worse():
    labels = _labels()
    sliver = labels.copy()
    cell = np.flatnonzero(labels == 1)
    sliver.flat[cell[: int(0.6 * len(cell))]] = 0
    plane = _plane(labels, sliver, _without(labels, [1]))
    assert not compare(OLD, NEW, [plane], CPU).worse_cells


def test_with_many_images_these_are_drawn_and_not_their_cells():
    # One image of ten is lost whole: many cells, but one accident.
    planes = []
    for k in range(10):
        labels = _labels(k, n_cells=12, side=96)
        old = np.zeros_like(labels) if k == 0 else labels
        region = Region(k, (), (0, 0), labels.shape)
        planes.append(_plane(labels, old, labels, region))
    found = compare(OLD, NEW, planes, CPU)
    assert found.n_units == 10
    assert found.verdict == "same"
    one = [replace(plane, region=None) for plane in planes[:9]]
    assert compare(OLD, NEW, one, CPU).verdict == "better"


@pytest.mark.parametrize("by", ["mean_ap", "ap", "f1", "iou", "loss"])
def test_what_chooses_the_best_also_decides(by):
    labels = _labels()
    plane = _plane(labels, _without(labels, range(1, 9)), labels)
    now = replace(NEW, training=TrainConfig(choose_by=by))
    found = compare(OLD, now, [plane], CPU)
    assert found.verdict == "better"
    assert found.keep is now
    expected = (found.now.scores.map + found.now.scores.iou) / 2
    own = {"loss": expected, "iou": found.now.scores.iou}
    assert found.now.score == own.get(by, 1.0)


def test_the_range_of_each_models_own_images_is_honoured():
    labels = _labels()
    raw = np.where(labels > 0, 900.0, 100.0)
    new_range = IntensityRange((500.0, 500.0), (600.0, 600.0))
    old_range = IntensityRange((1000.0, 1000.0), (1100.0, 1100.0))
    plane = _plane(labels, labels, labels)
    image = np.stack([(raw - 500) / 100] * 2).astype(np.float32)
    plane = replace(plane, image=image)
    now = replace(NEW, dataset_range=new_range)
    same = replace(OLD, dataset_range=new_range)
    dark = replace(OLD, dataset_range=old_range)
    assert compare(same, now, [plane], CPU).event.before["ap"] == 1
    # With its own range nothing is bright.
    assert compare(dark, now, [plane], CPU).event.before["ap"] == 0


def test_the_sentence_says_what_came_out_and_which_is_kept():
    labels = _labels()
    plane = _plane(labels, _without(labels, range(1, 9)), labels)
    sentence = compare(OLD, NEW, [plane], CPU).sentence
    assert sentence.startswith("The new model is better than the one it started from")
    assert "mean of mean AP and IoU 1.00 instead of 0.59" in sentence
    assert f"on {labels.max()} held-back cells" in sentence
    assert "at 95 %); the new one is kept" in sentence
    worse = compare(NEW, OLD, [plane], CPU).sentence
    assert "worse than" in worse
    assert "the old one is kept; 8 cells are found worse" in worse


def test_a_split_that_moved_flatters_the_model_before():
    labels = _labels()
    region = Region(0, (), (0, 0), labels.shape, "a.tif")
    plane = _plane(labels, labels, labels, region)
    there = replace(OLD, held_back=(region,))
    elsewhere = replace(region, start=(0, 64))
    moved = replace(OLD, held_back=(elsewhere,))
    other = replace(OLD, held_back=(replace(region, source="b.tif"),))
    assert not compare(there, NEW, [plane], CPU).may_be_known
    assert not compare(other, NEW, [plane], CPU).may_be_known
    found = compare(moved, NEW, [plane], CPU)
    assert found.may_be_known
    assert "may have learned from some of these pixels" in found.sentence


def _made(noise: float, shape=(200, 150), seed: int = 0) -> Plane:
    rng = np.random.default_rng(seed)
    truth = rng.random(shape).astype(np.float32)
    old = truth + rng.normal(0, 0.1, shape)
    new = truth + rng.normal(0, noise, shape)
    weights = np.ones(shape, np.float32)
    image = np.stack([old, new]).astype(np.float32)
    target = Target(None, weights, truth[None])
    return Plane(image, np.zeros(shape, np.int32), weights > 0, target)


@pytest.mark.parametrize("n_images", [1, 12])
@pytest.mark.parametrize("by", [None, "ssim"])
def test_images_that_are_made_are_compared_too(by, n_images):
    config = TrainConfig(task="regress", choose_by=by)
    old, new = (
        replace(m, training=config, roles=("value:a",)) for m in (OLD, NEW)
    )  # fmt: skip

    def verdict(noise):
        planes = [_made(noise, seed=k) for k in range(n_images)]
        return compare(old, new, planes, CPU)

    better = verdict(0.08)
    assert (better.verdict, better.keep) == ("better", new)
    # 4 x 3 tiles of the one image, of which three are too small for SSIM.
    assert better.n_units == (9 if (n_images, by) == (1, "ssim") else 12)
    assert (verdict(0.13).verdict, verdict(0.1).verdict) == ("worse", "same")
    if by is None:
        assert better.difference == pytest.approx(20 * np.log10(0.1 / 0.08), abs=0.3)
        low, high = better.interval
        assert low < better.difference < high
        assert "PSNR (dB)" in better.sentence
    assert f"{n_images} held-back image" in better.sentence


def test_a_perfect_image_is_no_error():
    config = TrainConfig(task="regress")
    old, new = (replace(m, training=config, roles=("value:a",)) for m in (OLD, NEW))
    found = compare(old, new, [_made(0.0)], CPU)
    assert found.verdict == "better"
    assert np.isfinite(found.interval).all()


def test_what_is_held_back_has_a_name_that_order_does_not_change():
    labels = _labels(n_cells=3, side=32)
    regions = [Region(k, (), (0, 0), (32, 32), f"{k}.tif") for k in range(3)]
    planes = [_plane(labels, labels, labels, region) for region in regions]
    assert held_back_id(planes) == held_back_id(planes[::-1])
    assert held_back_id(planes) != held_back_id(planes[:2])
    # Where an image stands in the list doesn't matter where its file is known.
    moved = [replace(p, region=replace(p.region, image=9)) for p in planes]
    assert held_back_id(moved) == held_back_id(planes)
    shifted = replace(planes[0], region=replace(regions[0], start=(1, 0)))
    assert held_back_id([shifted, *planes[1:]]) != held_back_id(planes)
    assert len(held_back_id([])) == 64


def test_constants_are_what_the_docs_say():
    assert (comparison._MIN_UNITS, uncertainty._MIN_IMAGES_TO_DRAW) == (5, 10)
