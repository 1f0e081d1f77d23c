from __future__ import annotations

import numpy as np
import pytest

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError, LabelError
from napari_unet.events import Finished, Mailbox, Note, Region, TrainingStarted
from napari_unet.imaging.arrays import Annotation
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning import fractions
from napari_unet.learning.fractions import CurveDone, CurvePoint, learning_curve


def _drawn(n: int, n_cells: int = 12) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    drawn = [draw_cells((96, 80), n_cells=n_cells, rng=rng) for _ in range(n)]
    return [image for image, _ in drawn], [labels for _, labels in drawn]


def _count(annotation: Annotation) -> int:
    return len(np.unique(annotation.labels)) - (annotation.labels == 0).any()


class _Training:
    """Stands for `train`: remembers what it was given, and scores by what it saw."""

    def __init__(self, regions=()) -> None:
        self.regions = regions
        self.seen: list[dict[str, object]] = []

    def __call__(self, images, annotations, config, *, validation=None, **others):
        yield TrainingStarted(1, 1, 1, "CPU", "some", tuple(self.regions))
        n = sum(_count(fractions.as_annotation(a)) for a in annotations)
        self.seen.append(
            {"images": images, "annotations": annotations, "validation": validation}
            | others
        )
        score = 0.9 - 2 / n
        yield Note("training")
        scores = {"map": score - 0.1, "iou": score + 0.1, "n_cells": 50.0}
        yield Finished(None, scores, "steps")


@pytest.fixture
def training(monkeypatch):
    def use(regions=()) -> _Training:
        stand_in = _Training(regions)
        monkeypatch.setattr(fractions, "train", stand_in)
        return stand_in

    return use


def test_each_fraction_is_trained_on_and_the_curve_told(training):
    stand_in = training()
    images, labels = _drawn(4)
    n_all = sum(len(np.unique(own)) - 1 for own in labels)
    held = (images[:1], labels[:1])
    events = list(learning_curve(images, labels, validation=held, network=None))
    points = [event for event in events if isinstance(event, CurvePoint)]
    assert [p.fraction for p in points] == [0.25, 0.5, 1.0]
    assert [p.n_cells for p in points] == pytest.approx(
        [n_all / 4, n_all / 2, n_all], abs=1
    )
    assert [p.score for p in points] == pytest.approx(
        [0.9 - 2 / p.n_cells for p in points]
    )
    assert not any(isinstance(event, Finished) for event in events)
    done = events[-1]
    assert isinstance(done, CurveDone)
    assert done.points == tuple(points)
    assert done.curve.estimate(2 * n_all)[1] > points[-1].score
    assert done.sentence.startswith(f"{n_all} more may bring +0.0")
    assert all(seen["validation"] is held for seen in stand_in.seen)
    assert all(seen["network"] is None for seen in stand_in.seen)


def test_a_fraction_is_part_of_the_next_and_the_rest_is_unknown(training):
    stand_in = training()
    images, labels = _drawn(3)
    held = (images[:1], labels[:1])
    list(learning_curve(images, labels, fractions=(0.2, 0.6, 1), validation=held))
    smaller: set[tuple[int, int]] = set()
    for seen in stand_in.seen:
        cells = set()
        for image, annotation in zip(seen["images"], seen["annotations"], strict=True):
            k = next(i for i, own in enumerate(images) if own is image)
            shown = annotation.labels
            # Whole cells only, under their own numbers, and background beside them.
            for label in np.unique(shown[shown > 0]):
                np.testing.assert_array_equal(shown == label, labels[k] == label)
                cells.add((k, int(label)))
            lost = (labels[k] > 0) & (shown == 0)
            assert not annotation.is_known[lost].any()
        assert smaller <= cells
        smaller = cells
    assert smaller == {
        (k, int(i)) for k, own in enumerate(labels) for i in np.unique(own[own > 0])
    }


def test_the_same_pixels_are_held_back_each_time(training):
    images, labels = _drawn(2)
    block = Region(0, (), (0, 0), (40, 80))
    stand_in = training([block, Region(1, (), (0, 0), (96, 80))])
    list(learning_curve(images, labels, fractions=(0.5, 1)))
    # The first only told what would be held back.
    for seen in stand_in.seen:
        held_images, held = seen["validation"]
        assert [own is image for own, image in zip(held_images, images, strict=True)]
        first, second = held
        assert not first.is_known[40:].any()
        assert first.is_known[:40][labels[0][:40] == 0].all()
        assert second.is_known.all()
        (learned,) = seen["annotations"]
        assert not learned.is_known[:40].any()
        crossing = set(np.unique(labels[0][:40])) & set(np.unique(labels[0][40:])) - {0}
        assert crossing
        for annotation in (first, learned):
            assert not crossing & set(np.unique(annotation.labels))
    assert len(stand_in.seen) == 2


def test_planes_of_a_stack_are_held_back_as_planes(training):
    images, labels = _drawn(1)
    stack = Annotation.complete(np.stack([labels[0], labels[0] + (labels[0] > 0) * 50]))
    stand_in = training([Region(0, (1,), (0, 0), (96, 80))])
    list(learning_curve([images[0]], [stack], fractions=(1,)))
    (learned,) = stand_in.seen[0]["annotations"]
    assert learned.is_known[0].all()
    assert not learned.is_known[1].any()


def test_where_nothing_can_be_held_back_there_is_no_curve(training):
    training([])
    images, labels = _drawn(1)
    with pytest.raises(LabelError, match="too few cells are annotated to hold any"):
        list(learning_curve(images, labels))


def test_two_points_are_too_few_and_it_is_said(training):
    training()
    images, labels = _drawn(2)
    done = list(
        learning_curve(images, labels, fractions=(0.5, 1), validation=(images, labels))
    )[-1]
    assert done.curve is None
    assert "2 different numbers of annotated cells are too few" in done.sentence


def test_stop_ends_the_curve_with_what_there_is(training):
    training()
    images, labels = _drawn(2)
    mailbox = Mailbox()
    points = []
    for event in learning_curve(
        images, labels, validation=(images, labels), mailbox=mailbox
    ):
        if isinstance(event, CurvePoint):
            points.append(event)
            mailbox.stop()
    assert len(points) == 1
    assert event.points == tuple(points)


@pytest.mark.parametrize("shares", [(), (0,), (0.5, 1.5), (-1,)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(ConfigError, match="shares above 0"):
        next(learning_curve([], [], fractions=shares))


def test_a_task_without_cells_is_refused():
    with pytest.raises(ConfigError, match="'regress'"):
        next(learning_curve([], [], TrainConfig(task="regress")))


@pytest.mark.slow
def test_a_real_curve_trains_and_holds_back_the_same_cells():
    images, labels = _drawn(2, n_cells=24)
    config = TrainConfig(
        max_steps=6, batch_size=2, patch_size=32, validate_every=3, device="cpu"
    )
    network = NetworkConfig(base_width=2, depth=1)
    events = list(
        learning_curve(images, labels, config, fractions=(0.4, 1), network=network)
    )
    points = [event for event in events if isinstance(event, CurvePoint)]
    assert len(points) == 2
    assert points[0].n_cells < points[1].n_cells
    assert points[0].n_held_back == points[1].n_held_back > 0
