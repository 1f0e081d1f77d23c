"""Segment a folder on workers that SLURM starts: `python slurm_workers.py`, in a job.

Needs `pip install "napari-unet-loop[dask]" dask-jobqueue` on all nodes, and a disk that
all of them see. The script itself computes little; it ends when all files are done.
"""

from dask_jobqueue import SLURMCluster

from napari_unet import segment_folder
from napari_unet.events import FileDone, FolderFinished

if __name__ == "__main__":
    cluster = SLURMCluster(
        # One file at a time in each job, with all its cores.
        cores=1,
        job_cpu=8,
        job_script_prologue=["export OMP_NUM_THREADS=8"],
        memory="16GB",
        walltime="02:00:00",
    )
    # Jobs begin when there is room; one whose time is up is replaced.
    cluster.adapt(minimum_jobs=1, maximum_jobs=16)
    events = segment_folder(
        "cells.unet",
        "images",
        "labels",
        measure=True,
        scheduler=cluster.scheduler_address,
    )
    for event in events:
        if isinstance(event, FileDone):
            print(event.state, event.path.name, event.message)
        elif isinstance(event, FolderFinished):
            print(f"{event.n_done} done, {event.n_failed} failed")
