from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import torch

from napari_unet.batch import inputs, ledger, outputs, segment, segment_folder
from napari_unet.config import (
    NetworkConfig,
    PredictConfig,
)
from napari_unet.errors import FolderError, ModelError, SaveError
from napari_unet.events import (
    FileDone,
    FileProgress,
    FileStarted,
    FolderFinished,
    FolderStarted,
)
from napari_unet.files import atomic
from napari_unet.files.images import read_image, read_labels, write_image
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.checkpoint import Model
from napari_unet.learning.model import weights_sha256
from napari_unet.learning.networks import build_network
from napari_unet.learning.prediction import predict

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.imaging.arrays import Image

_TABLES = ("measurements.csv", "preview.html")
CONFIG = PredictConfig(device="cpu", tile_size=32)


def _cells(seed: int, shape=(64, 64)) -> tuple[np.ndarray, np.ndarray]:
    return draw_cells(shape, n_cells=6, rng=np.random.default_rng(seed))


def _of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def _run(model, source, output, **asked) -> list:
    return list(segment_folder(model, source, output, config=CONFIG, **asked))


def _ledger(output: Path) -> list[dict]:
    text = (output / "ledger.jsonl").read_text("utf-8")
    return [json.loads(row) for row in text.splitlines()]


def test_a_folder_is_segmented_file_by_file(model, folder, tmp_path):
    out = tmp_path / "deep" / "out"
    events = list(segment_folder(model, folder, out, config=CONFIG))
    paths = sorted(folder.iterdir())
    assert events[0] == FolderStarted(tuple(paths))
    assert events[-1] == FolderFinished(3, 0)
    # A file is told as done once it is on the disk, when others have begun.
    begun = [e for e in events[1:-1] if not isinstance(e, FileDone)]
    assert [type(e) for e in begun] == [FileStarted, *[FileProgress] * 4] * 3
    assert [e.index for e in _of(FileDone, events)] == [0, 1, 2]
    assert [e.path for e in _of(FileStarted, events)] == paths
    progress = _of(FileProgress, events)
    assert [(e.index, e.n_done, e.n_tiles) for e in progress] == [
        (i, n, 4) for i in range(3) for n in (1, 2, 3, 4)
    ]
    for path, done in zip(paths, _of(FileDone, events), strict=True):
        assert (done.state, done.path) == ("done", path)
        assert done.output == out / f"{path.stem}_labels.tif"
        labels = read_labels(done.output)
        np.testing.assert_array_equal(labels, segment(model, path, config=CONFIG))
        assert done.n_cells == labels.max()
        assert read_image(done.output).pixel_size_um == pytest.approx((0.5, 0.5))
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"cells_{i}_labels.tif" for i in range(3)), "ledger.jsonl",
    ]  # fmt: skip


def test_the_ledger_has_a_line_for_each_file(model, folder, tmp_path):
    out = tmp_path / "out"
    events = list(segment_folder(model, folder, out, config=CONFIG))
    rows = _ledger(out)
    assert [row["input"] for row in rows] == [f"cells_{i}.tif" for i in range(3)]
    for row, done in zip(rows, _of(FileDone, events), strict=True):
        status = done.path.stat()
        assert row["fingerprint"] == f"{status.st_size}-{status.st_mtime_ns}"
        assert out / row["output"] == done.output
        content = done.output.read_bytes()
        assert row["sha256"] == {row["output"]: hashlib.sha256(content).hexdigest()}
        assert row["model"] == weights_sha256(model.state)
        assert (row["state"], row["n_cells"]) == ("done", done.n_cells)
        assert row["message"] == ""
        assert row["seconds"] >= 0
        resolved = (row["device"], row["precision"], row["halo"])
        assert resolved == ("cpu", "fp32", model.build().halo)


def test_one_bad_file_stops_no_other(model, folder, tmp_path):
    bad = folder / "cells_1.tif"
    bad.write_bytes(b"this is no TIFF")
    out = tmp_path / "out"
    events = list(segment_folder(model, folder, out, config=CONFIG))
    done = _of(FileDone, events)
    assert [d.state for d in done] == ["done", "failed", "done"]
    assert done[1].output is None
    assert "cells_1.tif" in done[1].message
    assert "NU-I" in done[1].message
    assert events[-1] == FolderFinished(2, 1)
    assert [row["state"] for row in _ledger(out)] == ["done", "failed", "done"]
    assert _ledger(out)[1]["output"] is None
    assert not (out / "cells_1_labels.tif").exists()


