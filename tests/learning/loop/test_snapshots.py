from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from napari_unet.errors import ModelError, SaveError
from napari_unet.files import atomic
from napari_unet.learning.loop import snapshots
from napari_unet.learning.loop.snapshots import Snapshot, copied, read_newest, write


def _snapshot(step: int = 7, value: float = 1.5) -> Snapshot:
    weight = torch.full((2, 3, 3, 3), value).to(memory_format=torch.channels_last)
    state = {
        "net": {"0.weight": weight, "0.count": torch.tensor(step)},
        "best": {"rank": [0.5, -1.25], "model": None, "state": {"w": weight * 2}},
        "half": torch.ones(3, dtype=torch.bfloat16),
    }
    return Snapshot(step, state, {"precision": "fp32", "threads": 2})


def _assert_same(first: Snapshot, second: Snapshot) -> None:
    assert (first.step, first.decided) == (second.step, second.decided)
    trees = [snapshots._apart(s.state) for s in (first, second)]
    assert trees[0][0] == trees[1][0]
    assert set(trees[0][1]) == set(trees[1][1])
    for name, tensor in trees[0][1].items():
        assert tensor.dtype == trees[1][1][name].dtype
        assert torch.equal(tensor, trees[1][1][name]), name


def test_what_was_written_is_read(tmp_path):
    path = write(tmp_path / "checkpoints", _snapshot())
    assert path.name == "step-000007.json"
    found, messages = read_newest(tmp_path / "checkpoints")
    assert messages == []
    _assert_same(found, _snapshot())


def test_without_checkpoints_there_is_nothing_to_go_on_from(tmp_path):
    assert read_newest(tmp_path) == (None, [])
    assert read_newest(tmp_path / "missing") == (None, [])


def test_the_last_three_are_kept_by_step_whatever_the_clock_says(tmp_path):
    for step in (5, 90, 100, 1_000_000):
        path = write(tmp_path, _snapshot(step))
        os.utime(path, (2e9 - step, 2e9 - step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(
        f"step-{step:06d}.{end}"
        for step in (90, 100, 1_000_000)
        for end in ("json", "safetensors")
    )
    assert read_newest(tmp_path)[0].step == 1_000_000


def test_one_of_the_same_step_is_replaced(tmp_path):
    write(tmp_path, _snapshot(value=1.0))
    write(tmp_path, _snapshot(value=2.0))
    _assert_same(read_newest(tmp_path)[0], _snapshot(value=2.0))


def _cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _other_run(path):
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"sha256": "0" * 64}))


DAMAGE = {
    **{
        f"{end} cut to {share:.1%}": (end, lambda path, share=share: _cut(path, share))
        for end in ("safetensors", "json")
        for share in (0, 0.1, 0.5, 0.99, 0.999)
    },
    "one bit": ("safetensors", _flip),
    "no tensors": ("safetensors", lambda path: path.unlink()),
    "tensors of another run": ("json", _other_run),
    "JSON of something else": ("json", lambda path: path.write_text("[1, 2]")),
    "JSON nested too deep": ("json", lambda path: path.write_text("[" * 100_000)),
    "no JSON": ("json", lambda path: path.write_bytes(b"\xff\xfe")),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_newest_one_gives_way_to_the_one_before(tmp_path, how):
    end, damage = DAMAGE[how]
    write(tmp_path, _snapshot(1))
    damage(write(tmp_path, _snapshot(2)).with_suffix(f".{end}"))
    found, messages = read_newest(tmp_path)
    _assert_same(found, _snapshot(1))
    (message,) = messages
    assert "step-000002.json is damaged" in message


def test_where_all_are_damaged_it_is_said(tmp_path):
    for step in (1, 2):
        _flip(write(tmp_path, _snapshot(step)).with_suffix(".safetensors"))
    with pytest.raises(ModelError, match="none of the 2 checkpoints") as caught:
        read_newest(tmp_path)
    assert caught.value.code == "NU-M09"


def test_one_of_a_newer_version_is_refused(tmp_path):
    path = write(tmp_path, _snapshot())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(ModelError, match="newer version") as caught:
        read_newest(tmp_path)
    assert caught.value.code == "NU-C02"


def test_a_failed_write_leaves_those_before_and_no_traces(tmp_path, monkeypatch):
    write(tmp_path, _snapshot(1))
    before = sorted(path.name for path in tmp_path.iterdir())
    fsync, calls, fails_at = os.fsync, [], [0]

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == fails_at[0]:
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(atomic.os, "fsync", full)
    # 1: the tensors; 2: their folder, which may fail; 3: the JSON.
    for n in (1, 3):
        calls.clear()
        fails_at[0] = n
        with pytest.raises(SaveError, match="disk is full"):
            write(tmp_path, _snapshot(2))
        _assert_same(read_newest(tmp_path)[0], _snapshot(1))
        assert not [path for path in tmp_path.iterdir() if "unettmp" in path.name]
    snapshots.keep_last(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="can't be made") as caught:
        write(tmp_path / "file" / "checkpoints", _snapshot())
    assert caught.value.code == "NU-S02"


def test_a_new_run_clears_the_old_checkpoints_and_nothing_else(tmp_path):
    write(tmp_path, _snapshot())
    (tmp_path / "notes.txt").touch()
    snapshots.clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_copy_is_left_alone_by_what_comes_later():
    snapshot = _snapshot()
    kept = copied(snapshot.state)
    snapshot.state["net"]["0.weight"].zero_()
    _assert_same(Snapshot(7, kept, snapshot.decided), _snapshot())


# Writes checkpoints without end, and kills itself after n bytes of one of them.
_WRITER = """
import os, signal, sys
from pathlib import Path
import torch
from napari_unet.files import atomic
from napari_unet.learning.loop.snapshots import Snapshot, write
folder, n = Path(sys.argv[1]), int(sys.argv[2])
original = atomic._write_through
def through(temporary, content, mode):
    def part(file):
        class Cut:
            def write(self, data):
                global n
                if n < len(data):
                    file.write(data[:n]); file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                n -= len(data)
                return file.write(data)
        content(Cut())
    original(temporary, part, mode)
atomic._write_through = through
for step in range(1, 100):
    write(folder, Snapshot(step, {"w": torch.full((500,), float(step))}))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on Windows")
@pytest.mark.parametrize("n", [2400, 9000])
def test_a_kill_within_a_write_costs_that_checkpoint_only(tmp_path, n):
    child = subprocess.run([sys.executable, "-c", _WRITER, tmp_path, str(n)])
    assert child.returncode == -signal.SIGKILL
    assert [path for path in tmp_path.iterdir() if path.name.endswith("unettmp")]
    found, messages = read_newest(tmp_path)
    assert messages == []
    assert (found.state["w"] == found.step).all()
    write(tmp_path, Snapshot(found.step + 1, found.state))
    assert not [path for path in tmp_path.iterdir() if path.name.endswith("unettmp")]
