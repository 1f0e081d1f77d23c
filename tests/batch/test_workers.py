"""A folder run on the workers of a dask cluster leaves the same files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_unet.batch import dask_run, segment_folder
from napari_unet.config import PredictConfig
from napari_unet.errors import ConfigError, ResourceError
from napari_unet.files.images import write_image
from napari_unet.imaging.drawn import draw_cells
from napari_unet.learning.checkpoint import load_model

_TIMES = ("seconds", "finished")
CONFIG = PredictConfig(device="cpu", tile_size=32)
_CHILD = Path(__file__).with_name("run_on_workers.py")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Eight images in two folders, one of them bad, and a stray file."""
    folder = tmp_path_factory.mktemp("source") / "images"
    for i in range(8):
        path = folder / ("deep" if i % 2 else "") / f"cells_{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        image, _ = draw_cells((48, 48), n_cells=4, rng=np.random.default_rng(i))
        write_image(path, image[None], axes="CYX", pixel_size_um=(0.5, 0.5))
    (folder / "cells_2.tif").write_text("no image")
    (folder / "notes.txt").write_text("stray")
    return folder


@pytest.fixture(scope="module")
def expected(sample_model, source, tmp_path_factory) -> dict[str, object]:
    """What one process leaves."""
    out = tmp_path_factory.mktemp("here") / "out"
    list(segment_folder(sample_model, source, out, config=CONFIG, measure=True))
    return _left_by(out)


def _left_by(out: Path) -> dict[str, object]:
    files: dict[str, object] = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.endswith(".unettmp")
    }
    rows = [
        json.loads(s)
        for s in (out / "ledger.jsonl").read_text("utf-8").split("\n")
        if s
    ]
    files["ledger.jsonl"] = [
        {k: v for k, v in row.items() if k not in ("seconds", "finished")}
        for row in rows
    ]
    return files


def _run(model: Path, source: Path, out: Path, *more: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", _CHILD, model, source, out, *more],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processes end otherwise there")
def test_a_worker_that_is_killed_costs_nothing_but_time(
    sample_model, source, expected, tmp_path
):
    out = tmp_path / "out"
    said = _run(sample_model, source, out, "--kill")
    assert "killed" in said
    assert said[-1] == "FolderFinished 7 1 1"
    assert sorted(s for s in said if s.startswith("FileDone")) == sorted(
        f"FileDone {row['state']} {i}" for i, row in enumerate(expected["ledger.jsonl"])
    )
    assert _left_by(out) == expected
    # Done is done, with or without workers.
    *_, last = segment_folder(sample_model, source, out, config=CONFIG, measure=True)
    assert (last.n_done, last.n_skipped) == (0, 8)


@pytest.mark.slow
def test_no_scheduler_is_said_in_a_sentence(sample_model, source, tmp_path):
    said = _run(
        sample_model, source, tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9"
    )
    assert said == [
        "UNetError no dask scheduler answers at tcp://127.0.0.1:9: start one with "
        "dask scheduler, and give the address that it prints, such as "
        "tcp://host:8786 [NU-R08]"
    ]


@pytest.mark.parametrize(
    "asked", [{"workers": 0}, {"workers": 2, "scheduler": "tcp://host:1"}]
)
def test_what_no_cluster_can_be_is_refused(sample_model, source, tmp_path, asked):
    with pytest.raises(ConfigError, match="give a number of workers from 1") as caught:
        next(segment_folder(sample_model, source, tmp_path / "out", **asked))
    assert caught.value.code == "NU-C41"


def test_without_dask_it_is_said_how_to_install_it(
    sample_model, source, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ResourceError, match=r"napari-unet-loop\[dask\]") as caught:
        next(segment_folder(sample_model, source, tmp_path / "out", workers=2))
    assert caught.value.code == "NU-R10"


def test_a_worker_without_the_shared_disk_says_so(sample_model, source, tmp_path):
    with pytest.raises(ResourceError, match="on a disk that all machines share") as e:
        dask_run.do_file("run", str(tmp_path / "elsewhere" / "ledger.jsonl"), None)
    assert e.value.code == "NU-R09"


class FakeClient:
    """A client of a cluster whose workers do nothing."""

    status = "running"
    sees = (("node1", True),)

    def register_plugin(self, plugin):
        self.plugin = plugin

    def run(self, *_):
        return dict(enumerate(self.sees))

    def nthreads(self):
        return {}

    def __getattr__(self, name):
        return lambda *_given, **_settings: None


def test_workers_are_looked_at_before_the_first_file(
    sample_model, source, tmp_path, monkeypatch
):
    client = FakeClient()
    monkeypatch.setattr(dask_run, "_connected", lambda *_: (client, None))
    out = tmp_path / "out"
    client.sees = (("node1", True), ("node2", False))
    with pytest.raises(ResourceError, match="the worker on node2 does not see") as e:
        next(segment_folder(sample_model, source, out, scheduler="tcp://host:1"))
    assert e.value.code == "NU-R09"
    client.sees = ()
    run = segment_folder(
        load_model(sample_model), source, out, scheduler="tcp://host:1"
    )
    assert "has no workers yet" in next(run).message
    run.close()
