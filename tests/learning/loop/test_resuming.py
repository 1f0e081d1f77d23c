"""Real kills: what was killed and gone on with ends with the same bits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.errors import ConfigError, ModelError, SaveError
from napari_unet.events import (
    CheckpointSaved,
    Finished,
    Mailbox,
    Note,
    Planned,
    StepDone,
    TrainingStarted,
    Validated,
)
from napari_unet.learning import training
from napari_unet.learning.checkpoint import load_model
from napari_unet.learning.loop import beginning, resuming, runs
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.training import train

# Imports torch once; each training is a fork of it, and some of them kill themselves.
_CHILDREN = """
import hashlib, json, os, signal, sys
from pathlib import Path
import numpy as np
import torch
torch.set_num_threads(1)
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.events import CheckpointSaved, Finished, StepDone
from napari_unet.files import atomic
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.training import train

settings = json.loads(sys.argv[2])
image, labels = draw_cells((64, 64), n_cells=8, rng=np.random.default_rng(1))
config = TrainConfig(**{
    "max_steps": 11, "validate_every": 4, "checkpoint_every": 3, "patch_size": 16,
    "batch_size": 2, "learning_rate": 1e-2, "device": "cpu", **settings,
})
network = NetworkConfig(base_width=2, depth=1, dropout=0.3)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def die_while_writing(n):
    # Within the n-th file of a checkpoint, after half of it.
    original, count = atomic._write_through, [0]
    def through(temporary, write, mode):
        class Half:
            def write(self, content):
                count[0] += "step-" in temporary.name
                if count[0] == n:
                    file.write(content[: len(content) // 2])
                    file.flush()
                    die()
                return file.write(content)
        def part(given):
            global file
            file = given
            write(Half())
        original(temporary, part, mode)
    atomic._write_through = through

def run(folder, resume, kill):
    kind, n = kill
    if kind == "write":
        die_while_writing(n)
    for event in train([image], [labels], config, network=network, run_dir=folder,
                       resume=resume):
        if kind == "step" and isinstance(event, StepDone) and event.step == n:
            die()
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").open()]
    for row in rows:
        del row["elapsed_s"]
    (state,) = (folder / "checkpoints").glob("*.safetensors")
    files = [state, folder / "best.unet"]
    found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    about = [*found, weights_sha256(event.model.state), event.model.step, rows]
    (folder / "end.json").write_text(json.dumps(about))

def forked(*args):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run(*args)
            code = 0
        except Exception:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]

# What is imported on first use is so before the forks.
for _ in train([image], [labels], config, network=network):
    pass
root = Path(sys.argv[1])
ends = {}
for name, kills in json.loads(sys.argv[3]).items():
    folder = root / name
    codes = [forked(folder, i > 0, kill) for i, kill in enumerate([*kills, [None, 0]])]
    ends[name] = [codes, json.loads((folder / "end.json").read_text())]
print(json.dumps(ends))
"""

# Each of these kills the process that went on after the one before.
KILLS = [
    ("step", 2),  # before the first checkpoint
    ("write", 1),  # within the tensors of the first
    ("step", 4),  # after it, before the validation that is due
    ("step", 5),  # after the validation
    ("write", 2),  # within the description of the second
    ("step", 8),
    ("write", 3),  # within the tensors of the next but one
    ("step", 11),  # before the last validation
    ("write", 1),  # within the last
]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on Windows")
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"precision": "fp32"}, id="adamw, averaged"),
        pytest.param(
            {"optimizer": "sgd", "ema_decay": 0.0, "precision": "fast"},
            id="sgd, not averaged",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_killed_run_ends_with_the_same_bits_as_one_never_killed(tmp_path, settings):
    child = subprocess.run(
        [sys.executable, "-c", _CHILDREN, tmp_path, json.dumps(settings),
         json.dumps({"never": [], "killed": KILLS})],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    ends = json.loads(child.stdout)
    codes, never = ends["never"]
    assert codes == [0]
    assert [row["step"] for row in never[-1]] == [4, 8, 11]
    codes, killed = ends["killed"]
    assert codes == [*[signal.SIGKILL] * len(KILLS), 0]
    assert killed == never


TINY = NetworkConfig(base_width=2, depth=1)


def _config(**settings: object) -> TrainConfig:
    quick = {
        "max_steps": 6, "validate_every": 3, "checkpoint_every": 2, "patch_size": 16,
        "batch_size": 2, "learning_rate": 1e-2, "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    return TrainConfig(**(quick | settings))


def _run(cells, folder, *, until: int | None = None, **about) -> list:
    """Train, and close the generator after a step, if one is given."""
    config = about.pop("config", _config())
    about = {"network": TINY, "run_dir": folder} | about
    events, generator = [], train([cells[0]], [cells[1]], config, **about)
    for event in generator:
        events.append(event)
        if isinstance(event, StepDone) and event.step == until:
            break
    generator.close()
    return events


def _of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def _notes(events) -> list[str]:
    return [event.message for event in _of(Note, events)]


@pytest.mark.parametrize("until", [1, 2, 3, 5])
def test_a_closed_run_goes_on_where_it_was(cells, tmp_path, until):
    never = _run(cells, tmp_path / "never")
    first = _run(cells, tmp_path / "closed", until=until)
    second = _run(cells, tmp_path / "closed", resume=True)
    assert _of(TrainingStarted, second)[0].first_step == until
    steps = [event.step for event in _of(StepDone, [*first, *second])]
    assert steps == [1, 2, 3, 4, 5, 6]
    for kind in (StepDone, Validated):
        seen = [replace(event, elapsed_s=0) if kind is StepDone else event
                for event in _of(kind, [*first, *second])]  # fmt: skip
        expected = [replace(event, elapsed_s=0) if kind is StepDone else event
                    for event in _of(kind, never)]  # fmt: skip
        assert seen == expected
    models = [events[-1].model for events in (never, second)]
    assert weights_sha256(models[0].state) == weights_sha256(models[1].state)
    assert models[0].history == models[1].history
    assert f"Training goes on after step {until}" in _notes(second)


def test_checkpoints_are_told_and_the_finished_run_keeps_one(cells, tmp_path):
    events = _run(cells, tmp_path)
    saved = _of(CheckpointSaved, events)
    assert [event.step for event in saved] == [2, 4, 6]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000006.json", "step-000006.safetensors"]
    assert saved[-1].path.name == names[0]


def test_a_finished_run_says_so_and_gives_its_model(cells, tmp_path):
    finished = _run(cells, tmp_path)[-1]
    note, again = _run(cells, tmp_path, resume=True)
    assert "is finished, after 6 steps" in note.message
    assert isinstance(again, Finished)
    assert again.reason == "steps"
    assert weights_sha256(again.model.state) == weights_sha256(finished.model.state)
    assert dict(again.scores) == dict(finished.scores)


def test_a_stopped_run_can_be_gone_on_with(cells, tmp_path):
    mailbox = Mailbox()
    events = []
    for event in train([cells[0]], [cells[1]], _config(), network=TINY,
                       run_dir=tmp_path, mailbox=mailbox):  # fmt: skip
        events.append(event)
        if isinstance(event, StepDone) and event.step == 3:
            mailbox.stop()
    assert events[-1].reason == "stopped"
    second = _run(cells, tmp_path, resume=True)
    assert [event.step for event in _of(StepDone, second)] == [4, 5, 6]
    assert second[-1].reason == "steps"
    rows = (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(row)["step"] for row in rows] == [3, 6]


def test_what_was_closed_while_tuning_is_only_tuned_again(cells, tmp_path):
    never = _run(cells, tmp_path / "never")[-1].model
    generator = train(
        [cells[0]], [cells[1]], _config(), network=TINY, run_dir=tmp_path / "closed"
    )
    for event in generator:
        if isinstance(event, Note) and event.message.startswith("Tuning"):
            break
    generator.close()
    events = _run(cells, tmp_path / "closed", resume=True)
    assert not _of(StepDone, events)
    assert not _of(Validated, events)
    assert weights_sha256(events[-1].model.state) == weights_sha256(never.state)
    assert events[-1].model.history == never.history


def test_with_nothing_to_go_on_from_training_begins(cells, tmp_path):
    events = _run(cells, tmp_path / "new", resume=True)
    assert "There is nothing to go on from" in _notes(events)[0]
    assert len(_of(StepDone, events)) == 6


def test_without_a_run_folder_nothing_can_be_gone_on_with(cells):
    with pytest.raises(ConfigError, match="only be gone on with from a run folder"):
        _run(cells, None, resume=True)


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"config": _config(learning_rate=0.5)},
         "learning_rate = 0.01 but now came learning_rate = 0.5"),
        ({"config": _config(scale=0.1)}, "no scale but now came scale = 0.1"),
        ({"network": NetworkConfig(base_width=3, depth=1)},
         "base_width = 2 but now came base_width = 3"),
    ],
)  # fmt: skip
def test_other_settings_are_refused(cells, tmp_path, about, sentence):
    _run(cells, tmp_path, until=3)
    with pytest.raises(ConfigError, match=sentence) as caught:
        _run(cells, tmp_path, resume=True, **about)
    assert caught.value.code == "NU-C30"
    # Nothing was changed: it can still be gone on with.
    assert len(_of(StepDone, _run(cells, tmp_path, resume=True))) == 3


def test_other_images_are_refused(cells, tmp_path):
    _run(cells, tmp_path, until=3)
    other = cells[0].copy()
    other[5, 5] += 1
    with pytest.raises(ConfigError, match="other images or annotations") as caught:
        _run((other, cells[1]), tmp_path, resume=True)
    assert caught.value.code == "NU-C30"


def test_another_model_to_begin_with_is_refused(cells, tmp_path, random_model):
    first = random_model(base_width=2, depth=1)
    _run(cells, tmp_path, until=3, start_from=first, network=None)
    other = replace(first, state={k: v + 1 for k, v in first.state.items()})
    with pytest.raises(ConfigError, match="other weights to begin with"):
        _run(cells, tmp_path, resume=True, start_from=other, network=None)


def _warnings(events) -> list[Note]:
    return [note for note in _of(Note, events) if note.is_warning]


def test_it_is_said_what_is_not_as_it_was(cells, tmp_path, monkeypatch):
    _run(cells, tmp_path, until=3)
    now = resuming.environment
    monkeypatch.setattr(
        resuming, "environment", lambda device: now(device) | {"torch": "1.0"}
    )
    (note,) = _warnings(_run(cells, tmp_path, resume=True, until=4))
    assert note.is_warning
    assert "torch is 1.0 instead of" in note.message
    assert "not be quite those of a run that was never interrupted" in note.message


def test_another_number_of_threads_is_said(cells, tmp_path):
    _run(cells, tmp_path, until=3)
    torch.set_num_threads(2)
    try:
        (note,) = _warnings(_run(cells, tmp_path, resume=True, until=4))
    finally:
        torch.set_num_threads(1)
    assert "number of threads is 2 instead of 1" in note.message


def test_nothing_is_probed_again(cells, tmp_path, monkeypatch):
    _run(cells, tmp_path, until=3, config=_config(precision="fast"))

    def probe(*_: object) -> None:
        raise AssertionError("probed again")

    monkeypatch.setattr("napari_unet.learning.loop.stepping.training_precision", probe)
    _run(cells, tmp_path, resume=True, config=_config(precision="fast"))


def test_what_was_planned_is_told_and_not_planned_again(cells, tmp_path, monkeypatch):
    config = TrainConfig(
        max_steps=4, batch_size=2, validate_every=2, checkpoint_every=1, device="cpu"
    )
    network = NetworkConfig(base_width=2)
    about = {"config": config, "network": network}
    never = _run(cells, tmp_path / "never", **about)
    (planned,) = _of(Planned, never)
    names = {choice.name for choice in planned.choices}
    assert {"patch_size", "depth"} <= names
    assert not names & {"max_steps", "batch_size", "base_width"}
    _run(cells, tmp_path / "closed", until=2, **about)

    def plan(*_: object, **__: object) -> None:
        raise AssertionError("planned again")

    monkeypatch.setattr(beginning, "plan", plan)
    events = _run(cells, tmp_path / "closed", resume=True, **about)
    assert not _of(Planned, events)
    models = [each[-1].model for each in (never, events)]
    assert weights_sha256(models[0].state) == weights_sha256(models[1].state)
    for name in ("training", "network", "scale", "instances"):
        assert getattr(models[0], name) == getattr(models[1], name), name


def test_a_damaged_checkpoint_gives_way_to_the_one_before(cells, tmp_path):
    _run(cells, tmp_path, until=5)
    newest = tmp_path / "checkpoints" / "step-000005.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    events = _run(cells, tmp_path, resume=True)
    assert _of(TrainingStarted, events)[0].first_step == 4
    assert "step-000005.json is damaged" in _notes(events)[0]
    never = _run(cells, tmp_path / "never")[-1].model
    assert weights_sha256(events[-1].model.state) == weights_sha256(never.state)


def test_where_every_checkpoint_is_damaged_it_is_said(cells, tmp_path):
    _run(cells, tmp_path, until=5)
    for path in (tmp_path / "checkpoints").glob("*.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(ModelError, match="none of the 3 checkpoints"):
        _run(cells, tmp_path, resume=True)
    assert load_model(tmp_path / "best.unet").step == 3


def _bytes(folder) -> dict:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_an_interrupted_run_is_lost_only_where_that_is_wanted(cells, tmp_path):
    _run(cells, tmp_path, until=5)
    before = _bytes(tmp_path)
    with pytest.raises(ConfigError, match=r"after step 5.*--resume.*--restart") as e:
        _run(cells, tmp_path)
    assert e.value.code == "NU-C33"
    assert _bytes(tmp_path) == before
    generator = train(
        [cells[0]], [cells[1]], _config(), network=TINY, run_dir=tmp_path, restart=True
    )
    while not isinstance(next(generator), TrainingStarted):
        pass
    generator.close()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_finished_run_is_replaced_and_that_is_said(cells, tmp_path):
    _run(cells, tmp_path)
    best = (tmp_path / "best.unet").read_bytes()
    events = _run(cells, tmp_path, until=1)
    assert f"The finished training in {tmp_path} is replaced" in _notes(events)[0]
    assert (tmp_path / "best.unet").read_bytes() == best


def test_a_full_disk_stops_no_training(cells, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise training.SaveError("NU-S01", "the disk is full")

    monkeypatch.setattr(training.snapshots, "write", full)
    events = _run(cells, tmp_path)
    assert isinstance(events[-1], Finished)
    warnings = [note for note in _of(Note, events) if note.is_warning]
    assert len(warnings) == 3
    assert "the disk is full" in warnings[0].message
    # The last of them comes when training has ended.
    assert all("the training itself is not harmed" in note.message for note in warnings)


def test_a_model_lost_to_a_full_disk_at_the_end_is_made_again(
    cells, tmp_path, monkeypatch
):
    """Else an older model, not tuned, would be handed over as that of the run."""
    original, is_full = runs.save_model, []

    def save(*args: object) -> None:
        if is_full:
            raise SaveError("NU-S01", "the disk is full")
        original(*args)

    monkeypatch.setattr(runs, "save_model", save)
    events = []
    for event in train(
        [cells[0]], [cells[1]], _config(), network=TINY, run_dir=tmp_path
    ):
        events.append(event)
        if isinstance(event, Note) and event.message.startswith("Tuning"):
            is_full.append(True)
    finished = events[-1].model
    (warning,) = [note.message for note in _of(Note, events) if note.is_warning]
    assert "the disk is full" in warning
    assert "once that is mended, --resume (resume=True) makes" in warning
    assert load_model(tmp_path / "best.unet").instances != finished.instances
    is_full.clear()
    events = _run(cells, tmp_path, resume=True)
    assert not _of(StepDone, events)
    for model in (events[-1].model, load_model(tmp_path / "best.unet")):
        assert weights_sha256(model.state) == weights_sha256(finished.state)
        assert model.instances == finished.instances
    assert "is finished" in _notes(_run(cells, tmp_path, resume=True))[0]


def test_the_first_difference_is_the_one_that_is_said(tmp_path):
    then = resuming.as_given(config=TrainConfig(seed=1, flip=False), network=None)
    now = resuming.as_given(config=TrainConfig(seed=1, flip=True, device="cpu"))
    with pytest.raises(ConfigError, match="flip = False but now came flip = True"):
        resuming.check_same_settings(then, now, tmp_path)
    resuming.check_same_settings(then, then, tmp_path)


def test_a_learning_rate_by_the_clock_is_said(cells, tmp_path):
    config = _config(max_minutes=60.0)
    _run(cells, tmp_path, until=3, config=config)
    note, *_ = _of(Note, _run(cells, tmp_path, resume=True, until=4, config=config))
    assert "follows the clock" in note.message


def test_seconds_of_training_are_counted_on(cells, tmp_path):
    first = _of(StepDone, _run(cells, tmp_path, until=3))
    second = _of(StepDone, _run(cells, tmp_path, resume=True))
    assert second[0].elapsed_s > first[-1].elapsed_s
    assert np.all(np.diff([event.elapsed_s for event in second]) > 0)
