"""How long the window stands still while a network is trained in it on the CPU.

A real napari window with the Train dock: training runs on layers, one core is left to
the GUI, strokes are painted by mouse events, and previews are shown. A timer of 5 ms
tells how long the event loop did not get round to it. What goes on is measured in turn
in one run, beside the same window without training: there the gaps are those of
napari's own drawing, which a machine without a graphics card does in software.

    scripts/with_display.sh .venv/bin .venv/bin/python benchmarks/event_loop.py
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

for _name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
    os.environ[_name] = tempfile.mkdtemp(prefix="napari-unet-benchmark-")

import napari  # noqa: E402
import numpy as np  # noqa: E402
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer  # noqa: E402
from qtpy.QtTest import QTest  # noqa: E402

from napari_unet.config import NetworkConfig, TrainConfig  # noqa: E402
from napari_unet.files.samples import sample_images  # noqa: E402
from napari_unet.widgets.train import TrainWidget  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

TICK_MS = 5
GOAL_MS = 50.0
LEFT, NO_KEY = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


class Watch:
    """Measures the gaps between two turns of the event loop."""

    def __init__(self, *, asks_who: bool) -> None:
        self.gaps_ms: dict[str, list[float]] = collections.defaultdict(list)
        self.phase = ""
        self.culprits: collections.Counter[str] = collections.Counter()
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._timer.start()
        if asks_who:
            threading.Thread(target=self._ask_who, daemon=True).start()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps_ms[self.phase].append(1e3 * (now - self._last) - TICK_MS)
        self._last = now

    def _ask_who(self) -> None:
        """Note what all threads do when the loop stands still for longer."""
        main, mine, seen = threading.main_thread().ident, threading.get_ident(), 0.0
        while True:
            time.sleep(0.01)
            late = time.perf_counter() - self._last
            if late < GOAL_MS / 1e3 or self._last == seen or not self.phase:
                continue
            seen = self._last
            for ident, frame in sys._current_frames().items():
                if ident != mine:
                    stack = traceback.extract_stack(frame)[-4:]
                    where = " < ".join(
                        f"{Path(f.filename).stem}.{f.name}:{f.lineno}"
                        for f in reversed(stack)
                    )
                    who = "gui" if ident == main else "other"
                    self.culprits[f"{self.phase} | {who}: {where}"] += 1


class Painter:
    """Paints strokes by mouse events, one move every 16 ms."""

    def __init__(self, viewer: napari.Viewer, labels: napari.layers.Labels) -> None:
        self._canvas = viewer.window._qt_viewer.canvas.native
        self._labels = labels
        self._rng = np.random.default_rng(0)
        self._path: list[QPoint] = []
        self.n_strokes = 0
        self._timer = QTimer()
        self._timer.setInterval(16)
        self._timer.timeout.connect(self._move)

    def start(self) -> None:
        """Begin to paint."""
        self._timer.start()

    def stop(self) -> None:
        """End the stroke."""
        self._timer.stop()
        if self._path:
            QTest.mouseRelease(self._canvas, LEFT, NO_KEY, self._path[-1])
            self._path = []

    def _move(self) -> None:
        if not self._path:
            self._path = self._new_path()
            self._labels.selected_label = int(self._labels.data.max()) + 1
            QTest.mousePress(self._canvas, LEFT, NO_KEY, self._path[0])
        elif len(self._path) > 1:
            self._path.pop(0)
            QTest.mouseMove(self._canvas, self._path[0])
        else:
            QTest.mouseRelease(self._canvas, LEFT, NO_KEY, self._path.pop())
            self.n_strokes += 1

    def _new_path(self) -> list[QPoint]:
        width, height = self._canvas.width(), self._canvas.height()
        start = self._rng.uniform((0.2, 0.2), (0.8, 0.8)) * (width, height)
        steps = np.cumsum(self._rng.normal(0, 6, (30, 2)), axis=0)
        return [QPoint(round(x), round(y)) for x, y in start + steps]


def wait(seconds: float) -> None:
    """Let the event loop turn."""
    loop = QEventLoop()
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()


def wait_until(is_so: Callable[[], bool], at_most_s: float = 300) -> None:
    """Let the event loop turn until something is so."""
    end = time.monotonic() + at_most_s
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError
        wait(0.05)


def mosaic(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of this side and its cells, from the shipped sample."""
    samples = sample_images()
    images = [np.asarray(image.data)[0] for _, image, _ in samples]
    cells = [np.asarray(truth) for _, _, truth in samples]
    n = -(-side // images[0].shape[0])
    picked = [[(i * n + j) % len(images) for j in range(n)] for i in range(n)]
    image = np.block([[images[k] for k in row] for row in picked])[:side, :side]
    labels = np.zeros((n * cells[0].shape[0],) * 2, np.int32)
    height, width = cells[0].shape
    for i, row in enumerate(picked):
        for j, k in enumerate(row):
            here = np.where(cells[k] > 0, cells[k] + labels.max(), 0)
            labels[i * height : (i + 1) * height, j * width : (j + 1) * width] = here
    return image, labels[:side, :side]


def measure(seconds: float, side: int, *, asks_who: bool) -> tuple[Watch, dict]:
    """Run all phases; return the gaps and what happened meanwhile."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 900)
    image, cells = mosaic(side)
    viewer.add_image(image, name="nuclei")
    labels = viewer.add_labels(cells, name="cells")
    labels.metadata = {"napari_unet": {"unpainted": "background"}}
    dock = TrainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="Train")
    dock.form.settings.setValue(
        TrainConfig(max_steps=10**6, patch_size=128, batch_size=8, device="cpu")
    )
    dock.form.network.setValue(NetworkConfig(base_width=16, depth=3))
    viewer.layers.selection.active = labels
    labels.mode, labels.brush_size = "paint", 8
    watch, painter = Watch(asks_who=asks_who), Painter(viewer, labels)
    # Torch is imported as soon as the dock is there.
    watch.phase = "the dock opens"
    wait(8)

    def phase(name: str, *, paints: bool = False, previews: bool = False) -> None:
        dock.controls.preview.setChecked(previews)
        if paints:
            painter.start()
        wait(1)
        watch.phase = name
        wait(seconds)
        watch.phase = ""
        painter.stop()
        if name.startswith("training") and not dock.panel.state.is_running:
            raise RuntimeError(f"training has ended: {dock.panel.state.failure}")

    phase("nothing")
    phase("painting", paints=True)
    watch.phase = "training starts"
    dock.panel.start.click()
    wait_until(lambda: dock.panel.state.n_done > 2 or not dock.panel.state.is_running)
    watch.phase = ""
    if not dock.panel.state.is_running:
        raise RuntimeError(dock.panel.state.failure)
    first, began = dock.panel.state.n_done, time.monotonic()
    phase("training")
    phase("training, previews", previews=True)
    phase("training, painting", paints=True)
    phase("training, painting, previews", paints=True, previews=True)
    seen = {
        "strokes painted": painter.n_strokes,
        "strokes learned from": dock.controls.n_strokes,
        "previews shown": dock.live.n_shown,
        "steps": dock.panel.state.n_done - first,
        "steps per second": (dock.panel.state.n_done - first)
        / (time.monotonic() - began),
    }
    watch.phase = "training stops"
    dock.panel.stop.click()
    wait_until(lambda: not dock.panel.state.is_running)
    watch.phase = ""
    return watch, seen


def summary(gaps_ms: list[float]) -> dict[str, float]:
    """Return what the table shows of one phase."""
    gaps = np.maximum(gaps_ms, 0)
    # A gap counts as long as it was: of a second, so much was spent in longer ones.
    return {
        "longest_ms": float(gaps.max(initial=0)),
        "p99_ms": float(np.percentile(gaps, 99)) if len(gaps) else 0.0,
        "median_ms": float(np.median(gaps)) if len(gaps) else 0.0,
        "n_over_goal": int((gaps > GOAL_MS).sum()),
        "n": len(gaps),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15, help="of each phase")
    parser.add_argument("--side", type=int, default=1024, help="of the image, in px")
    parser.add_argument("--who", action="store_true", help="say who holds the loop up")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    watch, seen = measure(args.seconds, args.side, asks_who=args.who)
    rows = {name: summary(gaps) for name, gaps in watch.gaps_ms.items() if name}
    print(
        f"{os.cpu_count()} cores ({platform.processor() or platform.machine()}), load "
        f"{load:.1f} when it began, napari {napari.__version__}; image {args.side} x "
        f"{args.side}, {args.seconds:g} s each\n"
    )
    print("| | longest gap, ms | 99th percentile, ms | median, ms | gaps over 50 ms |")
    print("|---|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['longest_ms']:.0f} | {row['p99_ms']:.0f} | "
            f"{row['median_ms']:.1f} | {row['n_over_goal']} of {row['n']} |"
        )
    print("\n" + ", ".join(f"{k}: {v:.3g}" for k, v in seen.items()))
    for where, n in watch.culprits.most_common(40):
        print(f"{n:4} {where}")
    if args.json:
        args.json.write_text(json.dumps({"phases": rows, "seen": seen}, indent=1))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
