"""The run folder: settings, scores, checkpoints and the best model of one training."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from napari_unet.errors import ConfigError, SaveError
from napari_unet.events import WHY_ENDED, Note
from napari_unet.files.atomic import write_text
from napari_unet.learning.checkpoint import save_model
from napari_unet.learning.loop import snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from napari_unet.events import Reason
    from napari_unet.learning.checkpoint import Model

CHECKPOINTS, STROKES, SPLIT = "checkpoints", "strokes.jsonl", "split.json"
BEST, NOT_KEPT = "best.unet", "not_kept.unet"
# Said during training and after it: true of both.
UNHARMED = "the training itself is not harmed"
_SETTINGS, _METRICS, _END = "config.json", "metrics.jsonl", "finished.json"


def check_may_begin(folder: Path) -> None:
    """Refuse to begin anew where a training was interrupted: it would be lost.

    Raises
    ------
    ConfigError
        NU-C33, naming both ways.
    """
    step = snapshots.newest_step(folder / CHECKPOINTS)
    if step is not None and end_of(folder) is None:
        raise ConfigError(
            "NU-C33",
            f"{folder} holds a training that was interrupted after step {step}: go on "
            "with it (--resume, in Python resume=True), begin anew in its place "
            "(--restart, restart=True), or choose another place for the model",
        )


def start(folder: Path | None, model: Model) -> None:
    """Make the folder, write ``config.json`` and begin ``metrics.jsonl``.

    Checkpoints and strokes of an older run in the same folder are deleted. Here and
    below no folder (None) means that nothing is kept.

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
    snapshots.clear(folder / CHECKPOINTS)
    with contextlib.suppress(OSError):
        for name in (STROKES, NOT_KEPT, _END):
            (folder / name).unlink(missing_ok=True)
    write_settings(folder, model)
    write_text(folder / _METRICS, "")


def write_settings(folder: Path | None, model: Model) -> None:
    """Write ``config.json``.

    Raises
    ------
    SaveError
        It can't be written (NU-S01).
    """
    if folder is None:
        return
    parts = {
        "train": model.training,
        "network": model.network,
        "weights": model.weights,
        "normalization": model.normalization,
    }
    settings = {name: part.model_dump() for name, part in parts.items()}
    write_text(folder / _SETTINGS, json.dumps(settings, indent=2) + "\n")


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
    path = folder / _METRICS
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(line + "\n")
    except OSError as error:
        raise SaveError(
            "NU-S01", f"{path} can't be written: {error.strerror}"
        ) from error


def go_back_to(folder: Path, step: int) -> None:
    """Drop what ``metrics.jsonl`` says of later steps: they will be done again.

    Raises
    ------
    SaveError
        It can't be read or written.
    """
    path = folder / _METRICS
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SaveError("NU-S01", f"{path} can't be read: {error.strerror}") from error
    write_text(path, "".join(f"{line}\n" for line in lines if _is_of(line, step)))


def _is_of(line: str, step: int) -> bool:
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False  # cut by a kill


def keeping(*writes: Callable[[], None], so: str = UNHARMED) -> list[Note]:
    """Write, and return as warnings what could not be: no reason to stop training.

    Parameters
    ----------
    writes : callable
        Each one is called, whatever becomes of the others.
    so : str
        What follows for the user where one fails, in words.
    """
    notes = []
    for write in writes:
        try:
            write()
        except SaveError as error:
            notes.append(Note(f"{error}; {so}", is_warning=True))
    return notes


def save_best(folder: Path | None, model: Model) -> None:
    """Replace ``best.unet``."""
    if folder is not None:
        save_model(folder / BEST, model)


def save_not_kept(folder: Path | None, model: Model) -> None:
    """Write ``not_kept.unet``: nothing that was learned is lost."""
    if folder is not None:
        save_model(folder / NOT_KEPT, model)


def end(folder: Path | None, step: int, reason: Reason) -> None:
    """Write down that the run is finished, and keep one checkpoint only."""
    if folder is not None:
        write_text(folder / _END, json.dumps({"step": step, "reason": reason}) + "\n")
        snapshots.keep_last(folder / CHECKPOINTS, 1)


def end_of(folder: Path) -> tuple[int, Reason] | None:
    """Return after which step the run finished, and why; None if it has not."""
    try:
        about = json.loads((folder / _END).read_bytes())
        reason = about["reason"]
        return (int(about["step"]), reason) if reason in WHY_ENDED else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