def test_even_an_unforeseen_error_stops_no_other_file(
    model, folder, tmp_path, monkeypatch
):
    original = inputs.read_image

    def read(path: Path, **settings: object) -> Image:
        if path.name == "cells_0.tif":
            raise RuntimeError("mat1 and mat2")
        return original(path, **settings)

    monkeypatch.setattr(inputs, "read_image", read)
    events = list(segment_folder(model, folder, tmp_path / "out", config=CONFIG))
    first, *others = _of(FileDone, events)
    assert (first.state, first.message) == ("failed", "RuntimeError('mat1 and mat2')")
    assert [d.state for d in others] == ["done", "done"]


def test_a_file_that_vanishes_fails_alone(model, folder, tmp_path):
    events = []
    for event in segment_folder(model, folder, tmp_path / "out", config=CONFIG):
        events.append(event)
        if isinstance(event, FolderStarted):
            (folder / "cells_2.tif").unlink()
    assert [d.state for d in _of(FileDone, events)] == ["done", "done", "failed"]


def test_warnings_stand_in_the_row_of_their_file(model, folder, tmp_path):
    known = replace(model, pixel_size_um=(5.0, 5.0))
    out = tmp_path / "out"
    events = list(segment_folder(known, folder, out, config=CONFIG))
    for done, row in zip(_of(FileDone, events), _ledger(out), strict=True):
        assert "0.5 µm per pixel" in done.message
        assert "not believed" in done.message
        assert row["message"] == done.message
        assert done.state == "done"


def test_a_pattern_chooses_files(model, folder, tmp_path):
    events = list(
        segment_folder(
            model, folder, tmp_path / "out", config=CONFIG, pattern="*_1.tif"
        )
    )
    assert [d.path.name for d in _of(FileDone, events)] == ["cells_1.tif"]


def test_a_single_file_can_be_given(model, folder, tmp_path):
    path = folder / "cells_2.tif"
    events = list(segment_folder(model, str(path), str(tmp_path / "out")))
    assert events[0] == FolderStarted((path,))
    assert events[-1] == FolderFinished(1, 0)


def test_probabilities_are_written_on_request(model, folder, tmp_path):
    out = tmp_path / "out"
    run = segment_folder(
        model, folder, out, config=CONFIG, pattern="*_0.tif", probabilities=True
    )
    assert list(run)[-1].n_done == 1
    written = read_image(out / "cells_0_probabilities.tif")
    assert written.channel_names == ("background", "cell")
    assert written.pixel_size_um == pytest.approx((0.5, 0.5))
    expected = predict(model, folder / "cells_0.tif", CONFIG)
    np.testing.assert_array_equal(written.plane(), expected)


