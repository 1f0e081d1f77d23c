"""What the benchmarks of training share: data sets, one training, scores."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import napari_unet as nu
from napari_unet.events import Finished, Improved, Planned, StepDone
from napari_unet.files.images import read_labels
from napari_unet.imaging.scores import Tally, tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.config import NetworkConfig, TrainConfig
    from napari_unet.learning.model import Model

Pairs = tuple[list[Path], list[Path]]
_TRAIN_QUARTERS = ("nuclei_y0x0", "nuclei_y256x256")


def pairs_of(data: Path, name: str, split: str) -> Pairs:
    """Return the images and masks of one part of a data set.

    Parameters
    ----------
    data : Path
        Folder of data sets, each with ``images/`` and ``masks/`` (cells of EM in
        ``masks_instances/``), whose files are named ``train_*`` and ``val_*``. Of
        sample_nuclei two opposite quarters are learned from.
    name : str
        Of the data set.
    split : {"train", "val"}
    """
    folder = data / name
    masks = folder / "masks_instances"
    masks = masks if masks.is_dir() else folder / "masks"
    paths = sorted((folder / "images").glob("*.tif"))
    if name == "sample_nuclei":
        is_wanted = split == "train"
        chosen = [p for p in paths if (p.stem in _TRAIN_QUARTERS) == is_wanted]
    else:
        chosen = [p for p in paths if p.name.startswith(f"{split}_")]
    if not chosen:
        raise SystemExit(f"{folder} has no images of the part {split!r}")
    return chosen, [masks / path.name for path in chosen]


@dataclass
class Run:
    """One training: the best model at each time, in seconds since the call.

    `n_steps` are those that were done; that of the best model is in the model.
    """

    models: list[tuple[float, Model]] = field(default_factory=list)
    final: Model | None = None
    seconds: float = 0.0
    n_steps: int = 0
    plan: dict[str, object] = field(default_factory=dict)

    def at(self, seconds: float) -> Model | None:
        """Return the best model that was there after so many seconds."""
        there = [model for when, model in self.models if when <= seconds]
        return there[-1] if there else None


def run(
    train: Pairs,
    validation: Pairs | None,
    config: TrainConfig,
    *,
    network: NetworkConfig | None = None,
    start_from: Model | Path | str | None = None,
    run_dir: Path | None = None,
) -> Run:
    """Train once, and keep each best model with the second at which it came.

    With a run folder it goes on where it was interrupted.
    """
    done = Run()
    start = time.perf_counter()
    events = nu.train(
        *train,
        config,
        network=network,
        validation=validation,
        start_from=start_from,
        run_dir=run_dir,
        resume=run_dir is not None,
    )
    for event in events:
        now = time.perf_counter() - start
        if isinstance(event, Improved):
            done.models.append((now, event.model))
        elif isinstance(event, Planned):
            done.plan = {choice.name: choice.value for choice in event.choices}
        elif isinstance(event, Finished):
            done.final, done.seconds = event.model, now
            done.models.append((now, event.model))
        elif isinstance(event, StepDone):
            done.n_steps = event.step
    return done


def scored(model: Model, pairs: Pairs) -> dict[str, float | None]:
    """Return the scores over all cells of some images; None is a share of nothing."""
    counts = Tally()
    for image, mask in zip(*pairs, strict=True):
        truth = read_labels(mask)
        counts = counts + tally(truth, nu.segment(model, image))
    scores = counts.scores()
    n_pairs = scores.n_touching_pairs
    return {
        "ap50": scores.ap["0.5"],
        "ap75": scores.ap["0.75"],
        "map": scores.map,
        "f1": scores.f1["0.5"],
        "iou": scores.iou,
        "separated": scores.separated_pairs / n_pairs if n_pairs else None,
        "n_cells": scores.n_truth,
        "n_pairs": n_pairs,
    }


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Return mean and half the range, as text; a dash where one is missing.

    Examples
    --------
    >>> spread([0.8, 0.84])
    '0.820 ± 0.020'
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    middle, half = np.mean(known), (max(known) - min(known)) / 2
    return f"{middle:.{digits}f} ± {half:.{digits}f}"


def machine() -> str:
    """Return what computes, in words."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        models = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model n")]
        name = models[0] if models else name
    threads = torch.get_num_threads()
    return (
        f"{name}, {os.cpu_count()} cores, {threads} "
        f"thread{'s' if threads > 1 else ''}, torch {torch.__version__}"
    )
