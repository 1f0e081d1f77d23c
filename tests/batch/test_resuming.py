"""What a run does again, what it does not, and what it is asked meanwhile."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_unet.batch import segment_folder
from napari_unet.batch.ledger import Ledger, Record, read_lines
from napari_unet.config import InstanceConfig, PredictConfig
from napari_unet.errors import ConfigError, ModelError
from napari_unet.events import (
    FileDone,
    FileProgress,
    FileStarted,
    FolderFinished,
    FolderStarted,
    Mailbox,
    Note,
    Paused,
)
from napari_unet.files import atomic
from napari_unet.files.images import write_image
from napari_unet.imaging.drawn import draw_cells

CONFIG = PredictConfig(device="cpu", tile_size=32)


def _run(model, folder, out, **settings) -> tuple[set[int], FolderFinished]:
    """Run; return which files were predicted, and the last event."""
    settings.setdefault("config", CONFIG)
    *events, last = segment_folder(model, folder, out, **settings)
    return {e.index for e in events if isinstance(e, FileProgress)}, last


def _rows(out: Path, name: str = "ledger.jsonl") -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text("utf-8").splitlines()]


@pytest.fixture
def out(model, folder, tmp_path):
    """A folder in which all is done."""
    predicted, last = _run(model, folder, tmp_path / "out")
    assert (predicted, last) == ({0, 1, 2}, FolderFinished(3, 0))
    return tmp_path / "out"


def test_what_is_done_is_passed_over_and_told(model, folder, out):
    before = _rows(out)
    events = list(segment_folder(model, folder, out, config=CONFIG))
    done = [e for e in events if isinstance(e, FileDone)]
    assert [(e.state, e.message) for e in done] == [("skipped", "done before")] * 3
    assert [e.output for e in done] == [out / row["output"] for row in before]
    assert [e.n_cells for e in done] == [row["n_cells"] for row in before]
    assert not [e for e in events if isinstance(e, FileStarted)]
    assert events[-1] == FolderFinished(0, 0, 3)
    assert _rows(out) == before


def _touch(model, folder, out):
    os.utime(folder / "cells_1.tif", ns=(1, 1))


def _rewrite(model, folder, out):
    write_image(folder / "cells_1.tif", np.zeros((1, 9, 9)), axes="CYX")


def _remove(model, folder, out):
    (out / "cells_1_labels.tif").unlink()


def _flip_a_bit(model, folder, out):
    content = bytearray((out / "cells_1_labels.tif").read_bytes())
    content[-1] ^= 1
    (out / "cells_1_labels.tif").write_bytes(content)


def _lose_the_line(model, folder, out):
    lines = (out / "ledger.jsonl").read_text("utf-8").splitlines(keepends=True)
    (out / "ledger.jsonl").write_text(lines[0] + lines[2], "utf-8")


def _damage_the_line(model, folder, out):
    lines = (out / "ledger.jsonl").read_text("utf-8").splitlines(keepends=True)
    (out / "ledger.jsonl").write_text(lines[0] + '[{"a\n' + lines[2], "utf-8")


def _fail_later(model, folder, out):
    record = Record.from_line(read_lines(out)["cells_1.tif"])
    ledger = Ledger(out / "ledger.jsonl")
    ledger.add([replace(record, state="failed", sha256={})])
    ledger.close()


@pytest.mark.parametrize(
    "change",
    [_touch, _rewrite, _remove, _flip_a_bit, _lose_the_line, _damage_the_line,
     _fail_later],
)  # fmt: skip
def test_only_what_is_no_longer_as_it_was_is_done_again(model, folder, out, change):
    change(model, folder, out)
    predicted, last = _run(model, folder, out)
    assert (predicted, last) == ({1}, FolderFinished(1, 0, 2))
    assert [row["state"] for row in _rows(out)] == ["done"] * 3
    assert _run(model, folder, out)[0] == set()


@pytest.mark.parametrize(
    "settings",
    [
        {"config": CONFIG.model_copy(update={"tile_size": 48})},
        {"instances": InstanceConfig(min_size_px=3)},
        {"probabilities": True},
        {"measure": True},
        {"channels": ["0"]},
        {"resume": False},
    ],
)
def test_other_settings_do_all_again(model, folder, out, settings):
    assert _run(model, folder, out, **settings)[0] == {0, 1, 2}
    again = settings.get("resume", True)
    assert _run(model, folder, out, **settings)[0] == (set() if again else {0, 1, 2})


def test_another_model_does_all_again_and_another_device_nothing(model, folder, out):
    state = {key: value.clone() for key, value in model.state.items()}
    next(iter(state.values())).add_(1e-3)
    assert _run(replace(model, state=state), folder, out)[0] == {0, 1, 2}
    tuned = replace(model, state=state, instances=InstanceConfig(threshold=0.6))
    assert _run(tuned, folder, out)[0] == {0, 1, 2}
    anywhere = PredictConfig(device="auto", tile_size=32)
    assert _run(tuned, folder, out, config=anywhere)[0] == set()


@pytest.mark.parametrize("n_kept", range(0, 200, 23))
def test_half_a_line_at_the_end_is_dropped(model, folder, out, n_kept):
    path = out / "ledger.jsonl"
    *lines, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + last[: min(n_kept, len(last) - 1)])
    ledger = Ledger(path)
    record = Record("new.tif", "1-1", "m", "s", "done")
    ledger.add([record])
    ledger.close()
    assert path.read_bytes() == b"".join(lines) + record.to_line().encode()


def test_any_name_and_message_is_one_line(tmp_path):
    odd = "a\u2028b\nc\x85\"'é 日本.tif"
    ledger = Ledger(tmp_path / "ledger.jsonl")
    record = Record(odd, "1-1", "m", "s", "failed", message=odd, finished="2")
    ledger.add([record, replace(record, input="z")])
    ledger.close()
    lines = read_lines(tmp_path)
    assert Record.from_line(lines[odd]) == record
    assert list(lines) == [odd, "z"]


def test_nothing_is_recorded_before_it_is_on_the_disk(
    model, folder, tmp_path, monkeypatch
):
    calls: list[tuple[str, str]] = []

    def spied(name, real, what):
        def call(*given, **settings):
            calls.append((name, what(*given)))
            return real(*given, **settings)

        return call

    for home, name, what in (
        (atomic, "_sync_file", lambda file: file.target.name),
        (atomic, "_replace", lambda _, target: target.name),
        (atomic, "sync_folder", lambda folder: folder.name),
        (Ledger, "add", lambda _, records: " ".join(r.input for r in records)),
    ):
        monkeypatch.setattr(home, name, spied(name, getattr(home, name), what))
    _run(model, folder, tmp_path / "out")
    for name in ("cells_0", "cells_1", "cells_2"):
        labels = f"{name}_labels.tif"
        synced = calls.index(("_sync_file", labels))
        replaced = calls.index(("_replace", labels))
        recorded = next(
            i for i, (what, said) in enumerate(calls)
            if what == "add" and f"{name}.tif" in said
        )  # fmt: skip
        assert synced < replaced < recorded
        assert ("sync_folder", "out") in calls[replaced:recorded]


def test_pausing_waits_between_files_and_stopping_ends_in_order(
    model, folder, tmp_path
):
    box, out = Mailbox(), tmp_path / "out"
    kinds = []
    for event in segment_folder(model, folder, out, config=CONFIG, mailbox=box):
        kinds.append(event)
        if isinstance(event, FileStarted) and event.index == 1:
            box.pause()
        # What was done is told while it waits.
        if Paused(is_paused=True) in kinds and isinstance(event, FileDone):
            box.resume() if event.index == 0 else box.stop()
    assert Paused(is_paused=False) in kinds
    assert isinstance(kinds[-1], FolderFinished)
    assert kinds[-1].n_done in (2, 3)
    n_done = kinds[-1].n_done
    assert len(_rows(out)) == n_done
    assert len(_run(model, folder, out)[0]) == 3 - n_done


def test_a_stop_before_the_first_file_does_nothing(model, folder, tmp_path):
    box = Mailbox()
    box.stop()
    predicted, last = _run(model, folder, tmp_path / "out", mailbox=box)
    assert (predicted, last) == (set(), FolderFinished(0, 0))


def test_shards_share_all_files_and_are_gathered(model, folder, out, tmp_path):
    other = tmp_path / "shards"
    each = [_run(model, folder, other, shard=(i, 2), measure=True) for i in (1, 2)]
    assert [last.n_done for _, last in each] == [2, 1]
    inputs = [[row["input"] for row in _rows(other, f"ledger-{i}-of-2.jsonl")]
              for i in (1, 2)]  # fmt: skip
    assert inputs == [["cells_0.tif", "cells_2.tif"], ["cells_1.tif"]]
    assert not (other / "measurements.csv").exists()
    assert _run(model, folder, other, measure=True)[0] == set()
    assert [row["input"] for row in _rows(other)] == [
        f"cells_{i}.tif" for i in range(3)
    ]
    assert (other / "measurements.csv").exists()
    for path in out.glob("*.tif"):
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_more_shards_than_files_leave_some_with_nothing(model, folder, tmp_path):
    events = list(segment_folder(model, folder, tmp_path / "out", shard=(5, 7)))
    assert events == [FolderStarted(()), FolderFinished(0, 0)]


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (-1, -1)])
def test_a_shard_that_is_none_is_refused(model, folder, tmp_path, shard):
    with pytest.raises(ConfigError, match="there is no shard") as caught:
        next(segment_folder(model, folder, tmp_path / "out", shard=shard))
    assert caught.value.code == "NU-C40"
    assert not (tmp_path / "out").exists()


def test_two_patterns_share_an_output_folder(model, folder, tmp_path):
    for name in ("*_0*", "*_1*", "*_2*"):
        _run(model, folder, tmp_path / "out", pattern=name)
    assert _run(model, folder, tmp_path / "out")[0] == set()


def test_results_never_take_the_place_of_an_image(model, tmp_path):
    # The results of images/ go beside images/, where another image has their name.
    root = tmp_path / "data"
    for name in ("out/a.tif", "a_labels.tif", "sub/b.tif", "out.tif"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image = draw_cells((32, 32), n_cells=3, rng=np.random.default_rng(0))[0]
        write_image(root / name, image[None], axes="CYX")
    before = {p: p.read_bytes() for p in root.rglob("*.tif")}
    (tmp_path / "link").symlink_to(root / "sub", target_is_directory=True)
    _run(model, root / "sub", root)
    assert (root / "b_labels.tif").exists()
    (root / "sub" / "b_labels.tif").write_bytes(before[root / "sub" / "b.tif"])
    (root / "sub" / "sub").mkdir()
    (root / "sub" / "sub" / "b.tif").write_bytes(before[root / "sub" / "b.tif"])
    *events, last = segment_folder(model, tmp_path / "link", root, config=CONFIG)
    failed = [e for e in events if isinstance(e, FileDone) and e.state == "failed"]
    assert [e.path.name for e in failed] == ["b.tif"]
    assert "would overwrite another image" in failed[0].message
    assert last.n_failed == 1
    for path, content in before.items():
        assert path.read_bytes() == content


def test_a_link_in_the_place_of_a_result_is_not_written_through(
    model, folder, tmp_path
):
    out = tmp_path / "out"
    out.mkdir()
    content = (folder / "cells_0.tif").read_bytes()
    (out / "cells_0_labels.tif").symlink_to(folder / "cells_0.tif")
    _run(model, folder, out)
    assert (folder / "cells_0.tif").read_bytes() == content
    assert not (out / "cells_0_labels.tif").is_symlink()


def test_results_within_the_folder_of_the_images_are_no_images(model, folder):
    out = folder / "results"
    assert _run(model, folder, out)[0] == {0, 1, 2}
    assert _run(model, folder, out) == (set(), FolderFinished(0, 0, 3))


def test_stray_files_are_recorded_with_the_reason(model, folder, tmp_path):
    (folder / "notes.txt").write_text("stray")
    (folder / ".DS_Store").write_text("hidden")
    _, last = _run(model, folder, tmp_path / "out")
    assert last == FolderFinished(3, 0, 1)
    row = _rows(tmp_path / "out")[-1]
    assert (row["input"], row["state"]) == ("notes.txt", "skipped")
    assert "notes.txt is no image by its name" in row["message"]


def test_a_subfolder_that_cannot_be_read_is_warned_of(
    model, folder, tmp_path, monkeypatch
):
    (folder / "secret").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    first, *_, last = segment_folder(model, folder, tmp_path / "out", config=CONFIG)
    assert isinstance(first, Note)
    assert first.is_warning
    assert "secret can't be read" in first.message
    assert last == FolderFinished(3, 0)


def test_cells_of_a_model_without_any_are_not_measured(model, folder, tmp_path):
    roles = ("value:a", "value:b")
    values = replace(model, roles=roles, class_names=())
    with pytest.raises(ModelError) as caught:
        next(segment_folder(values, folder, tmp_path / "out", measure=True))
    assert caught.value.code == "NU-M11"
