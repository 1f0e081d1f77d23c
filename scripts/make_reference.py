"""Write docs/reference.md and docs/science/measured.md."""

from __future__ import annotations

import types
import typing
from pathlib import Path

from napari_unet import config

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "reference.md"
MEASURED = ROOT / "docs" / "science" / "measured.md"
RESULTS = ROOT / "benchmarks" / "results"
# Each section of the page of measurements: title, what it says, name of the table.
TABLES = [
    (
        "How good after how long",
        "Default settings, from scratch, on `train_*`; model and thresholds are chosen "
        "on `val_*`, which is also what is scored: a little optimistic. Reading, "
        "planning, validation and tuning count as time. ± is half the range.",
        "time_to_quality",
    ),
    (
        "Networks and targets",
        "Each network with the default target, and each target with the default "
        "network, for the same time on one core.",
        "networks",
    ),
    (
        "The model to start from",
        "Few annotated images, learned from scratch and from the model `nuclei` that "
        "comes along, for a minute, and scored on all of `val_*`, of which nothing was "
        "seen in training; *end* is after the tuning of thresholds. `nuclei` has "
        "learned from 31 of the 40 `train_*` images of dsb2018_fluo, though from no "
        "field of its `val_*`: there the start knows more than the few images say. It "
        "has seen nothing like usiigaci_phase, where its encoder alone is kept; with "
        "ten images learning from scratch has caught up by the end of the minute.",
        "fine_tuning",
    ),
    (
        "Images from images",
        "A minute of training on one core, three seeds, ± half the range, against what "
        "needs no training, each at the best of several strengths for the very images "
        "that it is judged on. In denoise_fmd three channels of cultured cells are "
        "learned from, and a confocal image of fish is judged on.",
        "regression",
    ),
    ("Weight maps", "", "weight_maps"),
    ("Prediction", "", "forward"),
    ("Augmentation", "", "augmentation"),
    ("A step of training", "", "training_step"),
    (
        "The window while training",
        "The longest gaps between two turns of the event loop, by a timer of 5 ms.",
        "event_loop",
    ),
]

INTRO = """# Reference

Every setting, as `napari_unet.config` defines it; made by `scripts/make_reference.py`.
On the command line `batch_size` is `--batch-size`. What each command takes says
`napari-unet COMMAND --help`; what an error code means says [errors](errors.md).
"""

PAGES = [
    (config.TrainConfig, "Training", "Train widget, `napari-unet train`"),
    (
        config.WeightConfig,
        "Weights",
        "Weight map and Train widgets, `weights`, `train`",
    ),
    (config.NetworkConfig, "Network", "Train widget, `napari-unet train`"),
    (config.PredictConfig, "Prediction", "Predict widgets, `napari-unet predict`"),
    (config.InstanceConfig, "Instances", "tuned when training ends, kept in the model"),
    (config.NormalizationConfig, "Normalisation", "kept in the model"),
]


def kind(annotation: object) -> str:
    """Return a setting's type in words."""
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        parts = typing.get_args(annotation)
        return " or ".join("empty" if p is type(None) else kind(p) for p in parts)
    if typing.get_origin(annotation) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(annotation))
    names = {int: "whole number", float: "number", bool: "on or off", str: "text"}
    return names[annotation]  # type: ignore[index]


def bounds(metadata: list[object]) -> str:
    """Return a setting's bounds in signs."""
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{sign} {getattr(item, name):g}"
        for item in metadata
        for name, sign in signs.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join(found)


def reference() -> str:
    """Return the page."""
    lines = [INTRO]
    for model, title, where in PAGES:
        lines += [f"## {title}\n", f"`{model.__name__}`: {where}.\n"]
        lines += ["| name | what | default | type | bounds |", "|---|---|---|---|---|"]
        for name, field in model.model_fields.items():
            default = "empty" if field.default is None else f"`{field.default}`"
            cells = [
                f"`{name}`",
                f"**{field.title}**. {field.description}",
                default,
                kind(field.annotation),
                bounds(field.metadata),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def measured() -> str:
    """Return the page of what was measured."""
    lines = [
        "# Measured\n\nThe tables that the scripts of `benchmarks/` make, each of one "
        "run on the machine that it names.\n"
    ]
    for title, text, name in TABLES:
        table = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
        made = f"`benchmarks/{name}.py` makes it again."
        lines += [f"## {title}\n", f"{text} {made}".strip() + "\n", table]
    return "\n".join(lines)


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
    MEASURED.write_text(measured(), encoding="utf-8")
