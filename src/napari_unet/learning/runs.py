"""The run folder: settings, scores and the best model of one training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from napari_unet.errors import SaveError
from napari_unet.files.atomic import write_text
from napari_unet.learning.checkpoint import save_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_unet.learning.checkpoint import Model


def start(folder: Path | None, model: Model) -> None:
    """Make the folder, write ``config.json`` and begin ``metrics.jsonl``.

    Here and below no folder (None) means that nothing is kept.

    Raises
    ------
    SaveError
        The folder can't be made or written.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            "NU-S02",
            f"the run folder {folder} can't be made ({error.strerror}): choose another "
            "place for the model",
        ) from error
    parts = {
        "train": model.training,
        "network": model.network,
        "weights": model.weights,
        "normalization": model.normalization,
    }
    settings = {name: part.model_dump() for name, part in parts.items()}
    write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")
    write_text(folder / "metrics.jsonl", "")


def log(
    folder: Path | None,
    step: int,
    loss: float | None,
    elapsed_s: float,
    scores: Mapping[str, float],
) -> None:
    """Append one validation to ``metrics.jsonl``."""
    if folder is None:
        return
    row = {"step": step, "train_loss": loss, "elapsed_s": round(elapsed_s, 3)}
    line = json.dumps(row | {f"val_{name}": value for name, value in scores.items()})
    path = folder / "metrics.jsonl"
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(line + "\n")
    except OSError as error:
        raise SaveError(
            "NU-S01", f"{path} can't be written: {error.strerror}"
        ) from error


def save_best(folder: Path | None, model: Model) -> None:
    """Replace ``best.unet``."""
    if folder is not None:
        save_model(folder / "best.unet", model)
