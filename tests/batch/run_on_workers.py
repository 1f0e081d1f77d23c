"""A child process that runs a folder on workers: one line for each event of a file.

``MODEL SOURCE OUT [--scheduler ADDRESS] [--kill]``; with the last one it kills a worker
with a file in its hands.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from contextlib import closing

from napari_unet.batch import dask_run, segment_folder
from napari_unet.config import PredictConfig
from napari_unet.errors import UNetError
from napari_unet.events import FileDone, FolderFinished, FolderStarted


def kill_one(client: object) -> None:
    """Kill the process of a worker that is at work."""
    for _ in range(6000):
        busy = [worker for worker, keys in client.processing().items() if keys]
        if busy:
            pids = client.run(os.getpid, workers=busy[:1])
            os.kill(*pids.values(), signal.SIGKILL)
            print("killed", flush=True)
            return
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("model", "source", "output"):
        parser.add_argument(name)
    parser.add_argument("--scheduler")
    parser.add_argument("--kill", action="store_true")
    given = parser.parse_args()
    if given.scheduler:
        dask_run._CONNECT_S = 1
    clusters = []
    connected = dask_run._connected
    dask_run._connected = lambda *a: clusters.append(connected(*a)) or clusters[0]
    run = segment_folder(
        given.model,
        given.source,
        given.output,
        config=PredictConfig(device="cpu", tile_size=32),
        measure=True,
        workers=None if given.scheduler else 2,
        scheduler=given.scheduler,
    )
    try:
        with closing(run):
            for event in run:
                if isinstance(event, FolderStarted) and given.kill:
                    threading.Thread(target=kill_one, args=clusters[0][:1]).start()
                elif isinstance(event, FileDone):
                    print("FileDone", event.state, event.index, flush=True)
                elif isinstance(event, FolderFinished):
                    counts = event.n_done, event.n_failed, event.n_skipped
                    print("FolderFinished", *counts)
    except UNetError as error:
        print("UNetError", error)


if __name__ == "__main__":
    main()
