"""What goes into a running training, and what comes out of it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import napari_unet as nu
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.events import (
    CheckpointSaved,
    Finished,
    Improved,
    Mailbox,
    Note,
    Previewed,
    Region,
    StepDone,
    Stroke,
    StrokesTaken,
    TrainingStarted,
)
from napari_unet.learning.loop import live, previews
from napari_unet.learning.loop.live import read_strokes
from napari_unet.learning.loop.progress import learning_rate
from napari_unet.learning.loop.stepping import Stepper
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.training import train

TINY = NetworkConfig(base_width=4, depth=1)


def _config(**settings: object) -> TrainConfig:
    quick = {
        "max_steps": 6, "validate_every": 3, "patch_size": 16, "batch_size": 2,
        "learning_rate": 1e-2, "device": "cpu", "precision": "fp32",
        "working_scale": 1.0,
    }  # fmt: skip
    return TrainConfig(**(quick | settings))


def _start(cells, mailbox, *, network=TINY, **about):
    config = about.pop("config", _config())
    return train(
        [cells[0]], [cells[1]], config, network=network, mailbox=mailbox, **about
    )


def _of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def _stroke(started: TrainingStarted, cells, *, is_held_back: bool) -> Stroke:
    """Paint a cell of 9 x 9 px on what is held back, or as far from it as possible."""
    (held,) = started.held_back
    top = np.add(held.start, np.array(held.shape) // 2 - 4)
    if not is_held_back:
        top = np.where(np.array(held.shape) < 64, 64 - 9 - top, 8)
    region = Region(0, (), (int(top[0]), int(top[1])), (9, 9), held.source)
    return Stroke(region, np.full((9, 9), 77, np.int32), np.ones((9, 9), bool))


def test_a_stroke_is_learned_from_at_the_next_step(cells, tmp_path):
    mailbox, events = Mailbox(), []
    for event in _start(cells, mailbox, run_dir=tmp_path):
        events.append(event)
        if isinstance(event, StepDone) and event.step == 2:
            mailbox.paint(_stroke(events[0], cells, is_held_back=False))
    at = [type(event) for event in events].index(StrokesTaken)
    assert events[at] == StrokesTaken(step=2, n_strokes=1)
    assert isinstance(events[at + 1], StepDone)
    assert events[at + 1].step == 3
    without = [e.loss for e in _of(StepDone, _start(cells, Mailbox()))]
    losses = [event.loss for event in _of(StepDone, events)]
    assert losses[:2] == without[:2]
    assert losses[2] != without[2]
    ((step, stroke),) = read_strokes(tmp_path / "strokes.jsonl")
    assert step == 2
    assert (stroke.labels == 77).all()


def test_a_stroke_on_held_back_pixels_is_never_learned_from(cells):
    mailbox, events = Mailbox(), []
    for event in _start(cells, mailbox):
        events.append(event)
        if isinstance(event, StepDone) and event.step in {2, 4}:
            mailbox.paint(_stroke(events[0], cells, is_held_back=True))
    assert not _of(StrokesTaken, events)
    notes = [n.message for n in _of(Note, events) if "painted" in n.message]
    assert len(notes) == 1  # told once
    expected = list(_start(cells, Mailbox()))
    losses = [[e.loss for e in _of(StepDone, each)] for each in (events, expected)]
    assert losses[0] == losses[1]


def test_strokes_are_replayed_when_a_run_is_gone_on_with(cells, tmp_path):
    config = _config(max_steps=8, checkpoint_every=3)

    def run(folder, *, until: int | None, resume: bool = False) -> list:
        mailbox, events = Mailbox(), []
        generator = _start(cells, mailbox, config=config, run_dir=folder, resume=resume)
        for event in generator:
            events.append(event)
            if isinstance(event, StepDone):
                if event.step in {2, 4} and not resume:
                    stroke = _stroke(events[0], cells, is_held_back=False)
                    labels = stroke.labels + event.step
                    mailbox.paint(replace(stroke, labels=labels))
                if event.step == until:
                    break
        generator.close()
        return events

    never = run(tmp_path / "never", until=None)
    run(tmp_path / "closed", until=6)
    # As if killed at step 6: what was saved on closing is gone.
    for path in (tmp_path / "closed" / "checkpoints").glob("step-000006*"):
        path.unlink()
    second = run(tmp_path / "closed", until=None, resume=True)
    assert _of(TrainingStarted, second)[0].first_step == 3
    # That of step 2 is in again before the first step, that of step 4 at its own.
    assert [event.step for event in _of(StrokesTaken, second)] == [3, 4]
    shas = [weights_sha256(events[-1].model.state) for events in (never, second)]
    assert shas[0] == shas[1]
    assert len(read_strokes(tmp_path / "closed" / "strokes.jsonl")) == 2


def _written(tmp_path) -> tuple:
    rng = np.random.default_rng(0)
    strokes = [
        Stroke(
            Region(i, (i,), (3, 4), (5, 7 + i), "a.tif"),
            rng.integers(-1, 2**31 - 1, (5, 7 + i), dtype=np.int32),
            rng.random((5, 7 + i)) < 0.5,
            {7: 2},
        )
        for i in range(3)
    ]
    path = tmp_path / "strokes.jsonl"
    mailbox, source = Mailbox(), SimpleNamespace(apply=lambda *_: 1)
    for step, stroke in enumerate(strokes):
        mailbox.paint(stroke)
        assert list(live.Strokes(path).enter(source, mailbox, step))
    return path, strokes


def _assert_same(found, strokes) -> None:
    assert [step for step, _ in found] == list(range(len(strokes)))
    for (_, stroke), expected in zip(found, strokes, strict=True):
        assert (stroke.region, stroke.label_class) == (
            expected.region, expected.label_class,
        )  # fmt: skip
        np.testing.assert_array_equal(stroke.labels, expected.labels)
        np.testing.assert_array_equal(stroke.known, expected.known)
        assert (stroke.labels.dtype, stroke.known.dtype) == (np.int32, bool)


def test_strokes_are_read_as_they_were_written(tmp_path):
    path, strokes = _written(tmp_path)
    _assert_same(read_strokes(path), strokes)


def test_a_log_that_a_kill_cut_is_read_up_to_its_last_whole_stroke(tmp_path):
    path, strokes = _written(tmp_path)
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(ends[1], ends[2] - 1):
        path.write_bytes(content[:cut])
        _assert_same(read_strokes(path), strokes[:2])


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [6, 8]}, {"shape": [0, 7]}, {"shape": [10**9, 10**9]},
        {"labels": "AA"}, {"step": None}, {"label_class": 3}, {"known": "*"},
    ],
)  # fmt: skip
def test_a_stroke_that_can_be_none_is_not_taken(tmp_path, change):
    path, strokes = _written(tmp_path)
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows[1] |= change
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    _assert_same(read_strokes(path), strokes[:1])


@pytest.fixture
def fake_clock(monkeypatch):
    """A clock for previews that someone has to turn."""
    clock = SimpleNamespace(now=100.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr(previews, "time", fake)
    return clock


VIEW = Region(0, (), (10, 20), (30, 25), "array")


def test_the_preview_is_what_the_averaged_weights_make_of_the_view(cells):
    mailbox, shown = Mailbox(), []
    mailbox.look_at(VIEW)
    for event in _start(cells, mailbox, config=_config(max_steps=3)):
        if isinstance(event, Previewed):
            shown.append(event)
    first = shown[0]
    assert first.step == 1
    assert first.region == VIEW
    assert (first.labels.shape, first.labels.dtype) == ((30, 25), np.int32)
    assert (first.outputs.shape, first.outputs.dtype) == ((2, 30, 25), np.float32)
    np.testing.assert_allclose(first.outputs.sum(axis=0), 1, atol=1e-5)


def test_the_preview_equals_a_prediction_of_the_whole_image(cells, fake_clock):
    mailbox, shown, model = Mailbox(), None, None
    for event in _start(cells, mailbox, config=_config(max_steps=4)):
        if isinstance(event, StepDone) and event.step == 3:
            mailbox.look_at(VIEW)  # seen at step 3, which is validated next
        if isinstance(event, Previewed):
            shown = shown or event
        if isinstance(event, Improved) and event.step == 3:
            model = event.model
    assert shown.step == 3
    whole = nu.predict(model, cells[0])
    np.testing.assert_allclose(
        shown.outputs, whole[(slice(None), *VIEW.slices)], atol=1e-4
    )


@pytest.mark.parametrize(("finer", "follows"), [(1, True), (2, False)])
def test_the_preview_of_a_made_image_is_its_prediction(fake_clock, finer, follows):
    rng = np.random.default_rng(0)
    image = rng.uniform(100, 900, (48, 56)).astype(np.float32)
    sign = 1 if follows else -1
    target = 5000 + sign * np.kron(image, np.ones((finer, finer), np.float32))
    mailbox, shown, model = Mailbox(), None, None
    config = _config(max_steps=4, task="regress")
    for event in train([image], [target], config, network=TINY, mailbox=mailbox):
        if isinstance(event, StepDone) and event.step == 3:
            mailbox.look_at(VIEW)
        if isinstance(event, Previewed):
            shown = shown or event
        if isinstance(event, Improved) and event.step == 3:
            model = event.model
    assert model.values_follow_image == follows
    assert (shown.step, shown.labels) == (3, None)
    assert shown.outputs.shape == (1, 30 * finer, 25 * finer)
    window = tuple(slice(s.start * finer, s.stop * finer) for s in VIEW.slices)
    whole = nu.predict(model, image)[(slice(None), *window)]
    # A thousandth of the range: poolings meet the mirrored edge of the view otherwise.
    np.testing.assert_allclose(shown.outputs, whole, atol=0.8)
    assert np.ptp(whole) > 10


def test_a_preview_changes_nothing_about_training(cells):
    mailbox = Mailbox()
    mailbox.look_at(VIEW)
    network = TINY.model_copy(update={"dropout": 0.5})
    looked, never = (
        list(_start(cells, box, network=network)) for box in (mailbox, Mailbox())
    )
    assert _of(Previewed, looked)
    assert not _of(Previewed, never)
    shas = [weights_sha256(events[-1].model.state) for events in (looked, never)]
    assert shas[0] == shas[1]


def test_previews_take_a_fifth_of_the_time_at_most(cells, fake_clock, monkeypatch):
    original = previews._predicted

    def slow(*given: object):
        fake_clock.now += 3.0  # it takes 3 s
        return original(*given)

    monkeypatch.setattr(previews, "_predicted", slow)
    mailbox, at = Mailbox(), []
    mailbox.look_at(VIEW)
    for event in _start(cells, mailbox, config=_config(max_steps=60)):
        if isinstance(event, StepDone):
            fake_clock.now += 1.0
        if isinstance(event, Previewed):
            at.append(fake_clock.now)
    assert len(at) >= 4
    np.testing.assert_allclose(np.diff(at), 15.0)  # 3 of 15 s


def test_a_view_that_changed_is_answered_sooner(cells, fake_clock):
    mailbox, seen = Mailbox(), []
    views = {1: VIEW, 4: replace(VIEW, start=(0, 0))}
    for event in _start(cells, mailbox, config=_config(max_steps=8)):
        if isinstance(event, StepDone):
            fake_clock.now += 0.3
            mailbox.look_at(views.get(event.step, mailbox.view))
        if isinstance(event, Previewed):
            seen.append((event.step, event.region.start))
    assert seen == [(1, (10, 20)), (4, (0, 0)), (8, (0, 0))]


def test_previews_go_on_while_training_is_paused(cells):
    mailbox, events = Mailbox(), []
    mailbox.pause()
    for event in _start(cells, mailbox):
        events.append(event)
        if len(_of(StepDone, events)) == 1 and not mailbox.view:
            mailbox.look_at(VIEW)
        if isinstance(event, Previewed) and mailbox.wants_pause:
            mailbox.resume()
    assert len(_of(StepDone, events)) == 6
    assert _of(Previewed, events)[0].step == 1


@pytest.mark.parametrize("is_at_first", [True, False])
def test_going_on_after_the_last_step_is_decided_while_it_runs(cells, is_at_first):
    mailbox, n_steps = Mailbox(), 0
    config = _config(max_steps=3, keep_learning=is_at_first)
    for event in _start(cells, mailbox, config=config):
        if isinstance(event, StepDone):
            n_steps = event.step
            if n_steps == 1:
                mailbox.keep_learning(not is_at_first)
            if n_steps == 7:
                mailbox.keep_learning(False)
        if isinstance(event, Finished):
            assert event.reason == "steps"
    assert n_steps == (3 if is_at_first else 7)


@pytest.mark.parametrize(
    ("view", "region"),
    [
        (Region(0, (), (-5, 50), (20, 100)), Region(0, (), (0, 50), (15, 14))),
        (Region(0, (), (100, 0), (20, 20)), None),
        (Region(7, (), (0, 0), (20, 20)), None),
        (Region(0, (3,), (0, 0), (20, 20)), None),
    ],
)
def test_only_what_lies_in_the_image_is_shown(cells, view, region):
    mailbox = Mailbox()
    mailbox.look_at(view)
    shown = _of(Previewed, _start(cells, mailbox, config=_config(max_steps=2)))
    assert [event.region for event in shown[:1]] == ([region] if region else [])


def test_of_a_large_view_the_middle_is_shown():
    shown = previews._shown(Region(0, (), (0, 0), (3000, 100)), (4000, 4000), 1024)
    assert (shown.start, shown.shape) == ((988, 0), (1024, 100))


def test_a_preview_that_does_not_fit_stops_no_training(cells, monkeypatch):
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(previews, "_outputs", fail)
    mailbox = Mailbox()
    mailbox.look_at(VIEW)
    events = list(_start(cells, mailbox))
    assert isinstance(events[-1], Finished)
    notes = [
        n.message for n in _of(Note, events) if n.message.startswith("There is no")
    ]
    assert len(notes) == 1


def _rates(monkeypatch) -> list[float]:
    rates: list[float] = []
    original = Stepper.begin

    def begin(self, batch, lr, n_micro=1):
        rates.append(lr)
        original(self, batch, lr, n_micro)

    monkeypatch.setattr(Stepper, "begin", begin)
    return rates


def test_the_learning_rate_can_be_changed_while_it_runs(cells, monkeypatch):
    mailbox, rates, events = Mailbox(), _rates(monkeypatch), []
    for event in _start(cells, mailbox, config=_config(max_steps=9)):
        events.append(event)
        if isinstance(event, StepDone):
            mailbox.set_learning_rate(
                {3: 0.5, 6: None}.get(event.step, mailbox.learning_rate)
            )
    expected = [learning_rate(step / 9, _config(max_steps=9)) for step in range(1, 10)]
    np.testing.assert_allclose(
        np.divide(rates, expected), [1, 1, 1, 50, 50, 50, 1, 1, 1]
    )
    notes = [n.message for n in _of(Note, events) if "learning rate" in n.message]
    assert notes == [
        "From step 4 on the peak learning rate is 0.5",
        "From step 7 on the peak learning rate is 0.01",
    ]


def test_a_learning_rate_that_was_asked_for_is_gone_on_with(
    cells, monkeypatch, tmp_path
):
    mailbox, rates = Mailbox(), _rates(monkeypatch)
    mailbox.set_learning_rate(0.5)
    first = _start(cells, mailbox, run_dir=tmp_path)
    for event in first:
        if isinstance(event, StepDone) and event.step == 3:
            break
    first.close()
    list(_start(cells, Mailbox(), run_dir=tmp_path, resume=True))
    expected = [learning_rate(step / 6, _config(), 0.5) for step in range(1, 7)]
    np.testing.assert_allclose(rates, expected)


def test_training_goes_on_after_its_last_step_until_it_is_stopped(cells, monkeypatch):
    mailbox, rates, events = Mailbox(), _rates(monkeypatch), []
    config = _config(max_steps=6, keep_learning=True, patience=1)
    for event in _start(cells, mailbox, config=config):
        events.append(event)
        if isinstance(event, StepDone) and event.step == 20:
            mailbox.stop()
    assert events[-1].reason == "stopped"
    steps = _of(StepDone, events)
    assert [event.step for event in steps] == list(range(1, 21))
    assert steps[-1].n_steps == 6
    np.testing.assert_allclose(rates[6:], 1e-3)
    assert min(rates) >= 1e-3


def test_without_a_mailbox_it_ends_after_its_last_step(cells):
    events = list(_start(cells, None, config=_config(keep_learning=True)))
    assert events[-1].reason == "steps"
    assert len(_of(StepDone, events)) == 6


def test_pausing_writes_a_checkpoint_once(cells, tmp_path):
    mailbox, events = Mailbox(), []
    config = _config(checkpoint_every=100)
    for event in _start(cells, mailbox, config=config, run_dir=tmp_path):
        events.append(event)
        if isinstance(event, StepDone) and event.step == 2:
            mailbox.pause()
        if isinstance(event, CheckpointSaved):
            mailbox.resume()
    assert [event.step for event in _of(CheckpointSaved, events)] == [2, 6]
