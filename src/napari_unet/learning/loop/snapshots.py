"""Checkpoints of a run: all that is needed to go on as if nothing had happened.

One is a pair of files, ``step-000200.safetensors`` with the tensors and
``step-000200.json`` with everything else and the sha256 of the first. The JSON is
written last: a checkpoint whose JSON is there is whole. Nothing in it is executable.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import safetensors
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from napari_unet.errors import ModelError, SaveError
from napari_unet.files.atomic import sweep_strays, write_bytes, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_FORMAT = 1
_N_KEPT = 3
_NAME = re.compile(r"step-(\d{6,})\.json")
_TENSOR = "$tensor"
_MAX_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state of a training after a step.

    Parameters
    ----------
    step : int
        Steps done by then.
    state : dict
        What changes while training runs: nested dicts with text keys, whose leaves
        are tensors or what JSON knows.
    decided : dict
        What was decided when training began, and is not decided again: sizes,
        precision, device, threads, versions, settings, fingerprint. JSON only.
    """

    step: int
    state: dict[str, Any] = field(repr=False)
    decided: dict[str, Any] = field(default_factory=dict)


def copied(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state whose tensors are copies on the CPU."""
    tree, tensors = _apart(state)
    copies = {
        # Contiguous whatever the layout on the device: that is chosen anew.
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return _together(tree, copies)  # type: ignore[no-any-return]


def write(folder: Path, snapshot: Snapshot) -> Path:
    """Write a checkpoint and delete all but the last three; return its JSON.

    Parameters
    ----------
    folder : path
        Made where it is missing.
    snapshot : Snapshot
        One of the same step is replaced.

    Raises
    ------
    SaveError
        It can't be written (NU-S01, NU-S02); those before are untouched.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            "NU-S02", f"the folder {folder} can't be made: {error.strerror}"
        ) from error
    tree, tensors = _apart(snapshot.state)
    content = save_tensors(
        {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    )
    path = folder / f"step-{snapshot.step:06d}.json"
    about = {
        "format": _FORMAT,
        "step": snapshot.step,
        "sha256": hashlib.sha256(content).hexdigest(),
        "decided": snapshot.decided,
        "state": tree,
    }
    # Where this step has a checkpoint already, its JSON must not vouch for new tensors.
    path.unlink(missing_ok=True)
    write_bytes(path.with_suffix(".safetensors"), content)
    write_text(path, json.dumps(about))
    keep_last(folder, _N_KEPT)
    return path


def keep_last(folder: Path, n: int) -> None:
    """Delete all checkpoints but the last `n`, and what killed processes left."""
    kept = {path.stem for path in _found(folder)[:n]}
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob("step-*")):
            if path.stem not in kept:
                path.unlink()
    sweep_strays(folder, min_age_s=0)


def clear(folder: Path) -> None:
    """Delete all checkpoints: those of an older run must not be gone on from."""
    keep_last(folder, 0)


def newest_step(folder: Path) -> int | None:
    """Return the step of the newest checkpoint, whole or not; None without any."""
    found = _found(folder)
    return int(found[0].stem.removeprefix("step-")) if found else None


def read_newest(folder: Path) -> tuple[Snapshot | None, list[str]]:
    """Return the newest whole checkpoint, and a sentence for each damaged one.

    By step, whatever the clock says. None where the folder holds none.

    Raises
    ------
    ModelError
        There are checkpoints, but none is whole (NU-M09), or a newer version wrote
        them (NU-C02).
    """
    found = _found(folder)
    messages: list[str] = []
    for path in found:
        snapshot = _read(path)
        if snapshot is not None:
            return snapshot, messages
        messages.append(
            f"The checkpoint {path.name} is damaged: training goes on from the one "
            "before"
        )
    if found:
        raise ModelError(
            "NU-M09",
            f"none of the {len(found)} checkpoints in {folder} is whole: train anew "
            "(--restart, in Python restart=True), or go on from best.unet beside them",
        )
    return None, []


def _found(folder: Path) -> list[Path]:
    """Return the JSON files of all checkpoints, the newest first."""
    with contextlib.suppress(OSError):
        steps = [(m, path) for path in folder.iterdir()
                 if (m := _NAME.fullmatch(path.name))]  # fmt: skip
        return [path for _, path in sorted(steps, key=lambda s: -int(s[0][1]))]
    return []


def _read(path: Path) -> Snapshot | None:
    """Return a checkpoint; None if it is damaged in any way."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            return None
        about = json.loads(path.read_bytes())
        if about["format"] > _FORMAT:
            raise ModelError(
                "NU-C02",
                f"{path} was written by a newer version of napari-unet: update, or "
                "train anew",
            )
        content = path.with_suffix(".safetensors").read_bytes()
        if hashlib.sha256(content).hexdigest() != about["sha256"]:
            return None
        state = _together(about["state"], load_tensors(content))
        return Snapshot(int(about["step"]), state, about["decided"])
    except (
        OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError,
        safetensors.SafetensorError,
    ):  # fmt: skip
        return None


def _apart(tree: Any, name: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Return a tree with names where its tensors were, and these by name."""
    if isinstance(tree, torch.Tensor):
        return {_TENSOR: name}, {name: tree}
    if not isinstance(tree, dict):
        return tree, {}
    left: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for key, value in tree.items():
        left[key], more = _apart(value, f"{name}/{key}" if name else str(key))
        tensors |= more
    return left, tensors


def _together(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {_TENSOR}:
        return tensors[tree[_TENSOR]]
    return {key: _together(value, tensors) for key, value in tree.items()}
