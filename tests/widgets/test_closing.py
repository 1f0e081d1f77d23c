"""napari is closed while it trains: in a process of its own, as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = [pytest.mark.gui, pytest.mark.slow]

_COMMON = """
import json, sys
import napari, numpy as np
from qtpy.QtCore import QTimer
from napari_unet.config import NetworkConfig, TrainConfig
from napari_unet.events import TrainingStarted
from napari_unet.imaging.drawn import draw_cells
from napari_unet.widgets.train import TrainWidget

image, cells = draw_cells((96, 96), n_cells=12, rng=np.random.default_rng(1))
viewer = napari.Viewer(show=True)
viewer.add_image(image, name="nuclei")
labels = viewer.add_labels(cells, name="cells")
labels.metadata = {"napari_unet": {"unpainted": "background"}}
dock = TrainWidget(viewer)
viewer.window.add_dock_widget(dock, name="Train")
told = {}
"""
_CLOSE = """
dock.form.settings.setValue(TrainConfig(
    max_steps=100_000, batch_size=1, patch_size=32, validate_every=20,
    checkpoint_every=1000, device="cpu"))
dock.form.network.setValue(NetworkConfig(base_width=2, depth=1))
dock.panel.start.click()

def look():
    if dock.panel.state.n_done >= 5:
        timer.stop()
        print(json.dumps({"step": dock.panel.state.n_done}))
        sys.stdout.flush()
        viewer.close()
    elif dock.panel.state.failure is not None:
        print(dock.panel.state.failure, file=sys.stderr)
        sys.exit(3)

timer = QTimer()
timer.timeout.connect(look)
timer.start(20)
napari.run()
"""
_GO_ON = """
started = []
dock.panel.happened.connect(
    lambda events: started.extend(e for e in events if isinstance(e, TrainingStarted)))
labels.data_setitem((np.arange(5), np.arange(5)), 99)  # painted since
assert not dock.interrupted.isHidden(), "nothing is offered"
dock.interrupted.yes.click()

def look():
    state = dock.panel.state
    if state.failure is not None:
        print(state.failure, file=sys.stderr)
        sys.exit(3)
    if not state.is_running:
        timer.stop()
        offered = not dock.interrupted.isHidden()
        print(json.dumps({"first": started[0].first_step, "offered": offered,
                          "has_model": dock.model is not None}))
        sys.stdout.flush()
        viewer.close()
    elif started and state.n_done >= started[0].first_step + 3:
        dock.panel.ask_stop()

timer = QTimer()
timer.timeout.connect(look)
timer.start(20)
napari.run()
"""


def run(code: str, home) -> dict:
    names = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME")
    env = os.environ | {name: str(home / name) for name in names}
    done = subprocess.run(
        [sys.executable, "-c", f"{_COMMON}{textwrap.dedent(code)}"],
        env=env | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_closing_napari_leaves_a_checkpoint_and_the_next_one_goes_on(tmp_path) -> None:
    closed = run(_CLOSE, tmp_path)
    runs = tmp_path / "XDG_DATA_HOME" / "napari-unet" / "runs"
    (folder,) = runs.iterdir()
    checkpoints = sorted((folder / "checkpoints").glob("step-*.safetensors"))
    last = int(checkpoints[-1].stem.removeprefix("step-"))
    assert last >= closed["step"]
    went_on = run(_GO_ON, tmp_path)
    assert went_on == {"first": last, "offered": False, "has_model": True}
