"""A folder run that is killed, again and again, ends as one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import accumulate, cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_unet.files.atomic import put_in_place
from napari_unet.files.images import write_image
from napari_unet.files.ome_zarr import labels_apart
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.checkpoint import save_model

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks and kills")

_TIMES = ("seconds", "finished")
_CHILD = Path(__file__).with_name("run_folder.py")


class Child:
    """The child process, and what it said."""

    def __init__(self, model: Path, source: Path, *more: str) -> None:
        own = [str(_CHILD), str(model), str(source), *more]
        argv = [sys.executable, "-W", "ignore", *own]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self._read() == ["ready"]

    def run(
        self, output: Path, *, dies_at: int = 0, killed_after: int | None = None
    ) -> tuple[list[tuple[str, int]], bool]:
        """Run the folder; return its events, and whether it came to its end.

        It is killed after so many events, or kills itself at a call of the system.
        """
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(f"run {output} {dies_at}\n")
        stdin.flush()
        events: list[tuple[str, int]] = []
        pid = 0
        while True:
            said, _, *more = self._read()
            if said == "pid":
                pid = int(more[0])
            elif said == "ended":
                return events, int(more[0]) == 0
            else:
                events.append((more[0], int(more[1])))
            if pid and killed_after is not None and len(events) == killed_after:
                os.kill(pid, signal.SIGKILL)
                killed_after = None

    def _read(self) -> list[str]:
        stdout = self._process.stdout
        assert stdout is not None
        line = stdout.readline()
        assert line, "the child ended"
        return line.split()

    def close(self) -> None:
        self._process.communicate("end\n", timeout=30)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Six images in two folders, one of them bad."""
    folder = tmp_path_factory.mktemp("source") / "images"
    for i in range(6):
        path = folder / ("deep/er" if i % 2 else "") / f"cells_{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        image, _ = draw_cells((48, 48), n_cells=4, rng=np.random.default_rng(i))
        write_image(path, image[None], axes="CYX", pixel_size_um=(0.5, 0.5))
    (folder / "cells_2.tif").write_text("no image")
    (folder / "notes.txt").write_text("stray")
    return folder


@pytest.fixture(scope="module")
def child(model, source, tmp_path_factory) -> Iterator[Child]:
    path = save_model(tmp_path_factory.mktemp("model") / "m.unet", model)
    child = Child(path, source)
    yield child
    child.close()


@pytest.fixture(scope="module")
def expected(child, tmp_path_factory) -> dict[str, object]:
    """What a run leaves that nobody disturbs."""
    output = tmp_path_factory.mktemp("whole") / "out"
    _, is_finished = child.run(output)
    assert is_finished
    return left_by(output)


def left_by(output: Path) -> dict[str, object]:
    """Return the content of all files of an output folder, without times."""
    files: dict[str, object] = {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and ".unettmp" not in str(path)
    }
    lines = (output / "ledger.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    files["ledger.jsonl"] = [
        {key: value for key, value in row.items() if key not in _TIMES} for row in rows
    ]
    return files


def done_in(events: list[tuple[str, int]]) -> set[int]:
    return {index for name, index in events if name == "FileDone-done"}


def predicted_in(events: list[tuple[str, int]]) -> set[int]:
    return {index for name, index in events if name == "FileProgress"}


def test_the_undisturbed_run_does_all_that_can_be_done(expected) -> None:
    states = [row["state"] for row in expected["ledger.jsonl"]]
    assert sorted(states) == ["done"] * 5 + ["failed", "skipped"]
    assert len([name for name in expected if name.endswith("_labels.tif")]) == 5
    assert expected["measurements.csv"].count(b"\n") > 5


@pytest.mark.parametrize("n", range(1, 34, 4))
def test_killed_after_any_event_it_loses_nothing_and_does_nothing_twice(
    child, expected, tmp_path, n
) -> None:
    output = tmp_path / "out"
    first, _ = child.run(output, killed_after=n)
    second, is_finished = child.run(output)
    assert is_finished
    assert not done_in(first) & predicted_in(second)
    assert left_by(output) == expected


@pytest.mark.slow
def test_killed_before_any_call_that_changes_the_disk_it_ends_alike(
    child, expected, tmp_path
) -> None:
    # All along the run, in steps that fall in with no file's number of calls.
    for n in accumulate(cycle((1, 3, 4, 2)), initial=1):
        output = tmp_path / f"out{n}"
        first, is_finished = child.run(output, dies_at=n)
        second, ends = child.run(output)
        assert ends
        assert not done_in(first) & predicted_in(second), n
        assert left_by(output) == expected, n
        if is_finished:
            break
        assert n < 500
    assert n > 40


def test_killed_again_and_again_it_comes_to_its_end(child, expected, tmp_path) -> None:
    output = tmp_path / "out"
    known: set[int] = set()
    for _ in range(20):
        # Time for a file or two, recorded one by one.
        events, is_finished = child.run(output, dies_at=18)
        assert not known & predicted_in(events)
        known |= done_in(events)
        if is_finished:
            break
    assert is_finished
    assert left_by(output) == expected


@pytest.fixture(scope="module")
def large_child(model, tmp_path_factory) -> Iterator[Child]:
    """A child whose images are an OME-Zarr and a tiled TIFF, and large."""
    folder = tmp_path_factory.mktemp("large") / "images"
    folder.mkdir()
    for name, seed in (("a.zarr", 0), ("b.tif", 1)):
        image, _ = draw_cells((50, 70), n_cells=8, rng=np.random.default_rng(seed))
        pixels = (200 * image.clip(0, 1)).astype(np.uint8)
        if name == "a.zarr":
            put_in_place([labels_apart(folder / name, pixels, "YX")])
        else:
            tifffile.imwrite(folder / name, pixels, tile=(32, 32))
    path = save_model(tmp_path_factory.mktemp("model") / "m.unet", model)
    child = Child(path, folder, str(40**2))
    yield child
    child.close()


@pytest.mark.slow
def test_killed_in_the_middle_of_large_images_it_ends_alike(
    large_child, tmp_path
) -> None:
    whole = tmp_path / "whole"
    large_child.run(whole)
    expected = left_by(whole)
    assert {"a_labels.zarr/.zattrs", "b_labels.tif"} < set(expected)
    for n in range(7, 500, 40):
        output = tmp_path / f"out{n}"
        first, is_finished = large_child.run(output, dies_at=n)
        second, ends = large_child.run(output)
        assert ends
        assert not done_in(first) & predicted_in(second), n
        assert left_by(output) == expected, n
        if is_finished:
            break
    assert n > 10
