"""A child process that runs folders, to be killed: one line for each order and event.

Orders on its input: ``run OUT N`` runs the folder in a process of its own, which kills
itself before its N-th call that changes the disk (0: never); ``end``. With a third
argument, a number of pixels, images above that are large. On its output:
``event OUT NAME INPUT`` for each event of a file, and ``ended OUT CODE``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from napari_unet.batch import committing, large, segment_folder
from napari_unet.config import PredictConfig
from napari_unet.events import FileDone, FileProgress
from napari_unet.files import lazy_tiff
from napari_unet.imaging import blockwise
from napari_unet.learning.checkpoint import load_model


def die_before(n: int) -> None:
    """Let this process kill itself at the n-th call that changes the disk."""
    left = [n]

    def dying(real):
        def call(*given, **settings):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **settings)

        return call

    for name in ("fsync", "replace", "rename", "mkdir"):
        setattr(os, name, dying(getattr(os, name)))


def tell(*words: object) -> None:
    """Print a line at once, whole even where the process is killed meanwhile."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def run(model: Path, source: str, output: str, n: int) -> None:
    if n:
        die_before(n)
    # In some of the runs each file is a group of its own, in others all are one.
    committing._GROUP_S = 0.05 * (n % 3)
    config = PredictConfig(device="cpu", tile_size=32)
    loaded = load_model(model)
    for event in segment_folder(loaded, source, output, config=config, measure=True):
        if isinstance(event, FileDone | FileProgress):
            name = type(event).__name__
            name = f"{name}-{event.state}" if isinstance(event, FileDone) else name
            tell("event", output, name, event.index)


def main() -> None:
    model, source, *largest_px = sys.argv[1:]
    if largest_px:
        large.LARGEST_PX[2] = lazy_tiff.LAZY_FROM_BYTES = int(largest_px[0])
        blockwise.BLOCK_PX[2] = 32
    tell("ready")
    for line in sys.stdin:
        order = line.split()
        if order[0] == "end":
            return
        pid = os.fork()
        if pid == 0:
            run(Path(model), source, order[1], int(order[2]))
            os._exit(0)
        tell("pid", order[1], pid)
        _, status = os.waitpid(pid, 0)
        tell("ended", order[1], status)


if __name__ == "__main__":
    main()