def test_stacks_keep_their_axes(model, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    stack = np.stack([_cells(seed)[0] for seed in (5, 6)])[None]
    write_image(images / "movie.tif", stack, axes="CTYX")
    list(
        segment_folder(
            model, images, tmp_path / "out", config=CONFIG, probabilities=True
        )
    )
    labels = read_image(tmp_path / "out" / "movie_labels.tif")
    assert (labels.axes, labels.shape) == ("CTYX", (2, 64, 64))
    probabilities = read_image(tmp_path / "out" / "movie_probabilities.tif")
    assert (probabilities.axes, probabilities.n_channels) == ("CTYX", 2)


def test_axes_and_channels_are_passed_on(model, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    image = _cells(5)[0]
    planes = np.stack([image * 0, image, image])
    tifffile.imwrite(images / "plain.tif", planes, photometric="minisblack")
    run = segment_folder(
        model, images, tmp_path / "out", config=CONFIG, axes="CYX", channels=["1"]
    )
    assert _of(FileDone, list(run))[0].state == "done"
    labels = read_labels(tmp_path / "out" / "plain_labels.tif")
    np.testing.assert_array_equal(labels, segment(model, image, config=CONFIG))


@pytest.mark.parametrize("names", [("a.tif", "a.tiff"), ("a.ome.tif", "a.tif")])
def test_two_files_of_one_stem_never_overwrite_each_other(model, tmp_path, names):
    images = tmp_path / "images"
    images.mkdir()
    for seed, name in enumerate(names):
        write_image(images / name, _cells(seed)[0][None], axes="CYX")
    events = list(segment_folder(model, images, tmp_path / "out", config=CONFIG))
    first, second = _of(FileDone, events)
    assert [first.state, second.state] == ["done", "failed"]
    assert f"{second.path.name} would overwrite the result of {first.path.name}" in (
        second.message
    )
    np.testing.assert_array_equal(
        read_labels(tmp_path / "out" / "a_labels.tif"),
        segment(model, first.path, config=CONFIG),
    )


@pytest.mark.parametrize("of", ["folder", "file"])
def test_the_folder_of_the_images_is_no_output_folder(model, folder, of):
    source = folder if of == "folder" else folder / "cells_0.tif"
    before = sorted(folder.iterdir())
    run = segment_folder(model, source, folder / ".." / folder.name)
    with pytest.raises(FolderError, match="is the folder of the images") as caught:
        next(run)
    assert caught.value.code == "NU-F09"
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("kind", ["below a file", "a file", "a folder as ledger"])
def test_an_output_folder_that_cannot_be_written_is_refused(
    model, folder, tmp_path, kind
):
    out = tmp_path / "out"
    if kind == "a folder as ledger":
        (out / "ledger.jsonl").mkdir(parents=True)
    else:
        out.touch()
        out = out / "below" if kind == "below a file" else out
    with pytest.raises(SaveError, match=r"can't be written .* choose another") as e:
        next(segment_folder(model, folder, out))
    assert e.value.code == "NU-S02"


def test_what_is_missing_is_refused_before_anything_is_made(model, folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(FolderError, match="none"):
        next(segment_folder(model, tmp_path / "none", out))
    with pytest.raises(FolderError, match="none like 'x'"):
        next(segment_folder(model, folder, out, pattern="x"))
    with pytest.raises(ModelError, match="is missing"):
        next(segment_folder(tmp_path / "none.unet", folder, out))
    assert not out.exists()


def test_results_that_cannot_be_written_fail_alone(
    model, folder, tmp_path, monkeypatch
):
    def fail(path: Path, *given: object) -> object:
        if path.name == "cells_1_labels.tif":
            raise SaveError("NU-S01", "the disk is full")
        return original(path, *given)

    original = outputs.write_apart
    monkeypatch.setattr(outputs, "write_apart", fail)
    events = list(segment_folder(model, folder, tmp_path / "out", config=CONFIG))
    assert [d.state for d in _of(FileDone, events)] == ["done", "failed", "done"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_results_that_do_not_reach_the_disk_fail_alone(
    model, folder, tmp_path, monkeypatch, call
):
    def fail(step, file) -> None:
        if file.target.name == "cells_1_labels.tif":
            raise OSError(28, "No space left on device")
        step(file)

    if call == "fsync":
        sync = atomic._sync_file
        monkeypatch.setattr(atomic, "_sync_file", lambda file: fail(sync, file))
    else:
        replace_ = atomic._replace

        def fails(temporary: Path, target: Path) -> None:
            if target.name == "cells_1_labels.tif":
                raise OSError(28, "No space left on device")
            replace_(temporary, target)

        monkeypatch.setattr(atomic, "_replace", fails)
    out = tmp_path / "out"
    events = list(segment_folder(model, folder, out, config=CONFIG))
    done = _of(FileDone, events)
    assert [d.state for d in done] == ["done", "failed", "done"]
    assert "the disk is full" in done[1].message
    assert [row["state"] for row in _ledger(out)] == ["done", "failed", "done"]
    assert sorted(p.name for p in out.iterdir()) == [
        "cells_0_labels.tif", "cells_2_labels.tif", "ledger.jsonl",
    ]  # fmt: skip


def test_a_ledger_that_cannot_be_written_is_an_error_of_ours(
    model, folder, tmp_path, monkeypatch
):
    run = segment_folder(model, folder, tmp_path / "out", config=CONFIG)
    next(run)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger.os, "fsync", fail)
    with pytest.raises(SaveError, match=r"ledger\.jsonl can't be written: No space"):
        list(run)


def test_a_run_can_be_closed_between_files(model, folder, tmp_path):
    run = segment_folder(model, folder, tmp_path / "out", config=CONFIG)
    for event in run:
        if isinstance(event, FileDone):
            break
    run.close()
    written = len(list((tmp_path / "out").glob("*_labels.tif")))
    assert len(_ledger(tmp_path / "out")) == written >= 1


def test_what_a_killed_run_left_half_written_is_swept(model, folder, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    out = tmp_path / "out"
    out.mkdir()
    stray = out / f".cells_0_labels.tif.{child.pid}.0123abcd.unettmp"
    stray.write_bytes(b"half")
    os.utime(stray, (0, 0))
    list(segment_folder(model, folder, out, config=CONFIG))
    assert not stray.exists()
    assert (out / "cells_0_labels.tif").exists()


def test_a_finer_grid_gives_finer_labels_and_smaller_pixels(folder, tmp_path):
    config = NetworkConfig(base_width=2, depth=1, upscale=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        finer = Model(config, build_network(config).state_dict())
    settings = PredictConfig(device="cpu")
    image = read_image(folder / "cells_0.tif")
    assert segment(finer, image, config=settings).shape == (128, 128)
    list(segment_folder(finer, folder, tmp_path / "out", config=settings))
    with tifffile.TiffFile(tmp_path / "out" / "cells_0_labels.tif") as file:
        assert file.pages[0].shape == (128, 128)
    labels = read_image(tmp_path / "out" / "cells_0_labels.tif")
    assert labels.pixel_size_um == pytest.approx((0.25, 0.25))


def _untrained(roles: tuple[str, ...], **shape) -> Model:
    torch.manual_seed(0)
    network = NetworkConfig(base_width=2, depth=1, out_channels=len(roles), **shape)
    return Model(network, build_network(network).state_dict(), roles=roles)


def _folder_of_one(folder: Path, **given) -> Path:
    folder.mkdir()
    write_image(folder / "a.tif", np.random.default_rng(0).random((1, 20, 24)), **given)
    return folder


def test_a_model_of_values_writes_what_it_makes_of_an_image(tmp_path):
    images = _folder_of_one(tmp_path / "images", pixel_size_um=(0.5, 0.5))
    model = _untrained(("value:red", "value:green"), upscale=2)
    *_, done, finished = segment_folder(model, images, tmp_path / "out", config=CONFIG)
    assert finished == FolderFinished(1, 0)
    assert done.output == tmp_path / "out/a_predicted.tif"
    assert done.n_cells is None
    written = read_image(done.output)
    assert written.channel_names == ("red", "green")
    # Twice as fine as the image.
    assert written.pixel_size_um == (0.25, 0.25)
    np.testing.assert_array_equal(
        written.data, predict(model, images / "a.tif", CONFIG)
    )
    assert not (tmp_path / "out/a_labels.tif").exists()


def test_cells_of_an_upscaling_model_lie_on_the_finer_grid(tmp_path):
    images = _folder_of_one(tmp_path / "images", pixel_size_um=(0.5, 0.5))
    model = _untrained(("softmax:background", "softmax:cell"), upscale=2)
    *_, done, _ = segment_folder(model, images, tmp_path / "out", config=CONFIG)
    assert read_image(done.output).pixel_size_um == (0.25, 0.25)
    labels = segment(model, images / "a.tif", CONFIG)
    assert labels.shape == (40, 48)
    np.testing.assert_array_equal(read_labels(done.output).data, labels)


def test_attention_is_written_on_the_grid_of_the_image(tmp_path):
    images = _folder_of_one(tmp_path / "images")
    model = _untrained(
        ("softmax:background", "softmax:cell"), architecture="attention_unet"
    )
    *_, finished = segment_folder(
        model, images, tmp_path / "out", config=CONFIG, attention=True
    )
    assert finished.n_failed == 0
    maps = read_image(tmp_path / "out/a_attention.tif")
    assert maps.shape == (20, 24)
    assert maps.channel_names == ("gate 1",)


def test_attention_of_a_network_without_gates_is_refused_at_once(tmp_path, model):
    images = _folder_of_one(tmp_path / "images")
    with pytest.raises(ModelError, match="which has no attention gates"):
        next(segment_folder(model, images, tmp_path / "out", attention=True))


def test_what_lies_beside_an_image_under_its_name_does_not_stop_it(
    model, folder, tmp_path
):
    for name in ("cells_0.csv", "cells_1.json", "cells_2.czi"):
        (folder / name).write_text("no image")
    events = _run(model, folder, tmp_path / "out")
    states = {e.path.name: e.state for e in _of(FileDone, events)}
    assert {name for name, state in states.items() if state == "done"} == {
        f"cells_{i}.tif" for i in range(3)
    }
    assert list(states.values()).count("skipped") == 3


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode elsewhere")
def test_a_name_that_is_no_unicode_is_a_name_like_others(model, folder, tmp_path):
    odd = os.fsdecode(b"m\xfc.tif")
    (folder / "cells_1.tif").rename(folder / odd)
    output = tmp_path / "out"
    for is_done_before in (False, True):
        events = _run(model, folder, output, measure=True, preview=True)
        states = [e.state for e in _of(FileDone, events)]
        assert states == ["skipped" if is_done_before else "done"] * 3
    assert (output / os.fsdecode(b"m\xfc_labels.tif")).is_file()


def test_tables_of_all_files_stay_so_when_some_are_done_again(model, folder, tmp_path):
    output = tmp_path / "out"
    _run(model, folder, output, measure=True, preview=True)
    before = {name: (output / name).read_bytes() for name in _TABLES}
    _run(model, folder, output, measure=True, preview=True, pattern="cells_1*")
    assert {name: (output / name).read_bytes() for name in _TABLES} == before


def test_a_single_ome_zarr_can_be_given(model, folder, tmp_path):
    _run(model, folder / "cells_0.tif", tmp_path / "one", to="zarr")
    (labels,) = (tmp_path / "one").glob("*.zarr")
    events = _run(model, labels, tmp_path / "two")
    assert [e.state for e in _of(FileDone, events)] == ["done"]
