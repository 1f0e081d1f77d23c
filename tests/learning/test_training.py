from __future__ import annotations

import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_unet.config import (
    ForeignConfig,
    InstanceConfig,
    NetworkConfig,
    TrainConfig,
    WeightConfig,
)
from napari_unet.errors import ConfigError, LabelError, ResourceError, SaveError
from napari_unet.events import (
    Compared,
    Finished,
    Improved,
    Mailbox,
    Note,
    Paused,
    StepDone,
    TrainingStarted,
    Validated,
)
from napari_unet.files.images import write_image, write_labels
from napari_unet.imaging.arrays import Annotation, Image
from napari_unet.imaging.drawn import draw_cells
from napari_unet.imaging.scores import Tally
from napari_unet.learning import training
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.data import fields
from napari_unet.learning.loop import beginning, finishing, progress
from napari_unet.learning.loop.material import gather
from napari_unet.learning.loop.preparation import prepare
from napari_unet.learning.loop.stepping import Stepper
from napari_unet.learning.losses import LOSSES
from napari_unet.learning.model import Look, Model
from napari_unet.learning.quality.validation import Validation
from napari_unet.learning.training import train

TINY = NetworkConfig(base_width=4, depth=1)


def _config(**settings: object) -> TrainConfig:
    quick = {
        "max_steps": 6, "validate_every": 3, "patch_size": 16, "batch_size": 2,
        "learning_rate": 1e-2, "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    return TrainConfig(**(quick | settings))


def _train(cells, *, network=TINY, **settings) -> list:
    kept = ("start_from", "run_dir", "mailbox", "validation", "weights", "resume")
    others = {name: settings.pop(name) for name in kept if name in settings}
    if "start_from" in others:
        network = None
    image, labels = cells
    events = train([image], [labels], _config(**settings), network=network, **others)
    return list(events)


def _of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def _losses(events) -> list[float]:
    return [event.loss for event in _of(StepDone, events)]


def _assert_equal_states(a, b) -> None:
    assert set(a.state) == set(b.state)
    for name, tensor in a.state.items():
        assert torch.equal(tensor, b.state[name]), name


def _is_finite(model) -> bool:
    return all(tensor.isfinite().all() for tensor in model.state.values())


def test_training_learns_to_find_the_cells(cells):
    events = _train(
        cells, max_steps=60, validate_every=20, patch_size=32, batch_size=4,
        network=NetworkConfig(base_width=8, depth=2),
    )  # fmt: skip
    losses = _losses(events)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    finished = events[-1]
    assert finished.scores["iou"] > 0.7
    assert finished.scores["f1"] > 0.6
    assert finished.model.scores == finished.scores


def test_events_come_in_order(cells):
    events = _train(cells, max_steps=7, validate_every=3)
    kinds = [type(event) for event in events]
    assert kinds[0] is TrainingStarted
    assert kinds[-1] is Finished
    assert [e.step for e in _of(StepDone, events)] == [1, 2, 3, 4, 5, 6, 7]
    assert [e.step for e in _of(Validated, events)] == [3, 6, 7]
    for i, event in enumerate(events):
        if isinstance(event, Improved):
            validated = events[i - 1]
            assert (validated.step, validated.score) == (event.step, event.score)
    started = events[0]
    assert (started.n_steps, started.n_train_images) == (7, 1)
    assert started.validation == "a block of the image held back"
    assert "CPU" in started.device
    assert events[-1].reason == "steps"
    elapsed = [e.elapsed_s for e in _of(StepDone, events)]
    assert elapsed == sorted(elapsed)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_same_seed_gives_the_same_model(cells, dropout):
    network = TINY.model_copy(update={"dropout": dropout})
    first = _train(cells, network=network, seed=3)
    torch.rand(5)  # whatever else draws random numbers
    second = _train(cells, network=network, seed=3)
    assert _losses(first) == _losses(second)
    _assert_equal_states(first[-1].model, second[-1].model)
    assert first[-1].model.instances == second[-1].model.instances
    assert _losses(first) != _losses(_train(cells, network=network, seed=4))


def test_the_largest_seed_can_be_used(cells):
    assert isinstance(_train(cells, max_steps=1, seed=2**63 - 1)[-1], Finished)


def test_nobody_elses_random_state_is_touched(cells):
    network = TINY.model_copy(update={"dropout": 0.5})
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    for event in train([cells[0]], [cells[1]], _config(), network=network):
        assert torch.equal(torch.get_rng_state(), torch_state), event
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002


def test_images_and_annotations_are_left_as_they_are(cells):
    image, labels = (array.copy() for array in cells)
    image.flags.writeable = labels.flags.writeable = False
    _train((image, labels))
    np.testing.assert_array_equal(image, cells[0])
    np.testing.assert_array_equal(labels, cells[1])


def test_an_improved_model_is_a_copy_that_later_steps_leave_alone(cells):
    states = []
    for event in train([cells[0]], [cells[1]], _config(validate_every=1), network=TINY):
        if isinstance(event, Improved):
            copied = {k: v.clone() for k, v in event.model.state.items()}
            states.append((event.model, copied))
    assert len(states) > 1
    for model, copied in states:
        _assert_equal_states(model, SimpleNamespace(state=copied))
    first, last = states[0][0].state, states[-1][0].state
    assert not torch.equal(first["head.weight"], last["head.weight"])


def test_stopping_keeps_the_best_so_far(cells):
    mailbox, events = Mailbox(), []
    run = train(
        [cells[0]], [cells[1]], _config(max_steps=1000), network=TINY, mailbox=mailbox
    )
    for event in run:
        events.append(event)
        if isinstance(event, StepDone) and event.step == 4:
            mailbox.stop()
    assert len(_losses(events)) == 4
    assert [e.step for e in _of(Validated, events)] == [3, 4]
    finished = events[-1]
    assert finished.reason == "stopped"
    best = _of(Improved, events)[-1].model
    _assert_equal_states(finished.model, best)
    assert finished.model.step == best.step


def test_pausing_waits_until_training_may_go_on(cells):
    mailbox, events = Mailbox(), []
    mailbox.pause()
    run = train([cells[0]], [cells[1]], _config(), network=TINY, mailbox=mailbox)
    for event in run:
        events.append(event)
        if len(_of(Paused, events)) == 2:
            mailbox.resume()
    paused = [e.is_paused for e in _of(Paused, events)]
    assert paused == [True, True, False]
    at = [i for i, event in enumerate(events) if isinstance(event, Paused)]
    assert at == [2, 3, 4]  # after the first step
    assert _losses(events) == _losses(_train(cells))


def test_paused_training_can_be_stopped(cells):
    mailbox, events = Mailbox(), []
    mailbox.pause()
    for event in train(
        [cells[0]], [cells[1]], _config(), network=TINY, mailbox=mailbox
    ):
        events.append(event)
        if isinstance(event, Paused):
            mailbox.stop()
    assert len(_losses(events)) == 1
    assert events[-1].reason == "stopped"


@pytest.fixture
def fake_clock(monkeypatch):
    """A clock that someone has to turn."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_training_ends_when_the_time_is_over(cells, fake_clock):
    events = []
    config = _config(max_steps=1000, max_minutes=1.0)
    for event in train([cells[0]], [cells[1]], config, network=TINY):
        events.append(event)
        if isinstance(event, StepDone):
            fake_clock.now += 25
    assert len(_losses(events)) == 3  # at 0, 25 and 50 s
    assert events[-1].reason == "time"
    assert _of(Validated, events)[-1].step == 3


def _scripted(monkeypatch, results) -> None:
    """Let validation give these (loss, share of cells found), one after the other."""
    given = iter(results)

    def validate(*_: object) -> Validation:
        loss, share = next(given)
        right = int(100 * share)
        counts = Tally(
            n_truth=100, n_pred=100, truth_px=100, pred_px=100, common_px=right,
            matched=(right,) * 10,
        )  # fmt: skip
        return Validation(loss, counts.scores())

    monkeypatch.setattr(training, "validate", validate)


def test_patience_ends_training_that_no_longer_improves(cells, monkeypatch):
    _scripted(monkeypatch, [(1.0, 0.5), (0.5, 0.6), (0.5, 0.5), (0.9, 0.4), (0.5, 0.2)])
    events = _train(cells, max_steps=1000, validate_every=1, patience=3)
    assert events[-1].reason == "patience"
    assert [e.step for e in _of(Improved, events)] == [1, 2]
    assert events[-1].model.step == 2


def test_of_models_that_score_alike_the_longest_trained_is_the_best(cells, monkeypatch):
    _scripted(monkeypatch, [(0.5, 0.6), (0.9, 0.6), (0.5, 0.5)])
    events = _train(cells, max_steps=1000, validate_every=1, patience=2)
    # 0.6 again is no record, so patience runs; 0.5 is worse by ten of 100 cells.
    assert [e.step for e in _of(Improved, events)] == [1, 2]
    assert events[-1].reason == "patience"


def test_while_nothing_is_found_the_loss_says_what_is_better(cells, monkeypatch):
    _scripted(
        monkeypatch, [(1.0, 0), (0.8, 0), (0.9, 0), (2.0, 0.1), (0.1, 0), (1.9, 0.1)]
    )
    events = _train(cells, max_steps=6, validate_every=1)
    assert [e.step for e in _of(Improved, events)] == [1, 2, 4, 6]
    assert events[-1].model.step == 6


def test_a_model_whose_validation_is_not_a_number_is_never_best(cells, monkeypatch):
    _scripted(monkeypatch, [(np.nan, 1.0), (1.0, 0.0), (np.nan, 1.0)])
    events = _train(cells, max_steps=3, validate_every=1)
    assert [e.step for e in _of(Improved, events)] == [2]


def test_the_best_model_is_tuned_not_the_last(cells, monkeypatch):
    _scripted(monkeypatch, [(1.0, 0.9), (1.0, 0.5), (1.0, 0.5)])
    tuned = InstanceConfig(threshold=0.61, smoothing_px=2.5)
    seen = []

    def tune(network, *_: object):
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return tuned, Validation(0.125, Tally(n_truth=3).scores())

    monkeypatch.setattr(finishing, "tune", tune)
    events = _train(cells, max_steps=3, validate_every=1)
    finished, best = events[-1], _of(Improved, events)[-1].model
    assert best.step == 1
    _assert_equal_states(best, SimpleNamespace(state=seen[0]))
    _assert_equal_states(finished.model, best)
    assert finished.model.instances == tuned
    assert finished.model.scores == finished.scores
    assert finished.scores["loss"] == 0.125


def test_a_run_folder_holds_settings_scores_and_the_best_model(cells, tmp_path):
    folder = tmp_path / "run"
    events = _train(cells, run_dir=folder, weights=WeightConfig(w0=4))
    settings = json.loads((folder / "config.json").read_text("utf-8"))
    assert settings["train"]["max_steps"] == 6
    assert settings["weights"]["w0"] == 4
    rows = [json.loads(s) for s in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    for row, event in zip(rows, _of(Validated, events), strict=True):
        assert row["val_loss"] == event.loss
        assert row["train_loss"] == _losses(events)[event.step - 1]
    best = load_model(folder / "best.unet")
    _assert_equal_states(best, events[-1].model)
    assert best.instances == events[-1].model.instances
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.unet", "checkpoints", "config.json", "finished.json", "metrics.jsonl",
        "split.json",
    ]  # fmt: skip


def test_a_run_folder_that_cannot_be_made_stops_before_the_first_step(cells, tmp_path):
    (tmp_path / "file").touch()
    run = train(
        [cells[0]],
        [cells[1]],
        _config(),
        network=TINY,
        run_dir=tmp_path / "file" / "run",
    )
    with pytest.raises(SaveError, match="can't be made"):
        next(run)


def test_unusable_input_is_refused_before_anything_is_written(cells, tmp_path):
    run = train(
        [cells[0]], [np.zeros_like(cells[1])], _config(), run_dir=tmp_path / "run"
    )
    with pytest.raises(LabelError, match="has no annotated cells"):
        next(run)
    assert not (tmp_path / "run").exists()


def test_fine_tuning_goes_on_with_the_model(cells, tmp_path):
    first = _train(cells, max_steps=40, run_dir=tmp_path / "run")
    model = first[-1].model
    tuned = _train(cells, start_from=model, learning_rate=1e-4)
    assert tuned[-1].model.network == model.network
    fresh = _train(cells, learning_rate=1e-4)
    assert np.mean(_losses(tuned)) < 0.8 * np.mean(_losses(fresh))
    from_file = _train(
        cells, start_from=tmp_path / "run" / "best.unet", learning_rate=1e-4
    )
    assert _losses(from_file) == _losses(tuned)


def test_fine_tuning_leaves_the_old_model_alone(cells, random_model):
    start = random_model()
    before = {name: tensor.clone() for name, tensor in start.state.items()}
    _train(cells, start_from=start)
    _assert_equal_states(start, SimpleNamespace(state=before))


def test_pixels_without_a_number_do_no_harm(cells):
    image = cells[0].copy()
    image[3, 5], image[40, 40] = np.nan, np.inf
    events = _train((image, cells[1]))
    assert np.isfinite(_losses(events)).all()
    assert _is_finite(events[-1].model)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_images_of_any_dtype_can_be_learned(cells, dtype):
    image = np.clip(cells[0] * 200, 0, 255).astype(dtype)
    model = _train((image, cells[1]), max_steps=1)[-1].model
    assert model.image_dtype == np.dtype(dtype).name


def _damaged(monkeypatch, *, calls, damage) -> None:
    """Let the loss of training be damaged at these calls; that of validation is not."""
    original, count = beginning.loss_for, itertools.count(1)

    class Loss:
        is_mean_over_pixels = True

        def __init__(self, *given: object) -> None:
            self.true = original(*given)

        def __call__(self, logits, batch):
            value = self.true(logits, batch)
            return damage(value, logits) if next(count) in calls else value

    monkeypatch.setattr(beginning, "loss_for", Loss)


def _nan_loss(value, _):
    return value * torch.nan


def _infinite_loss(value, _):
    return value * torch.inf


def _nan_gradient(value, logits):
    # The root of 0: the value is fine, its slope is not.
    return value + torch.sqrt(torch.abs(logits.sum() * 0))


DAMAGES = [_nan_loss, _infinite_loss, _nan_gradient]


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_bad_step_is_skipped(cells, monkeypatch, damage):
    _damaged(monkeypatch, calls={4}, damage=damage)
    events = _train(cells, max_steps=8, validate_every=2)
    losses = _losses(events)
    assert [i for i, loss in enumerate(losses, 1) if not np.isfinite(loss)] == [4]
    (note,) = (e for e in _of(Note, events) if e.is_warning)
    assert "Step 4 was skipped" in note.message
    assert events[-1].reason == "steps"
    assert all(_is_finite(event.model) for event in _of(Improved, events))


def test_a_bad_step_leaves_nothing_behind(cells, monkeypatch):
    """Weights, running statistics and averages are as if it had not been."""
    kept = []
    original = training._judge

    def judge(run, loss):
        before = {k: v.clone() for k, v in run.net.state_dict().items()}
        yield from original(run, loss)
        kept.append((before, {k: v.clone() for k, v in run.net.state_dict().items()}))

    monkeypatch.setattr(training, "_judge", judge)
    _damaged(monkeypatch, calls={3}, damage=_nan_loss)
    _train(cells, max_steps=3)
    good, after = kept[1][1], kept[2][1]
    # A forward pass had changed the running statistics.
    assert any(not torch.equal(kept[2][0][name], good[name]) for name in good)
    for name, tensor in good.items():
        assert torch.equal(tensor, after[name]), name


@pytest.mark.parametrize("damage", DAMAGES)
def test_five_bad_steps_are_survived_with_a_smaller_learning_rate(
    cells, monkeypatch, damage
):
    rates = []
    original = Stepper.begin

    def begin(self, batch, lr, n_micro=1):
        rates.append(lr)
        original(self, batch, lr, n_micro)

    monkeypatch.setattr(Stepper, "begin", begin)
    expected = list(_train(cells, max_steps=20, validate_every=2) and rates)
    rates.clear()
    _damaged(monkeypatch, calls=set(range(8, 13)), damage=damage)
    events = _train(cells, max_steps=20, validate_every=2)
    assert events[-1].reason == "steps"
    warnings = [e.message for e in _of(Note, events) if e.is_warning]
    assert [message[:7] for message in warnings] == [
        "Step 8 ", "The los", "Step 10", "The los", "Step 12",
    ]  # fmt: skip
    assert "with the weights of step 8 and half the learning rate" in warnings[1]
    shares = np.divide(rates, expected)
    np.testing.assert_allclose(shares, [1] * 9 + [0.5] * 2 + [0.25] * 9)
    assert all(_is_finite(event.model) for event in _of(Improved, events))
    assert all(np.isfinite(event.score) for event in _of(Improved, events))


@pytest.mark.parametrize("damage", DAMAGES)
def test_diverging_training_keeps_the_best_model_before(cells, monkeypatch, damage):
    _damaged(monkeypatch, calls=range(5, 1000), damage=damage)
    events = _train(cells, max_steps=50, validate_every=2)
    assert events[-1].reason == "diverged"
    assert len(_losses(events)) == 12  # four skipped, and three times gone back
    assert _is_finite(events[-1].model)
    assert all(_is_finite(event.model) for event in _of(Improved, events))
    warnings = [e.message for e in _of(Note, events) if e.is_warning]
    assert "diverged at step 12" in warnings[-1]
    assert "the best model so far is kept" in warnings[-1]


@pytest.mark.parametrize("damage", DAMAGES)
def test_training_that_diverges_at_once_is_an_error(cells, monkeypatch, damage):
    _damaged(monkeypatch, calls=range(1, 1000), damage=damage)
    with pytest.raises(
        ResourceError, match=r"diverged at step 8 .* with a smaller learning rate"
    ) as caught:
        _train(cells, validate_every=50, max_steps=50)
    assert caught.value.code == "NU-R03"


def test_a_far_too_large_learning_rate_never_gives_a_model_of_nan(cells):
    network = TINY.model_copy(update={"norm": "none"})
    try:
        events = _train(
            cells, network=network, learning_rate=10, max_steps=30, validate_every=2
        )
    except ResourceError:
        return
    assert all(_is_finite(event.model) for event in _of(Improved, events))


@pytest.mark.parametrize("n_events", [1, 2, 5])
def test_the_generator_can_be_closed_at_any_event(cells, tmp_path, n_events):
    run = train(
        [cells[0]], [cells[1]], _config(validate_every=1), network=TINY,
        run_dir=tmp_path,
    )  # fmt: skip
    for _ in range(n_events):
        next(run)
    run.close()
    assert next(run, None) is None
    if n_events == 5:  # started, step, validated, improved, step
        assert load_model(tmp_path / "best.unet").step == 1


def test_what_stands_under_ignored_pixels_has_no_influence(cells, monkeypatch):
    image, labels = cells
    known = np.zeros(labels.shape, bool)
    known[:40] = True
    labels = np.where(known, labels, 0)
    annotation = Annotation(labels, known=known)
    run = {"config": _config(), "network": TINY}
    expected = list(train([image], [annotation], **run))
    original = fields.make_target

    def disturbed(*args: object, **about: object):
        target = original(*args, **about)
        noise = np.random.default_rng(0).integers(0, 2, target.weights.shape)
        assert (target.weights == 0).any()
        classes = np.where(target.weights == 0, noise, target.classes)
        return replace(target, classes=classes.astype(np.int16))

    monkeypatch.setattr(fields, "make_target", disturbed)
    events = list(train([image], [annotation], **run))
    assert _losses(events) == _losses(expected)
    _assert_equal_states(events[-1].model, expected[-1].model)


def test_ignored_ids_are_as_good_as_unknown(cells):
    image, labels = cells
    known = np.ones(labels.shape, bool)
    known[:, 50:] = False
    unknown = Annotation(np.where(known, labels, 0), known=known)
    ignored = Annotation.complete(np.where(known, labels, -1))
    losses = [
        _losses(train([image], [a], _config(), network=TINY))
        for a in (unknown, ignored)
    ]
    assert losses[0] == losses[1]
    assert losses[0] != _losses(_train(cells))


def test_the_network_of_the_paper_made_small_can_be_trained(cells):
    paper = NetworkConfig.ronneberger2015()
    network = paper.model_copy(update={"base_width": 4, "depth": 2})
    events = _train(cells, network=network, max_steps=30, learning_rate=3e-3)
    losses = _losses(events)
    assert np.mean(losses[-5:]) < np.mean(losses[:3])
    assert events[-1].model.network.padding == "valid"
    assert _is_finite(events[-1].model)


@pytest.mark.parametrize("classes", [2, 3])
def test_several_channels_and_classes_can_be_learned(cells, classes):
    image = Image(np.stack([cells[0], cells[0] ** 2, 1 - cells[0]]))
    names = ("background", "cell", "other")[:classes]
    known = np.ones(cells[1].shape, bool)
    annotation = Annotation(cells[1], {1: classes - 1, 2: classes - 1}, known, names)
    *_, finished = train([image], [annotation], _config(), network=TINY)
    assert finished.model.network.in_channels == 3
    assert finished.model.network.out_channels == classes


def test_one_cell_is_validated_on_itself_with_a_warning():
    image, labels = draw_cells((48, 48), n_cells=1, rng=np.random.default_rng(0))
    events = _train((image, labels))
    assert isinstance(events[0], Note)
    assert events[0].is_warning
    assert "too few cells to hold any back" in events[0].message
    assert isinstance(events[1], TrainingStarted)
    assert not any(event.is_held_back for event in _of(Validated, events))


def test_that_scores_rise_with_tuning_is_said_once_after_the_first(cells):
    events = _train(cells)
    told = [e.message for e in _of(Note, events) if "tuned" in e.message]
    assert len(told) == 1
    before = events[: [getattr(e, "message", "") for e in events].index(told[0])]
    assert sum(isinstance(event, Validated) for event in before) == 1


def test_given_images_are_validated_on(cells, tmp_path):
    image, labels = draw_cells((40, 40), n_cells=3, rng=np.random.default_rng(7))
    write_image(tmp_path / "val.tif", image[None], axes="CYX")
    write_labels(tmp_path / "val_mask.tif", labels)
    held = ([tmp_path / "val.tif"], [tmp_path / "val_mask.tif"])
    events = _train(cells, validation=held)
    assert events[0].validation == "1 validation image"
    assert events[-1].scores["n_cells"] == labels.max()


class _Room:
    """Memory for a few pixels at once; counts how many were too many."""

    def __init__(self, monkeypatch, most_px: int, *, from_call: int = 1) -> None:
        self.n_failed, calls = 0, itertools.count(1)
        original = Stepper._logits

        def logits(stepper, part):
            n_px = part.image[:, 0].numel()
            if next(calls) >= from_call and n_px > most_px:
                self.n_failed += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            return original(stepper, part)

        monkeypatch.setattr(Stepper, "_logits", logits)


NO_NORM = TINY.model_copy(update={"norm": "none"})


@pytest.mark.parametrize("from_call", [1, 4])
def test_too_little_memory_changes_no_loss(cells, monkeypatch, from_call):
    settings = {"network": NO_NORM, "batch_size": 4, "max_steps": 8}
    expected = _train(cells, **settings)
    room = _Room(monkeypatch, 16 * 16, from_call=from_call)
    events = _train(cells, **settings)
    np.testing.assert_allclose(_losses(events), _losses(expected), atol=1e-5)
    warnings = [e.message for e in _of(Note, events) if e.is_warning]
    assert len(warnings) == room.n_failed == 2
    assert "each batch of 4 is now taken in 2 parts" in warnings[0]
    assert "each batch of 4 is now taken in 4 parts" in warnings[1]


def test_running_statistics_know_nothing_of_a_batch_that_did_not_fit(
    cells, monkeypatch
):
    seen = []
    original = Stepper._logits

    def logits(stepper, part):
        buffers = dict(stepper._net.named_buffers())
        seen.append({name: buffer.clone() for name, buffer in buffers.items()})
        found = original(stepper, part)
        if len(seen) == 2:  # after the forward pass, and before the rest
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    monkeypatch.setattr(Stepper, "_logits", logits)
    _train(cells, max_steps=3)
    before, again = seen[1], seen[2]
    assert len(before) > 0
    for name, buffer in before.items():
        assert torch.equal(buffer, again[name]), name


def test_step_downs_are_kept_when_a_run_is_gone_on_with(cells, monkeypatch, tmp_path):
    settings = {"network": NO_NORM, "batch_size": 4, "max_steps": 8}
    expected = _losses(_train(cells, **settings))
    room = _Room(monkeypatch, 2 * 16 * 16)
    run = train([cells[0]], [cells[1]], _config(batch_size=4, max_steps=8),
                network=NO_NORM, run_dir=tmp_path)  # fmt: skip
    losses = []
    for event in run:
        if isinstance(event, StepDone):
            losses.append(event.loss)
            if event.step == 4:
                break
    run.close()
    events = _train(cells, run_dir=tmp_path, resume=True, **settings)
    assert room.n_failed == 1
    np.testing.assert_allclose([*losses, *_losses(events)], expected, atol=1e-5)


def test_where_nothing_fits_it_is_said_what_is_needed(cells, monkeypatch):
    _Room(monkeypatch, 0)
    with pytest.raises(ResourceError, match="base_width") as caught:
        _train(cells)
    assert caught.value.code == "NU-R02"
    monkeypatch.undo()
    assert isinstance(_train(cells)[-1], Finished)  # the next one has memory


def test_validation_that_does_not_fit_is_done_in_tiles(cells, monkeypatch):
    tiles = []
    original = training.validate

    def validate(net, held, *about):
        tiles.append(held.tile_px)
        if (held.tile_px or 1024) > 256:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")
        return original(net, held, *about)

    monkeypatch.setattr(training, "validate", validate)
    events = _train(cells, max_steps=6, validate_every=3)
    assert tiles == [None, 512, 256, 256]
    assert len(_of(Validated, events)) == 2
    monkeypatch.setattr(training, "validate", original)
    for event, whole in zip(
        _of(Validated, events), _of(Validated, _train(cells)), strict=True
    ):
        assert event.loss == pytest.approx(whole.loss, rel=1e-4)


def test_tuning_that_does_not_fit_costs_no_model(cells, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(finishing, "tune", fail)
    events = _train(cells)
    assert "the settings stay as they are" in _of(Note, events)[-1].message
    _assert_equal_states(events[-1].model, _of(Improved, events)[-1].model)


def test_other_errors_of_torch_pass(cells, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(Stepper, "begin", fail)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        _train(cells)


def test_reduced_precision_learns_as_well(cells, monkeypatch):
    monkeypatch.setattr("napari_unet.learning.device.cpu_prefers_bf16", lambda: True)
    fast = _train(cells, precision="auto", max_steps=20)
    exact = _train(cells, precision="fp32", max_steps=20)
    assert _losses(fast) != _losses(exact)
    assert np.allclose(_losses(fast)[:3], _losses(exact)[:3], rtol=0.1)
    assert _is_finite(fast[-1].model)


def test_the_model_to_start_from_is_the_first_candidate(cells, monkeypatch):
    start = _train(cells, max_steps=1)[-1].model
    _scripted(monkeypatch, [(0.1, 0.9), (0.9, 0.2)])
    events = _train(cells, max_steps=1, start_from=start)
    assert [e.step for e in _of(Validated, events)] == [0, 1]
    assert events[-1].model.step == start.step
    for name, tensor in start.state.items():
        assert torch.equal(events[-1].model.state[name], tensor)


def test_stopping_before_the_first_step_trains_no_model(cells):
    mailbox = Mailbox()
    mailbox.stop()
    events = _train(cells, mailbox=mailbox)
    assert not _of(StepDone, events)
    assert events[-1].is_warning
    assert "Stopped before the first step" in events[-1].message


def test_the_model_holds_its_learning_curve(cells, tmp_path):
    events = _train(cells, max_steps=7, validate_every=3)
    losses = _losses(events)
    seen = [
        Look(e.step, losses[e.step - 1], e.loss, e.score)
        for e in _of(Validated, events)
    ]
    assert [look.step for look in seen] == [3, 6, 7]
    assert events[-1].model.history == tuple(seen)
    for event in _of(Improved, events):
        assert event.model.history[-1].step == event.step == event.model.step


def test_the_curve_goes_past_the_best_model(cells, monkeypatch):
    _scripted(monkeypatch, [(1.0, 0.9), (0.9, 0.5), (0.8, 0.4)])
    model = _train(cells, max_steps=3, validate_every=1)[-1].model
    assert model.step == 1
    assert [look.step for look in model.history] == [1, 2, 3]


def test_fine_tuning_goes_on_with_the_learning_curve(cells, tmp_path):
    first = _train(cells, run_dir=tmp_path)[-1].model
    events = _train(cells, start_from=tmp_path / "best.unet", start_with="all")
    assert [e.step for e in _of(Validated, events)] == [0, 3, 6]
    history = events[-1].model.history
    kept = tuple(look for look in first.history if look.step <= first.step)
    assert history[: len(kept)] == kept
    new = [look.step - first.step for look in history[len(kept) :]]
    assert new == [0, 3, 6]
    assert history[len(kept)].loss is None


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_to_find_the_cells(cells, loss):
    events = _train(
        cells, max_steps=60, validate_every=30, patch_size=32, batch_size=4,
        network=NetworkConfig(base_width=12, depth=2), loss=loss,
    )  # fmt: skip
    losses = _losses(events)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    assert events[-1].scores["f1"] > 0.6
    assert events[-1].model.training.loss == loss


def test_the_losses_are_not_the_same(cells):
    first = {loss: _losses(_train(cells, max_steps=1, loss=loss))[0] for loss in LOSSES}
    assert len(set(first.values())) == len(LOSSES)
    assert first["combined"] == pytest.approx(first["cross_entropy"] + first["dice"])


def test_the_optimiser_of_the_paper_learns_to_find_the_cells(cells):
    preset = TrainConfig.ronneberger2015().model_dump(exclude_defaults=True)
    assert preset["optimizer"] == "sgd"
    small = {"base_width": 16, "depth": 1}
    events = _train(
        cells, network=NetworkConfig.ronneberger2015().model_copy(update=small),
        **(preset | {"max_steps": 100, "validate_every": 50, "patch_size": 32}),
    )  # fmt: skip
    losses = _losses(events)
    # Not only how frequent the classes are, as with images that are not standardised.
    assert np.mean(losses[-10:]) < 0.45
    assert events[-1].scores["f1"] > 0.6
    assert events[-1].model.normalization.policy == "standardize"


# Whatever a family leaves a choice of, in its smallest form.
SMALL = {
    "unet": {"base_width": 2, "depth": 1},
    "residual_unet": {"base_width": 2, "depth": 1},
    "attention_unet": {"base_width": 2, "depth": 1},
    "trans_unet": {"base_width": 2, "transformer_layers": 1},
}


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize(
    ("architecture", "skips"),
    # TransU-Net concatenates only.
    [
        pair
        for pair in itertools.product(SMALL, ["concatenate", "sum"])
        if pair != ("trans_unet", "sum")
    ],
)
def test_every_network_can_be_trained(cells, architecture, norm, skips):
    network = NetworkConfig(
        architecture=architecture, norm=norm, skips=skips, **SMALL[architecture]
    )
    # One small patch is the least that a norm has to learn from.
    events = _train(cells, network=network, max_steps=2, batch_size=1)
    assert np.isfinite(_losses(events)).all()
    assert _is_finite(events[-1].model)
    material = gather([cells[0]], [cells[1]], _config(), network=network)
    fresh = prepare(material, material.config, network=network).model
    # Its own best model is that of the last look: all that can learn has learned.
    moved = [
        name
        for name, tensor in events[-1].model.state.items()
        if not torch.equal(tensor, fresh.state[name])
    ]
    assert len(moved) > 0.8 * len(fresh.state)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_a_patch_smaller_than_the_network_is_enlarged(cells, norm):
    network = NetworkConfig(base_width=2, depth=4, norm=norm)
    events = _train(cells, network=network, max_steps=1, batch_size=1, patch_size=16)
    assert np.isfinite(_losses(events)).all()


def test_a_finer_output_than_the_image_is_refused(cells):
    with pytest.raises(ConfigError, match="2 times finer than the image") as caught:
        _train(cells, network=TINY.model_copy(update={"upscale": 2}))
    assert caught.value.code == "NU-C05"


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (NetworkConfig(n_dims=3), "has 3 dimensions but training works on planes"),
        (NetworkConfig(upscale=4), "4 times finer"),
        (ForeignConfig(format="onnx", n_bytes=1), "another program's onnx graph"),
    ],
)
def test_a_model_that_cannot_be_trained_on_is_refused(cells, network, sentence):
    with pytest.raises(ConfigError, match=sentence):
        _train(cells, start_from=Model(network, {}), start_with="all")


def test_a_model_whose_outputs_are_no_classes_is_refused_if_all_is_wanted(cells):
    start = Model(NetworkConfig(), {}, roles=("value:red", "value:green"))
    with pytest.raises(ConfigError, match="value:red, value:green but"):
        _train(cells, start_from=start, start_with="all")


def _verdict(monkeypatch, *, is_new_kept: bool) -> None:
    """Let the comparison with the model to start from come out like this."""

    def compare(start, model, *_: object, **__: object):
        pair = (model, start) if is_new_kept else (start, model)
        verdict = "better" if is_new_kept else "worse"
        return SimpleNamespace(
            event=Compared(verdict, {"f1": 0.25}, {"f1": 0.5}),
            sentence="The new model is compared",
            verdict=verdict,
            keep=pair[0],
            rejected=pair[1],
            is_new_kept=is_new_kept,
        )

    monkeypatch.setattr(finishing, "compare", compare)


@pytest.mark.parametrize("is_new_kept", [True, False])
def test_the_better_of_the_old_and_the_new_model_is_kept(
    cells, monkeypatch, random_model, tmp_path, is_new_kept
):
    _verdict(monkeypatch, is_new_kept=is_new_kept)
    start = random_model(base_width=2, depth=1)
    events = _train(cells, start_from=start, run_dir=tmp_path)
    (compared,) = _of(Compared, events)
    finished, best = events[-1], _of(Improved, events)[-1].model
    kept, other = (best, start) if is_new_kept else (start, best)
    _assert_equal_states(finished.model, kept)
    _assert_equal_states(load_model(tmp_path / "best.unet"), kept)
    _assert_equal_states(load_model(tmp_path / "not_kept.unet"), other)
    if not is_new_kept:
        assert finished.scores == compared.before
    warnings = [e.message for e in _of(Note, events) if e.is_warning]
    assert ("The new model is compared" in warnings) is not is_new_kept


def test_each_training_adds_a_point_to_the_curve_over_annotations(cells):
    first = _train(cells)[-1].model
    (point,) = first.rounds
    assert point.n_cells + point.n_held_back == cells[1].max()
    events = _train(cells, start_from=first)
    second = _of(Improved, events)[-1].model
    assert second.rounds == first.rounds
    told = [note.message for note in _of(Note, events) if " brought " in note.message]
    assert len(told) == 1
    assert told[0].startswith("Training again, without more cells, brought ")
    assert first.held_back
    assert first.validated_on == "a block of the image held back"
